"""Work that may wait for a disk for ever: in a thread that keeps nobody from ending."""

from __future__ import annotations

import asyncio
import contextlib
import threading
from collections.abc import Callable
from typing import Any, TypeVar

T = TypeVar("T")


async def beside(work: Callable[..., T], *arguments: Any, name: str = "disk", **more: Any) -> T:
    """What `work` returns, from a thread of its own.

    Unlike asyncio.to_thread it takes no place from others, and the process may end while the
    thread waits for a disk that hangs.
    """
    loop = asyncio.get_running_loop()
    future: asyncio.Future[T] = loop.create_future()

    def settle(result: T | None, error: BaseException | None) -> None:
        if future.done():
            return
        if error is not None:
            future.set_exception(error)
        else:
            future.set_result(result)  # type: ignore[arg-type]

    def run() -> None:
        result: T | None = None
        failed: Exception | None = None
        try:
            result = work(*arguments, **more)
        except Exception as error:
            failed = error
        except BaseException as error:  # SystemExit: it is to end this thread, not the daemon
            failed = RuntimeError(f"{type(error).__name__}: {error}")
            failed.__cause__ = error
        with contextlib.suppress(RuntimeError):  # the loop has ended meanwhile
            loop.call_soon_threadsafe(settle, result, failed)

    threading.Thread(target=run, name=name, daemon=True).start()
    return await future

"""An event loop whose clock jumps to the next timer, and does the work of threads at once."""

from __future__ import annotations

import asyncio
import selectors
from collections.abc import Callable
from typing import Any


class _Jumping(selectors.SelectSelector):
    """Waits for nothing: the time that would have been waited passes at once."""

    def __init__(self, passes: Callable[[float], None]) -> None:
        super().__init__()
        self._passes = passes

    def select(self, timeout: float | None = None) -> Any:
        ready = super().select(0)
        if not ready and timeout is not None and timeout > 0:
            self._passes(timeout)
        return ready


class VirtualLoop(asyncio.SelectorEventLoop):
    """`time()` begins at `now` and passes only while every task waits."""

    def __init__(self, now: float) -> None:
        self.now = now
        super().__init__(_Jumping(self._pass))

    def _pass(self, seconds: float) -> None:
        self.now += seconds

    def time(self) -> float:
        """Virtual seconds."""
        return self.now

    def run_in_executor(self, executor: Any, func: Any, *args: Any) -> Any:
        """The work is done now, by this thread."""
        future = self.create_future()
        try:
            future.set_result(func(*args))
        except Exception as error:
            future.set_exception(error)
        return future

    def advance(self, seconds: float) -> None:
        """Let so much time pass."""
        self.run_until_complete(asyncio.sleep(seconds))

    def rounds(self, count: int) -> None:
        """Let every task that can go on do so, this many times, at the same moment."""

        async def go() -> None:
            for _ in range(count):
                await asyncio.sleep(0)

        self.run_until_complete(go())

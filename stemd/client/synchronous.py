"""`Client`: the same without asyncio, for scripts, notebooks and other programs' Python."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import AsyncGenerator, Coroutine, Iterator, Mapping
from typing import Any, Self, TypeVar

from numpy.typing import ArrayLike

from stemd.client.asynchronous import FOREVER_S, AsyncClient
from stemd.client.commands import Commands
from stemd.client.errors import NotConnectedError
from stemd.client.images import Image
from stemd.client.messages import Optics, Reply, Scan, State
from stemd.client.news import News
from stemd.client.told import Told
from stemd.tasks import end_all

T = TypeVar("T")


async def _closed(stream: AsyncGenerator[Image, None]) -> None:
    await stream.aclose()


class Client(Told, Commands[Reply]):
    """A client of one pipeline; `with` connects and disconnects.

    Arguments, methods and errors are those of `AsyncClient`; each method returns when it is done.
    The connection is kept by a thread of its own, so that nothing is missed between two calls.
    Methods may be called by any thread.
    """

    def __init__(self, url: str = "mqtt://127.0.0.1:1883", **named: Any) -> None:
        self._client = AsyncClient(url, **named)
        self._loop: asyncio.AbstractEventLoop | None = None

    def __enter__(self) -> Self:
        # not the default loop of Windows, which cannot watch the broker's socket
        loop = self._loop = asyncio.SelectorEventLoop()
        self._thread = threading.Thread(target=loop.run_forever, name="stemd-client", daemon=True)
        self._thread.start()
        try:
            self._do(self._client.__aenter__())
        except BaseException:
            self._end()
            raise
        return self

    def __exit__(self, *_: object) -> None:
        try:
            self._do(self._client.__aexit__())
        finally:
            self._end()

    def _do(self, work: Coroutine[Any, Any, T]) -> T:
        if self._loop is None:
            work.close()
            raise NotConnectedError("the client is not connected", "use it inside `with`")
        running = asyncio.run_coroutine_threadsafe(work, self._loop)
        try:
            return running.result()
        except BaseException:  # Ctrl-C too: nobody is there to take what it would give
            running.cancel()
            raise

    def _end(self) -> None:
        loop, self._loop = self._loop, None
        assert loop is not None

        async def rest() -> None:
            await end_all(asyncio.all_tasks() - {asyncio.current_task()})
            await loop.shutdown_asyncgens()
            await loop.shutdown_default_executor()

        asyncio.run_coroutine_threadsafe(rest(), loop).result()
        loop.call_soon_threadsafe(loop.stop)
        self._thread.join()
        loop.close()

    @property
    def instrument(self) -> str:
        """Name of the instrument."""
        return self._client.instrument

    @property
    def pipeline(self) -> str:
        """Name of the pipeline."""
        return self._client.pipeline

    @property
    def _heard(self) -> News:
        return self._client._heard

    def wait_for_state(self, *states: str, timeout_s: float = FOREVER_S) -> State:
        """Return when the pipeline is in one of these states. Raises TimedOutError."""
        return self._do(self._client.wait_for_state(*states, timeout_s=timeout_s))

    def wait_for_scan(self, timeout_s: float = FOREVER_S) -> Scan:
        """The next scan that is over; see `AsyncClient.wait_for_scan`. Raises TimedOutError."""
        return self._do(self._client.wait_for_scan(timeout_s))

    def wait_for_optics(self, scan: str, timeout_s: float = 120.0) -> Optics:
        """The optics measured in the whole scan of this id. Raises TimedOutError."""
        return self._do(self._client.wait_for_optics(scan, timeout_s))

    def image(self, name: str, *, scan: str | None = None, timeout_s: float | None = None) -> Image:
        """The last finished image of this name, or that of the `scan` of this id."""
        return self._do(self._client.image(name, scan=scan, timeout_s=timeout_s))

    def images(self, name: str = "+") -> Iterator[Image]:
        """Images as they come, growing and finished, for ever; see `AsyncClient.images`."""
        stream = self._client.images(name)

        async def following() -> Image:
            return await anext(stream)

        try:
            while True:
                yield self._do(following())
        finally:
            if self._loop is not None:  # else it has ended with all others
                self._do(_closed(stream))

    def preview(self, name: str, *, timeout_s: float | None = None) -> bytes:
        """The next small picture of this name, a PNG file; see `AsyncClient.preview`."""
        return self._do(self._client.preview(name, timeout_s=timeout_s))

    def change(self, **sections: Mapping[str, Any]) -> Reply:
        """Change live settings, all of them or none: `change(ricom={"kernel_size": 21})`."""
        return self._do(self._client.change(**sections))

    def start(
        self,
        scans: int = 1,
        *,
        scan: Mapping[str, Any] | None = None,
        settings: Mapping[str, Any] | None = None,
    ) -> Reply:
        """Start the camera for so many scans (0: endless), with this geometry and settings."""
        return self._do(self._client.start(scans, scan=scan, settings=settings))

    def restore(self, image: ArrayLike) -> dict[str, Image]:
        """An image (y, x) restored by a pipeline whose adapter is `images`, by its new names."""
        return self._do(self._client.restore(image))

    def command(self, command: str, *, timeout_s: float | None = None, **args: Any) -> Reply:
        """Any command by its name, with its arguments."""
        return self._do(self._client.command(command, timeout_s=timeout_s, **args))

"""`Client`: the same without asyncio, for scripts, notebooks and other programs' Python."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import AsyncGenerator, Coroutine, Iterator, Mapping
from typing import Any, Self, TypeVar

from numpy.typing import ArrayLike

from stemd.client.asynchronous import FOREVER_S, AsyncClient
from stemd.client.errors import NotConnectedError
from stemd.client.images import Image
from stemd.client.messages import Optics, Reply, Scan, State
from stemd.tasks import end_all

T = TypeVar("T")


async def _closed(stream: AsyncGenerator[Image, None]) -> None:
    await stream.aclose()


class Client:
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
    def online(self) -> bool:
        """Whether stemd runs, as far as the broker knows."""
        return self._client.online

    @property
    def daemon(self) -> Mapping[str, Any]:
        """The daemon's own state: version, pipelines, page, and in `red` what is wrong."""
        return self._client.daemon

    @property
    def state(self) -> State:
        """What the pipeline does now."""
        return self._client.state

    @property
    def settings(self) -> Mapping[str, Any]:
        """Every live setting as in force: `settings["ricom"]["kernel_size"]`."""
        return self._client.settings

    @property
    def optics(self) -> Optics | None:
        """The optics measured in the last scan, None before the first."""
        return self._client.optics

    @property
    def session(self) -> Mapping[str, Any]:
        """The running or last unattended session, {} where there never was one."""
        return self._client.session

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

    def stop(self) -> Reply:
        """End the acquisition at the camera."""
        return self._do(self._client.stop())

    def abort(self) -> Reply:
        """End the acquisition at the camera at once."""
        return self._do(self._client.abort())

    def reconnect(self) -> Reply:
        """Connect to the camera anew."""
        return self._do(self._client.reconnect())

    def record(self, raw: bool = True) -> Reply:
        """Whether the camera's own bytes are kept, from the next scan on."""
        return self._do(self._client.record(raw))

    def save(self) -> Reply:
        """Write the images as they are now; `reply["files"]` are their names."""
        return self._do(self._client.save())

    def save_settings(self) -> Reply:
        """Write what was changed live into the config file; `reply["saved"]` lists it."""
        return self._do(self._client.save_settings())

    def recompute(self, settings: Mapping[str, Any] | None = None, *, write: bool = False) -> Reply:
        """The images of the last scan anew; `settings` are put in force before."""
        return self._do(self._client.recompute(settings, write=write))

    def estimate_rotation(self) -> Reply:
        """`rotation_deg`, `flip` and `confidence` from the running or last scan."""
        return self._do(self._client.estimate_rotation())

    def reset(self) -> Reply:
        """The config's settings again, no error, another try for what is out of order."""
        return self._do(self._client.reset())

    def begin_session(self, name: str, **plan: Any) -> Reply:
        """Begin an unattended session; keys as in `[[session]]` of the config."""
        return self._do(self._client.begin_session(name, **plan))

    def stop_session(self) -> Reply:
        """End the running session after its scan."""
        return self._do(self._client.stop_session())

    def restore(self, image: ArrayLike) -> dict[str, Image]:
        """An image (y, x) restored by a pipeline whose adapter is `images`, by its new names."""
        return self._do(self._client.restore(image))

    def command(self, command: str, *, timeout_s: float | None = None, **args: Any) -> Reply:
        """Any command by its name, with its arguments."""
        return self._do(self._client.command(command, timeout_s=timeout_s, **args))

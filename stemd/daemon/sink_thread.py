"""A sink of somebody else: an event loop and a thread of its own, in which it may hang."""

from __future__ import annotations

import asyncio
import threading
import time
from collections.abc import Callable, Coroutine
from dataclasses import replace
from functools import partial
from typing import Any, TypeVar

from stemd.errors import StemdError
from stemd.events import Host, Hub, Sink, call_sink
from stemd.logs import get_logger
from stemd.tasks import end_all

LATE_S = 5.0
"""None of a sink's methods may keep its event loop for so long: it hangs."""
LOOK_S = 0.5
MOST_WAITING = 1000
"""Documents and log lines that wait for a sink that hangs. Images and states do not: they are
large, and the next ones replace them."""
WORTH_WAITING = ("on_document", "on_log", "on_removed")
HANGS = "thread"

T = TypeVar("T")

log = get_logger(__name__)


class SinkThread(Sink):
    """Stands for a sink: what it is told is passed on to the sink's own event loop.

    On the daemon's event loop, as every sink. `watch` is to be run beside it.
    """

    _elsewhere = True

    def __init__(self, name: str, sink: Sink, hub: Hub) -> None:
        self._name, self._sink, self._hub = name, sink, hub
        self._home = asyncio.get_running_loop()
        self._loop = asyncio.new_event_loop()
        self._waiting = 0
        self._left_out = 0
        self._late = False
        self._asked: float | None = None
        """Since when its event loop has been asked for a sign of life."""
        self._lock = threading.Lock()
        self._erring: set[str] = set()
        """Methods that raised last; the sink's thread's own."""
        for method in vars(Sink):
            if method.startswith("on_"):
                setattr(self, method, partial(self._tell, method))
        self._thread = self._new_thread()

    async def start(self) -> None:
        """Raises what the sink raises."""
        await self._there(self._sink.start)

    async def run(self) -> None:
        """The sink's own work."""
        await self._there(self._sink.run)

    async def stop(self) -> None:
        """Raises what the sink raises; StemdError where it hangs already."""
        if self._late:
            raise StemdError(*self._hangs)
        await self._there(self._sink.stop)

    def end(self) -> None:
        """Nothing more is wanted of it, be it finished or not; returns at once."""
        self._loop.call_soon_threadsafe(self._loop.stop)

    async def watch(self) -> None:
        """Tell of a sink that hangs or whose thread has died, until it is well."""
        while True:
            await asyncio.sleep(LOOK_S)
            if not self._thread.is_alive():
                self._failed(StemdError(f"sink {self._name}: its thread has died", _AGAIN))
                self._thread = self._new_thread()
                self._asked = None
            now = time.monotonic()
            if self._asked is None:
                self._asked = now
                self._loop.call_soon_threadsafe(self._home_soon, self._alive)
            elif now - self._asked > LATE_S and not self._late:
                self._late = True
                self._failed(StemdError(*self._hangs))

    @property
    def _hangs(self) -> tuple[str, str]:
        return (
            f"sink {self._name} has not returned for {LATE_S:g} s: it is told no images",
            "what it waits for may hang: see its own documentation, then restart stemd",
        )

    def _alive(self) -> None:
        """Its event loop has given a sign of life."""
        self._asked = None
        self._hub.well(self, HANGS)
        if self._late:
            self._late = False
            log.warning("a sink works again", sink=self._name, not_told=self._left_out)
            self._left_out = 0
            self._hub.tell_again(self)

    def _failed(self, error: StemdError) -> None:
        self._hub.failed(self, HANGS, error)

    def _tell(self, method: str, *what: Any) -> None:
        if self._late and (method not in WORTH_WAITING or self._waiting >= MOST_WAITING):
            self._left_out += 1
            return
        with self._lock:
            self._waiting += 1
        self._loop.call_soon_threadsafe(self._call, method, what)

    def _call(self, method: str, what: tuple[Any, ...]) -> None:
        """In the sink's thread."""
        with self._lock:
            self._waiting -= 1
        try:
            call_sink(self._sink, self._name, method, *what)
        except BaseException as error:
            self._home_soon(self._hub.failed, self, method, _plain(error))
            self._erring.add(method)
        else:
            if method in self._erring:
                self._erring.remove(method)
                self._home_soon(self._hub.well, self, method)

    def _home_soon(self, call: Callable[..., object], *what: Any) -> None:
        try:
            self._home.call_soon_threadsafe(call, *what)
        except RuntimeError:
            log.debug("the daemon has ended", sink=self._name)

    async def _there(self, work: Callable[[], Coroutine[Any, Any, T]]) -> T:
        """Have something done on the sink's event loop."""

        async def guarded() -> T:
            try:
                return await work()
            except (Exception, asyncio.CancelledError):
                raise
            except BaseException as error:  # SystemExit: it is the sink's end, not the daemon's
                raise _plain(error) from error

        return await asyncio.wrap_future(asyncio.run_coroutine_threadsafe(guarded(), self._loop))

    def _new_thread(self) -> threading.Thread:
        name = f"sink-{self._name}"
        thread = threading.Thread(target=self._serve, name=name, daemon=True)
        thread.start()
        return thread

    def _serve(self) -> None:
        self._loop.run_forever()
        # not where the thread dies: another one serves it then
        self._loop.run_until_complete(end_all(asyncio.all_tasks(self._loop)))
        self._loop.close()


def host_for_threads(host: Host) -> Host:
    """The same host; what is asked of it is asked on the daemon's event loop."""
    home = host.hub.home = asyncio.get_running_loop()

    def healthy() -> Any:
        async def ask() -> Any:
            return host.healthy()

        return asyncio.run_coroutine_threadsafe(ask(), home).result()

    return replace(host, healthy=healthy)


_AGAIN = "it has got a new one; see the daemon's log"


def _plain(error: BaseException) -> Exception:
    """An error that ends nothing but what has raised it."""
    return (
        error if isinstance(error, Exception) else RuntimeError(f"{type(error).__name__}: {error}")
    )

"""The reader's thread: what the adapter says, until stopped."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable

from stemd.adapters.base import Adapter
from stemd.blocks import PoolClosedError
from stemd.daemon.heartbeats import Pulse
from stemd.daemon.pipeline.adapter_in_use import AdapterInUse
from stemd.daemon.pipeline.reader_owner import Owner
from stemd.daemon.pipeline.restarts import Restarts
from stemd.daemon.pipeline.scan_feed import ScanFeed
from stemd.errors import StemdError
from stemd.logs import get_logger

log = get_logger(__name__)


class Reader:
    """Runs one adapter in a thread until stopped; an adapter that fails is started again."""

    def __init__(self, name: str, build: Callable[[], Adapter], owner: Owner) -> None:
        self.name = name
        self.stop = Pulse()
        self.adapter = AdapterInUse(name, build)
        self.feed = ScanFeed(owner, self.stop)
        self.restarts = Restarts()
        self._owner = owner
        self._failed = False
        self._over = False
        self._closing: threading.Thread | None = None
        self._thread = self._new_thread()

    def start(self) -> None:
        """Begin to read."""
        self._thread.start()

    def revive(self) -> bool:
        """Begin a new thread where the old one has died; True if it had (event loop)."""
        if not self.dead:
            return False
        self._failed = True
        self.restarts.failures += 1
        self._thread = self._new_thread()
        self._thread.start()
        return True

    def _new_thread(self) -> threading.Thread:
        return threading.Thread(target=self._loop, name=f"read-{self.name}", daemon=True)

    def close(self) -> None:
        """End: the running scan is ended as stopped, the thread returns within a second."""
        self._over = True
        self.stop.set()
        self._closing = self.adapter.close()

    def join(self, timeout_s: float) -> bool:
        """Wait for the thread, and for the adapter's end; True when both are over."""
        until = time.monotonic() + timeout_s
        threads = [self._thread, *([self._closing] if self._closing is not None else [])]
        for thread in threads:
            if thread.ident is not None:
                thread.join(max(0.0, until - time.monotonic()))
        return not any(thread.is_alive() for thread in threads)

    async def reconnect(self) -> None:
        """Connect to the camera anew, now. Raises StemdError where there is no connection."""
        await self.adapter.reconnect()
        self.restarts.retry()

    @property
    def alive(self) -> bool:
        """Whether the thread runs."""
        return self._thread.is_alive()

    @property
    def dead(self) -> bool:
        """Whether the thread has died: it has ended though nobody wanted that."""
        return self._thread.ident is not None and not self._over and not self.alive

    @property
    def age_s(self) -> float:
        """Seconds since the thread last showed that it works; 0 when there is nothing to do.

        While an adapter is built there is not: see `AdapterInUse.building_s`.
        """
        return self.stop.age_s if self.alive and not self.adapter.building_s else 0.0

    def _loop(self) -> None:
        if self._failed:
            self.feed.end("disconnected")  # what a thread before this one has left
        while not self.stop.is_set():
            began = time.monotonic()
            try:
                if self._failed or not self.adapter.present:
                    self.adapter.renew(self.stop, after_failure=self._failed)
                    self._failed = False
                    self._owner.built()
                    if self.stop.is_set():
                        break
                for message in self.adapter.read(self.stop, self.feed.take_apart):
                    self.stop.beat()
                    self.feed.take(message)
                if not self.stop.is_set():
                    self._over = True
                    self.feed.end("stopped")
                    self._owner.exhausted()
                break
            except PoolClosedError:
                break
            except BaseException as error:  # whatever it is: nobody else would hear of it
                if not isinstance(error, StemdError):
                    log.exception("the adapter failed", pipeline=self.name)
                self._failed = True
                pause = self.restarts.failed(time.monotonic() - began)
                self.feed.end("disconnected")
                self._owner.failed(error, self.restarts.failures, pause)
                self.restarts.rest(pause, self.stop)
        self.feed.end("stopped")

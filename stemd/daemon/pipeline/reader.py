"""The reader's thread: camera to blocks to integer maps, and blocks to the recorder."""

from __future__ import annotations

import random
import threading
import time
from collections.abc import Callable
from typing import Protocol

import structlog

from stemd.acquisition import Acquisition
from stemd.adapters.base import Adapter, Reconnects
from stemd.blocks import (
    BlockPool,
    Ended,
    EndReason,
    EventBlock,
    FrameBlock,
    ImageBlock,
    Link,
    Message,
    Notice,
    PoolClosedError,
    Started,
)
from stemd.daemon.heartbeats import Pulse
from stemd.errors import StemdError
from stemd.scan.counters import SharedCounters
from stemd.scan.run import ScanRun
from stemd.settings import Settings
from stemd.storage.scan_files import ScanFiles

log = structlog.get_logger(__name__)

RESTART_S = (0.3, 0.6, 1.2, 5.0, 10.0, 30.0)
"""Pauses before the adapter is started again after it has failed; the last one repeats."""
JITTER = (0.75, 1.25)
"""Pauses are stretched by a random factor: what fails together must not come back together."""
GOOD_AFTER_S = 60.0
"""An adapter that has run for so long starts with a clean record."""


class Owner(Protocol):
    """What the reader asks and tells its pipeline; all of it is called in the reader's thread."""

    def begin(self, acquisition: Acquisition) -> tuple[ScanRun, ScanFiles]:
        """A scan begins; may wait while too many finished scans are still being written."""
        ...

    def finish(self, run: ScanRun, files: ScanFiles) -> None:
        """The scan has ended; the run has been told."""
        ...

    def noticed(self, notice: Notice) -> None:
        """Something to count and to tell the operator."""
        ...

    def linked(self, link: Link) -> None:
        """The camera came or went."""
        ...

    def failed(self, error: BaseException, failures: int, pause_s: float) -> None:
        """The adapter has failed so often in a row; it is started again after a pause."""
        ...

    def exhausted(self) -> None:
        """The source has ended for good, as a file does."""
        ...

    def settings_now(self) -> Settings:
        """The live settings in force."""
        ...


class Reader:
    """Runs one adapter in a thread until stopped; an adapter that fails is started again."""

    def __init__(self, name: str, build: Callable[[], Adapter], owner: Owner) -> None:
        self.name = name
        self.adapter = build()
        self.pool = BlockPool()
        self.counts = SharedCounters()
        self.stop = Pulse()
        self.failures = 0
        self.blocks = 0
        """Blocks that the adapters have given with something in them."""
        self._failed = False
        self._retry = threading.Event()
        self._build = build
        self._owner = owner
        self._run: ScanRun | None = None
        self._files: ScanFiles | None = None
        self._over = False
        self._thread = self._new_thread()

    def start(self) -> None:
        """Begin to read."""
        self._thread.start()

    def revive(self) -> bool:
        """Begin a new thread where the old one has died; True if it had (event loop)."""
        if self._over or self.alive or self._thread.ident is None:
            return False
        self._failed = True
        self.failures += 1
        self._thread = self._new_thread()
        self._thread.start()
        return True

    def _new_thread(self) -> threading.Thread:
        return threading.Thread(target=self._loop, name=f"read-{self.name}", daemon=True)

    def close(self) -> None:
        """End: the running scan is ended as stopped, the thread returns within a second."""
        self._over = True
        self.stop.set()
        self.pool.close()
        self.adapter.close()

    def reconnect(self) -> None:
        """Connect to the camera anew, now. Raises StemdError where there is no connection."""
        adapter = self.adapter
        if not isinstance(adapter, Reconnects):
            raise StemdError(
                f"the adapter of {self.name} has no connection to make anew", "send reset instead"
            )
        adapter.reconnect()
        self.retry()

    def retry(self) -> None:
        """Start a failed adapter again now, with a clean record."""
        self._retry.set()

    def join(self, timeout_s: float) -> bool:
        """Wait for the thread; True when it has ended."""
        if self._thread.ident is not None:
            self._thread.join(timeout_s)
        return not self._thread.is_alive()

    @property
    def alive(self) -> bool:
        """Whether the thread runs."""
        return self._thread.is_alive()

    @property
    def age_s(self) -> float:
        """Seconds since the thread last showed that it works; 0 when there is nothing to do."""
        return self.stop.age_s if self.alive else 0.0

    def _loop(self) -> None:
        if self._failed:
            self._end("disconnected")  # what a thread before this one has left
        while not self.stop.is_set():
            began = time.monotonic()
            try:
                if self._failed:
                    self._build_again()
                for message in self.adapter.read(self.pool, self.stop):
                    self.stop.beat()
                    self._handle(message)
                if not self.stop.is_set():
                    self._over = True
                    self._end("stopped")
                    self._owner.exhausted()
                break
            except PoolClosedError:
                break
            except BaseException as error:  # whatever it is: nobody else would hear of it
                if not isinstance(error, StemdError):
                    log.exception("the adapter failed", pipeline=self.name)
                self._failed = True
                self._forgive()
                good = time.monotonic() - began > GOOD_AFTER_S
                self.failures = 1 if good else self.failures + 1
                self._end("disconnected")
                pause = RESTART_S[min(self.failures, len(RESTART_S)) - 1] * random.uniform(*JITTER)
                self._owner.failed(error, self.failures, pause)
                self._rest(pause)
        self._end("stopped")

    def _build_again(self) -> None:
        self.adapter.close()
        self.adapter = self._build()
        # what failed may hold blocks that nobody gives back: they go with their pool
        self.pool.close()
        self.pool = BlockPool()
        scan = self._owner.settings_now().scan
        if scan is not None:
            self.adapter.set_scan(scan)
        self._failed = False

    def _rest(self, seconds: float) -> None:
        until = time.monotonic() + seconds
        while not self.stop.is_set() and time.monotonic() < until:
            if self._retry.wait(min(0.2, max(0.0, until - time.monotonic()))):
                self._forgive()
                break

    def _forgive(self) -> None:
        """Begin a clean record if that was asked for."""
        if self._retry.is_set():
            self._retry.clear()
            self.failures = 0

    def _handle(self, message: Message) -> None:
        match message:
            case FrameBlock() | EventBlock():
                self.blocks += bool(
                    message.count or (isinstance(message, EventBlock) and message.complete)
                )
                try:
                    self._block(message)
                finally:
                    message.release()
            case ImageBlock():
                if self._run is not None:
                    self._run.take(message)
                if self._files is not None and self._files.recorder is not None:
                    self._files.recorder.offer(message, self.stop)
            case Started():
                self._end("replaced")
                self._run, self._files = self._owner.begin(message.acquisition)
            case Ended():
                self._end(message.reason)
            case Notice():
                self.counts.count([message])
                if self._run is not None:
                    self._run.count([message])
                self._owner.noticed(message)
            case Link():
                self._owner.linked(message)

    def _block(self, block: FrameBlock | EventBlock) -> None:
        run, files = self._run, self._files
        if run is None or files is None:
            self.counts.add("blocks_without_scan")
            return
        settings = self._owner.settings_now()
        if settings is not run.settings:
            run.change(settings)
        run.reduce(block)
        if files.recorder is not None:
            files.recorder.offer(block, self.stop)

    def _end(self, reason: EndReason) -> None:
        run, files = self._run, self._files
        self._run = self._files = None
        if run is not None and files is not None:
            run.end(reason)
            self._owner.finish(run, files)

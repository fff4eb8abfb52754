"""The reader's thread: camera to blocks to integer maps, and blocks to the recorder."""

from __future__ import annotations

import random
import threading
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any

from stemd.acquisition import Scan
from stemd.adapters.base import Adapter, Apart, CameraReading, Commanded, ReadsApart, Reconnects
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
from stemd.daemon.pipeline.absent import Absent
from stemd.daemon.pipeline.asking import Asking
from stemd.daemon.pipeline.reader_owner import Owner
from stemd.errors import CameraError, StemdError
from stemd.logs import get_logger
from stemd.scan.counters import SharedCounters
from stemd.scan.run import ScanRun
from stemd.storage.scan_files import ScanFiles

log = get_logger(__name__)

RESTART_S = (0.3, 0.6, 1.2, 5.0, 10.0, 30.0)
"""Pauses before the adapter is started again after it has failed; the last one repeats."""
JITTER = (0.75, 1.25)
"""Pauses are stretched by a random factor: what fails together must not come back together."""
GOOD_AFTER_S = 60.0
"""An adapter that has run for so long starts with a clean record."""


class Reader:
    """Runs one adapter in a thread until stopped; an adapter that fails is started again.

    An adapter may be somebody else's: it is built, and closed, in threads that nobody waits for.
    """

    def __init__(self, name: str, build: Callable[[], Adapter], owner: Owner) -> None:
        self.name = name
        self.asking = Asking(name, Absent(name))
        """The adapter of now, for the event loop."""
        self.camera_status: Sequence[CameraReading] = ()
        """What the camera said last of itself."""
        self.commands: frozenset[str] = frozenset()
        """What the camera can be told."""
        self.pool = BlockPool()
        self.counts = SharedCounters()
        self.stop = Pulse()
        self.failures = 0
        self.blocks = 0
        """Blocks that the adapters have given with something in them."""
        self._counting = threading.Lock()
        self._failed = False
        self._building: float | None = None
        self._scan: Scan | None = None
        self._scan_lock = threading.Lock()
        """So that no adapter is told an older geometry after a newer one."""
        self._closing: threading.Thread | None = None
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
        if not self.dead:
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
        name = f"close-{self.name}"
        self._closing = threading.Thread(
            target=self._close, args=(self.adapter,), name=name, daemon=True
        )
        self._closing.start()

    def _close(self, adapter: Adapter) -> None:
        try:
            adapter.close()
        except Exception:
            log.exception("the adapter could not be closed", pipeline=self.name)

    @property
    def adapter(self) -> Adapter:
        """The adapter that is there now."""
        return self.asking.adapter

    def set_scan(self, scan: Scan) -> None:
        """Scan geometry from the next scan on, of whatever adapter is there then; at once."""
        with self._scan_lock:
            self._scan = scan
            self.asking.tell_scan(scan)

    def command(self, name: str, args: Mapping[str, Any]) -> Mapping[str, Any]:
        """A camera command; a start, behind what was set before it. Raises StemdError.

        For any thread but the event loop's: the camera answers when it likes.
        """
        asking = self.asking
        if name == "start" and not asking.wait_told():
            raise CameraError(*asking.hangs(["set_scan"]))
        return asking.adapter.command(name, args)

    async def reconnect(self) -> None:
        """Connect to the camera anew, now. Raises StemdError where there is no connection."""
        adapter = self.adapter
        if not isinstance(adapter, Absent):
            await self.asking.ask_in_time("reconnect", lambda: _reconnect(self.name, adapter))
        self.retry()

    def retry(self) -> None:
        """Start a failed adapter again now, with a clean record."""
        self._retry.set()

    def join(self, timeout_s: float) -> bool:
        """Wait for the thread, and for the adapter's end; True when both are over."""
        until = time.monotonic() + timeout_s
        threads = [self._thread, *([self._closing] if self._closing is not None else [])]
        for thread in threads:
            if thread.ident is not None:
                thread.join(max(0.0, until - time.monotonic()))
        return not any(thread.is_alive() for thread in threads)

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

        While an adapter is built there is not: see `building_s`.
        """
        return self.stop.age_s if self.alive and self._building is None else 0.0

    @property
    def building_s(self) -> float:
        """For how many seconds the adapter has been being built, 0 when it is not."""
        began = self._building
        return time.monotonic() - began if began is not None and self.alive else 0.0

    def _loop(self) -> None:
        if self._failed:
            self._end("disconnected")  # what a thread before this one has left
        while not self.stop.is_set():
            began = time.monotonic()
            try:
                if self._failed or isinstance(self.adapter, Absent):
                    self._build_adapter()
                    if self.stop.is_set():
                        break
                for message in self._messages():
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

    def _messages(self) -> Iterator[Message]:
        """What the adapter says; blocks of several links are reduced in their threads."""
        adapter = self.adapter
        if isinstance(adapter, ReadsApart):
            return adapter.read_apart(self.pool, self.stop, self._take_apart)
        return adapter.read(self.pool, self.stop)

    def _take_apart(self, block: FrameBlock, link: int) -> Apart:
        """See `adapters.base.ReadsApart`; called by the threads of the links."""
        run, files = self._run, self._files
        if run is None or files is None:
            return Apart.NOT_TAKEN
        if not run.reduce_apart(block, link, self._owner.settings_now()):
            return Apart.NOT_TAKEN
        with self._counting:
            self.blocks += bool(block.count)
        kept = files.recorder is not None or bool(run.engines.inline)
        return Apart.KEEP if kept else Apart.REDUCED

    def _build_adapter(self) -> None:
        self._building = time.monotonic()
        try:
            self.adapter.close()
            made = self._build()
            self.commands = frozenset(made.commands) if isinstance(made, Commanded) else frozenset()
            if self._failed:
                # what failed may hold blocks that nobody gives back: they go with their pool
                self.pool.close()
                self.pool = BlockPool()
            asking = Asking(self.name, made)
            with self._scan_lock:
                self.asking = asking
                if self._scan is not None:
                    asking.tell_scan(self._scan)
            while not (asking.wait_told(0.2) or self.stop.is_set()):
                pass
            self._failed = False
        finally:
            self.stop.beat()
            self._building = None
        if self.stop.is_set():
            self._close(made)  # whoever stopped has closed the one before
        self._owner.built()

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
                with self._counting:
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
        if isinstance(block, FrameBlock) and block.reduced:
            run.engines.take_in(block)
        else:
            run.reduce(block)
        if files.recorder is not None:
            files.recorder.offer(block, self.stop)

    def _end(self, reason: EndReason) -> None:
        run, files = self._run, self._files
        self._run = self._files = None
        if run is not None and files is not None:
            run.end(reason)
            self._owner.finish(run, files)


def _reconnect(name: str, adapter: Adapter) -> None:
    if not isinstance(adapter, Reconnects):
        raise StemdError(
            f"the adapter of {name} has no connection to make anew", "send reset instead"
        )
    adapter.reconnect()

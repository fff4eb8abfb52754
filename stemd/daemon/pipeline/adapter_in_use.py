"""The adapter that a pipeline has now: built, told, replaced and closed."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any

from stemd.acquisition import Scan
from stemd.adapters.base import (
    Adapter,
    CameraReading,
    Commanded,
    ReadsApart,
    Reconnects,
    TakeApart,
)
from stemd.blocks import BlockPool, Message
from stemd.daemon.heartbeats import Pulse
from stemd.daemon.pipeline.absent import Absent
from stemd.daemon.pipeline.asking import Asking
from stemd.errors import CameraError, StemdError
from stemd.logs import get_logger

log = get_logger(__name__)


class AdapterInUse:
    """Builds the adapters of one pipeline, one after another, and says the present one what to do.

    An adapter may be somebody else's: it is built in the reader's thread, and told and closed in
    threads that nobody waits for. The reader's thread calls `renew` and `read`, any other the rest.
    """

    def __init__(self, pipeline: str, build: Callable[[], Adapter]) -> None:
        self.pipeline = pipeline
        self.asking = Asking(pipeline, Absent(pipeline))
        """The adapter of now, for the event loop."""
        self.commands: frozenset[str] = frozenset()
        """What the camera can be told."""
        self.camera_status: Sequence[CameraReading] = ()
        """What the camera said last of itself."""
        self.pool = BlockPool()
        self._build = build
        self._building: float | None = None
        self._scan: Scan | None = None
        self._scan_lock = threading.Lock()
        """So that no adapter is told an older geometry after a newer one."""

    @property
    def present(self) -> bool:
        """Whether one has been built."""
        return not isinstance(self.asking.adapter, Absent)

    @property
    def building_s(self) -> float:
        """For how many seconds an adapter has been being built, 0 when none is."""
        began = self._building
        return time.monotonic() - began if began is not None else 0.0

    def renew(self, stop: Pulse, *, after_failure: bool) -> None:
        """Close the adapter, build the next one, and tell it the newest geometry of the scan.

        One that comes after the `stop` is closed at once.
        """
        self._building = time.monotonic()
        try:
            self.asking.adapter.close()
            made = self._build()
            self.commands = frozenset(made.commands) if isinstance(made, Commanded) else frozenset()
            if after_failure:
                # what failed may hold blocks that nobody gives back: they go with their pool
                self.pool.close()
                self.pool = BlockPool()
            asking = Asking(self.pipeline, made)
            with self._scan_lock:
                self.asking = asking
                if self._scan is not None:
                    asking.tell_scan(self._scan)
            while not (asking.wait_told(0.2) or stop.is_set()):
                pass
        finally:
            stop.beat()
            self._building = None
        if stop.is_set():
            self._close(made)  # whoever stopped has closed the one before

    def read(self, stop: threading.Event, take_apart: TakeApart) -> Iterator[Message]:
        """What the adapter says; `take_apart` gets blocks of several links in their threads."""
        adapter = self.asking.adapter
        if isinstance(adapter, ReadsApart):
            return adapter.read_apart(self.pool, stop, take_apart)
        return adapter.read(self.pool, stop)

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
        """Connect to the camera anew. Raises StemdError where there is no connection."""
        asking = self.asking
        if not isinstance(asking.adapter, Absent):
            await asking.ask_in_time("reconnect", lambda: self._reconnect(asking.adapter))

    def _reconnect(self, adapter: Adapter) -> None:
        if not isinstance(adapter, Reconnects):
            raise StemdError(
                f"the adapter of {self.pipeline} has no connection to make anew",
                "send reset instead",
            )
        adapter.reconnect()

    def close(self) -> threading.Thread:
        """Begin to close adapter and pool; returns the thread that does it."""
        self.pool.close()
        name, adapter = f"close-{self.pipeline}", self.asking.adapter
        closing = threading.Thread(target=self._close, args=(adapter,), name=name, daemon=True)
        closing.start()
        return closing

    def _close(self, adapter: Adapter) -> None:
        try:
            adapter.close()
        except Exception:
            log.exception("the adapter could not be closed", pipeline=self.pipeline)

"""An event stream record by record: bytes in; scans and blocks of hits with positions out."""

from __future__ import annotations

from collections.abc import Generator, Iterator, Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray

from stemd.acquisition import Acquisition, Detector, Scan
from stemd.adapters.events import checkpoint
from stemd.adapters.events.ending import CUT, LOST, QUIET
from stemd.adapters.events.front import FULL, GARBAGE, Front
from stemd.adapters.events.history import UNKNOWN, History, Wire
from stemd.adapters.events.landing import Landing
from stemd.adapters.events.placing import Origin, ScanPlacer
from stemd.adapters.events.settings import EventSettings
from stemd.adapters.events.sieve import Sieve
from stemd.adapters.events.sync_start import SyncStart
from stemd.adapters.events.ticks import TICKS_PER_US
from stemd.adapters.tally import Tallies
from stemd.blocks import BlockPool, Buffer, EndReason, Message, Notice
from stemd.errors import ConfigError

HEALTH_TICKS = int(1e6 * TICKS_PER_US)

Bytes = NDArray[np.uint8]


class EventStream:
    """Decodes slices of a stream; the same hits for any cut of the bytes.

    Raises ConfigError without a scan: the bytes of event cameras do not tell its size.
    """

    def __init__(
        self,
        settings: EventSettings,
        front: Front,
        pool: BlockPool,
        *,
        scan: Scan | None = None,
        name: str,
        raw_name: str,
        source: str = "",
        start: SyncStart | None = None,
    ) -> None:
        scan = scan or settings.scan
        if scan is None:
            raise ConfigError(
                "the scan of an event camera must be configured: its stream does not tell the size",
                "set scan.shape = [ny, nx], and dwell_time_us where it is known",
            )
        self._settings = settings
        self.front = front
        self._pool = pool
        self._origin = Origin(Detector(name, front.layout.shape, "u2", 16), source, raw_name)
        self._sieve = Sieve(settings, front)
        if start is not None:
            front.set_time(start.time_ticks)
        self._tallies = Tallies()
        self.landing = Landing(pool, front.record_bytes)
        self._history = History()
        self._checked = -(1 << 62)
        self.skipped_bytes = 0
        """Bytes that were no words, of those that were told."""
        self._off_step = 0  # those before a word that does not stand at a whole number of words
        self.next_scan: Scan | None = None
        """Geometry from the next scan on."""
        self.placer = self._placer(scan, start)

    def _placer(self, scan: Scan, start: SyncStart | None) -> ScanPlacer:
        return ScanPlacer(
            self._settings,
            scan,
            start,
            self._origin,
            self.front,
            self.landing,
            self._history,
            self._tallies,
        )

    @property
    def acquisition(self) -> Acquisition | None:
        """The scan that is open, None between scans."""
        return self.placer.acquisition

    @property
    def record_bytes(self) -> int:
        """Bytes of one record of the stream."""
        return self.front.record_bytes

    def consume(
        self, data: Bytes, now_ns: int, buffer: Buffer | None = None, *, output: bool = True
    ) -> Generator[Message, None, int]:
        """Messages of the whole records of `data`; returns the bytes used.

        What is not used is to be given again with what follows. `buffer` owns `data`; `output`:
        its other half is free for the hits.
        """
        size = self.front.record_bytes
        whole = data.size - data.size % size
        if self.next_scan is not None and self.acquisition is None:
            yield from self._change_scan(self.next_scan)
        begin = self.front.now if self.front.started else UNKNOWN
        wire = Wire(
            data[:whole],
            buffer,
            begin,
            buffer if output else None,
            self.placer.sync.known(),
            self.front.head,
        )
        self._remember(wire)
        carrier = self.acquisition  # whose record these bytes still have to reach
        record, why = 0, FULL
        while why == FULL:
            record, hits, items, why = self.front.decode(data[:whole], record, self._sieve.room())
            if why == GARBAGE:
                whole = self.front.resync(data, record * size)
                wire.data = data[:whole]
                self._history.shorten(whole)
            sieved, count = yield from self._sieve.passed(hits, items)
            carrier = yield from self.placer.place(sieved, count, items, now_ns, wire, carrier)
        if why == GARBAGE:
            self._off_step += whole - record * size
        yield from self._tell_skipped()
        yield from self._check()
        return whole

    def _remember(self, wire: Wire) -> None:
        """Keep the bytes that the record of a scan to come may need."""
        sync = self.placer.sync
        before, waiting = wire.start_ticks, sync.oldest_waiting
        if waiting is not None:
            before = min(before, waiting)
        self._history.keep(
            wire,
            blocks=self._pool.buffers // 4,
            small=self.landing.block_bytes // 4,
            before=before - 2 * sync.times.window_ticks,
            everything=sync.newer_scan_waits,
        )

    def _tell_skipped(self) -> Iterator[Message]:
        total = self._off_step + self.front.skipped_bytes
        more, self.skipped_bytes = total - self.skipped_bytes, total
        if more:
            text = "{count} bytes that are no words were skipped"
            yield from self._tallies.add("skipped_bytes", text, more)

    def finish(
        self, reason: EndReason, now_ns: int, *, cut: bool = False, torn: bool = False
    ) -> Iterator[Message]:
        """No more bytes for now ("idle") or ever: end the scan with what has come.

        "complete" instead of `reason` when the hits reach to the end of the scan, as closely as
        their rate lets one tell. `cut`: the camera has gone, so that something may have been
        lost; `torn`: something has.
        """
        wire = Wire(np.empty(0, np.uint8), None, self.front.now)
        count, items = self.front.finish(self._sieve.room())
        if count or items:
            hits, count = yield from self._sieve.passed(count, items)
            yield from self.placer.place(hits, count, items, now_ns, wire, None)
        hits, count = self._sieve.finish()
        yield from self.placer.place(hits, count, 0, now_ns, wire, None)
        self._checked = -(1 << 62)
        yield from self._check()
        likely = LOST if torn or (cut and self.front.torn) else CUT if cut else QUIET
        yield from self.placer.finish(hits, reason, now_ns, wire, likely)
        yield from self._tallies.rest()
        self._history.clear()

    def _change_scan(self, scan: Scan) -> Iterator[Message]:
        self.next_scan = None
        self._history.clear()
        self.placer = self._placer(scan, None)
        yield Notice(
            "scan_changed",
            f"the scan is {scan.shape[0]}x{scan.shape[1]} from now on",
            level="info",
        )

    def close(self) -> None:
        """Give every block back; nothing more may be decoded."""
        self.landing.close()
        self._history.clear()

    @property
    def _parts(self) -> dict[str, checkpoint.Resumable]:
        return {"front": self.front, "sync": self.placer.sync, **self._sieve.parts()}

    def state(self) -> dict[str, NDArray[Any]]:
        """All that the next bytes' hits depend on, between two `consume`, as named arrays.

        Not in it: bytes kept for the record of a scan to come, and what was told of the stream.
        """
        begun = self.acquisition is not None
        return {
            **checkpoint.gathered(self._parts),
            "decoder": np.array([self.placer.done, self.skipped_bytes, begun], np.int64),
            "frames": self.placer.frames.state(),
        }

    def restore(self, state: Mapping[str, NDArray[Any]], acquisition: Acquisition) -> None:
        """Go on, as `acquisition`, where a decoder of the same settings gave this out."""
        checkpoint.handed_out(state, self._parts)
        done, self.skipped_bytes, begun = (int(value) for value in state["decoder"])
        self._off_step = self.skipped_bytes - self.front.skipped_bytes
        self.placer.done = done
        self.placer.frames.restore(state["frames"])
        self.placer.acquisition = acquisition if begun else None

    def counters(self) -> dict[str, int]:
        """Everything counted since the beginning of the stream."""
        return {**self.placer.counters(), "skipped_bytes": self.skipped_bytes}

    def _check(self) -> Iterator[Message]:
        """Once a second of camera time: what was counted, and what looks wrong."""
        now = self.front.now
        if 0 <= now - self._checked < HEALTH_TICKS:
            return
        self._checked = now
        yield from self.placer.looked_at()

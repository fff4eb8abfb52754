"""The decoder of event streams: bytes in; scans and blocks of hits with positions out."""

from __future__ import annotations

from collections.abc import Generator, Iterable, Iterator, Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from stemd.acquisition import Acquisition, Detector, Scan
from stemd.adapters.events import checkpoint
from stemd.adapters.events.cluster import WAIT_US, Joiner
from stemd.adapters.events.front import DONE, FULL, GARBAGE, Front, Hits
from stemd.adapters.events.health import SyncHealth
from stemd.adapters.events.history import History, Wire, scan_runs
from stemd.adapters.events.hot import HotPixelFinder, told_hot
from stemd.adapters.events.landing import OUTPUT_HITS, Held, Landing
from stemd.adapters.events.settings import EventSettings
from stemd.adapters.events.sync import CLOSED, RESET, SYNC_FILE, Output, ScanSync, SyncStart
from stemd.adapters.events.ticks import TICKS_PER_US
from stemd.adapters.tally import Tallies
from stemd.blocks import BlockPool, Buffer, Ended, EndReason, EventBlock, Message, Notice, Started
from stemd.errors import ConfigError

QUIET_GAPS = 16
"""A stream that ends within so many mean gaps between hits of the scan's end was not cut off."""
LAST_PART = 0.5
"""A stream that ends in the second half of the last position's time was not cut off either."""
HEALTH_TICKS = int(1e6 * TICKS_PER_US)

Bytes = NDArray[np.uint8]


class EventDecoder:
    """Pure decoder of one stream; the same hits for any cut of the bytes.

    Give it bytes either as a `Decoder` (`wants`, `fed`, `flush`: received straight into pool
    buffers) or by `consume` (slices of a mapped file). Raises ConfigError without a scan: the
    bytes of event cameras do not tell its size.
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
        self._front = front
        self._pool = pool
        self._start = start
        self._source, self._raw_name = source, raw_name
        self._detector = Detector(name, front.layout.shape, "u2", 16)
        self._hits = Hits()
        self._joiner = None
        if settings.cluster is not None:
            wait_us = min(WAIT_US, settings.reorder_window_us / 2)
            self._joiner = Joiner(settings.cluster, wait_us, front.layout.shape, self._hits)
        learns = settings.hot_pixels == "learn"
        self._hot = HotPixelFinder(front.layout.shape, settings.learn_hits if learns else 0)
        if settings.hot_pixels != "learn":
            front.set_masked(settings.hot_pixels)
        if start is not None:
            front.set_time(start.time_ticks)
        self._tallies = Tallies()
        self._landing = Landing(pool, front.record_bytes)
        self._history = History()
        self._checked = -(1 << 62)
        self.acquisition: Acquisition | None = None
        self.scans = 0
        """Scans that have begun."""
        self.skipped_bytes = 0
        """Bytes that were no words, of those that were told."""
        self._off_step = 0  # those before a word that does not stand at a whole number of words
        self._set_scan(scan)

    def _set_scan(self, scan: Scan) -> None:
        self.scan = scan
        self._next_scan: Scan | None = None
        self._sync = ScanSync(self._settings, scan, self._start)
        self._health = SyncHealth(self._settings, scan)
        self._done = 0

    def set_scan(self, scan: Scan) -> None:
        """Geometry from the next scan on."""
        self._next_scan = scan

    @property
    def change_waits(self) -> bool:
        """Another geometry waits for the end of a scan whose last position has been reached."""
        if self._next_scan is None or self.acquisition is None:
            return False
        return self.scan.positions - self._sync.progress(settled=True) <= 1

    @property
    def record_bytes(self) -> int:
        """Bytes of one record of the stream."""
        return self._front.record_bytes

    # Receiving into the pool's buffers

    def wants(self) -> Sequence[memoryview]:
        """Where the next bytes are to land: the free end of a block."""
        return self._landing.wants()

    def fed(self, count: int, now_ns: int) -> Iterator[Message]:
        """`count` bytes have landed; decodes when the block is full."""
        if self._landing.landed(count):
            yield from self._landing.decode(self.consume, now_ns)

    def flush(self, now_ns: int, *, eof: bool) -> Iterator[Message]:
        """Decode what is whole; at `eof` also end the scan."""
        if self._landing.whole:
            yield from self._landing.decode(self.consume, now_ns)
        if eof:
            left = self._landing.forget()
            if left:
                yield Notice("cut_off", f"the stream ends {left} bytes into a record")
            yield from self.finish("disconnected", now_ns)

    def close(self) -> None:
        """Give every block back; nothing more may be decoded."""
        self._landing.close()
        self._history.clear()

    # Decoding

    def consume(
        self, data: Bytes, now_ns: int, buffer: Buffer | None = None, *, output: bool = True
    ) -> Generator[Message, None, int]:
        """Messages of the whole records of `data`; returns the bytes used.

        What is not used is to be given again with what follows. `buffer` owns `data`; `output`:
        its other half is free for the hits.
        """
        size = self._front.record_bytes
        whole = data.size - data.size % size
        if self._next_scan is not None and self.acquisition is None:
            yield from self._change_scan(now_ns)
        wire = Wire(data[:whole], buffer, self._front.now, buffer if output else None)
        self._history.keep(
            wire,
            blocks=self._pool.buffers // 4,
            small=self._landing.block_bytes // 4,
            before=wire.start_ticks - 2 * self._sync.window_ticks,
            everything=self._sync.newer_scan_waits,
        )
        carrier = self.acquisition  # whose record these bytes still have to reach
        record, why = 0, FULL
        while why == FULL:
            self._hits.limit = min(self._hits.room, self._hot.to_see or self._hits.room)
            record, hits, items, why = self._front.decode(data[:whole], record, self._hits)
            if why == GARBAGE:
                whole = self._front.resync(data, record * size)
                wire.data = data[:whole]
                self._history.shorten(whole)
            carrier = yield from self._pass_on(hits, items, now_ns, wire, carrier)
        if why == GARBAGE:
            self._off_step += whole - record * size
        yield from self._tell_skipped()
        yield from self._check()
        return whole

    def _tell_skipped(self) -> Iterator[Message]:
        total = self._off_step + self._front.skipped_bytes
        more, self.skipped_bytes = total - self.skipped_bytes, total
        if more:
            text = "{count} bytes that are no words were skipped"
            yield from self._tallies.add("skipped_bytes", text, more)

    @property
    def garbage_bytes(self) -> int:
        """Bytes of the stream that were none of this camera's."""
        return self.skipped_bytes + self._front.record_bytes * self._front.foreign_records

    def _pass_on(
        self, count: int, items: int, now_ns: int, wire: Wire, carrier: Acquisition | None
    ) -> Generator[Message, None, Acquisition | None]:
        """Hits of one pass through hot-pixel learning and clustering to their positions."""
        found = self._hot.look(self._hits, count)
        if found is not None:
            self._front.set_masked(found)
            yield from told_hot(found)
        hits = self._hits
        if self._joiner is not None:
            hits, count = self._joiner.join(hits, count, items)
        return (yield from self._assign(hits, count, items, now_ns, wire, carrier))

    def _assign(
        self,
        hits: Hits,
        count: int,
        items: int,
        now_ns: int,
        wire: Wire,
        carrier: Acquisition | None,
    ) -> Generator[Message, None, Acquisition | None]:
        hit = item = 0
        while True:
            with self._output(wire) as held:
                out = Output.within(held.buffer.unpacked, OUTPUT_HITS)
                hit, item, written, why = self._sync.assign(hits, count, hit, items, item, out)
                if self._sync.open_scan >= 0 and self.acquisition is None:
                    yield from self._begin(now_ns)
                    carrier = None
                acquisition = self.acquisition
                if acquisition is not None:
                    upto = self._done
                    if why == CLOSED:
                        upto = self._sync.progress_when_closed()
                    elif why == DONE:
                        upto = self._sync.progress(settled=False)
                    bytes_due = wire.data if carrier is acquisition else wire.data[:0]
                    carrier = None if carrier is acquisition else carrier
                    block = self._block(
                        acquisition, out, written, bytes_due, upto, now_ns, held.buffer
                    )
                    if written or bytes_due.size or block.complete:
                        wire.output = None
                        held.given()
                        yield block
            if why == CLOSED:
                yield from self._end(self._sync.end_reason)
            elif why == RESET:
                yield from self._clock_reset(items, item)
                item += 1
            elif why == DONE:
                return carrier

    def _output(self, wire: Wire) -> Held:
        """A block for the hits of one pass: the other half of the wire's, or one more."""
        if wire.output is None:
            return Held(self._landing.take())
        wire.output.retain()
        return Held(wire.output)

    def _block(
        self,
        acquisition: Acquisition,
        out: Output,
        count: int,
        wire: Bytes,
        upto: int,
        now_ns: int,
        buffer: Buffer | None,
    ) -> EventBlock:
        runs = scan_runs(self._done, upto, self.scan.shape[1], serpentine=self.scan.serpentine)
        self._done = max(self._done, upto)
        return EventBlock(
            acquisition, out.probe, out.yx, out.dwell_ns, count, wire, now_ns, runs, buffer
        )

    # Scans

    def _begin(self, now_ns: int) -> Iterator[Message]:
        """A scan begins: announce it, and hand its record the bytes it began in."""
        first = self._history.wires[0]
        start = self._sync.begins(max(first.start_ticks, 0))
        self.acquisition = acquisition = Acquisition(
            self.scan,
            self._detector,
            started_ns=now_ns,
            source=self._source,
            raw_name=self._raw_name,
            sidecars=((SYNC_FILE, start.dumps()),),
        )
        self._done = 0
        self.scans += 1
        self._health.scan_began(self.counters())
        yield Started(acquisition)
        out = Output.within(np.empty(0, np.uint8), 0)
        skip = self._front.record_start(first.data)
        for wire in self._history.wires:
            data, skip = wire.data[skip:], 0
            if data.size:
                if wire.buffer is not None:
                    wire.buffer.retain()
                yield self._block(acquisition, out, 0, data, 0, now_ns, wire.buffer)

    def _end(self, reason: EndReason) -> Iterator[Message]:
        acquisition = self.acquisition
        self._sync.close_scan()
        if acquisition is None:
            return
        counters = self.counters()
        yield from self._health.counted(counters, self._tallies)
        yield from self._tallies.rest()
        yield from self._health.scan_ended(counters, self._sync.line_period_us)
        self.acquisition = None
        yield Ended(acquisition, reason)

    def _clock_reset(self, items: int, item: int) -> Iterator[Message]:
        yield from self._tallies.add(
            "clock_reset",
            "the camera's clock was reset in mid-stream",
            remedy="the scan continues if the line pulses' counter does; else a new scan begins",
        )
        scans_are_over = self._sync.clock_was_reset()
        if scans_are_over:
            yield from self._end("restarted")
            self._sync.forget_scans()

    def finish(self, reason: EndReason, now_ns: int) -> Iterator[Message]:
        """No more bytes for now ("idle") or ever: end the scan with what has come.

        "complete" instead of `reason` when the hits reach to the end of the scan, as closely as
        their rate lets one tell.
        """
        wire = Wire(np.empty(0, np.uint8), None, self._front.now)
        count = self._front.finish(self._hits)
        if count:
            yield from self._pass_on(count, 0, now_ns, wire, None)
        if self._joiner is not None:
            joined, count = self._joiner.finish()
            yield from self._assign(joined, count, 0, now_ns, wire, None)
        self._checked = -(1 << 62)
        yield from self._check()
        while self.acquisition is not None:
            yield from self._end_open_scan(reason, now_ns)
            # hits of a scan behind it may have waited for the reorder window to pass
            yield from self._assign(self._hits, 0, 0, now_ns, wire, None)
        yield from self._tallies.rest()
        self._history.clear()

    def _end_open_scan(self, reason: EndReason, now_ns: int) -> Iterator[Message]:
        acquisition = self.acquisition
        assert acquisition is not None
        upto, total = self._sync.progress(settled=True), self.scan.positions
        mean = self._sync.hits_of_scan / upto if upto else 0.0
        # The last hit comes before the end: what counts is how many more were to be expected.
        left = self._sync.left
        if upto and (left * mean <= QUIET_GAPS or left <= LAST_PART):
            upto, reason = total, "complete"
        elif self._sync.newer_scan_waits:
            reason = "restarted"
        none = Output.within(np.empty(0, np.uint8), 0)
        yield self._block(acquisition, none, 0, np.empty(0, np.uint8), upto, now_ns, None)
        yield from self._end(reason)

    def _change_scan(self, now_ns: int) -> Iterator[Message]:
        scan = self._next_scan
        assert scan is not None
        self._start = None
        self._history.clear()
        self._set_scan(scan)
        yield Notice(
            "scan_changed",
            f"the scan is {scan.shape[0]}x{scan.shape[1]} from now on",
            level="info",
        )

    # Going on elsewhere

    def state(self) -> dict[str, NDArray[Any]]:
        """All that the next bytes' hits depend on, between two `consume`, as named arrays.

        Not in it: bytes kept for the record of a scan to come, and what was told of the stream.
        """
        begun = self.acquisition is not None
        return {
            **checkpoint.gathered(self._parts()),
            "decoder": np.array([self._done, self.skipped_bytes, begun], np.int64),
        }

    def restore(self, state: Mapping[str, NDArray[Any]], acquisition: Acquisition) -> None:
        """Go on, as `acquisition`, where a decoder of the same settings gave this out."""
        checkpoint.handed_out(state, self._parts())
        self._done, self.skipped_bytes, begun = (int(value) for value in state["decoder"])
        self._off_step = self.skipped_bytes - self._front.skipped_bytes
        self.acquisition = acquisition if begun else None

    def _parts(self) -> dict[str, checkpoint.Part]:
        parts: dict[str, checkpoint.Part] = {
            "front": self._front,
            "hot": self._hot,
            "sync": self._sync,
        }
        return parts if self._joiner is None else {**parts, "joiner": self._joiner}

    # What was seen

    def counters(self) -> dict[str, int]:
        """Everything counted since the beginning of the stream."""
        return {
            **self._front.counters(),
            **self._sync.counters(),
            "skipped_bytes": self.skipped_bytes,
        }

    def _check(self) -> Iterable[Message]:
        """Once a second of camera time: what was counted, and what looks wrong."""
        now = self._front.now
        if 0 <= now - self._checked < HEALTH_TICKS:
            return
        self._checked = now
        counters = self.counters()
        yield from self._health.counted(counters, self._tallies)
        yield from self._health.doubts(counters, self._sync.pulse_age_s, self._sync.line_period_us)

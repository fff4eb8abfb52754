"""From hits and pulses to the blocks of one scan after the other."""

from __future__ import annotations

from collections.abc import Generator, Iterator
from dataclasses import dataclass

import numpy as np

from stemd.acquisition import Acquisition, Detector, Scan
from stemd.adapters.events.begin import record_of
from stemd.adapters.events.ending import Ending
from stemd.adapters.events.front import Front, Hits
from stemd.adapters.events.health import BY_CLOCK, BY_PULSES, SyncHealth
from stemd.adapters.events.history import Bytes, History, Wire, scan_runs
from stemd.adapters.events.landing import OUTPUT_HITS, Held, Landing
from stemd.adapters.events.positions.frame_numbers import Frames
from stemd.adapters.events.pulses.state import NEVER
from stemd.adapters.events.settings import EventSettings
from stemd.adapters.events.sync import CLOSED, DONE, RESET, Output, ScanSync
from stemd.adapters.events.sync_start import SYNC_FILE, SyncStart
from stemd.adapters.events.ticks import TICKS_PER_US
from stemd.adapters.tally import Tallies
from stemd.blocks import Buffer, Ended, EndReason, EventBlock, Message, Started


@dataclass(frozen=True, slots=True)
class Origin:
    """What every scan of a stream is announced with."""

    detector: Detector
    source: str
    raw_name: str


class ScanPlacer:
    """Places hits, and begins and ends the scans that they belong to."""

    def __init__(
        self,
        settings: EventSettings,
        scan: Scan,
        start: SyncStart | None,
        origin: Origin,
        front: Front,
        landing: Landing,
        history: History,
        tallies: Tallies,
    ) -> None:
        self.scan = scan
        self.sync = ScanSync(settings, scan, start)
        self.frames = Frames(self.sync.scan.positions, scan.positions)
        self.health = SyncHealth(settings, scan)
        self.done = 0
        """Positions of the open scan, or of its frame at hand, in scan order, that are over."""
        self.scans = 0
        """Scans that have begun."""
        self.acquisition: Acquisition | None = None
        self._origin = origin
        self._front, self._landing, self._history = front, landing, history
        self._tallies = tallies

    @property
    def left(self) -> int:
        """Positions of the open scan, or of one to come, that are not over."""
        return self.frames.left(self.sync.open_scan, self.sync.progress(settled=True))

    def counters(self) -> dict[str, int]:
        """Everything counted of words, hits and pulses."""
        return {**self._front.counters(), **self.sync.counters()}

    def looked_at(self) -> Iterator[Message]:
        """What was counted since the last look, and what looks wrong."""
        counters = self.counters()
        yield from self.health.counted(counters, self.sync.faults(), self._tallies)
        yield from self.health.doubts(
            counters,
            self.sync.pulse_age_s,
            self.sync.times.line_period_us,
            scanning=self.acquisition is not None or self.sync.oldest_waiting is not None,
        )

    def place(
        self,
        hits: Hits,
        count: int,
        items: int,
        now_ns: int,
        wire: Wire,
        carrier: Acquisition | None,
    ) -> Generator[Message, None, Acquisition | None]:
        """Messages of some hits and items; `carrier` is the scan whose record the bytes of
        `wire` still have to reach. Returns the carrier for what follows.
        """
        hit = item = 0
        while True:
            with self._output(wire) as held:
                out = Output.within(held.buffer.unpacked, OUTPUT_HITS)
                hit, item, written, why = self.sync.assign(hits, count, hit, items, item, out)
                number = self.sync.open_scan
                if number >= self.sync.earliest and number != self.frames.at:
                    yield from self._goes_on_or_ends()
                    if self.acquisition is None:
                        yield from self._begin(now_ns)
                        carrier = None
                acquisition = self.acquisition
                if acquisition is not None:
                    if self.frames.first_position:
                        out.probe[:written] += self.frames.first_position
                    upto = self.done
                    if why == CLOSED:
                        upto = self.sync.progress_when_closed()
                    elif why in (DONE, RESET):
                        # behind a reset no word of the old clock comes, and its lines are forgotten
                        upto = self.sync.progress(settled=why == RESET)
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
                yield from self._closed(self.sync.end_reason)
            elif why == RESET:
                yield from self._clock_reset()
                item += 1
            elif why == DONE:
                waits = self.acquisition is not None and self.sync.open_scan < 0
                if waits and self.sync.oldest_waiting is None:
                    yield from self._end_after_a_pause(self.sync.times.now_ticks)
                return carrier

    def finish(
        self, hits: Hits, reason: EndReason, now_ns: int, wire: Wire, ending: Ending
    ) -> Iterator[Message]:
        """No more hits or pulses for now: end the scans with what has come.

        "complete" instead of `reason` when the hits reach to the end of the scan, as closely as
        their rate lets one tell, see `Ending`.
        """
        self.sync.settle()
        yield from self.place(hits, 0, 0, now_ns, wire, None)
        while self.acquisition is not None or self.sync.is_early:
            if self.acquisition is None:
                self.sync.close_scan()
            else:
                yield from self._end_open(self.acquisition, reason, now_ns, ending)
            # hits of a scan behind it may have waited for the reorder window to pass
            yield from self.place(hits, 0, 0, now_ns, wire, None)

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
        return EventBlock(
            acquisition,
            out.probe,
            out.yx,
            out.dwell_ns,
            count,
            wire,
            now_ns,
            self._completed(upto),
            buffer,
        )

    def _completed(self, upto: int) -> list[tuple[int, int]]:
        """Runs of positions that are over since the last block; rows without a line are not."""
        begin, self.done = self.done, max(self.done, upto)
        if upto <= begin:
            return []
        nx, serpentine = self.scan.shape[1], self.scan.serpentine
        if not self.sync.may_lack_rows:
            return self.frames.moved(scan_runs(begin, upto, nx, serpentine=serpentine))
        first, stop = begin // nx, -(-upto // nx)
        runs: list[tuple[int, int]] = []
        for row in first + np.flatnonzero(self.sync.lacking_rows(first, stop)):
            runs += scan_runs(begin, int(row) * nx, nx, serpentine=serpentine)
            begin = max(begin, (int(row) + 1) * nx)
        return self.frames.moved(runs + scan_runs(begin, upto, nx, serpentine=serpentine))

    def _begin(self, now_ns: int) -> Iterator[Message]:
        """A scan begins: announce it, and hand its record the bytes it began in."""
        start = self.sync.begins(self._history.wires[0])
        self.acquisition = acquisition = Acquisition(
            self.scan,
            self._origin.detector,
            started_ns=now_ns,
            source=self._origin.source,
            raw_name=self._origin.raw_name,
            sidecars=((SYNC_FILE, start.dumps()),),
        )
        self.done = 0
        self.frames.begin(self.sync.open_scan)
        self.scans += 1
        self.health.scan_began(self.counters())
        yield Started(acquisition)
        due, self.frames.next_line_ticks = self.frames.next_line_ticks, NEVER
        if due != NEVER:
            late_us = (self.sync.times.began_ticks - due) / TICKS_PER_US
            yield from self.health.followed(late_us, self.sync.times.line_period_us)
        out = Output.within(np.empty(0, np.uint8), 0)
        for data, buffer in record_of(self._history.wires, self._front):
            if buffer is not None:
                buffer.retain()
            yield self._block(acquisition, out, 0, data, 0, now_ns, buffer)

    def _goes_on_or_ends(self) -> Iterator[Message]:
        """Lines have begun: those of the open scan's next frame, or of another scan."""
        if self.acquisition is None:
            return
        yield from self._end_after_a_pause(self.sync.times.began_ticks)
        if self.acquisition is not None:
            self.done = 0
            if not self.frames.goes_on(self.sync.open_scan):
                yield from self._end("restarted", close=False)

    def _end_after_a_pause(self, now_ticks: float) -> Iterator[Message]:
        """A scan whose next frame has not come for long ends with those that it has."""
        if self.sync.times.is_long_after(now_ticks, self.frames.ended_ticks):
            yield from self._end("idle", close=False)

    def _closed(self, reason: EndReason) -> Iterator[Message]:
        """What is one scan for the lines is over: where others follow, a frame of it."""
        if reason == "complete" and self.frames.others_follow:
            self.frames.ended_ticks = self.sync.times.ended_ticks
            self.sync.close_scan()
            return
        next_line = self.sync.times.next_line_ticks if reason == "complete" else NEVER
        yield from self._end(reason)
        self.frames.next_line_ticks = next_line

    def _end(self, reason: EndReason, *, close: bool = True) -> Iterator[Message]:
        """Of the open scan. `close`: its lines are over as well."""
        acquisition = self.acquisition
        lines = self.sync.scan_lines if close else 0
        if close:
            self.sync.close_scan()
        self.frames.end()
        if acquisition is None:
            return
        counters = self.counters()
        yield from self.health.counted(counters, self.sync.faults(), self._tallies)
        yield from self._tallies.rest()
        yield from self.health.scan_ended(counters, self.sync.times.line_period_us, lines)
        self.acquisition = None
        yield Ended(acquisition, reason)

    def _end_open(
        self, acquisition: Acquisition, reason: EndReason, now_ns: int, ending: Ending
    ) -> Iterator[Message]:
        if self.sync.open_scan < 0:  # the next frame has not begun
            yield from self._end(reason)
            return
        upto, total = self.sync.progress(settled=True), self.sync.scan.positions
        mean = self.sync.hits_of_scan / upto if upto else 0.0
        # The last hit comes before the end: what counts is how many more were to be expected.
        left = self.sync.left
        last = self.sync.scan.lines - 1
        reached = not self.sync.lacking_rows(last, last + 1)[0]
        whole = upto and reached and (left * mean <= ending.gaps or left <= ending.part)
        goes_on = whole and self.frames.others_follow and self.sync.newer_scan_waits
        if whole:
            upto = total
            reason = reason if self.frames.others_follow and not goes_on else "complete"
        elif self.sync.newer_scan_waits:
            reason = "restarted"
        none = Output.within(np.empty(0, np.uint8), 0)
        yield self._block(acquisition, none, 0, np.empty(0, np.uint8), upto, now_ns, None)
        yield from self._closed(reason)

    def _clock_reset(self) -> Iterator[Message]:
        scans_are_over = self.sync.clock_was_reset(amid_a_line=self.done % self.scan.shape[1] > 0)
        text = "the camera's clock was reset in mid-stream"
        remedy = BY_CLOCK if scans_are_over else BY_PULSES
        yield from self._tallies.add("clock_reset", text, remedy=remedy)
        self.frames.ended_ticks = NEVER  # by the old clock
        if scans_are_over:
            yield from self._end("restarted")
            self.sync.forget_scans()

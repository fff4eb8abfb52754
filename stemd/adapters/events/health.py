"""Saying in plain words what looks wrong with the stream or its synchronisation."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from numpy.typing import NDArray

from stemd.acquisition import Scan
from stemd.adapters.events.pulse_faults import pulse_faults
from stemd.adapters.events.settings import EventSettings
from stemd.adapters.events.ticks import TDC_NAMES
from stemd.adapters.tally import Tallies
from stemd.blocks import Notice

NO_PULSES_S = 1.0
"""Camera time without line pulses after which the operator is told."""
NO_PULSES_LINES = 2.5
"""In a scan, also: so many times the time of a line."""
LONGEST_LINE_S = 10.0
"""Of a line whose length nothing tells."""
BETWEEN_SCANS_S = 30.0
"""Between scans the beam may well be on while no pulses come; for so long, it is worth a word."""
LEAST_HITS = 10_000
"""Fewer hits than this since the last pulse prove nothing: the clock may have leapt."""
INTERVAL_TOLERANCE = 0.02
OUTSIDE_MARGIN = 0.2
"""Part of the hits outside lines beyond what flyback explains that is worth a word."""
FEW_LINES = 4
"""So many periods before a scan a stray pulse may be taken for its first line: nothing tells."""

BY_PULSES = (
    "the scan goes on where the line pulses' counter does; where that began anew, too, nothing "
    "tells how many lines lie between, and what follows is a scan of its own"
)
BY_CLOCK = (
    "only the camera's clock tells the positions: what follows is a scan of its own, counted from "
    "the clock's new beginning; start the clock before the scan, or let line pulses tell the lines"
)
"""What a clock that was reset in mid-stream does to the scan."""

_COUNTED = {
    "overflow": ("hold_overflow", "hits were dropped: too many waited for their line"),
    "late": ("late_hits", "hits came after their scan or line was over"),
    "broken_chunks": ("broken_chunks", "chunks were shorter than their header says"),
    "unknown": ("unknown_words", "words of unknown kind were skipped"),
    "foreign_chip": ("foreign_chips", "words of chips that the layout does not have were skipped"),
    "integrated": ("integrated_words", "words of the integrating mode (no time) were skipped"),
    "overflow_hits": (
        "overflow_hits",
        "hits are marked with an overflow of the camera's data transfer: they count, but others "
        "may be lost around them",
    ),
    "lost_data": ("lost_data", "gaps in which the camera lost hits"),
    "late_resets": ("clock_reset", "times the camera's clock was reset; its global time tells it"),
}


class SyncHealth:
    """Compares counters with those of the last look; each doubt is told once a scan."""

    def __init__(self, settings: EventSettings, scan: Scan) -> None:
        self._settings = settings
        self._scan = scan
        self._before: dict[str, int] = {}
        self._told: set[str] = set()
        self._scan_start: dict[str, int] = {}
        self._followed = False
        self._pulses = self._hits_before = 0
        """Line pulses that came, and hits up to the newest of them."""

    def scan_began(self, counters: Mapping[str, int]) -> None:
        """A new scan: doubts may be told again."""
        self._told.clear()
        self._scan_start = dict(counters)

    def followed(self, late_us: float, period_us: float) -> Iterator[Notice]:
        """Notices about a scan that began so long after one more line of the one before was due.

        The beam needs time to go back to the first line. Where a pulse of its own announces each
        scan there is nothing to doubt. Told once a stream: there are generators without a pause.
        """
        told = self._settings.tdc.frame_input is not None or self._scan.repeats > 1
        if not told and abs(late_us) < INTERVAL_TOLERANCE * period_us and not self._followed:
            self._followed = True
            yield Notice(
                "no_pause",
                "the scan began without a pause, as one more line of the scan before would have",
                remedy=f"check scan.shape: if there are more than {self._scan.shape[0]} lines, or "
                "the two numbers are transposed, several of these scans are one",
            )

    def counted(
        self, counters: Mapping[str, int], faults: NDArray[Any], tallies: Tallies
    ) -> Iterator[Notice]:
        """Notices, as far as they are due, about what was counted since the last call.

        `faults`: the first of each kind of fault of the line pulses, see `pulses.ledger`.
        """
        shape = self._scan.shape
        for name, (kind, text, remedy) in pulse_faults(faults, shape[0]).items():
            more = counters.get(name, 0) - self._before.get(name, 0)
            if more > 0:
                yield from tallies.add(kind, f"{{count}} {text}", more, remedy)
        for name, (kind, text) in _COUNTED.items():
            more = counters.get(name, 0) - self._before.get(name, 0)
            if more > 0:
                yield from tallies.add(kind, f"{{count}} {text}", more)
        self._before = dict(counters)

    def doubts(
        self, counters: Mapping[str, int], pulse_age_s: float, period_us: float, *, scanning: bool
    ) -> Iterator[Notice]:
        """Notices about what looks wrong now. Times in camera seconds and microseconds.

        A pulse that came counts, be it of a line or not: those of a scan's first lines wait for
        others to tell what they are, however long its lines last.

        `scanning`: a scan is open, or may be about to begin.
        """
        if self._settings.sync != "tdc":
            return
        hits = counters.get("pixels", 0)
        edge = TDC_NAMES[self._settings.tdc.start_edge]
        pulses = counters.get("start_edges", 0)
        if pulses != self._pulses:
            self._pulses, self._hits_before = pulses, hits
        late = pulse_age_s > self._longest_wait_s(period_us, scanning=scanning)
        more = hits - self._hits_before
        if more >= LEAST_HITS and late and self._new("no_line_pulses"):
            others = counters.get("other_edges", 0)
            yield Notice(
                "no_line_pulses",
                f"no {edge} pulses for {pulse_age_s:.1f} s although hits arrive"
                + (f"; {others} edges came on other inputs or of the other sign" if others else ""),
                remedy="check the cable from the scan generator, tdc.input and tdc.edge",
            )
        dwell = self._scan.dwell_time_us
        if dwell is not None and period_us > 0.0:
            least = self._scan.shape[1] * dwell
            slots = self._scan.line_frames
            known = self._scan.flyback is not None
            wrong = period_us < least * (1 - INTERVAL_TOLERANCE) or (
                known and abs(period_us / (slots * dwell) - 1) > INTERVAL_TOLERANCE
            )
            if wrong and self._new("line_interval"):
                expected = slots if known else self._scan.shape[1]
                yield Notice(
                    "line_interval",
                    f"line pulses come every {period_us:.1f} us, but {expected} dwell times of "
                    f"{dwell:g} us take {expected * dwell:.1f} us",
                    remedy="check scan.shape, scan.flyback and scan.dwell_time_us",
                )

    def scan_ended(
        self, counters: Mapping[str, int], period_us: float, lines: int
    ) -> Iterator[Notice]:
        """What the whole scan tells; `lines`: how many of its lines there were, 0 not known."""
        if 0 < lines < self._scan.shape[0]:
            yield Notice(
                "lines_too_few",
                f"the scan ended after {lines} of {self._scan.shape[0]} lines",
                remedy="check scan.shape; if a pulse before its first line was lost, its rows "
                "stand too high"
                if lines > FEW_LINES
                else "check scan.shape; if these lines belong to the scan before, a stray pulse "
                f"came before that one's first line, and its rows stand {lines} too low",
            )
        gained = {
            name: counters.get(name, 0) - self._scan_start.get(name, 0)
            for name in ("outside", "assigned")
        }
        total = gained["outside"] + gained["assigned"]
        if total < LEAST_HITS:
            return
        outside = gained["outside"] / total
        if outside > self._flyback_part(period_us) + OUTSIDE_MARGIN:
            yield Notice(
                "hits_outside_lines",
                f"{100 * outside:.0f} % of the hits fell outside the scan lines",
                remedy="check scan.shape, scan.dwell_time_us and the line pulses; "
                "blank the beam between lines if it rests there for long",
            )

    def _longest_wait_s(self, period_us: float, *, scanning: bool) -> float:
        """Longest time without a line pulse in which nothing is wrong."""
        if self._pulses and not scanning:
            return BETWEEN_SCANS_S
        dwell = self._scan.dwell_time_us
        line_us = max(period_us, self._scan.line_frames * dwell if dwell is not None else 0.0)
        if line_us == 0.0:
            return LONGEST_LINE_S
        return max(NO_PULSES_S, NO_PULSES_LINES * line_us / 1e6)

    def _flyback_part(self, period_us: float) -> float:
        """Part of the time between lines that belongs to no position."""
        slots = self._scan.line_frames
        part = (slots - self._scan.shape[1]) / slots
        dwell = self._scan.dwell_time_us
        if dwell is not None and period_us > 0.0:
            part = max(part, 1 - self._scan.shape[1] * dwell / period_us)
        return part

    def _new(self, kind: str) -> bool:
        if kind in self._told:
            return False
        self._told.add(kind)
        return True

"""The state of the synchronisation of hits with the scan, and what can be asked of it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from stemd.acquisition import Scan
from stemd.adapters.events.begin import begins
from stemd.adapters.events.front import Hits
from stemd.adapters.events.history import Wire
from stemd.adapters.events.positions import places
from stemd.adapters.events.positions import progress as over
from stemd.adapters.events.positions.line_times import LineTimes
from stemd.adapters.events.positions.places import CLOSED, DONE, FULL, RESET
from stemd.adapters.events.pulses import known, ledger
from stemd.adapters.events.pulses import state as pulses
from stemd.adapters.events.pulses.state import COMPLETE, IDLE, NEVER
from stemd.adapters.events.settings import EventSettings
from stemd.adapters.events.sync_start import SyncStart
from stemd.adapters.events.sync_state import first_state
from stemd.adapters.events.ticks import TICKS_PER_US

__all__ = ["CLOSED", "DONE", "FULL", "RESET", "Output", "ScanSync"]


@dataclass(slots=True)
class Output:
    """Arrays that hits with a position are written to."""

    probe: NDArray[np.int32]
    yx: NDArray[np.uint32]
    dwell_ns: NDArray[np.float32]

    @classmethod
    def within(cls, memory: NDArray[np.uint8], hits: int) -> Output:
        """Views of 12 bytes a hit of `memory`."""
        return cls(
            memory[: 4 * hits].view(np.int32),
            memory[4 * hits : 8 * hits].view(np.uint32),
            memory[8 * hits : 12 * hits].view(np.float32),
        )


class ScanSync:
    """Gives hits their probe positions and knows which positions are over."""

    def __init__(self, settings: EventSettings, scan: Scan, start: SyncStart | None = None) -> None:
        by_pulses = settings.sync == "tdc"
        self.scan = scan = scan.once if by_pulses else scan
        """What is one scan for the lines: a frame by pulses, between which there is a pause of any
        length; all frames by the dwell clock, which runs on."""
        self._state = first_state(settings, scan, start)
        self._lines = np.zeros(pulses.LINES, pulses.LINE)
        self.times = LineTimes(self._state, self._lines)
        """When lines begin and end."""
        self._waits = np.zeros(pulses.WAITING, pulses.PULSE)
        self._faults = np.zeros(ledger.KINDS, ledger.FAULT)
        went_on = start is not None and start.go_on(self._state, self._lines, self._waits)
        self.earliest = start.scan if start is not None and went_on else 0
        """Number of the first scan that is asked for: one before it may still be open."""
        # a ring of which only what was written is read: 50 MB of zeros would cost 13 ms a scan
        self._hold_times = np.empty(settings.hold_hits, np.int64)
        self._hold_places = np.empty(settings.hold_hits, np.uint32)
        self._first_time: int | None = None
        self._clock_began: int | None = None  # the first hit's time since its last reset
        self.assigned = 0
        self.hits_of_scan = 0

    def assign(
        self, hits: Hits, count: int, first: int, items: int, first_item: int, out: Output
    ) -> tuple[int, int, int, int]:
        """See `events.places.assign`."""
        if first < count and self._clock_began is None:
            self._clock_began = int(hits.times[first])
            self._first_time = self._clock_began if self._first_time is None else self._first_time
        scan = self.open_scan
        hit, item, written, why = places.assign(
            hits.times,
            hits.places,
            count,
            first,
            hits.items,
            items,
            first_item,
            self._state,
            self._lines,
            self._waits,
            self._faults,
            self._hold_times,
            self._hold_places,
            out.probe,
            out.yx,
            out.dwell_ns,
        )
        if scan != self.open_scan:
            self.hits_of_scan = 0
        self.assigned += written
        self.hits_of_scan += written
        return hit, item, written, why

    @property
    def open_scan(self) -> int:
        """Number of the scan that hits are given out for, -1: none."""
        return int(self._state["scan"][0])

    @property
    def is_early(self) -> bool:
        """Whether the open scan is one before the first that is asked for."""
        return 0 <= self.open_scan < self.earliest

    @property
    def newer_scan_waits(self) -> bool:
        """Whether a scan behind the open one has begun."""
        newest = int(self._state["newest_scan"][0])
        return newest > max(self.open_scan, int(self._state["closed"][0]))

    @property
    def end_reason(self) -> Literal["complete", "restarted", "idle"]:
        """How the scan that `assign` reported as CLOSED has ended."""
        reason = int(self._state["end_reason"][0])
        if reason == COMPLETE:
            return "complete"
        return "idle" if reason == IDLE else "restarted"

    def progress(self, *, settled: bool) -> int:
        """Positions of the open scan, in scan order, for which no hit is expected any more.

        `settled`: nothing older is to come, so the reorder window need not be waited for.
        """
        behind = 0 if settled else self.times.window_ticks
        now = max(int(self._state["now"][0]), 0)
        return int(over.progress(self._state, self._lines, float(now - behind))[0])

    def lacking_rows(self, first: int, stop: int) -> NDArray[np.bool_]:
        """Which of the rows first..stop-1 of the open scan have no line: holes."""
        missing = np.zeros(max(0, stop - first), np.bool_)
        over.lacks(self._state, self._lines, first, stop, missing)
        return missing

    @property
    def may_lack_rows(self) -> bool:
        """Whether any row may have no line; False costs nothing to know."""
        state = self._state[0]
        return bool(state["holes"] or (state["duration"] == 0.0 and state["lines"]))

    def settle(self) -> None:
        """No more pulses will come for now: decide those that wait with what there is."""
        nothing = Output.within(np.zeros(0, np.uint8), 0)
        places.assign(
            np.zeros(0, np.int64),
            np.zeros(0, np.uint32),
            0,
            0,
            np.zeros((0, 5), np.int64),
            0,
            places.SETTLE,
            self._state,
            self._lines,
            self._waits,
            self._faults,
            self._hold_times,
            self._hold_places,
            nothing.probe,
            nothing.yx,
            nothing.dwell_ns,
        )

    @property
    def oldest_waiting(self) -> int | None:
        """Time in ticks of the oldest pulse that waits to be understood, None: none does."""
        if self._state["waiting"][0] == 0:
            return None
        return int(self._waits["time"][0])

    @property
    def left(self) -> float:
        """Positions of the open scan whose time is not over, the one at hand in part."""
        now = float(max(int(self._state["now"][0]), 0))
        done, part = over.progress(self._state, self._lines, now)
        return float(self.scan.positions - done - part)

    def progress_when_closed(self) -> int:
        """Positions of the scan that was just closed for which its lines were seen."""
        if self.end_reason == "complete":
            return self.scan.positions
        if self.end_reason == "idle":
            return self.progress(settled=True)
        until = float(self._state["close_at"][0]) - self.times.window_ticks
        return int(over.progress(self._state, self._lines, until)[0])

    def known(self) -> known.Known | None:
        """What the line pulses have told so far; None by the dwell clock."""
        if self._state["mode"][0] == pulses.CLOCK:
            return None
        return known.known(self._state, self._waits)

    def begins(self, wire: Wire) -> SyncStart:
        """See `begin.begins`, of the open scan."""
        return begins(self._state, self._lines, self._first_time, wire)

    def close_scan(self) -> None:
        """No more hits are given out for the open scan.

        The next line begins another where this one was broken off; after a whole one the count
        of its pulses goes on.
        """
        row, last = int(self._state["row"][0]), self.scan.lines - 1
        if not self.newer_scan_waits and row < last:
            self._state["fresh"] = 1
        self._state["closed"] = max(self.open_scan, int(self._state["closed"][0]))
        self._state["scan"] = -1
        self._state["close_at"] = NEVER

    def clock_was_reset(self, *, amid_a_line: bool) -> bool:
        """Forget times of the old clock; True when the open scan cannot go on.

        What is left of a line `amid` which it was reset has no time: it is a hole.
        """
        state = self._state
        state["holes"] += amid_a_line
        state["outside"] += state["held"]
        state["held"] = state["drain"] = state["head"] = 0
        state["after_reset"] = state["tracked"]
        state["lines"] = state["hint"] = 0
        state["now"] = -(1 << 62)
        state["last_edge"], self._clock_began = pulses.NONE, None
        state["close_at"] = NEVER
        return bool(state["mode"][0] == pulses.CLOCK)

    def forget_scans(self) -> None:
        """The dwell clock began again: so do the numbers of the scans."""
        self._state["closed"] = self._state["newest_scan"] = -1

    @property
    def scan_lines(self) -> int:
        """Lines of the open scan so far, those without a pulse included; 0 by the dwell clock."""
        if self.open_scan < 0 or self._state["mode"][0] == pulses.CLOCK:
            return 0
        if self.newer_scan_waits:
            rows = self._lines["row"][self._lines["scan"] == self.open_scan]
            return int(rows.max(initial=-1)) + 1
        return int(self._state["row"][0]) + 1

    def faults(self) -> NDArray[Any]:
        """The first pulse fault of each kind since the last call, see `pulses.ledger`."""
        found = self._faults.copy()
        self._faults[:] = 0
        return found

    @property
    def pulse_age_s(self) -> float:
        """Camera time since the last line pulse came, or since the first hit where none did."""
        since = float(self._state["last_edge"][0])
        if since == pulses.NONE:
            since = float(self._clock_began or 0)
        return max(0.0, float(self._state["now"][0]) - since) / (1e6 * TICKS_PER_US)

    def counters(self) -> dict[str, int]:
        """Hits and pulses by fate since the beginning."""
        found = {name: int(self._state[name][0]) for name in pulses.COUNTERS}
        return {"assigned": self.assigned, **found, "held": int(self._state["held"][0])}

    def state(self) -> dict[str, NDArray[Any]]:
        """Lines, held hits and counters, copied: what `restore` of another one takes."""
        head, held = int(self._state["head"][0]), int(self._state["held"][0])
        waiting = (head + np.arange(held)) % self._hold_times.size
        totals = [self.assigned, self.hits_of_scan, self._first_time is not None]
        return {
            "state": self._state.copy(),
            "waits": self._waits.copy(),
            "faults": self._faults.copy(),
            "lines": self._lines[: min(int(self._state["lines"][0]), pulses.LINES)].copy(),
            "hold_times": self._hold_times[waiting],
            "hold_places": self._hold_places[waiting],
            "totals": np.array([*totals, self._first_time or 0], np.int64),
        }

    def restore(self, state: Mapping[str, NDArray[Any]]) -> None:
        """Go on where the one that gave this out was."""
        self._state[:] = state["state"]
        self._lines[: state["lines"].size] = state["lines"]
        self._waits, self._faults = state["waits"].copy(), state["faults"].copy()
        held = state["hold_times"].size
        self._hold_times[:held] = state["hold_times"]
        self._hold_places[:held] = state["hold_places"]
        self._state["head"] = 0
        assigned, of_scan, begun, first_time = (int(value) for value in state["totals"])
        self.assigned, self.hits_of_scan = assigned, of_scan
        self._first_time = self._clock_began = first_time if begun else None

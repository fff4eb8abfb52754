"""Faults of the line pulses in plain words: what was seen, where, and what was made of it."""

from __future__ import annotations

from typing import Any

from numpy.typing import NDArray

from stemd.adapters.events.pulses.ledger import (
    BEGUN_ANEW,
    HOLE,
    MISSED,
    ODD_COUNTER,
    OFF_CLOCK,
    SHIFTED,
)

_CABLE = "check the cable from the scan generator and its termination"


def _where(fault: Any, ny: int) -> str:
    scan, row = divmod(int(fault["line"]), ny)
    place = f"row {row}" if scan == 0 else f"row {row} of scan {scan + 1}"
    return place if fault["chip"] < 0 else f"{place}, chip {fault['chip']}"


def pulse_faults(faults: NDArray[Any], ny: int) -> dict[str, tuple[str, str, str]]:
    """(kind, text, remedy) of the notice of each counter, by the counter's name.

    `faults`: what `ScanSync.faults` gave. The text goes behind the count; it names the first
    place where there is one.
    """
    first = {
        kind: f"; first at {_where(faults[kind], ny)}" if faults[kind]["count"] else ""
        for kind in (MISSED, HOLE, ODD_COUNTER, OFF_CLOCK, SHIFTED, BEGUN_ANEW)
    }
    odd, off, anew = faults[ODD_COUNTER], faults[OFF_CLOCK], faults[BEGUN_ANEW]
    counter = f" ({odd['seen']:.0f} where {odd['due']:.0f} was due)" if odd["count"] else ""
    behind = f" ({off['seen']:.2f} line times behind it)" if off["count"] and off["seen"] else ""
    went = f" (their counter went from {anew['due']:.0f} to {anew['seen']:.0f})"
    return {
        "missed": (
            "missed_pulses",
            "line pulses were missed" + (first[MISSED] or first[HOLE]),
            _CABLE,
        ),
        "holes": (
            "line_holes",
            "lines have no pulse that tells their time: they are holes" + first[HOLE],
            _CABLE,
        ),
        "odd_counters": (
            "pulse_count_doubt",
            "line pulses have a counter out of step; their times, and the pulses around them, "
            f"tell their lines{first[ODD_COUNTER]}{counter}",
            "",
        ),
        "odd_times": (
            "pulse_time_doubt",
            f"line pulses have a false time; their neighbours tell their lines{first[OFF_CLOCK]}"
            f"{behind}",
            "",
        ),
        "spurious": (
            "spurious_pulses",
            f"pulses are on no line's time and were ignored{first[OFF_CLOCK]}{behind}",
            _CABLE,
        ),
        "shifted": (
            "line_clock_shifted",
            f"times the lines went on at another time, with their count in step{first[SHIFTED]}",
            "",
        ),
        "begun_anew": (
            "line_count_anew",
            f"times the lines were broken off and a scan of its own began{first[BEGUN_ANEW]}"
            + (went if anew["count"] else ""),
            "the camera's clock was reset, or a scan was begun before the last was over",
        ),
    }

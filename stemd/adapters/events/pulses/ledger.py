"""The first of each kind of fault since the last report, with what was seen and what was due."""

from __future__ import annotations

from typing import Any

import numpy as np

from stemd.compilation import njit

MISSED, HOLE, ODD_COUNTER, OFF_CLOCK, SHIFTED, BEGUN_ANEW = range(6)
KINDS = 6

FAULT = np.dtype(
    [
        ("count", "i8"),
        ("line", "i8"),  # scan * ny + row
        ("chip", "i8"),
        ("seen", "f8"),
        ("due", "f8"),
    ]
)


@njit(nogil=True, cache=True, cold=True)
def note(faults: Any, kind: int, line: int, chip: int, seen: float, due: float) -> None:
    """Remember a fault if it is the first of its kind since the last report."""
    fault = faults[kind]
    if fault.count == 0:
        fault.line = line
        fault.chip = chip
        fault.seen = seen
        fault.due = due
    fault.count += 1

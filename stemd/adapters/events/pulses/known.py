"""What pulses have told, to go on with: the record of a scan begins with it, as the scan did."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from stemd.adapters.events.pulses.state import COUNTERS, LINE, LINES, PULSE, PULSES, STATE, WAITING

KEPT_LINES = 64
"""Lines before the record: another chip may still send the pulses of the newest ones."""
_SAME = (
    "mode",
    "ny",
    "nx",
    "line_slots",
    "start_edge",
    "stop_edge",
    "frame_edge",
    "only_chip",
    "delay",
    "dwell_given",
)
"""Settings without which the rest means something else."""
_OWN = (
    *("leading", "serpentine", "window", "acceptance", "idle", "amid"),
    *("room", "waiting", "first_pulse", "first_row", "lines", "hint", "head", "held", "drain"),
    *COUNTERS,
)
"""What whoever goes on has of its own."""
_GIVEN = tuple(name for name in STATE.names or () if name not in (*_SAME, *_OWN))

Told = dict[str, Any]


@dataclass(frozen=True, slots=True)
class Known:
    """The state at some moment, and the pulses that waited. The lines are still in their ring."""

    state: NDArray[Any]
    waits: NDArray[Any]

    def told(self, lines: NDArray[Any]) -> Told:
        """As plain lists. `lines`: the ring, as it is by now."""
        last = int(self.state["lines"][0])
        numbers = np.arange(max(0, last - KEPT_LINES), last)
        return {
            "state": {name: self.state[name][0].tolist() for name in (*_SAME, *_GIVEN)},
            "waits": [list(pulse) for pulse in _plain(self.waits)],
            "lines": [list(line) for line in _plain(lines[numbers % LINES])],
        }


def known(state: NDArray[Any], waits: NDArray[Any]) -> Known:
    """What is known now, copied."""
    return Known(state.copy(), waits[: int(state["waiting"][0])].copy())


def _plain(rows: NDArray[Any]) -> list[Sequence[Any]]:
    return [[row[name].tolist() for name in rows.dtype.names or ()] for row in rows]


def go_on(
    told: Mapping[str, Any], state: NDArray[Any], lines: NDArray[Any], waits: NDArray[Any]
) -> bool:
    """Write what was told into the first state of a stream; False: it is of other settings.

    Raises KeyError, TypeError, ValueError or OverflowError where it is none of `Known.told`.
    """
    given = told["state"]
    if any(given[name] != state[name][0] for name in _SAME) or given["mode"] != PULSES:
        return False
    lines_told = _rows(told["lines"], LINE)
    waits_told = _rows(told["waits"], PULSE)
    if lines_told.size > KEPT_LINES or waits_told.size > WAITING:
        raise ValueError("too many lines or pulses")
    if ((lines_told["row"] < 0) | (lines_told["row"] >= state["ny"][0])).any():
        raise ValueError("a line that the scan does not have")
    new = state.copy()
    for name in _GIVEN:
        new[name][0] = given[name]
    if not np.isfinite(new["last_pulse"][0] + new["period"][0] + new["spread"][0]):
        raise ValueError("times that are no numbers")
    state[:] = new
    state["first_pulse"], state["first_row"] = -1, 0  # nothing is to be skipped
    state["lines"], state["waiting"] = lines_told.size, waits_told.size
    lines[: lines_told.size] = lines_told
    waits[: waits_told.size] = waits_told
    return True


def _rows(rows: Sequence[Sequence[Any]], kind: np.dtype[Any]) -> NDArray[Any]:
    made = np.zeros(len(rows), kind)
    for at, row in enumerate(rows):
        for name, value in zip(kind.names or (), row, strict=True):
            made[name][at] = value
    return made

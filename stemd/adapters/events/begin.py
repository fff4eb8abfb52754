"""Where in its record a scan begins, as told when it begins."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import numpy as np
from numpy.typing import NDArray

from stemd.adapters.events.front import Front
from stemd.adapters.events.history import UNKNOWN, Bytes, Wire
from stemd.adapters.events.pulses import state as pulses
from stemd.adapters.events.sync_start import SyncStart
from stemd.adapters.events.ticks import PIXEL_CLOCK_BITS
from stemd.blocks import Buffer


def record_of(wires: Iterable[Wire], front: Front) -> list[tuple[Bytes, Buffer | None]]:
    """The bytes that a record begins with, of those that are remembered."""
    pieces: list[tuple[Bytes, Buffer | None]] = []
    for wire in wires:
        data = wire.data
        if not pieces and wire.head:
            pieces.append((np.frombuffer(wire.head, np.uint8), None))
        elif not pieces:
            data = data[front.record_start(data) :]
        if data.size:
            pieces.append((data, wire.buffer))
    return pieces


def begins(
    state: NDArray[Any], lines: NDArray[Any], first_time: int | None, wire: Wire
) -> SyncStart:
    """How the open scan is found again in a record that begins with these bytes.

    `first_time`: of the first hit of the stream, near enough where no time had been seen before.
    """
    time_ticks = wire.start_ticks
    if time_ticks == UNKNOWN:
        pulses_seen = lines["pulse"][lines["pulse"] > pulses.NONE]
        near = int(pulses_seen[0]) if state["lines"][0] else 0
        time_ticks = near if first_time is None else first_time
    scan = int(state["scan"][0])
    seen = lines[: min(int(state["lines"][0]), pulses.LINES)]
    mine = seen[(seen["scan"] == scan) & (seen["pulse"] > pulses.NONE)]
    if wire.known is None or mine.size == 0:
        return SyncStart(time_ticks, scan=scan)
    first = mine[np.argmin(mine["start"])]
    pulse = int(first["pulse"]) & (1 << PIXEL_CLOCK_BITS) - 1
    return SyncStart(
        time_ticks,
        pulse,
        int(first["row"]),
        int(state["only_chip"][0]),
        scan,
        wire.known.told(lines),
    )

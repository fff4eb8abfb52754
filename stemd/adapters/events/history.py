"""What the decoder remembers of the stream: recent bytes, and which positions are over."""

from __future__ import annotations

from collections import deque
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from stemd.adapters.events.pulses.known import Known
from stemd.blocks import Buffer

MOST_BLOCKS = 32
"""Blocks remembered so that the record of a scan can begin before the scan does."""
MOST_PIECES = 4096
"""Pieces remembered, copies included: those of a slow stream are small."""
MOST_BYTES = 64 * 1024 * 1024
"""Bytes remembered while a scan's first pulses wait to be understood."""

UNKNOWN = 1 << 62
"""Start of a piece before which no time has been seen."""

Bytes = NDArray[np.uint8]


def scan_runs(done: int, upto: int, nx: int, *, serpentine: bool) -> list[tuple[int, int]]:
    """Runs (first, stop) of flat positions that are the done..upto-1 first in scan order."""
    if upto <= done:
        return []
    if not serpentine:
        return [(done, upto)]
    runs: list[tuple[int, int]] = []
    while done < upto:
        row, column = divmod(done, nx)
        stop = min(upto - row * nx, nx)
        run = (row * nx + column, row * nx + stop)
        if row % 2 == 1:
            run = ((row + 1) * nx - stop, (row + 1) * nx - column)
        if runs and runs[-1][1] == run[0]:
            run = (runs.pop()[0], run[1])
        runs.append(run)
        done = row * nx + stop
    return runs


@dataclass(slots=True)
class Wire:
    """Bytes as they came, kept until they can belong to no scan to come."""

    data: Bytes
    buffer: Buffer | None
    start_ticks: int
    output: Buffer | None = None
    """Where hits may be written, until they are."""
    known: Known | None = None
    """What the line pulses before these bytes have told."""
    head: bytes = b""
    """What must stand before them for a recording to begin with them."""

    def release(self) -> None:
        """Give the block back."""
        if self.buffer is not None:
            self.buffer.release(wire_only=True)


class History:
    """The newest pieces of the stream, oldest first."""

    def __init__(self) -> None:
        self.wires: deque[Wire] = deque()
        self._blocks = 0
        self._bytes = 0

    def keep(self, wire: Wire, *, blocks: int, small: int, before: int, everything: bool) -> None:
        """Remember a piece; forget those that ended before the time `before` (ticks).

        At most `blocks` pieces stay in the blocks they came in, others are copied; so are those
        of less than `small` bytes. `everything`: a scan waits to begin, forget none for its age.
        """
        kept = replace(wire, output=None)
        if wire.buffer is not None and wire.data.size < small:
            kept.data, kept.buffer = wire.data.copy(), None
        elif wire.buffer is not None:
            wire.buffer.retain(wire_only=True)
        if wire.start_ticks != UNKNOWN:
            for earlier in reversed(self.wires):  # none begins after those behind it
                if earlier.start_ticks <= wire.start_ticks:
                    break
                earlier.start_ticks = wire.start_ticks
        self.wires.append(kept)
        self._blocks += kept.buffer is not None
        self._bytes += kept.data.size
        while (
            len(self.wires) > MOST_PIECES
            or (len(self.wires) > 1 and self._bytes > MOST_BYTES)
            or (len(self.wires) > 1 and not everything and self.wires[1].start_ticks < before)
        ):
            self._forget_oldest()
        if self._blocks > min(MOST_BLOCKS, max(1, blocks)):
            self._copy_oldest()

    def _copy_oldest(self) -> None:
        """The oldest block that is still held goes back to its pool."""
        for wire in self.wires:
            if wire.buffer is not None:
                wire.data = wire.data.copy()
                wire.buffer.release(wire_only=True)
                wire.buffer = None
                self._blocks -= 1
                return

    def shorten(self, size: int) -> None:
        """The newest piece ends after so many bytes."""
        self._bytes += size - self.wires[-1].data.size
        self.wires[-1].data = self.wires[-1].data[:size]

    def clear(self) -> None:
        """Forget everything."""
        while self.wires:
            self._forget_oldest()

    def _forget_oldest(self) -> None:
        oldest = self.wires.popleft()
        self._blocks -= oldest.buffer is not None
        self._bytes -= oldest.data.size
        oldest.release()

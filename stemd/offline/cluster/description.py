"""A file as a worker sees it, and into what parts it is cut."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from stemd import __version__
from stemd.acquisition import Acquisition
from stemd.blocks import Message
from stemd.offline.cluster.parts import Part

PARTS_A_THREAD = (2, 4)
"""A file is cut into at least and about so many parts for each of several threads, so that none
works long when the others are done."""
GOOD_PART_BYTES = 512 * 1024 * 1024
"""More parts than the least are not made below this: it is a hundred times a part's own cost."""
LEAST_PART_BYTES = 64 * 1024 * 1024
"""Ten times the cost of a task."""
MOST_PART_BYTES = 1024 * 1024 * 1024
"""What a lost worker costs at most."""


@dataclass(frozen=True, slots=True)
class Description:
    """A file as a worker sees it. `extent` counts units: frames, or the bytes of a `sequential`
    stream. `lead`: where the first patterns decide anything, so many of them, reduced.
    """

    acquisition: Acquisition
    extent: int
    sequential: bool
    unit_bytes: int
    identity: dict[str, Any]
    notices: tuple[Message, ...]
    lead: Part | None = None
    version: str = __version__

    def units(self, part_bytes: int | None, threads: int) -> int:
        """Units of a part of about so many bytes; None: as suits so many threads.

        Parts are alike, and of frames whole lines where one fits.
        """
        whole = self.extent * self.unit_bytes
        if part_bytes is None:
            most, least = (whole // (n * threads) if threads > 1 else whole for n in PARTS_A_THREAD)
            part_bytes = max(least, min(most, GOOD_PART_BYTES))
            part_bytes = min(max(part_bytes, LEAST_PART_BYTES), MOST_PART_BYTES)
        size = -(-self.extent // max(1, -(-whole // part_bytes)))
        line = self.acquisition.scan.line_frames
        return size + -size % line if not self.sequential and size > line else max(1, size)

    def next_span(self, part_bytes: int | None, threads: int) -> tuple[int, int]:
        """The part that follows the lead; empty where that is large."""
        lead = self.lead.stop if self.lead is not None else 0
        return lead, max(lead, min(self.units(part_bytes, threads), self.extent))

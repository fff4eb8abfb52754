"""Images that are not like those of their series, kept until it is known what they are."""

from __future__ import annotations

from stemd.adapters.dectris.kernels import scanning, table
from stemd.adapters.frames.format import FrameLayout
from stemd.adapters.frames.odd import AGREE
from stemd.adapters.frames.placer import Bytes

_PLACES = [
    table.BEGIN, table.END, table.BODY, table.BODY_END, table.DATA, table.DATA_END,
]  # fmt: skip


class OddImages:
    """The newest images of one `layout` that is not the usual one, with copies of their bytes."""

    def __init__(self) -> None:
        self.layout: FrameLayout | None = None
        self.count = 0
        self._kept: list[tuple[Bytes, scanning.Rows]] = []

    @property
    def first(self) -> int:
        """Number of the first of them."""
        return int(self._kept[0][1][0, table.NUMBER])

    def are_many(self, more: int) -> bool:
        """Whether so many `more` make them too many for an accident."""
        return self.count + more >= AGREE

    def keep(self, data: Bytes, rows: scanning.Rows, layout: FrameLayout) -> None:
        """Keep these, too."""
        begin, end = int(rows[0, table.BEGIN]), int(rows[-1, table.END])
        moved = rows.copy()
        moved[:, _PLACES] -= begin
        self._kept.append((data[begin:end].copy(), moved))
        self.layout = layout
        self.count += len(rows)

    def take(self) -> list[tuple[Bytes, scanning.Rows]]:
        """All of them, in the order in which they came; none are kept any more."""
        kept, self._kept = self._kept, []
        self.layout, self.count = None, 0
        return kept

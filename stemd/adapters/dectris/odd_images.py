"""Images that are not like those before, kept until it is known what they are."""

from __future__ import annotations

from stemd.adapters.dectris.kernels import scanning, table
from stemd.adapters.frames.format import FrameLayout
from stemd.adapters.frames.odd import AGREE
from stemd.adapters.frames.placer import Bytes

_PLACES = [
    table.BEGIN, table.END, table.BODY, table.BODY_END, table.DATA, table.DATA_END,
]  # fmt: skip


class OddImages:
    """The newest images of one `kind` that is not the usual one, with copies of their bytes."""

    def __init__(self) -> None:
        self.kind: tuple[int, FrameLayout] | None = None
        """Their series and layout."""
        self.count = 0
        self._kept: list[tuple[Bytes, scanning.Rows]] = []

    @property
    def first(self) -> int:
        """Number of the first of them."""
        return int(self._kept[0][1][0, table.NUMBER])

    def are_many(self, more: int) -> bool:
        """Whether so many `more` make them too many for an accident."""
        return self.count + more >= AGREE

    def keep(self, data: Bytes, rows: scanning.Rows, series: int, layout: FrameLayout) -> None:
        """Keep these, too."""
        begin, end = int(rows[0, table.BEGIN]), int(rows[-1, table.END])
        moved = rows.copy()
        moved[:, _PLACES] -= begin
        self._kept.append((data[begin:end].copy(), moved))
        self.kind = series, layout
        self.count += len(rows)

    def take(self) -> list[tuple[Bytes, scanning.Rows]]:
        """All of them, in the order in which they came; none are kept any more."""
        kept, self._kept = self._kept, []
        self.kind, self.count = None, 0
        return kept


def of_other_series(number: int, series: int, usual: int, count: int) -> tuple[str, str, int, str]:
    """Kind, text, count and remedy of what is told of images that were left out."""
    text = (
        f"image {number} says that it is of series {series}, and comes in the middle of series "
        f"{usual}: {{count}} such images were left out"
    )
    return "odd_frame", text, count, "if it happens again: look whether two cameras send here"

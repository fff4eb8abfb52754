"""Faults that may come by the thousand, told at the first, second, fourth, ... occurrence."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

from stemd.blocks import Notice


@dataclass(slots=True)
class _Kind:
    text: str = ""
    remedy: str = ""
    pending: int = 0
    events: int = 0
    due: int = 1


class Tallies:
    """Counts by kind. The sum of the counts of the notices of a kind is exact after `rest`."""

    def __init__(self) -> None:
        self._kinds: dict[str, _Kind] = {}

    def add(self, kind: str, text: str, count: int = 1, remedy: str = "") -> Iterator[Notice]:
        """One more occurrence, worth `count`; a notice when it is due.

        "{count}" in the text becomes the count of the notice.
        """
        tally = self._kinds.setdefault(kind, _Kind())
        tally.text, tally.remedy = text, remedy
        tally.pending += count
        tally.events += 1
        if tally.events >= tally.due:
            tally.due = 2 * tally.events
            yield self._take(kind, tally)

    def rest(self) -> Iterator[Notice]:
        """What has not been told yet; counting starts afresh."""
        for kind, tally in self._kinds.items():
            if tally.pending:
                yield self._take(kind, tally)
        self._kinds.clear()

    @staticmethod
    def _take(kind: str, tally: _Kind) -> Notice:
        count, tally.pending = tally.pending, 0
        text = tally.text.replace("{count}", str(count))
        return Notice(kind, text, count=count, remedy=tally.remedy)

"""When the images of a growing scan are made again."""

from __future__ import annotations

SNAPSHOT_SHARE = 0.25
"""At most this part of the engines' time goes into snapshots; large images come less often."""


class SnapshotTimes:
    """Says when a snapshot is due. All times are of one monotonic clock, in seconds.

    `seen` is a number that changes when there is something new to be seen: nothing is shown twice.
    """

    def __init__(self, now: float, seen: int) -> None:
        self._seen: int | None = seen
        self._next = self._rested = now

    def due(self, now: float, seen: int) -> bool:
        """Whether a snapshot is due now."""
        return now >= self._next and seen != self._seen

    def made(self, began: float, ended: float, seen: int, rate_hz: float) -> None:
        """A snapshot of `seen` was made from `began` to `ended`; `rate_hz` of them are wanted."""
        self._seen = seen
        self._rested = began + (ended - began) / SNAPSHOT_SHARE
        period = 1.0 / rate_hz  # from when it was due: what came late is not added up
        self._next = max(began + period - (began - self._next) % period, self._rested)

    def at_once(self) -> None:
        """The next snapshot is due as soon as the last one's share of the time allows."""
        self._seen, self._next = None, self._rested

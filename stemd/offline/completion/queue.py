"""Scans whose images wait to be completed: the newest first, so many at most."""

from __future__ import annotations

import asyncio

from stemd.storage.completions import Unfinished

MOST_WAITING = 32
"""Days of work on a slow machine are of no use to anybody: what overflows is told instead."""


class CompletionQueue:
    """The newest scan goes first: that is the one which is looked at. On the event loop."""

    def __init__(self, most: int = MOST_WAITING) -> None:
        self._most = most
        self._waiting: dict[str, Unfinished] = {}
        self._there = asyncio.Event()

    def __len__(self) -> int:
        return len(self._waiting)

    def __contains__(self, scan_id: object) -> bool:
        return scan_id in self._waiting

    def of(self, pipeline: str) -> int:
        """Scans of one pipeline that wait."""
        return sum(scan.pipeline == pipeline for scan in self._waiting.values())

    def put(self, scan: Unfinished) -> Unfinished | None:
        """Leave a scan; returns the oldest one if that had to go for it."""
        self._waiting[scan.scan_id] = scan
        self._there.set()
        if len(self._waiting) <= self._most:
            return None
        oldest = min(self._waiting.values(), key=lambda each: each.started_ns)
        return self._waiting.pop(oldest.scan_id)

    def put_back(self, scan: Unfinished) -> None:
        """Leave a scan that was taken, unless it was left anew meanwhile, with other optics."""
        if scan.scan_id not in self._waiting:
            self.put(scan)

    async def take(self) -> Unfinished:
        """The newest, as soon as there is one."""
        while not self._waiting:
            self._there.clear()
            await self._there.wait()
        newest = max(self._waiting.values(), key=lambda each: each.started_ns)
        return self._waiting.pop(newest.scan_id)

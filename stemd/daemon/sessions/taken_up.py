"""Scans that were running when a daemon ended: how they ended is what the disk says."""

from __future__ import annotations

import asyncio
from collections.abc import Collection

from stemd.daemon.beside import beside
from stemd.daemon.sessions.book import SessionBook
from stemd.daemon.sessions.files import SessionFiles

PATIENCE_S = 20.0
"""Recovery has closed a scan that was cut off by then, unless the disk hangs."""


class TakenUp:
    """A session that somebody goes on with: its book is brought up to date.

    A scan that had begun and of which the book does not know the end may be whole on the disk,
    and one that began just before the end may not be in the book at all. `ours` are scans that
    were begun since. On the event loop.
    """

    def __init__(self, book: SessionBook, files: SessionFiles, ours: Collection[str]) -> None:
        self._book, self._files, self._ours = book, files, ours
        self._left = set(book.unfinished)
        self._newest = book.newest_scan
        self._listed = False
        self._until = asyncio.get_running_loop().time() + PATIENCE_S

    async def done(self, now_ns: int) -> bool:
        """Look at the disk; True when the end of every scan is known, or is given up."""
        if not self._listed:
            found = await beside(self._files.scans_since, self._book.id, self._newest)
            for scan in found:
                if scan["id"] not in self._ours:
                    self._book.begun(scan["id"])
                    self._left.add(scan["id"])
            self._listed = True
        for scan_id in sorted(self._left):
            document = await beside(self._files.scan_that_ended, scan_id)
            if document is not None:
                self._book.got(document, now_ns)
                self._left.discard(scan_id)
            elif asyncio.get_running_loop().time() >= self._until:
                self._book.cut_off(scan_id, now_ns)
                self._left.discard(scan_id)
        return not self._left

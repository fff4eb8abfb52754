"""The sessions of a pipeline as others have them: on the disk, and as published."""

from __future__ import annotations

import asyncio
from collections.abc import Callable

from stemd.daemon.beside import beside
from stemd.daemon.sessions.book import SIGN_OF_LIFE_S, SessionBook
from stemd.daemon.sessions.files import Draft, SessionFiles
from stemd.errors import StemdError
from stemd.events import Json
from stemd.logs import get_logger

AGAIN_S = 2.0
"""What the disk did not take or give is tried again after so long."""

log = get_logger(__name__)


class KeptBooks:
    """All books of a pipeline, the newest first; each change is published and written.

    On the event loop. `books` is None until they have been read.
    """

    def __init__(
        self, pipeline: str, files: SessionFiles, publish: Callable[[Json], None], boot_id: str
    ) -> None:
        self.books: list[SessionBook] | None = None
        self._pipeline, self._files, self._publish = pipeline, files, publish
        self._boot_id = boot_id
        self._kept: dict[str, int] = {}
        self._told: dict[str, int] = {}
        self._kept_at = float("-inf")
        self._failing = False

    async def read(self) -> list[SessionBook]:
        """Read them; while the disk is away, try again."""
        while self.books is None:
            try:
                books = await beside(self._files.stored, self._pipeline)
            except StemdError as error:
                log.warning("earlier sessions cannot be read yet", error=str(error))
                await asyncio.sleep(AGAIN_S)
                continue
            self._kept = {book.id: book.changes for book in books}
            # the newest is told anew: what the broker has of it may be older
            self._told = {book.id: book.changes for book in books[1:]}
            self.books = books
        return self.books

    def unwritten(self) -> list[SessionBook]:
        """Those of which the disk does not have everything."""
        return [each for each in self.books or () if self._kept.get(each.id) != each.changes]

    def tell(self) -> None:
        """Publish the newest session if it has changed."""
        for book in (self.books or [])[:1]:
            if self._told.get(book.id) != book.changes:
                self._told[book.id] = book.changes
                self._publish(book.shown())

    async def write(self, running: SessionBook | None, now_ns: int) -> None:
        """Publish and write what has changed; what the disk does not take is tried again.

        The running session is written now and then all the same, as a sign of life.
        """
        self.tell()
        now = asyncio.get_running_loop().time()
        if running is not None and running.document["suspended_ns"] is None:
            running.alive(now_ns, self._boot_id)
            if now >= self._kept_at + SIGN_OF_LIFE_S / 2:
                self._kept.pop(running.id, None)
        if self._failing and now < self._kept_at + AGAIN_S:
            return
        for book in self.unwritten():
            self._kept_at = now
            await self._keep(book)

    async def _keep(self, book: SessionBook) -> None:
        changes = book.changes
        try:
            await beside(self._files.keep, Draft.of(book))
        except StemdError as error:
            if not self._failing:
                log.error("the session's file cannot be written", error=str(error))
            self._failing = True
            return
        self._kept[book.id] = changes
        self._failing = False

"""Sessions of pipelines that the config has no more: nobody carries them out, so they are ended."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Collection

from stemd.daemon.beside import beside
from stemd.daemon.decisions import of_removed
from stemd.daemon.sessions.book import SessionBook
from stemd.daemon.sessions.files import Draft, SessionFiles
from stemd.daemon.sessions.taken_up import TakenUp
from stemd.errors import StemdError
from stemd.logs import get_logger

AGAIN_S, LOOK_S = 5.0, 0.5
REASON = "its pipeline is in the config no more"

log = get_logger(__name__)


async def end_removed(
    files: SessionFiles, wanted: Callable[[], Collection[str]], boot_id: str
) -> None:
    """End what runs of pipelines that are not `wanted`, whoever removed them and when.

    Returns when the disk has it; while it is away, tries again.
    """
    while True:
        try:
            books = {book.id: book for book in await beside(files.stored)}
            for each in of_removed(wanted(), [book.known for book in books.values()]):
                await _end(books[each], files, wanted, boot_id)
            return
        except StemdError as error:
            log.warning("sessions of removed pipelines cannot be ended yet", error=str(error))
            await asyncio.sleep(AGAIN_S)


async def _end(
    book: SessionBook,
    files: SessionFiles,
    wanted: Callable[[], Collection[str]],
    boot_id: str,
) -> None:
    if book.document.get("boot_id") != boot_id:
        book.goes_on(time.time_ns(), boot_id)
    taken_up = TakenUp(book, files, ())
    while True:
        if await taken_up.done(time.time_ns()):
            break
        await asyncio.sleep(LOOK_S)
    if book.document["pipeline"] in wanted():
        return  # it has come back meanwhile, and its session with it
    book.end("ended", REASON, time.time_ns(), withdrawn=True)
    await beside(files.keep, Draft.of(book))
    log.info("session is over", name=book.plan.name, reason=REASON)

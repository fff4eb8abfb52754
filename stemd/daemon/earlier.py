"""What earlier daemons left behind is taken up, and who waits for the end of a scan is told."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Iterable

from stemd.daemon.beside import beside
from stemd.daemon.completer import Completer
from stemd.errors import StemdError
from stemd.events import Hub, Json
from stemd.logs import get_logger
from stemd.storage.recovery import enter_missing, finish_intentions, recover
from stemd.storage.scan_document import read_scan_document
from stemd.storage.store import Store
from stemd.storage.unended import end_unended

RECOVER_AGAIN_S = 5.0
_TOLD = (
    *("id", "pipeline", "instrument", "status", "started", "started_ns", "finished"),
    *("finished_ns", "positions_done", "positions_total", "missing", "completion", "notes"),
)
"""What the catalogue knows of a scan whose scan.json says nothing."""

log = get_logger(__name__)


async def take_up(store: Store, completer: Completer, hub: Hub, started_ns: int) -> None:
    """Put in order what earlier daemons left; while the catalogue is held, try again."""

    async def close(work: Callable[[Store], list[str]]) -> None:
        await tell_ended(hub, store, await beside(work, store))

    steps: tuple[Callable[[], Awaitable[object]], ...] = (
        lambda: close(recover),
        lambda: close(end_unended),
        lambda: beside(finish_intentions, store),
        lambda: beside(enter_missing, store.catalogue, store.instrument, started_ns),
        completer.resume,
    )
    for step in steps:
        await until_done(step)


async def until_done(step: Callable[[], Awaitable[object]]) -> None:
    """Have something done that needs the disk; while it does not answer, try again."""
    while True:
        try:
            await step()
            return
        except StemdError as error:
            log.warning("files of earlier scans cannot be put in order yet", error=str(error))
            await asyncio.sleep(RECOVER_AGAIN_S)


async def tell_ended(hub: Hub, store: Store, ids: Iterable[str]) -> None:
    """Publish the end of scans that an earlier daemon began, and perhaps told nobody the end of.

    Of scans of this instrument and of a pipeline that there is. A failing disk keeps nothing back.
    """
    for document in await beside(_ends, store, tuple(ids)):
        if document["pipeline"] in hub.names:
            hub.document(document["pipeline"], document)


def _ends(store: Store, ids: Iterable[str]) -> list[Json]:
    return [end for scan_id in ids if (end := _end(store, scan_id)) is not None]


def _end(store: Store, scan_id: str) -> Json | None:
    """The document `finished` or `aborted` of a scan; None where it is not of this instrument."""
    try:
        row = store.catalogue.get(scan_id)
    except StemdError as error:
        log.warning("the end of a scan cannot be told", scan=scan_id, error=str(error))
        return None
    if row is None or row["instrument"] != store.instrument:
        return None
    told = {
        "scan": {"shape": row["shape"], "step_size_angstrom": None},
        "settings": {},
        "files": [],
        "versions": {},
        "missing": 0,
        "completion": None,
        **{key: row[key] for key in _TOLD if row.get(key) is not None},
        **_document(store, row),
    }
    event = "aborted" if told["status"] == "aborted" else "finished"
    return {"event": event, **told}


def _document(store: Store, row: Json) -> Json:
    """scan.json without the detector's mask; {} where it does not say that the scan is over."""
    try:
        document = read_scan_document(store.data_dir / row["folder"])
    except (OSError, StemdError) as error:
        log.debug("the end of a scan is told without its scan.json", error=str(error))
        return {}
    if document.get("status") in (None, "acquiring"):
        return {}
    return {key: value for key, value in document.items() if key != "detector"}

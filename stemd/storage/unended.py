"""Scans whose scan.json says that they are acquired, though nobody acquires them any more.

The end of a scan is written to where its folder is. Where the data folder was moved away or its
disk was taken out meanwhile, or the daemon was killed before a disk in trouble took scan.json, the
folder that comes back says `acquiring` for ever, and the catalogue need not know of it.

A day whose scans have all ended is looked at again only when something is put into its folder: its
time of change is kept in `state/ended-<instrument>.json`. A data folder of years is not read anew
at each start.
"""

from __future__ import annotations

import time
from pathlib import Path

from stemd.documents import read_object, to_json
from stemd.errors import SinkError, StemdError
from stemd.logs import get_logger
from stemd.storage.files import STATE_FOLDER, write_atomic
from stemd.storage.folder import SCAN_FILE
from stemd.storage.mending import mend
from stemd.storage.recovery import day_folders, entered_row, folders_in
from stemd.storage.scan_document import read_scan_document
from stemd.storage.store import Store

_WHY = "this scan was interrupted, or its data folder was away when it ended"
_HEAD_BYTES = 512
"""The status stands at the top: not every scan.json of a full disk is read whole."""
_SETTLED_NS = 10 * 10**9
_WRONG = (OSError, StemdError, ValueError, KeyError, TypeError, AttributeError)

log = get_logger(__name__)


def end_unended(store: Store) -> list[str]:
    """End the instrument's scans that nobody acquires or is about to write; returns their ids.

    What there is of each is described as in `recover`. Reads whole records: call it from a worker
    thread. Raises SinkError if the catalogue fails.
    """
    path = store.data_dir / STATE_FOLDER / f"ended-{store.instrument}.json"
    before, now, ended = _read(path), dict[str, int](), []
    for day in day_folders(store.data_dir):
        changed = _changed(day)
        if changed is not None and before.get(day.name) == changed:
            now[day.name] = changed
            continue
        says = {folder: _says_ended(folder) for folder in folders_in(day)}
        ended += [f.name for f, over in says.items() if over is False and _end(store, f)]
        if changed is not None and all(says.values()):
            now[day.name] = changed
    if now != before:
        _write(path, now)
    return ended


def _changed(day: Path) -> int | None:
    """When something was last put into a day's folder; None where that is too recent to tell."""
    try:
        changed = day.stat().st_mtime_ns
    except OSError:
        return None
    # what comes within one tick of a coarse clock of the disk leaves the same time
    return changed if abs(time.time_ns() - changed) > _SETTLED_NS else None


def _says_ended(folder: Path) -> bool | None:
    """Whether scan.json says that the scan is over; None where it cannot be read."""
    try:
        with (folder / SCAN_FILE).open("rb") as file:
            return b'"status": "acquiring"' not in file.read(_HEAD_BYTES)
    except OSError:
        return None


def _read(path: Path) -> dict[str, int]:
    """The days that have ended, with their time of change; {} where that is not known."""
    try:
        days = read_object(path).get("days")
    except (OSError, StemdError):
        return {}
    return days if isinstance(days, dict) else {}


def _write(path: Path, days: dict[str, int]) -> None:
    try:
        path.parent.mkdir(exist_ok=True)
        write_atomic(path, [to_json({"days": days}).encode()])
    except (OSError, SinkError) as error:  # the next start reads them all again
        log.debug("the list of finished days cannot be saved", error=str(error))


def _end(store: Store, folder: Path) -> bool:
    scan_id = folder.name
    # asked after the file was read: whoever wrote that had begun the scan before
    if scan_id in store.unwritten() or not store.claim(scan_id):
        return False
    try:
        document = read_scan_document(folder)
        ours = document.get("instrument") == store.instrument and document.get("id") == scan_id
        if not ours or document.get("status") != "acquiring":
            return False
        document = mend(folder, document, time.time_ns(), _WHY)
    except _WRONG as error:
        log.warning("a scan cannot be ended", folder=str(folder), error=str(error))
        return False
    finally:
        store.release(scan_id)
    log.warning(
        "a scan that nobody acquires any more is ended",
        scan=scan_id,
        status=document["status"],
        kept=str(folder),
    )
    return entered_row(store.catalogue, folder, document, scan_id)

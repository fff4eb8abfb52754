"""Scans whose scan.json says that they are acquired, though nobody acquires them any more.

The end of a scan is written to where its folder is. Where the data folder was moved away or its
disk was taken out meanwhile, or the daemon was killed before a disk in trouble took scan.json, the
folder that comes back says `acquiring` for ever, and the catalogue need not know of it.
"""

from __future__ import annotations

import time
from pathlib import Path

from stemd.errors import StemdError
from stemd.logs import get_logger
from stemd.storage.folder import SCAN_FILE
from stemd.storage.recovery import entered_row, mend, scan_folders
from stemd.storage.scan_document import read_scan_document
from stemd.storage.store import Store

_WHY = "this scan was interrupted, or its data folder was away when it ended"
_HEAD_BYTES = 512
"""The status stands at the top: not every scan.json of a full disk is read whole."""
_WRONG = (OSError, StemdError, ValueError, KeyError, TypeError, AttributeError)

log = get_logger(__name__)


def end_unended(store: Store) -> list[str]:
    """End the instrument's scans that nobody acquires or is about to write; returns their ids.

    What there is of each is described as in `recover`. Reads whole records: call it from a worker
    thread. Raises SinkError if the catalogue fails.
    """
    return [f.name for f in scan_folders(store.data_dir) if _says_acquiring(f) and _end(store, f)]


def _says_acquiring(folder: Path) -> bool:
    try:
        with (folder / SCAN_FILE).open("rb") as file:
            return b'"status": "acquiring"' in file.read(_HEAD_BYTES)
    except OSError:
        return False


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

"""What a past scan is said to be of: changed afterwards, in its scan.json and in the catalogue."""

from __future__ import annotations

from stemd.documents import Json
from stemd.errors import SinkError, UsageError
from stemd.storage import completions
from stemd.storage.archive import Archive
from stemd.storage.store import Store


def describe(store: Store, pipeline: str, scan_id: str, about: Json) -> Json:
    """Lay `about` over what the scan is said to be of; returns its document.

    The caller sees to it that nobody else writes to the folder of a scan of this pipeline. Raises
    UsageError where the pipeline has no such scan, SinkError where its folder cannot be read or
    written.
    """
    folder = Archive(store.data_dir).folder(scan_id)
    if folder is None:
        raise UsageError(f"there is no scan {scan_id}", "stemd scans lists them")
    if scan_id in store.unwritten():
        # its scan.json is still to be written, and would be without these words
        raise SinkError(
            f"the scan {scan_id} is not all written yet",
            "describe it when it is; where that takes long, see the state for its disk",
        )
    if not store.claim(scan_id):
        raise SinkError(f"retention deletes the scan {scan_id}", "keep scans for longer")
    try:
        store.check()
        document = completions.read(folder)
        if document["pipeline"] != pipeline:
            raise UsageError(
                f"the scan {scan_id} is one of the pipeline {document['pipeline']}",
                "send the command to that pipeline",
            )
        document["about"] = {**(document.get("about") or {}), **about}
        document = completions.write(folder, document, document["completion"])
        store.enter(document, folder)
    finally:
        store.release(scan_id)
    return document

"""What a killed daemon left behind: marked, kept, made readable."""

from __future__ import annotations

import json
import time
from pathlib import Path
from typing import Any

import structlog

from stemd.acquisition import iso_utc
from stemd.daemon.catalogue import Catalogue
from stemd.daemon.sinks.disk import SCAN_FILE
from stemd.daemon.sinks.documents import to_json
from stemd.daemon.sinks.files import (
    PART,
    TEMPORARY,
    FileRecord,
    fsync_folder,
    hash_file,
    write_atomic,
)
from stemd.errors import SinkError

log = structlog.get_logger()


def recover(catalogue: Catalogue) -> list[str]:
    """Close the scans that a dead daemon was acquiring; returns their ids.

    First every row becomes `aborted`, so that the catalogue is true at once. Then the raw
    records (`.part`) get their names, half-written small files go, and scan.json lists with
    checksums what is there. Reads whole records: call it from a worker thread. A folder that
    cannot be mended is logged and left as it is. Raises SinkError if the catalogue fails.
    """
    abandoned = catalogue.abandoned()
    now = time.time_ns()
    for scan_id, _ in abandoned:
        catalogue.mark_aborted(scan_id, now)
    for scan_id, folder in abandoned:
        try:
            document = _mend(folder, now)
            catalogue.end(scan_id, document)
        except (OSError, SinkError, ValueError, KeyError) as error:
            log.warning(
                "a scan cut off earlier could not be mended", scan=scan_id, error=str(error)
            )
        else:
            log.warning("a scan was cut off when the daemon died", scan=scan_id, kept=str(folder))
    return [scan_id for scan_id, _ in abandoned]


def _mend(folder: Path, now_ns: int) -> dict[str, Any]:
    """Rename, clear away and describe what is in the folder."""
    for part in sorted(folder.glob(f"*{PART}")):
        name = part.with_name(part.name.removesuffix(PART))
        if not name.exists():
            part.rename(name)
    for unfinished in folder.glob(f"*{TEMPORARY}"):
        unfinished.unlink()
    fsync_folder(folder)
    scan_file = folder / SCAN_FILE
    document: dict[str, Any] = json.loads(scan_file.read_bytes()) if scan_file.exists() else {}
    kept = [path for path in sorted(folder.iterdir()) if path.is_file() and path != scan_file]
    document |= {
        "status": "aborted",
        "finished": iso_utc(now_ns),
        "finished_ns": now_ns,
        "positions_done": document.get("positions_done", 0),
        "notes": [*document.get("notes", ()), "the daemon died while this scan was acquired"],
        "files": [_cut_off(hash_file(path)).as_json() for path in kept],
    }
    write_atomic(scan_file, [(to_json(document, indent=1) + "\n").encode()])
    return document


def _cut_off(record: FileRecord) -> FileRecord:
    """Results and sidecars are whole or absent; a record is as long as the daemon lived."""
    whole = record.name.endswith((".tif", ".hdr"))
    return FileRecord(record.name, record.bytes, record.sha256, complete=whole)

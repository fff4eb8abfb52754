"""What a killed daemon left behind: marked, kept, made readable."""

from __future__ import annotations

import time
from pathlib import Path
from typing import Any

import numpy as np
import structlog

from stemd.acquisition import Scan, iso_utc
from stemd.adapters.files import open_recording
from stemd.blocks import FrameBlock
from stemd.documents import to_json
from stemd.errors import StemdError
from stemd.storage.catalogue import Catalogue
from stemd.storage.files import PART, TEMPORARY, FileRecord, fsync_folder, hash_file, write_atomic
from stemd.storage.folder import MAX_MISSING_RUNS, SCAN_FILE, missing_runs
from stemd.storage.scan_document import read_scan_document

_DAYS = "[0-9][0-9][0-9][0-9]-[0-9][0-9]-[0-9][0-9]"

log = structlog.get_logger()


def recover(catalogue: Catalogue) -> list[str]:
    """Close the scans that a dead daemon was acquiring; returns their ids.

    First every row becomes `aborted`, so that the catalogue is true at once. Then the raw
    records (`.part`) get their names, half-written small files go, and scan.json lists with
    checksums what is there and how many positions the record holds. Reads whole records: call
    it from a worker thread. A folder that cannot be mended is logged and left as it is. Raises
    SinkError if the catalogue fails.
    """
    abandoned = catalogue.abandoned()
    now = time.time_ns()
    for scan_id, _ in abandoned:
        catalogue.mark_aborted(scan_id, now)
    for scan_id, folder in abandoned:
        try:
            document = _mend(folder, now)
            catalogue.end(scan_id, document)
        except (OSError, StemdError, ValueError, KeyError, TypeError) as error:
            log.warning(
                "a scan that was cut off could not be repaired", scan=scan_id, error=str(error)
            )
        else:
            log.warning("a scan was cut off when the daemon died", scan=scan_id, kept=str(folder))
    return [scan_id for scan_id, _ in abandoned]


def enter_missing(catalogue: Catalogue, instrument: str, before_ns: int) -> list[str]:
    """Enter an instrument's scans whose folders the catalogue does not know; returns their ids.

    Such are left by a catalogue that was moved away, or by a disk that was full when the scan
    ended. Only scans begun before `before_ns`, the start of the daemon that asks: it holds the
    instrument's lock, so that none of them is still running. Raises SinkError if the catalogue
    fails.
    """
    known = catalogue.known()
    entered = []
    for path in sorted(catalogue.data_dir.glob(f"{_DAYS}/*/{SCAN_FILE}")):
        folder = path.parent
        if folder.name in known:
            continue
        try:
            document = read_scan_document(folder)
            foreign = document["id"] != folder.name or document["instrument"] != instrument
            if foreign or document["started_ns"] >= before_ns:
                continue
            if document["status"] == "acquiring":
                document = _mend(folder, time.time_ns())
            catalogue.end(folder.name, document, folder)
        except (OSError, StemdError, ValueError, KeyError, TypeError) as error:
            log.warning(
                "a scan could not be added to the catalogue", folder=str(folder), error=str(error)
            )
        else:
            entered.append(folder.name)
            log.info("a scan was added to the catalogue", scan=folder.name)
    return entered


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
    document: dict[str, Any] = read_scan_document(folder) if scan_file.exists() else {}
    kept = [path for path in sorted(folder.iterdir()) if path.is_file() and path != scan_file]
    document |= {
        "status": "aborted",
        "finished": iso_utc(now_ns),
        "finished_ns": now_ns,
        "positions_done": document.get("positions_done", 0),
        "notes": [*(document.get("notes") or ()), "the daemon died while this scan was acquired"],
        "files": [_cut_off(hash_file(path)).as_json() for path in kept],
    }
    document |= _positions(kept, document)
    write_atomic(scan_file, [(to_json(document, indent=1) + "\n").encode()])
    return document


def _positions(kept: list[Path], document: dict[str, Any]) -> dict[str, Any]:
    """What the record says of the positions, {} where there is none or it cannot be read."""
    records = [p for p in kept if p.name.startswith("raw.") and p.suffix not in (".hdr", ".tif")]
    try:
        scan = Scan.model_validate(document["scan"])
        recording = open_recording(records[0], scan)
        done = np.zeros(scan.positions, np.bool_)
        try:
            for block in recording.blocks(0, recording.frames):
                if isinstance(block, FrameBlock):
                    done[block.probe[: block.count][block.probe[: block.count] >= 0]] = True
                else:
                    for first, stop in block.complete:
                        done[first:stop] = True
                block.release()
        finally:
            recording.close()
    except (StemdError, OSError, ValueError, KeyError, IndexError) as error:
        log.debug("positions of a record cut off are not known", error=str(error))
        return {}
    runs = missing_runs(done)
    return {
        "positions_done": int(np.count_nonzero(done)),
        "missing": sum(stop - first for first, stop in runs),
        "missing_runs": [list(run) for run in runs] if len(runs) <= MAX_MISSING_RUNS else None,
    }


def _cut_off(record: FileRecord) -> FileRecord:
    """Results and sidecars are whole or absent; a record is as long as the daemon lived."""
    whole = record.name.endswith((".tif", ".hdr"))
    return FileRecord(record.name, record.bytes, record.sha256, complete=whole)

"""The folder of a scan that was cut off: its files get their names and are described."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from stemd.acquisition import Scan, iso_utc
from stemd.adapters.files import open_recording
from stemd.blocks import FrameBlock
from stemd.documents import to_json
from stemd.errors import StemdError
from stemd.logs import get_logger
from stemd.storage.camera import camera_of
from stemd.storage.completions import of_whole_record
from stemd.storage.files import PART, TEMPORARY, FileRecord, fsync_folder, hash_file, write_atomic
from stemd.storage.folder import MAX_MISSING_RUNS, SCAN_FILE, missing_runs

Json = dict[str, Any]

_WRONG = (OSError, StemdError, ValueError, KeyError, TypeError, AttributeError, IndexError)

_BESIDE = (".hdr", ".json", ".start", ".tif")
"""Endings of what stands beside a record and begins with its name: sidecars and images."""

log = get_logger(__name__)


def mend(folder: Path, before: Json, now_ns: int, why: str) -> Json:
    """Rename, clear away and describe what is in the folder; returns its new scan.json.

    Where the record has every position its images are noted as outstanding: a daemon makes them.
    """
    for part in sorted(folder.glob(f"*{PART}")):
        name = part.with_name(part.name.removesuffix(PART))
        if not name.exists():
            part.rename(name)
    for unfinished in folder.glob(f"*{TEMPORARY}"):
        unfinished.unlink()
    fsync_folder(folder)
    kept = [path for path in sorted(folder.iterdir()) if path.is_file() and path.name != SCAN_FILE]
    found = _positions(kept, before)
    whole = bool(found) and found["missing"] == 0
    notes = before.get("notes")
    completion = of_whole_record(before) if whole else None
    document = {
        **before,
        "status": "complete" if whole else "aborted",
        "finished": iso_utc(now_ns),
        "finished_ns": now_ns,
        "positions_done": before.get("positions_done", 0),
        **found,
        "completion": completion,
        "notes": [
            *(notes if isinstance(notes, list) else ()),
            *_notes(kept, why, whole=whole, made=completion is not None),
        ],
        "files": [_cut_off(hash_file(path), whole=whole).as_json() for path in kept],
    }
    write_atomic(folder / SCAN_FILE, [(to_json(document, indent=1) + "\n").encode()])
    return document


def _notes(kept: Sequence[Path], why: str, *, whole: bool, made: bool) -> list[str]:
    notes = [f"{why}; its record has every position" if whole else why]
    record = record_of(kept)
    if made:
        return [*notes, "its images are made from the record, see completion"]
    if not any(path.suffix == ".tif" for path in kept):
        how = f": stemd process {record.name} makes them" if record is not None else ""
        notes.append(f"its images were not written{how}")
    return notes


def record_of(kept: Sequence[Path]) -> Path | None:
    """The raw record among the files of a scan, None where there is none."""
    names = (p for p in kept if p.name.startswith("raw.") and p.suffix not in _BESIDE)
    return next(names, None)


def _positions(kept: Sequence[Path], document: Mapping[str, Any]) -> Json:
    """What the record says of the positions, {} where there is none or it cannot be read."""
    record = record_of(kept)
    if record is None:
        return {}
    try:
        scan = Scan.model_validate(document["scan"])
        recording = open_recording(record, scan, camera_of(document.get("camera")))
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
    except _WRONG as error:
        log.debug("the positions of an incomplete record are not known", error=str(error))
        return {}
    runs = missing_runs(done)
    return {
        "positions_done": int(np.count_nonzero(done)),
        "missing": sum(stop - first for first, stop in runs),
        "missing_runs": [list(run) for run in runs] if len(runs) <= MAX_MISSING_RUNS else None,
    }


def _cut_off(record: FileRecord, *, whole: bool) -> FileRecord:
    """Results and sidecars are whole or absent; a record is as long as the daemon lived."""
    complete = whole or Path(record.name).suffix in _BESIDE
    return FileRecord(record.name, record.bytes, record.sha256, complete=complete)

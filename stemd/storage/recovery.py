"""What an earlier daemon left behind: finished where it can be, kept, made readable, told."""

from __future__ import annotations

import os
import time
from collections.abc import Collection, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from stemd.acquisition import Scan, iso_utc
from stemd.adapters.files import open_recording
from stemd.blocks import FrameBlock
from stemd.documents import read_object, to_json
from stemd.errors import SinkError, StemdError
from stemd.logs import get_logger
from stemd.storage.catalogue import Abandoned, Catalogue
from stemd.storage.database import RowError
from stemd.storage.files import PART, TEMPORARY, FileRecord, fsync_folder, hash_file, write_atomic
from stemd.storage.folder import MAX_MISSING_RUNS, SCAN_FILE, missing_runs
from stemd.storage.intentions import DELETE
from stemd.storage.retention import finish_deletion
from stemd.storage.scan_document import read_scan_document
from stemd.storage.store import Store

Json = dict[str, Any]

_SHOWN = 20
_OVER = ("complete", "incomplete", "aborted", "not recorded")
_DIED = "the daemon died while this scan was acquired"
_STOPPED = "the daemon was stopped before the end of this scan was written"
_WRONG = (OSError, StemdError, ValueError, KeyError, TypeError, AttributeError)

log = get_logger(__name__)


def recover(catalogue: Catalogue, busy: Collection[str] = ()) -> list[str]:
    """Close the scans that an earlier daemon was acquiring, but for `busy`; returns their ids.

    First every row becomes `aborted`, so that the catalogue is true at once. Then the raw
    records (`.part`) get their names, half-written small files go, and scan.json lists with
    checksums what is there and how many positions the record holds: a scan all of whose positions
    are in the record is complete, one whose scan.json says how it ended stays what that says.
    Reads whole records: call it from a worker thread. A folder that cannot be mended is logged
    and left as it is. Raises SinkError if the catalogue fails.
    """
    abandoned = [scan for scan in catalogue.abandoned() if scan.scan_id not in busy]
    now = time.time_ns()
    for scan in abandoned:
        catalogue.mark_aborted(scan.scan_id, now)
    for scan in abandoned:
        try:
            document = _closed(scan, now)
        except _WRONG as error:
            log.warning(
                "a scan cut off earlier could not be mended", scan=scan.scan_id, error=str(error)
            )
            continue
        if entered_row(catalogue, scan.folder, document, scan.scan_id):
            log.warning(
                "a scan was cut off when the daemon ended",
                scan=scan.scan_id,
                status=document["status"],
                kept=str(scan.folder),
            )
    catalogue.forget(scan.owner for scan in abandoned)
    return [scan.scan_id for scan in abandoned]


def entered_row(catalogue: Catalogue, folder: Path, document: Json, scan_id: str) -> bool:
    """Whether the catalogue takes the row; one that it never will is logged. Raises SinkError."""
    try:
        catalogue.end(scan_id, document, folder)
    except RowError as error:
        log.warning("a scan cannot be entered", scan=scan_id, error=str(error))
        return False
    return True


def finish_intentions(store: Store) -> list[str]:
    """Finish what an earlier daemon was doing to past scans; returns their ids.

    A deletion is carried out; images that were being written are listed with their checksums.
    Raises SinkError if the catalogue fails.
    """
    finished = []
    for intention in store.intentions.left():
        scan_id = intention["scan"]
        if not store.claim(scan_id):
            continue
        try:
            if intention["what"] == DELETE:
                finish_deletion(store, intention)
            else:
                _list_again(store, scan_id)
        except _WRONG as error:
            log.warning("what was begun cannot be finished", scan=scan_id, error=str(error))
        else:
            finished.append(scan_id)
            log.warning("finished what was cut off", scan=scan_id, what=intention["what"])
        finally:
            store.release(scan_id)
    return finished


def enter_missing(catalogue: Catalogue, instrument: str, before_ns: int) -> list[str]:
    """Enter an instrument's scans whose folders the catalogue does not know; returns their ids.

    Such are left by a catalogue that was damaged or moved away. Only scans begun before
    `before_ns`, the start of the daemon that asks, may have been cut off: it holds the
    instrument's lock, so that none of them is still running. Raises SinkError if the catalogue
    fails.
    """
    known = catalogue.known()
    entered = []
    for folder in scan_folders(catalogue.data_dir):
        if folder.name in known:
            continue
        try:
            document = _unknown(folder, instrument, before_ns)
        except _WRONG as error:
            log.warning("a scan cannot be entered", folder=str(folder), error=str(error))
            continue
        if document is not None and entered_row(catalogue, folder, document, folder.name):
            entered.append(folder.name)
            log.info("a scan was added to the catalogue", scan=folder.name)
    return entered


def enter_sessions(catalogue: Catalogue) -> None:
    """Enter the sessions of the data folder into a catalogue that was begun anew.

    Raises SinkError if the catalogue fails.
    """
    for folder in _folders(catalogue.data_dir / "sessions"):
        try:
            document = read_object(folder / "session.json")
            lists = ("scans", "events", "outages")
            newest = {key: document[key][-_SHOWN:] for key in lists if key in document}
            catalogue.put_session({**document, **newest})
        except RowError as error:
            log.warning("a session cannot be entered", folder=str(folder), error=str(error))
        except SinkError:
            raise
        except _WRONG as error:
            log.warning("a session cannot be entered", folder=str(folder), error=str(error))


def scan_folders(data_dir: Path) -> Iterator[Path]:
    """Folders in folders of days, by name; what cannot be read is passed over."""
    for day in _folders(data_dir):
        if len(day.name) == 10 and day.name[4] == day.name[7] == "-":
            yield from _folders(day)


def _folders(place: Path) -> list[Path]:
    try:
        with os.scandir(place) as entries:
            names = sorted(entry.name for entry in entries if entry.is_dir(follow_symlinks=False))
    except OSError:
        return []
    return [place / name for name in names]


def _unknown(folder: Path, instrument: str, before_ns: int) -> Json | None:
    """The document of a scan that the catalogue does not know, None where it is not ours."""
    path = folder / SCAN_FILE
    if not path.exists():
        return None
    document = read_scan_document(folder)
    if document["id"] != folder.name or document["instrument"] != instrument:
        return None
    if document["status"] == "acquiring":
        if document["started_ns"] >= before_ns:
            return None
        document = mend(folder, document, time.time_ns(), _DIED)
    return document


def _closed(scan: Abandoned, now_ns: int) -> Json:
    document = _document(scan.folder)
    if document.get("status") in _OVER:  # the end was written, only the catalogue not
        return document
    return mend(scan.folder, document, now_ns, _STOPPED if scan.stopped else _DIED)


def _document(folder: Path) -> Json:
    """The scan.json of a folder; {} where there is none, and one that is damaged is set aside."""
    path = folder / SCAN_FILE
    try:
        return read_scan_document(folder)
    except FileNotFoundError:
        return {}
    except StemdError as error:
        log.warning("a scan.json is damaged", file=str(path), error=str(error))
        path.rename(path.with_name("scan.damaged.json"))
        return {}


def mend(folder: Path, before: Json, now_ns: int, why: str) -> Json:
    """Rename, clear away and describe what is in the folder."""
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
    document = {
        **before,
        "status": "complete" if whole else "aborted",
        "finished": iso_utc(now_ns),
        "finished_ns": now_ns,
        "positions_done": before.get("positions_done", 0),
        **found,
        "notes": [*(notes if isinstance(notes, list) else ()), *_notes(kept, why, whole=whole)],
        "files": [_cut_off(hash_file(path), whole=whole).as_json() for path in kept],
    }
    write_atomic(folder / SCAN_FILE, [(to_json(document, indent=1) + "\n").encode()])
    return document


def _notes(kept: Sequence[Path], why: str, *, whole: bool) -> list[str]:
    notes = [f"{why}; its record has every position" if whole else why]
    record = _record(kept)
    if not any(path.suffix == ".tif" for path in kept):
        how = f": stemd process {record.name} makes them" if record is not None else ""
        notes.append(f"its images were not written{how}")
    return notes


def _record(kept: Sequence[Path]) -> Path | None:
    names = (p for p in kept if p.name.startswith("raw.") and p.suffix not in (".hdr", ".tif"))
    return next(names, None)


def _positions(kept: Sequence[Path], document: Mapping[str, Any]) -> Json:
    """What the record says of the positions, {} where there is none or it cannot be read."""
    record = _record(kept)
    if record is None:
        return {}
    try:
        scan = Scan.model_validate(document["scan"])
        recording = open_recording(record, scan)
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
    except (*_WRONG, IndexError) as error:
        log.debug("positions of a record cut off are not known", error=str(error))
        return {}
    runs = missing_runs(done)
    return {
        "positions_done": int(np.count_nonzero(done)),
        "missing": sum(stop - first for first, stop in runs),
        "missing_runs": [list(run) for run in runs] if len(runs) <= MAX_MISSING_RUNS else None,
    }


def _cut_off(record: FileRecord, *, whole: bool) -> FileRecord:
    """Results and sidecars are whole or absent; a record is as long as the daemon lived."""
    complete = whole or record.name.endswith((".tif", ".hdr"))
    return FileRecord(record.name, record.bytes, record.sha256, complete=complete)


def _list_again(store: Store, scan_id: str) -> None:
    """List with new checksums the images that were being written anew; the record's stay."""
    scan = store.catalogue.get(scan_id)
    folder = store.data_dir / scan["folder"] if scan is not None else None
    if folder is None or not folder.is_dir():
        store.intentions.done(scan_id)
        return
    document = read_scan_document(folder)
    for unfinished in folder.glob(f"*{TEMPORARY}"):
        unfinished.unlink()
    listed = {str(file["name"]): file for file in document["files"]}
    images = [p for p in sorted(folder.iterdir()) if p.is_file() and not p.name.startswith("raw")]
    found = [hash_file(path) for path in images if not path.name.startswith("scan.")]
    new = [record for record in found if listed.get(record.name) != record.as_json()]
    if new:
        listed |= {record.name: record.as_json() for record in new}
        names = ", ".join(record.name for record in new)
        note = f"the daemon ended while images were written anew: {names}"
        document |= {"files": list(listed.values()), "notes": [*document["notes"], note]}
        write_atomic(folder / SCAN_FILE, [(to_json(document, indent=1) + "\n").encode()])
    store.catalogue.end(scan_id, document, folder)
    store.intentions.done(scan_id)

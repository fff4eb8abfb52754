"""What an earlier daemon left behind: finished where it can be, kept, made readable, told."""

from __future__ import annotations

import contextlib
import os
import time
from collections.abc import Collection, Iterator
from pathlib import Path
from typing import Any

from stemd.documents import read_object, to_json
from stemd.errors import SinkError, StemdError
from stemd.logs import get_logger
from stemd.storage.catalogue.catalogue import Abandoned, Catalogue
from stemd.storage.catalogue.database import RowError
from stemd.storage.completions import is_outstanding
from stemd.storage.files import TEMPORARY, disk_error, hash_file, write_atomic
from stemd.storage.folder import SCAN_FILE
from stemd.storage.intentions import DELETE
from stemd.storage.locks import holder_is_dead, instrument_lock, lock_path, waiting_lock
from stemd.storage.mending import mend, record_of
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


def recover(store: Store, busy: Collection[str] = ()) -> list[str]:
    """Close the scans that an earlier daemon was acquiring, but for `busy`; returns their ids.

    First every row becomes `aborted`, so that the catalogue is true at once. Then the raw
    records (`.part`) get their names, half-written small files go, and scan.json lists with
    checksums what is there and how many positions the record holds: a scan all of whose positions
    are in the record is complete and gets its images from it, one whose scan.json says how it
    ended stays what that says. Scans of another instrument are left to its daemon where there is
    one, and only one daemon of a data folder is at this at a time. Reads whole records: call it
    from a worker thread. A folder that cannot be mended is logged and left as it is. Raises
    SinkError if the catalogue fails or the data folder is not ours.
    """
    store.check()
    path = lock_path(store.data_dir, "recovery")
    with contextlib.ExitStack() as stack:
        try:
            stack.enter_context(waiting_lock(path))
        except OSError as error:
            raise disk_error(error, "lock the data folder", path) from error
        return _recover(store, busy)


def _recover(store: Store, busy: Collection[str]) -> list[str]:
    catalogue = store.catalogue
    abandoned = [
        scan
        for scan in catalogue.abandoned()
        if scan.scan_id not in busy and _is_ours(store, scan.instrument)
    ]
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
                **_remedy(document, scan.folder),
            )
    catalogue.forget(scan.owner for scan in abandoned)
    return [scan.scan_id for scan in abandoned]


def _is_ours(store: Store, instrument: str) -> bool:
    if instrument == store.instrument:
        return True
    return holder_is_dead(instrument_lock(store.data_dir, instrument))


def _remedy(document: Json, folder: Path) -> dict[str, str]:
    """What to do for the images that a scan lacks; nothing where it lacks none."""
    names = [str(file["name"]) for file in document.get("files", ())]
    record = record_of([folder / name for name in names])
    if record is None or any(name.endswith(".tif") for name in names):
        return {}
    if is_outstanding(document):
        return {"images": "are made from the record"}
    return {"remedy": f"stemd process {record} makes its images of what came"}


def entered_row(catalogue: Catalogue, folder: Path, document: Json, scan_id: str) -> bool:
    """Whether the catalogue takes the row; one that it never will is logged. Raises SinkError."""
    try:
        catalogue.end(scan_id, document, folder)
    except RowError as error:
        log.warning("a scan cannot be added to the catalogue", scan=scan_id, error=str(error))
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
            log.warning(
                "a deletion or a change that was begun cannot be finished",
                scan=scan_id,
                error=str(error),
            )
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
            log.warning(
                "a scan cannot be added to the catalogue", folder=str(folder), error=str(error)
            )
            continue
        if document is not None and entered_row(catalogue, folder, document, folder.name):
            entered.append(folder.name)
            log.info("a scan was added to the catalogue", scan=folder.name)
    return entered


def enter_sessions(catalogue: Catalogue) -> None:
    """Enter the sessions of the data folder into a catalogue that was begun anew.

    Raises SinkError if the catalogue fails.
    """
    for folder in folders_in(catalogue.data_dir / "sessions"):
        try:
            document = read_object(folder / "session.json")
            lists = ("scans", "events", "outages")
            newest = {key: document[key][-_SHOWN:] for key in lists if key in document}
            catalogue.put_session({**document, **newest})
        except RowError as error:
            log.warning(
                "a session cannot be added to the catalogue", folder=str(folder), error=str(error)
            )
        except SinkError:
            raise
        except _WRONG as error:
            log.warning(
                "a session cannot be added to the catalogue", folder=str(folder), error=str(error)
            )


def scan_folders(data_dir: Path) -> Iterator[Path]:
    """Folders in folders of days, by name; what cannot be read is passed over."""
    for day in day_folders(data_dir):
        yield from folders_in(day)


def day_folders(data_dir: Path) -> list[Path]:
    """The folders of days, by name."""
    return [d for d in folders_in(data_dir) if len(d.name) == 10 and d.name[4] == d.name[7] == "-"]


def folders_in(place: Path) -> list[Path]:
    """The folders in a place, by name; none where it cannot be read."""
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

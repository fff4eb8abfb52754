"""Keeping the disk from filling: what the config allows is deleted, all of it told."""

from __future__ import annotations

import re
import shutil
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from stemd.acquisition import iso_utc
from stemd.config.tables import RetentionTable
from stemd.documents import to_json
from stemd.errors import SinkError, StemdError
from stemd.logs import get_logger
from stemd.storage.files import fsync_folder, write_atomic
from stemd.storage.folder import SCAN_FILE
from stemd.storage.intentions import DELETE
from stemd.storage.scan_document import read_scan_document
from stemd.storage.store import Store

Json = dict[str, Any]

_SCAN_FOLDER = re.compile(r"\d{4}-\d\d-\d\d/[A-Za-z0-9][A-Za-z0-9-]{0,60}")
_RECORD, _KEPT_SUFFIXES = "raw", (".tif", ".hdr", ".json")
_DAY_NS = 86_400_000_000_000
_FOREVER_NS = (1 << 63) - 1
_CHECK_EVERY = 8
"""Free space is asked for again after so many deletions."""
_PAGE = 100
"""So many rows are looked at at a time: a catalogue of any length needs little memory."""
RUN_S = 20.0
"""One run ends after so long, and the next goes on: other work of the disk's task waits."""

log = get_logger(__name__)


@dataclass(slots=True)
class Retained:
    """What one run did.

    `deleted`: ids. `problems`: why others could not be, by id. `refused`: why none were deleted
    for their age. `more`: the run ended before it was through.
    """

    deleted: list[str] = field(default_factory=list)
    problems: dict[str, str] = field(default_factory=dict)
    refused: SinkError | None = None
    more: bool = False


def retain(
    store: Store,
    table: RetentionTable,
    now_ns: int | None = None,
    sure_ns: int | None = None,
    stop: Callable[[], bool] = lambda: False,
) -> Retained:
    """Delete what `[daemon.retention]` says, the oldest scan first.

    Up to `sure_ns` the clock is vouched for (default: `now_ns`); scans that are old only by
    `now_ns` go if they are not more than `max_share` of all. A running scan, one whose images are
    being completed and scans of other instruments are never touched. What cannot be read or
    deleted is passed over. Each deletion is logged and stands in the catalogue (`deleted`: when,
    why, how many bytes). Raises SinkError if the catalogue fails.
    """
    done = Retained()
    if table.max_age_days is None and table.min_free_gb is None and table.max_scans is None:
        return done
    now = time.time_ns() if now_ns is None else now_ns
    before = _old_before(store, table, now, now if sure_ns is None else sure_ns, done)
    until = time.monotonic() + RUN_S
    surplus = surplus_of(store, table)
    free = store.free_bytes()
    for number, scan in enumerate(_oldest(store, table.delete), 1):
        reason = _reason(scan, table, before, free, too_many=number <= surplus)
        if reason is None:
            break  # the others are younger
        if time.monotonic() > until or stop():
            done.more = True
            break
        if not store.claim(scan["id"]):
            continue
        try:
            about = _delete(store, scan, table.delete, reason)
            # a ring of the newest scans loses its oldest all the time: that is no warning
            tell = log.info if number <= surplus else log.warning
            tell("deleted by retention", scan=scan["id"], **about)
            done.deleted.append(scan["id"])
        except (SinkError, OSError) as error:
            done.problems[scan["id"]] = str(error)
        finally:
            store.release(scan["id"])
        if len(done.deleted) % _CHECK_EVERY == 0 or table.min_free_gb is not None:
            free = store.free_bytes()
    return done


def finish_deletion(store: Store, intention: Json) -> None:
    """Carry out a deletion that was cut off; one that had not begun is left to the config.

    Raises SinkError, OSError.
    """
    scan, about = store.catalogue.get(intention["scan"]), intention["about"]
    if scan is None or _untouched(store.data_dir / scan["folder"]):
        store.intentions.done(intention["scan"])
        return
    about = _delete(store, scan, str(about.get("what")), str(about.get("reason")))
    log.warning("deleted by retention", scan=scan["id"], **about)


def _untouched(folder: Path) -> bool:
    """Whether every file that scan.json lists is there, and no deletion."""
    try:
        document = read_scan_document(folder)
        files = document["files"]
        return not document.get("deleted") and all(
            (folder / str(file["name"])).is_file() for file in files
        )
    except (OSError, StemdError, KeyError, TypeError):
        return False


def surplus_of(store: Store, table: RetentionTable) -> int:
    """How many scans there are beyond `max_scans`, 0 without it. Raises SinkError."""
    if table.max_scans is None:
        return 0
    kept = ("", "raw") if table.delete == "scan" else ("",)
    every = sum(store.catalogue.count(store.instrument, what) for what in kept)
    return max(0, every - table.max_scans)


def _old_before(
    store: Store, table: RetentionTable, now_ns: int, sure_ns: int, done: Retained
) -> int | None:
    """Scans that began before this are older than `max_age_days`; None where no age counts."""
    if table.max_age_days is None:
        return None
    age_ns = int(table.max_age_days * _DAY_NS)
    sure, claimed = sure_ns - age_ns, now_ns - age_ns
    kept = ("", "raw") if table.delete == "scan" else ("",)
    count = store.catalogue.count
    every = sum(count(store.instrument, what) for what in kept)
    doubtful = sum(
        count(store.instrument, what, claimed) - count(store.instrument, what, min(sure, claimed))
        for what in kept
    )
    if doubtful <= table.max_share * every:
        return claimed
    done.refused = SinkError(
        f"retention deletes nothing that is old only by this computer's clock: it says "
        f"{iso_utc(now_ns)[:10]}, which makes {doubtful} of {every} scans older than "
        f"max_age_days = {table.max_age_days:g} at once",
        "correct the clock; if it is right, set daemon.retention.max_share = 1 and restart stemd",
    )
    return sure


def _oldest(store: Store, what: str) -> Iterator[Json]:
    """Scans of which not everything is gone yet, the oldest first."""
    kept = ("", "raw") if what == "scan" else ("",)
    after = (-1, "")
    while True:
        page: list[Json] = []
        for deleted in kept:
            page += store.catalogue.oldest(store.instrument, deleted, _FOREVER_NS, after, _PAGE)
        page = sorted(page, key=lambda scan: (scan["started_ns"], scan["id"]))[:_PAGE]
        if not page:
            return
        yield from page
        after = (page[-1]["started_ns"], page[-1]["id"])


def _reason(
    scan: Json,
    table: RetentionTable,
    old_before_ns: int | None,
    free: int | None,
    *,
    too_many: bool,
) -> str | None:
    if too_many:
        return f"there are newer ones: max_scans = {table.max_scans}"
    if old_before_ns is not None and scan["started_ns"] < old_before_ns:
        return f"older than max_age_days = {table.max_age_days:g}"
    if table.min_free_gb is not None and free is not None and free < table.min_free_gb * 1e9:
        return f"less than min_free_gb = {table.min_free_gb:g} was free"
    return None


def _delete(store: Store, scan: Json, what: str, reason: str) -> Json:
    """Delete it; returns what the log is to say of it. Raises SinkError, OSError."""
    if not _SCAN_FOLDER.fullmatch(scan["folder"]):
        raise SinkError(
            f"{scan['folder']!r} in the catalogue is not a scan's folder: it is not deleted",
            "the catalogue is damaged: move it away, it is made again from the scans' folders",
        )
    folder = store.data_dir / scan["folder"]
    gone = _to_delete(folder, what)
    now = time.time_ns()
    about = {"what": what, "time": iso_utc(now), "reason": reason, "bytes": _size(gone)}
    # written down first: what is cut off here is finished by the next start
    about = store.intentions.begin(scan["id"], DELETE, about)["about"]
    what = about["what"]
    document = _document(folder, scan)
    gone = _to_delete(folder, what)
    names = {path.name for path in gone}
    listed = document["files"] if isinstance(document["files"], list) else []
    kept = [f for f in listed if isinstance(f, dict) and not _goes(str(f.get("name")), names)]
    document |= {"files": [] if what == "scan" else kept, "deleted": about}
    try:
        for path in gone:
            if path.is_dir() and not path.is_symlink():
                shutil.rmtree(path)
            else:
                path.unlink(missing_ok=True)
        if what == "raw" and folder.is_dir():
            fsync_folder(folder)
            write_atomic(folder / SCAN_FILE, [(to_json(document, indent=1) + "\n").encode()])
    except OSError as error:
        raise SinkError(
            f"{folder}: cannot be deleted: {error.strerror or error}",
            "give the user that runs stemd the right to delete there",
        ) from error
    store.catalogue.end(scan["id"], document)
    store.intentions.done(scan["id"])
    return {key: about.get(key) for key in _LOGGED}


_LOGGED = ("what", "bytes", "reason")


def _to_delete(folder: Path, what: str) -> Sequence[Path]:
    if what == "scan":
        return [folder] if folder.is_dir() else []
    files = sorted(p for p in folder.iterdir() if p.is_file()) if folder.is_dir() else []
    return [path for path in files if _is_raw(path.name)]


def _size(paths: Sequence[Path]) -> int:
    total = 0
    for path in paths:
        every = path.rglob("*") if path.is_dir() else [path]
        total += sum(each.stat().st_size for each in every if each.is_file())
    return total


def _goes(name: str, gone: set[str]) -> bool:
    """A listed record goes also where an earlier run, cut off, has deleted its file."""
    return name in gone or _is_raw(name)


def _is_raw(name: str) -> bool:
    """Whether it belongs to the camera's bytes; their small header stays with the images."""
    return name.startswith(_RECORD) and Path(name).suffix not in _KEPT_SUFFIXES


def _document(folder: Path, scan: Json) -> Json:
    """The scan's own document, or what the catalogue knows of it."""
    try:
        document = read_scan_document(folder)
    except (OSError, StemdError):
        document = {}
    # what the row must have stands in the catalogue already: a damaged document changes none
    keys = ("id", "status", "finished_ns", "positions_done")
    return {**scan, "files": [], **document, **{key: scan[key] for key in keys}}

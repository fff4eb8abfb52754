"""Keeping the disk from filling: what the config allows is deleted, all of it told."""

from __future__ import annotations

import re
import shutil
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import structlog

from stemd.acquisition import iso_utc
from stemd.config.tables import RetentionTable
from stemd.documents import to_json
from stemd.errors import FormatError, SinkError
from stemd.storage.files import fsync_folder, write_atomic
from stemd.storage.folder import SCAN_FILE
from stemd.storage.scan_document import read_scan_document
from stemd.storage.store import Store

_SCAN_FOLDER = re.compile(r"\d{4}-\d\d-\d\d/[A-Za-z0-9][A-Za-z0-9-]{0,60}")
_RECORD, _KEPT_SUFFIXES = "raw", (".tif", ".hdr", ".json")
_DAY_NS = 86_400_000_000_000
_CHECK_EVERY = 8
"""Free space is asked for again after so many deletions."""

log = structlog.get_logger(__name__)


def retain(store: Store, table: RetentionTable, now_ns: int | None = None) -> list[str]:
    """Delete what `[daemon.retention]` says, the oldest scan first; returns the scans' ids.

    A running scan, one whose images are being completed and scans of other instruments are never
    touched. Each deletion is logged and
    stands in the catalogue (`deleted`: when, why, how many bytes). Raises SinkError.
    """
    if table.max_age_days is None and table.min_free_gb is None:
        return []
    now = time.time_ns() if now_ns is None else now_ns
    deleted: list[str] = []
    free = store.free_bytes()
    for scan in reversed(store.catalogue.list()):
        if scan["instrument"] != store.instrument or scan["status"] == "acquiring":
            continue
        done = scan.get("deleted") or {}
        if done.get("what") in ("scan", table.delete):
            continue
        reason = _reason(scan, table, now, free)
        if reason is None:
            break  # the others are younger
        if not store.claim(scan["id"]):
            continue
        try:
            _delete(store, scan, table.delete, reason)
        finally:
            store.release(scan["id"])
        deleted.append(scan["id"])
        if len(deleted) % _CHECK_EVERY == 0 or table.min_free_gb is not None:
            free = store.free_bytes()
    return deleted


def _reason(
    scan: dict[str, Any], table: RetentionTable, now_ns: int, free: int | None
) -> str | None:
    age_days = (now_ns - scan["started_ns"]) / _DAY_NS
    if table.max_age_days is not None and age_days > table.max_age_days:
        return f"older than max_age_days = {table.max_age_days:g}"
    if table.min_free_gb is not None and free is not None and free < table.min_free_gb * 1e9:
        return f"less than min_free_gb = {table.min_free_gb:g} was free"
    return None


def _delete(store: Store, scan: dict[str, Any], what: str, reason: str) -> None:
    if not _SCAN_FOLDER.fullmatch(scan["folder"]):
        raise SinkError(
            f"{scan['folder']!r} in the catalogue is not a scan's folder: it is not deleted",
            "the catalogue is damaged: move it away, it is made again from the scans' folders",
        )
    folder = store.data_dir / scan["folder"]
    document = _document(folder, scan)
    if what == "scan":
        gone = [folder] if folder.is_dir() else []
        size = sum(path.stat().st_size for path in folder.rglob("*") if path.is_file())
    else:
        gone = [p for p in _files(folder) if _is_raw(p)]
        size = sum(path.stat().st_size for path in gone)
    names = {path.name for path in gone}
    kept = [] if what == "scan" else [f for f in document["files"] if f["name"] not in names]
    now = time.time_ns()
    document |= {
        "files": kept,
        "deleted": {"what": what, "time": iso_utc(now), "reason": reason, "bytes": size},
    }
    # the files first: a deletion cut off here is found again, one that is only noted is not
    try:
        for path in gone:
            if path.is_dir():
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
    log.warning("deleted by retention", scan=scan["id"], what=what, bytes=size, reason=reason)


def _is_raw(path: Path) -> bool:
    """Whether it belongs to the camera's bytes; their small header stays with the images."""
    return path.name.startswith(_RECORD) and path.suffix not in _KEPT_SUFFIXES


def _files(folder: Path) -> Sequence[Path]:
    return sorted(p for p in folder.iterdir() if p.is_file()) if folder.is_dir() else []


def _document(folder: Path, scan: dict[str, Any]) -> dict[str, Any]:
    """The scan's own document, or what the catalogue knows of it."""
    try:
        document = read_scan_document(folder)
    except (OSError, FormatError):
        document = {}
    return {**scan, "files": [], **document}

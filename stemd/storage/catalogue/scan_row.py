"""A scan's document as a row of the catalogue, and a row as what others are told."""

from __future__ import annotations

import sqlite3
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from stemd.acquisition import iso_utc
from stemd.documents import from_json, object_from_json, to_json
from stemd.errors import FormatError
from stemd.storage.scan_document import checked

Json = dict[str, Any]

COLUMNS = (
    "id, pipeline, instrument, status, started_ns, finished_ns, ny, nx, positions_done,"
    " positions_total, folder, results, bytes, summary, owner"
)
_SUMMARY = (
    *("missing", "optics", "counters", "source", "notes", "versions"),
    *("session", "about", "recomputed", "completion", "deleted", "not_written"),
)
_TABLE_KNOWS = ("acquiring", "complete", "incomplete", "aborted")


def about_text(scan: Mapping[str, Any]) -> str:
    """What `find` looks through: sample, operator, comment and tags, in small letters."""
    about = scan.get("about") or {}
    tags = about.get("tags") or ()
    texts = [about.get(key) or "" for key in ("sample", "operator", "comment")]
    return " ".join(str(text) for text in (*texts, *tags)).casefold()


def ending(scan_id: str, document: Mapping[str, Any]) -> tuple[Any, ...]:
    """The columns of a scan that is over, by its document. Raises KeyError, TypeError and so on."""
    files: Sequence[Mapping[str, Any]] = document.get("files", ())
    names = [str(file["name"]) for file in files]
    # whatever writer has made them; what begins with raw is the record's
    images = [Path(name).stem for name in names if not name.startswith("raw")]
    # a file with the scan's own name holds all of them
    results = [name for name in dict.fromkeys(images) if name != scan_id]
    status = document["status"]
    summary = {key: document.get(key) for key in _SUMMARY}
    if status not in _TABLE_KNOWS:
        summary["status"], status = status, "incomplete"
    return (
        status,
        document["finished_ns"],
        document["positions_done"],
        to_json(results),
        sum(int(file["bytes"]) for file in files),
        to_json(summary),
        scan_id,
    )


def as_json(row: sqlite3.Row) -> Json:
    """What others are told of a scan, from its row."""
    finished = row["finished_ns"]
    return {
        "id": row["id"],
        "pipeline": row["pipeline"],
        "instrument": row["instrument"],
        "status": row["status"],
        "started": iso_utc(row["started_ns"]),
        "started_ns": row["started_ns"],
        "finished": None if finished is None else iso_utc(finished),
        "finished_ns": finished,
        "shape": [row["ny"], row["nx"]],
        "positions_done": row["positions_done"],
        "positions_total": row["positions_total"],
        "folder": row["folder"],
        "results": _names(row["results"]),
        "bytes": row["bytes"],
        **read_object(row["summary"]),
    }


def read_object(text: str) -> Json:
    """What a row says beside its columns; {} for a row that was damaged."""
    try:
        return checked(object_from_json(text))
    except FormatError:
        return {}


def _names(text: str) -> Sequence[str]:
    try:
        found = from_json(text)
    except FormatError:
        return []
    return [name for name in found if isinstance(name, str)] if isinstance(found, list) else []

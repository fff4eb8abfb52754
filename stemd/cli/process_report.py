"""What `stemd process` says of a set of images, wherever they were made."""

from __future__ import annotations

import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from stemd.adapters.recordings.address import RecordingPath

WORDS = {"info": "note", "warning": "warning", "error": "error"}


def report(path: RecordingPath, target: Path, document: Any, rate: str = "") -> None:
    """One line for a set of images, and what was noticed about the data."""
    shape = "x".join(str(n) for n in document["scan"]["shape"])
    sys.stdout.write(
        f"{path}: {shape} positions, {document['positions_done']} done, "
        f"{document['missing']} missing{rate} -> {target}\n"
    )
    for notice in document["notices"]:
        remedy = f" ({notice['remedy']})" if notice["remedy"] else ""
        sys.stdout.write(f"  {WORDS[notice['level']]}: {notice['text']}{remedy}\n")


def tell_empty(path: RecordingPath, number: int, notices: Sequence[Mapping[str, Any]]) -> None:
    """On standard error: nothing was made of a scan in which there is nothing, and why."""
    sys.stderr.write(f"stemd process: {path}: scan {number} was left out\n")
    for notice in notices:
        remedy = f" ({notice['remedy']})" if notice["remedy"] else ""
        sys.stderr.write(f"  {WORDS[notice['level']]}: {notice['text']}{remedy}\n")


def tell_notes(path: RecordingPath, notes: Sequence[str]) -> int:
    """On standard error: which engines have failed, in words of `Outcome.notes`; how many."""
    for note in notes:
        sys.stderr.write(f"stemd process: {path}: {note}\n")
    return len(notes)

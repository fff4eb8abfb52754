"""What `stemd process` says of a set of images, wherever they were made."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from stemd.adapters.recordings.address import RecordingPath
from stemd.blocks import Message


def report(
    path: RecordingPath, target: Path, document: Any, notices: Sequence[Message], rate: str = ""
) -> None:
    """One line for a set of images, and what was noticed about the file."""
    shape = "x".join(str(n) for n in document["scan"]["shape"])
    sys.stdout.write(
        f"{path}: {shape} positions, {document['positions_done']} done, "
        f"{document['missing']} missing{rate} -> {target}\n"
    )
    for notice in notices:
        sys.stdout.write(f"  note: {getattr(notice, 'text', notice)}\n")


def tell_notes(path: RecordingPath, notes: Sequence[str]) -> int:
    """On standard error: which engines have failed, in words of `Outcome.notes`; how many."""
    for note in notes:
        sys.stderr.write(f"stemd process: {path}: {note}\n")
    return len(notes)

"""Recorded .t3p and .t3pa files."""

from __future__ import annotations

from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from stemd.acquisition import Scan
from stemd.adapters.advapix.adapter import make_front
from stemd.adapters.advapix.records import text_records
from stemd.adapters.advapix.settings import AdvapixSettings
from stemd.adapters.events.recording import EventRecording
from stemd.adapters.events.records import ArrayRecords, map_file
from stemd.adapters.recordings.address import RecordingPath
from stemd.errors import FormatError


def text_as_records(path: Path) -> NDArray[np.uint8]:
    """A .t3pa file as .t3p records. Raises FormatError when no line of it is a hit."""
    made, used = text_records(map_file(path))
    if made.size == 0:
        raise FormatError(
            f"{path} holds no hits as text ({used} bytes read)",
            "expected are lines of Index, Matrix Index, ToA, ToT, FToA, Overflow",
        )
    return made.view(np.uint8)


def open_recording(
    path: RecordingPath, scan: Scan | None = None, settings: AdvapixSettings | None = None
) -> EventRecording:
    """A .t3p file (binary) or .t3pa file (text). The scan needs its dwell time.

    Raises CameraError when it cannot be read, ConfigError when the scan is not known,
    FormatError for a text file without hits.
    """
    chosen = settings or AdvapixSettings(scan=scan)
    records = None
    if path.suffix.lower() == ".t3pa":
        if not isinstance(path, Path):
            raise FormatError(
                f"{path}: text is read from local files only", "copy it, or record .t3p files"
            )
        records = ArrayRecords(text_as_records(path), path)
    return EventRecording(
        path,
        chosen,
        lambda: make_front(chosen),
        scan=scan,
        name="AdvaPix",
        raw_name="raw.t3p",
        records=records,
    )

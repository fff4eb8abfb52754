"""Recorded .t3p and .t3pa files."""

from __future__ import annotations

from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from stemd.acquisition import Scan
from stemd.adapters.advapix.adapter import make_front
from stemd.adapters.advapix.records import RECORD, text_records
from stemd.adapters.advapix.settings import AdvapixSettings
from stemd.adapters.events.recording import EventRecording
from stemd.adapters.events.records import ArrayRecords, map_file
from stemd.adapters.recordings.address import RecordingPath
from stemd.errors import FormatError

MOST_BYTES = 512 * 1024 * 1024
"""Of a file that are looked at to tell what it holds."""


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


def survey(path: Path) -> list[str]:
    """Lines of text: hits, chips and duration, and what places the hits.

    Raises CameraError when it cannot be read, FormatError for a text file without hits.
    """
    data = text_as_records(path) if path.suffix.lower() == ".t3pa" else map_file(path)
    size = min(data.size, MOST_BYTES) // RECORD.itemsize * RECORD.itemsize
    found = data[:size].view(RECORD)
    hits = found[found["overflow"] == 0]
    if not hits.size:
        return ["no hits"]
    first, last = int(hits["toa"].min()), int(hits["toa"].max())
    chips = ", ".join(map(str, np.unique(hits["index"] >> 16).tolist()))
    part = (
        ""
        if size > data.size - RECORD.itemsize
        else f", in the first {found.nbytes / 2**20:.0f} MiB"
    )
    return [
        f"{hits.size:,} hits on chip {chips}, between {first * 25e-6:,.3f} and "
        f"{last * 25e-6:,.3f} ms of the camera's clock{part}",
        "a dwell time places the hits (--dwell-time-us); the first position is at time 0 of the "
        "camera's clock, or at clock_origin_us of a config",
    ]

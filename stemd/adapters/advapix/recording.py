"""Recorded .t3p and .t3pa files."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from stemd.acquisition import Scan
from stemd.adapters.advapix.adapter import make_front
from stemd.adapters.advapix.records import LOST_DATA_BEGINS, LOST_DATA_ENDS, RECORD
from stemd.adapters.advapix.settings import AdvapixSettings
from stemd.adapters.advapix.text import PIECE_BYTES, TextRecords
from stemd.adapters.events.recording import EventRecording
from stemd.adapters.events.records import Records, open_records
from stemd.adapters.recordings.address import RecordingPath
from stemd.blocks import Notice
from stemd.errors import FormatError

MARKS = (LOST_DATA_BEGINS, LOST_DATA_ENDS)

MOST_BYTES = 512 * 1024 * 1024
"""Of a file that are looked at to tell what it holds."""
NEVER = 1 << 64
"""Later than any time of arrival."""


def open_recording(
    path: RecordingPath, scan: Scan | None = None, settings: AdvapixSettings | None = None
) -> EventRecording:
    """A .t3p file (binary) or .t3pa file (text). The scan needs its dwell time.

    Raises CameraError when it cannot be read, ConfigError when the scan is not known,
    FormatError for a text file without hits.
    """
    chosen = settings or AdvapixSettings(scan=scan)
    records: Records | None = None
    noticed: list[Notice] = []
    if path.suffix.lower() == ".t3pa":
        if not isinstance(path, Path):
            raise FormatError(
                f"{path}: text is read from local files only", "copy it, or record .t3p files"
            )
        records = text = TextRecords(path)
        if text.unread:
            noticed.append(_unread(text.unread))
    return EventRecording(
        path,
        chosen,
        lambda: make_front(chosen),
        scan=scan,
        name="AdvaPix",
        raw_name="raw.t3p",
        records=records,
        noticed=noticed,
    )


def _unread(count: int) -> Notice:
    return Notice(
        "unread_lines",
        f"{count} lines of the text cannot be read, their hits are missing",
        count=count,
        remedy="copy the file again; look at it with a text editor",
    )


def survey(path: Path) -> list[str]:
    """Lines of text: hits, chips and duration, and what places the hits.

    Raises CameraError when it cannot be read, FormatError for a text file without hits.
    """
    records = TextRecords(path) if path.suffix.lower() == ".t3pa" else open_records(path)
    size = min(records.size, MOST_BYTES) // RECORD.itemsize * RECORD.itemsize
    count, first, last = 0, NEVER, 0
    seen: set[int] = set()
    with records.reader(0, size) as reader:
        for at in range(0, size, PIECE_BYTES):
            found = reader.piece(at, min(PIECE_BYTES, size - at)).view(RECORD)
            marks = (found["overflow"] == 1) & np.isin(found["index"], MARKS)
            hits = found[~marks]
            if hits.size:
                count += hits.size
                first = min(first, int(hits["toa"].min()))
                last = max(last, int(hits["toa"].max()))
                seen |= set(np.unique(hits["index"] >> 16).tolist())
    if not count:
        return ["no hits"]
    chips = ", ".join(map(str, sorted(seen)))
    part = "" if size > records.size - RECORD.itemsize else f", in the first {size / 2**20:.0f} MiB"
    return [
        f"{count:,} hits on chip {chips}, between {first * 25e-6:,.3f} and "
        f"{last * 25e-6:,.3f} ms of the camera's clock{part}",
        "a dwell time places the hits (--dwell-time-us); the first position is at time 0 of the "
        "camera's clock, or at clock_origin_us of a config",
    ]

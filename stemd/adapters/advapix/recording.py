"""Recorded .t3p and .t3pa files."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from stemd.acquisition import Scan
from stemd.adapters.advapix.adapter import make_front
from stemd.adapters.advapix.records import (
    LOST_DATA_BEGINS,
    LOST_DATA_ENDS,
    RECORD,
    SHORT_RECORD,
)
from stemd.adapters.advapix.settings import AdvapixSettings
from stemd.adapters.advapix.text import PIECE_BYTES, TextRecords
from stemd.adapters.events.recording import EventRecording
from stemd.adapters.events.records import Records, open_records
from stemd.adapters.recordings.address import RecordingPath
from stemd.blocks import Notice
from stemd.errors import CameraError, FormatError

MARKS = (LOST_DATA_BEGINS, LOST_DATA_ENDS)

MOST_BYTES = 512 * 1024 * 1024
"""Of a file that are looked at to tell what it holds."""
LOOKED_AT = 64
"""Times the least common multiple of both kinds of records, to tell them apart."""
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
    told = "record_bytes" in chosen.model_fields_set
    if isinstance(path, Path) and path.suffix.lower() == ".t3p" and not told and is_short(path):
        chosen = chosen.model_copy(update={"record_bytes": SHORT_RECORD.itemsize})
        found = "the records are of 12 bytes, as those of 2015"
        noticed.append(Notice("short_records", found, "info"))
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


def is_short(path: Path) -> bool:
    """Whether the records of a .t3p file are those of 12 bytes, by what they hold at its beginning.

    Raises CameraError when it cannot be read.
    """
    try:
        with path.open("rb") as file:
            head = file.read(LOOKED_AT * RECORD.itemsize * SHORT_RECORD.itemsize)
    except OSError as error:
        raise CameraError(f"{path} cannot be read: {error.strerror or error}") from error
    usual, short = (
        _sound(np.frombuffer(head[: len(head) // kind.itemsize * kind.itemsize], kind))
        for kind in (RECORD, SHORT_RECORD)
    )
    return usual < 0.5 and short > 0.9


def _sound(records: NDArray[Any]) -> float:
    """Part of the records that may be hits or marks."""
    if not records.size:
        return 0.0
    chip, flag = records["index"] >> 16, records["overflow"]
    sound = (chip < 4) & ((flag <= 1) | (flag == chip)) & (records["ftoa"] < 32)
    return float((sound & (records["toa"] >> np.uint8(56) == 0)).mean())


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
    is_text = path.suffix.lower() == ".t3pa"
    records = TextRecords(path) if is_text else open_records(path)
    kind = SHORT_RECORD if not is_text and is_short(path) else RECORD
    size = min(records.size, MOST_BYTES) // kind.itemsize * kind.itemsize
    most = PIECE_BYTES // kind.itemsize * kind.itemsize
    count, first, last = 0, NEVER, 0
    seen: set[int] = set()
    with records.reader(0, size) as reader:
        for at in range(0, size, most):
            found = reader.piece(at, min(most, size - at)).view(kind)
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
    part = "" if size > records.size - kind.itemsize else f", in the first {size / 2**20:.0f} MiB"
    return [
        f"{count:,} hits on chip {chips}, between {first * 25e-6:,.3f} and "
        f"{last * 25e-6:,.3f} ms of the camera's clock{part}",
        "a dwell time places the hits (--dwell-time-us); the first position is at time 0 of the "
        "camera's clock, or at clock_origin_us of a config",
    ]

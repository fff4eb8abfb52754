"""Recorded .tpx3 files, and bare words."""

from __future__ import annotations

import numpy as np

from stemd.acquisition import Scan
from stemd.adapters.events.front import Front
from stemd.adapters.events.recording import EventRecording
from stemd.adapters.events.records import Records, open_records
from stemd.adapters.recordings.address import RecordingPath
from stemd.adapters.timepix3.front import WordsFront
from stemd.adapters.timepix3.settings import Timepix3Settings
from stemd.adapters.timepix3.words import MAGIC, NAME, RAW_NAME


def looks_like_chunks(records: Records) -> bool:
    """Whether the file begins with a chunk header; else its words are bare."""
    with records.reader(0, 8) as reader:
        head = reader.piece(0, 8)
    return head.size == 8 and int(head.view(np.uint32)[0]) == MAGIC


def open_recording(
    path: RecordingPath, scan: Scan | None = None, settings: Timepix3Settings | None = None
) -> EventRecording:
    """A .tpx3 file, or bare words (.raw). Without `settings` those of a quad with TDC1 pulses,
    or the dwell clock where only that can tell the positions.

    Raises CameraError when it cannot be read, ConfigError when the scan is not known.
    """
    chosen = settings or Timepix3Settings(scan=scan)
    records = open_records(path)
    chunked = path.suffix.lower() == ".tpx3" or looks_like_chunks(records)

    def front() -> Front:
        return WordsFront(
            chosen.detector_layout,
            back_limit_us=chosen.back_limit_ms * 1000.0,
            window_us=chosen.reorder_window_us,
            headers_required=chunked,
            correction=chosen.time_correction,
        )

    return EventRecording(
        path, chosen, front, scan=scan, name=NAME, raw_name=RAW_NAME, records=records
    )

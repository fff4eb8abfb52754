"""EMPAD's .raw files without their .xml: float32 patterns of 128 x 128 and two rows of metadata,
which some programs have taken away."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np

from stemd.acquisition import Scan
from stemd.adapters.recordings.array_facts import ArrayFacts
from stemd.adapters.recordings.arrays import ArrayRecording
from stemd.adapters.recordings.bands import Fetch, Patterns, mapped_fetch
from stemd.adapters.recordings.calibration import Calibration
from stemd.adapters.recordings.kinds import EMPAD_BARE_BYTES, EMPAD_NAME
from stemd.blocks import Notice
from stemd.errors import FormatError

SIDE, STORED_ROWS = 128, 130
_DTYPE = np.dtype("<f4")


def open_raw(
    path: Path,
    scan: Scan | None = None,
    lines: tuple[int, int] | None = None,
    calibration: Calibration | None = None,
) -> ArrayRecording:
    """Open an EMPAD .raw file; `lines` is the scan (ny, nx), by default that of the file's name.

    Raises FormatError when it has no whole pattern, more than its scan, or does not fit `scan`.
    """
    named = EMPAD_NAME.match(path.stem)
    if lines is None and named is not None:
        lines = int(named["ny"]), int(named["nx"])
    size, rows = path.stat().st_size, STORED_ROWS
    if lines and size == lines[0] * lines[1] * EMPAD_BARE_BYTES:
        rows = SIDE
    bytes_each = rows * SIDE * _DTYPE.itemsize
    frames, rest = divmod(size, bytes_each)
    if not frames or (lines and lines[0] * lines[1] < frames):
        said = f", but its scan is {lines[0]} x {lines[1]}" if lines else ""
        raise FormatError(
            f"{path}: {size:,} bytes are {frames} EMPAD patterns of {bytes_each:,} bytes{said}",
            "the file is cut off, or is of another camera",
        )
    cut = f"the last pattern is cut off after {rest} bytes"
    # copy-on-write: kernels know writable arrays only, the file stays as it is
    stored = np.memmap(path, _DTYPE, "c", 0, (frames, rows, SIDE))
    fetch = _patterns(stored)
    facts = ArrayFacts(
        calibration or Calibration(),
        lines=lines,
        expected=lines[0] * lines[1] if lines else None,
        detector="EMPAD",
        notices=[Notice("partial_frame", cut)] if rest else [],
    )
    shape = (frames, SIDE, SIDE)
    return ArrayRecording(path, shape, _DTYPE, fetch, scan, lambda: None, facts)


def _patterns(stored: Any) -> Fetch:
    whole = mapped_fetch(stored)

    def fetch(first: int, stop: int, each: int) -> Iterator[Patterns]:
        return (patterns[:, :SIDE] for patterns in whole(first, stop, each))

    return fetch

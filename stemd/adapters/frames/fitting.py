"""Whether the frames of a file are a scan, and where in them it begins."""

from __future__ import annotations

import numpy as np

from stemd.acquisition import Scan
from stemd.adapters.frames.format import Announcement
from stemd.adapters.frames.numbers import Ends, FrameTable
from stemd.adapters.frames.scans import fitting_shapes
from stemd.adapters.recordings.address import RecordingPath
from stemd.errors import FormatError

MOST_HOLES = 16
"""Of numbers that span more than so many times the frames there are, some lie."""
MOST_LINES = 65536
LOST_RUNS = 8
"""Times the mean number of frames between two that came, which are likely to lack at an end."""


def first_of(scan: Scan, ends: Ends) -> int:
    """Sequence number of the scan's first frame.

    A file begins with a scan, or lacks the first frames of one, or was cut out of a longer one.
    """
    aligned = (ends.first - 1) // scan.frames * scan.frames + 1
    if ends.last - aligned < scan.frames:
        return aligned
    as_many = (ends.last - aligned) // scan.frames == (ends.span - 1) // scan.frames
    return aligned if as_many and ends.first - aligned <= likely_lost(ends) else ends.first


def likely_lost(ends: Ends) -> int:
    """So many frames may well be lost at an end of a file, by how many are within it."""
    return 1 + LOST_RUNS * (ends.span - ends.count) // ends.count


def check_fit(
    path: RecordingPath, scan: Scan, ends: Ends, declared: int | None, *, cut: bool
) -> None:
    """Raise FormatError unless the frames are a scan, several, or a scan that was cut short."""
    whole = scan.frames - scan.flyback_frames
    # Set to endless, or to more frames than there are: the recording ended early.
    stopped = cut or declared == 0 or (declared or 0) > max(ends.count, whole - 1)
    # Where many frames are lost, some of them are those at the end.
    lost = likely_lost(ends) if ends.span > ends.count else 0
    span = ends.last + 1 - first_of(scan, ends)
    rest = span % scan.frames
    if span < whole:
        fits = stopped or span > scan.frames - scan.line_frames - lost
    else:
        fits = stopped or rest < scan.line_frames or rest >= whole - lost
    if not fits:
        raise FormatError(
            f"{path}: {ends.count} frames do not fit a scan of {scan.size} with flyback "
            f"{scan.flyback_frames} and {scan.leading} leading frames, which takes {scan.frames}",
            f"set the scan's shape; {fitting_shapes(ends.count)}",
        )


def doubtful(table: FrameTable, ends: Ends) -> bool:
    """Whether the numbers at both ends of a file say that not all numbers can be true."""
    if ends.span < ends.count or ends.span > MOST_HOLES * ends.count:
        return True
    last = np.array([table.count - 1], np.int64)
    return ends.span != ends.count and int(table.read(last, 1)[0]) == ends.count


def hinted(announced: Announcement, ends: Ends) -> Scan | None:
    """The scan that a file's header tells of: its size, or so many frames a line.

    Of a recording that was stopped in its second half the frames that were promised tell the lines.
    """
    if announced.scan_shape:
        return Scan(shape=announced.scan_shape)
    nx = announced.frames_per_trigger
    frames, promised = ends.span, announced.frames or 0
    if nx and frames % nx and frames < promised < 2 * frames:
        frames = promised
    if nx and 1 < nx < frames and frames % nx == 0 and frames // nx <= MOST_LINES:
        return Scan(shape=(frames // nx, nx))
    return None


def skips(scan: Scan, ends: Ends) -> bool:
    """Flyback frames were left out of the file, their numbers were not given to others."""
    lines = (ends.count - 1 - scan.leading) // scan.shape[1]
    return (
        scan.flyback_frames > 0
        and ends.count > scan.shape[1]
        and ends.span == ends.count + lines * scan.flyback_frames
    )

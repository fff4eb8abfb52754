"""Whether the frames of a file are a scan, and where in them it begins."""

from __future__ import annotations

from stemd.acquisition import Scan
from stemd.adapters.frames.numbers import Ends
from stemd.adapters.frames.scans import fitting_shapes
from stemd.adapters.recordings.address import RecordingPath
from stemd.errors import FormatError


def first_of(scan: Scan, ends: Ends) -> int:
    """Sequence number of the scan's first frame.

    A file begins with a scan, or lacks the first frames of one, or was cut out of a longer one.
    """
    aligned = (ends.first - 1) // scan.frames * scan.frames + 1
    return aligned if ends.last - aligned < scan.frames else ends.first


def check_fit(
    path: RecordingPath, scan: Scan, ends: Ends, declared: int | None, *, cut: bool
) -> None:
    """Raise FormatError unless the frames are a scan, several, or a scan that was cut short."""
    whole = scan.frames - scan.flyback_frames
    # Set to endless, or to more frames than there are: the recording ended early.
    stopped = cut or declared == 0 or (declared or 0) > max(ends.count, whole - 1)
    rest = ends.span % scan.frames
    if ends.span < whole:
        fits = stopped or ends.span > scan.frames - scan.line_frames
    else:
        fits = stopped or rest < scan.line_frames or rest >= whole
    if not fits:
        ny, nx = scan.shape
        raise FormatError(
            f"{path}: {ends.count} frames do not fit a scan of {ny}x{nx} with flyback "
            f"{scan.flyback_frames} and {scan.leading} leading frames, which takes {scan.frames}",
            f"set the scan's shape; {fitting_shapes(ends.count)}",
        )

"""The scan that an array of patterns is: as it was told, as the file says, or guessed."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import numpy as np
from pydantic import ValidationError

from stemd.acquisition import Scan
from stemd.adapters.recordings.address import RecordingPath
from stemd.adapters.recordings.array_facts import ArrayFacts
from stemd.adapters.recordings.calibration import Calibration
from stemd.blocks import Message, Notice
from stemd.errors import FormatError


def scan_of_array(
    path: RecordingPath, shape: tuple[int, ...], told: Scan | None, facts: ArrayFacts
) -> tuple[Scan, Sequence[Message]]:
    """The scan of an array (ny, nx, height, width) or (n, height, width), and what is to be said.

    `told` is what somebody has said of the scan. Raises FormatError where the patterns do not fit
    it, or are more than any scan has.
    """
    scan = _calibrated(_fit(path, shape, told, facts), facts.calibration)
    guessed = told is not None and told.flyback is None
    return scan, (
        *_notices(scan, shape, facts),
        *(_guessed(scan, shape) if guessed else ()),
        *(_size_guessed(scan) if told is None and _says_nothing(shape, facts) else ()),
    )


def _calibrated(scan: Scan, known: Calibration) -> Scan:
    """What nobody has told of a scan is taken from the file."""
    file = {"step_size_angstrom": known.step_size_angstrom, "dwell_time_us": known.dwell_time_us}
    fresh = {key: value for key, value in file.items() if value and getattr(scan, key) is None}
    return scan.model_copy(update=fresh)


def _fit(path: RecordingPath, shape: tuple[int, ...], scan: Scan | None, facts: ArrayFacts) -> Scan:
    """The scan of an array: the configured one, its own first axes, the file's, or a square."""
    frames = int(np.prod(shape[:-2]))
    if scan is None:
        if len(shape) == 4:
            return _of_shape(path, (shape[0], shape[1]), frames)
        side = int(np.sqrt(frames))
        if facts.lines is not None:
            return _of_shape(path, facts.lines, frames)
        return _of_shape(path, (side, side) if side * side == frames else (1, frames), frames)
    if scan.flyback is None:
        lines, rest = divmod(frames - scan.leading, scan.lines)
        found = lines - scan.shape[1] if not rest else 0
        scan = scan.model_copy(update={"flyback": max(0, found)})
    if not scan.frames - scan.flyback_frames <= frames <= scan.frames:
        raise FormatError(
            f"{path}: {frames} patterns do not fit a scan of {scan.size} with flyback "
            f"{scan.flyback_frames} and {scan.leading} leading frames, which takes {scan.frames}",
            f"set the scan's shape; the array's is {shape}",
        )
    return scan


def _of_shape(path: RecordingPath, shape: tuple[int, int], frames: int) -> Scan:
    """A scan of this shape. Raises FormatError where it is larger than any."""
    try:
        return Scan(shape=shape, flyback=0)
    except ValidationError as error:
        ny, nx = shape
        raise FormatError(
            f"{path}: {frames:,} patterns as {ny:,} x {nx:,} are larger than any scan",
            "a scan has at most 65536 lines of 65536 positions, 8192 x 8192 in all: tell it with "
            "--scan YxX, or cut the file",
        ) from error


def _notices(scan: Scan, shape: tuple[int, ...], facts: ArrayFacts) -> Iterator[Message]:
    frames = int(np.prod(shape[:-2]))
    needed, promised = scan.last_position_frame + 1, facts.expected or 0
    missing = max(needed, promised) - frames
    if missing > 0:
        who = "the file tells of" if promised > needed else "the scan takes"
        text = f"{missing:,} patterns are missing: {who} {max(needed, promised):,}"
        yield Notice("missing_frames", text, count=missing)
    unwritten = 0 if facts.unwritten is None else int(facts.unwritten.sum())
    if unwritten:
        text = f"{unwritten:,} of {frames:,} patterns were never written: they count as missing"
        remedy = "the acquisition was broken off, or the file was copied too early"
        yield Notice("unwritten_patterns", text, count=unwritten, remedy=remedy)
    plane = len(shape) == 4 and min(shape[:2]) > 1
    if plane and shape[:2] != scan.shape and shape[1] != scan.line_frames:
        text = (
            f"the file holds {shape[0]} x {shape[1]} patterns, the scan has {scan.line_frames} "
            "frames a line"
        )
        remedy = (
            "if the file is right, the scan's shape or flyback is wrong: is it lines x columns?"
        )
        yield Notice("scan_shape", text, remedy=remedy)


def _says_nothing(shape: tuple[int, ...], facts: ArrayFacts) -> bool:
    """Whether the file tells of patterns only, and of no lines."""
    return len(shape) == 3 and shape[0] > 1 and facts.lines is None


def _size_guessed(scan: Scan) -> Iterator[Message]:
    """Patterns one after the other are taken for a square where they can be, else for one line."""
    ny, nx = scan.shape
    yield Notice(
        "size_guessed",
        f"the file tells of {ny * nx:,} patterns and not of the scan's size: they are taken for "
        + (f"{ny} lines of {nx}" if ny > 1 else "a single line"),
        level="info" if ny > 1 else "warning",
        remedy="tell the scan's size with --scan YxX",
    )


def _guessed(scan: Scan, shape: tuple[int, ...]) -> Iterator[Message]:
    """What was left out because the scan has fewer patterns than there are, and fits with flyback.

    Where the array's own axes say how long a line is, they say it.
    """
    if not scan.flyback_frames or (len(shape) == 4 and shape[1] == scan.line_frames):
        return
    left_out = scan.lines * scan.flyback_frames
    yield Notice(
        "flyback_guessed",
        f"{left_out:,} patterns are left out as flyback, {scan.flyback_frames} after each line of "
        f"{scan.shape[1]}: only their number tells of it",
        count=left_out,
        remedy="tell scan.flyback (--flyback); 0 where all patterns are of the scan",
    )

"""What a file of frames was said to hold, against what it holds."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

from stemd.acquisition import Scan
from stemd.adapters.frames.fitting import hinted
from stemd.adapters.frames.format import Announcement
from stemd.adapters.frames.numbers import Ends
from stemd.blocks import Notice


@dataclass(frozen=True, slots=True)
class Opened:
    """A file as it was opened: scan `number` of `scans`, of the frames behind `base`.

    `asked`: the scan that was given. `skipping`: the numbers leave flyback out. `sorted_out`: the
    file holds parts of acquisitions, or is several files.
    """

    scan: Scan
    ends: Ends
    announced: Announcement
    asked: Scan | None
    base: int
    number: int
    scans: int
    skipping: bool
    sorted_out: bool


def told(file: Opened) -> Iterator[Notice]:
    """What people are to know about the file."""
    if file.scans > 1:
        text = f"the file holds {file.scans} scans, this is number {file.number}"
        yield Notice("several_scans", text, level="info")
    ends = file.ends
    beyond = ends.last - file.base - file.scan.frames
    if beyond > 0 and file.number == file.scans:
        yield Notice("extra_frames", f"{beyond} frames are beyond the scan", count=beyond)
    lost = ends.span - ends.count
    if lost > 0 and not file.skipping:
        yield Notice("missing_frames", f"{lost} frame numbers are not in the file", count=lost)
    if file.asked is None and hinted(file.announced, ends) is None:
        if lost > 0 and file.skipping:
            yield _guessed(file.scan)
        elif ends.count > 1:
            yield _guessed_by_count(file.scan, ends.count)
    yield from _of_header(file)
    yield from _of_lines(file)


def _of_header(file: Opened) -> Iterator[Notice]:
    promised, count = file.announced.frames, file.ends.count
    text = f"the header promises {promised} frames, the file holds {count}"
    if promised and count < promised:
        yield Notice(
            "fewer_than_promised",
            f"{text}: it was stopped early, or it is one of several files",
            remedy="name all files of the series in order with --join",
        )
    elif promised and count > promised and not file.sorted_out:
        yield Notice("more_than_promised", text)


def _of_lines(file: Opened) -> Iterator[Notice]:
    """A scan that was given against the triggers, transposed mostly."""
    each, line = file.announced.frames_per_trigger or 1, file.scan.line_frames
    if not 1 < each < file.ends.count or each == file.scan.shape[1]:
        return
    if line % each and each % line:
        yield Notice(
            "line_length",
            f"the header tells of {each} frames for each trigger, the scan has {line} frames "
            "a line",
            remedy="if each trigger began a line, the scan's shape or flyback is wrong: "
            "is it (lines, positions of a line)?",
        )


def _guessed(scan: Scan) -> Notice:
    """Only the gaps in the numbers say how long a line is; lost frames leave gaps, too."""
    after = (
        f"each line of {scan.shape[1]}" if scan.shape[0] > 2 else f"{scan.shape[1]} frames, once"
    )
    return Notice(
        "size_guessed",
        f"nothing but the frame numbers tells the scan's size: {scan.flyback_frames} are skipped "
        f"after {after}",
        level="info",
        remedy="if these frames were lost, tell the scan's size",
    )


def _guessed_by_count(scan: Scan, count: int) -> Notice:
    """Frames one after the other are taken for a square where they can be, else for one line."""
    ny, nx = scan.shape
    return Notice(
        "size_guessed",
        f"the file tells of {count:,} frames and not of the scan's size: they are taken for "
        + (f"{ny:,} lines of {nx:,}" if ny > 1 else "a single line"),
        level="info" if ny > 1 else "warning",
        remedy="tell the scan's size with --scan YxX",
    )

"""Files in whose middle bytes are missing or too many: where their frames go on."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from stemd.adapters.frames.format import FrameFormat, FrameStart
from stemd.adapters.frames.joined import JoinedPieces
from stemd.adapters.frames.storage import MappedFile, Storage
from stemd.blocks import Notice

_AT_ONCE = 4096
"""Frames whose headers are looked at before the next ones are."""
LOOKED_AT = 256
"""Headers that are looked at on opening: two seconds of a disk that turns, nothing of others."""


def mended(
    file: Storage, camera: FrameFormat, start: FrameStart
) -> tuple[JoinedPieces, Notice] | None:
    """The whole frames of a local file, and what to tell of it; None where it needs no mending.

    Frames stand one behind the other. Where the last header is not at its place, or lies within
    another frame, or another of `LOOKED_AT` all over the file is not at its place (what is missing
    here may be too much there), each one that is not is looked for, and the frames go on there.
    """
    size = start.layout.frame_bytes
    if not isinstance(file, MappedFile) or _in_place(file, camera, start):
        return None
    begins: list[int] = []
    counts: list[int] = []
    places: list[int] = []
    at, torn = 0, 0
    while 0 <= at <= file.size - size:
        here, ended = _whole(file.piece(at, file.size), camera, start)
        after, behind = at + here * size, -1
        if here or not ended:
            behind = _next_header(file, camera, start, after - size + 1 if here else at + 1)
        if behind >= 0 or not ended:
            if here and 0 <= behind < after:
                here, torn = here - 1, torn + 1
            places.append(sum(counts) + here)
        if here:
            begins.append(at)
            counts.append(here)
        at = behind
    kept = sum(counts) * size
    if not torn and not any(begin % size for begin in begins):
        return None  # all that goes on is in its place: frames without a header are told as such
    pieces = [
        file.piece(begin, begin + count * size) for begin, count in zip(begins, counts, strict=True)
    ]
    few = ", ".join(map(str, places[:4])) + (", ..." if len(places) > 4 else "")
    text = (
        f"{file.size - kept} bytes are of no whole frame: bytes are missing or too many at "
        f"{len(places)} places, before frame {few}; the frames continue after them"
    )
    remedy = "copy the file again if it was copied; the frame before each place may be damaged"
    return JoinedPieces(pieces, counts, size), Notice(
        "skipped_bytes", text, count=file.size - kept, remedy=remedy
    )


def _in_place(file: MappedFile, camera: FrameFormat, start: FrameStart) -> bool:
    """Whether headers are where they are if no byte is missing or too many."""
    count = _headers(file, camera, start)
    if count < 1:
        return True
    if not _headed(file, camera, start, count - 1, count):
        return False
    places = np.unique(np.linspace(0, count - 1, min(count, LOOKED_AT)).astype(np.int64))
    if (_numbers(file, camera, start, places) < 0).any():
        return False
    # where nearly a whole frame is missing from the last but one, the last one lies within it
    within = (count - 1) * start.layout.frame_bytes + 1
    return _next_header(file, camera, start, within) < 0


def _headers(file: MappedFile, camera: FrameFormat, start: FrameStart) -> int:
    """How many headers a file of this size has, that of a last frame which is cut off included."""
    frames, rest = divmod(file.size, start.layout.frame_bytes)
    return frames + (rest >= camera.number_bytes(start))


def _whole(file: MappedFile, camera: FrameFormat, start: FrameStart) -> tuple[int, bool]:
    """How many whole frames have a header at their place, and whether all that follow have."""
    headers = _headers(file, camera, start)
    most = file.size // start.layout.frame_bytes
    for first in range(0, headers, _AT_ONCE):
        stop = min(headers, first + _AT_ONCE)
        good = _headed(file, camera, start, first, stop)
        if good < stop - first:
            return min(first + good, most), False
    return most, True


def _headed(file: MappedFile, camera: FrameFormat, start: FrameStart, first: int, stop: int) -> int:
    """How many of the frames from `first` on have a header, up to the first that has none."""
    numbers = _numbers(file, camera, start, np.arange(first, stop, dtype=np.int64))
    without = np.flatnonzero(numbers < 0)
    return int(without[0]) if without.size else numbers.size


def _numbers(
    file: MappedFile, camera: FrameFormat, start: FrameStart, indices: NDArray[np.int64]
) -> NDArray[np.int64]:
    """The numbers in the headers of these frames, -1 where there is none."""
    data, stride, where = file.headers(
        indices, start.layout.frame_bytes, camera.number_bytes(start)
    )
    numbers = np.empty(indices.size, np.int64)
    camera.read_numbers(data, stride, where, start.reference, numbers)
    return numbers


def _next_header(file: MappedFile, camera: FrameFormat, start: FrameStart, at: int) -> int:
    """Where the next whole frame begins, from byte `at` on; -1: nowhere."""
    while (at := file.find(camera.file_opening, at)) >= 0:
        if file.size - at < start.layout.frame_bytes:
            return -1
        if _headed(file.piece(at, file.size), camera, start, 0, 1):
            return at
        at += 1
    return -1

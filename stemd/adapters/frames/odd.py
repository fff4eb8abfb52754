"""A frame that is not like those of its scan: one odd one, or the first of another kind?"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from stemd.adapters.frames.format import Begin, FrameFormat, FrameLayout, FrameStart, Garbage, Need

AGREE = 3
"""So many frames of another kind one behind the other are no accident: the stream has changed."""


@dataclass(frozen=True, slots=True)
class LeftOut:
    """The first `size` bytes are of a frame that does not fit and to be passed over."""

    size: int


@dataclass(frozen=True, slots=True)
class GoesOn:
    """The stream goes on in the new kind."""


def judged(
    data: bytes | bytearray, camera: FrameFormat, known: FrameLayout, start: FrameStart
) -> Need | LeftOut | GoesOn:
    """What to make of the frame `start` at the beginning of `data`, whose layout is not `known`.

    What follows decides. Behind a damaged header the frame is as long as the others, behind a true
    one as long as it says; wherever one of the usual frames, or another acquisition, comes next, it
    was one odd frame.
    """
    usual = camera.prefix_bytes + known.frame_bytes
    said = camera.prefix_bytes + start.layout.frame_bytes
    for at in sorted({usual, said}):
        step = _at(data, camera, at)
        if isinstance(step, Need):
            return step
        if isinstance(step, Begin) or (isinstance(step, FrameStart) and step.layout == known):
            return LeftOut(at)
    return _followed(data, camera, start, usual)


def _followed(
    data: bytes | bytearray, camera: FrameFormat, start: FrameStart, usual: int
) -> Need | LeftOut | GoesOn:
    """Look from frame to frame until enough of the new kind have come, or something else does.

    Where no message follows, bytes were lost: the next one is looked for from as early as possible,
    and not in here, since all that is looked at here is looked at again with every receive.
    """
    size = camera.prefix_bytes + start.layout.frame_bytes
    for agree in range(1, AGREE):
        step = _at(data, camera, agree * size)
        if isinstance(step, Need):
            return step
        if isinstance(step, Garbage) and agree == 1:
            return LeftOut(min(size, usual))
        if not isinstance(step, FrameStart) or step.layout != start.layout:
            return LeftOut(size)
    return GoesOn()


def _at(
    data: bytes | bytearray, camera: FrameFormat, at: int
) -> Need | Garbage | Begin | FrameStart:
    """What stands at byte `at`; `Need` counts from the first byte of `data`."""
    total = camera.prefix_bytes + camera.head_bytes
    while True:
        part = data[at : at + total]
        step = camera.next_message(part) if part else Need(1)
        if not isinstance(step, Need):
            return step
        if len(data) < at + step.total:
            return Need(at + step.total)
        total = max(step.total, total + 1)


def number_of(data: bytes | bytearray, camera: FrameFormat, start: FrameStart) -> int:
    """The number of the frame at the beginning of `data` as sent, -1 where it cannot be read."""
    length = camera.number_bytes(start)
    head = np.frombuffer(data[camera.prefix_bytes : camera.prefix_bytes + length], np.uint8)
    out = np.full(1, -1, np.int64)
    if head.size == length:
        camera.read_numbers(head, length, np.zeros(1, np.int64), start.reference, out)
    return int(out[0])

"""Numbers of a file that go up by more than one from frame to frame, all over it."""

from __future__ import annotations

import numpy as np

from stemd.acquisition import Scan
from stemd.adapters.frames.numbers import Ends, FrameTable
from stemd.blocks import Notice

_FIRST = 64
"""Frames that are looked at before all of them are."""
_FEWEST = 8


def step_of(table: FrameTable, ends: Ends, scan: Scan | None) -> int:
    """By how much the numbers go up from frame to frame; 1 where not by the same all over the file.

    A camera may count triggers of which every second makes a frame. Where the numbers as they are
    fit into one `scan`, frames lack between those that are there.
    """
    if ends.span <= ends.count or ends.count < _FEWEST:
        return 1
    if scan is not None and ends.last <= scan.frames:
        return 1
    first = np.diff(table.read(np.arange(min(_FIRST, ends.count)), ends.first))
    if (first <= 1).any():
        return 1
    numbers = table.read_all(ends.first)
    steps = np.diff(numbers[numbers > 0])
    if not steps.size or (steps <= 1).any():
        return 1
    step = int(np.gcd.reduce(steps))
    return step if np.count_nonzero(steps == step) > 0.5 * steps.size else 1


def told(step: int) -> Notice:
    """What is told of such numbers."""
    return Notice(
        "numbers_step",
        f"the frame numbers go up by {step} from frame to frame, all over the file: each frame is "
        "taken for the next position, and none for missing between them",
        remedy="if the frames between are in another file, as of another link, join the files",
    )

"""Is the number of a frame a lie? The order of the frames is the second witness.

A number that leaves others out, or that another frame has had, is doubtful until the next frame
is here: that one counts on either from it, or from the frame before it.
"""

from __future__ import annotations

from stemd.compilation import njit

OPEN, BELIEVED, LEFT_OUT, LOST_COUNT, RETURNED = 0, -1, -2, -3, -4
"""How a number is taken: not decided; as it is; the frame is one too many; from here on the camera
has lost its count; it is right, and those before were too high. Above 0: the number (from 1) that
the frame should have."""


@njit(inline="always")
def judged(
    value: int,
    free: bool,
    last: int,
    step: int,
    before: int,
    follower: int,
    repeats: bool,
    late: int,
) -> int:
    """How the doubtful number `value` is taken, if the frame behind has the number `follower`.

    Numbers count from 1. `last` is the highest so far, `step` above the one before it; `before` is
    what it would be without the newest jump up. `free`: no frame of the scan has had `value` yet.
    `repeats`: the frame behind has the bytes of this one, or of the one that had its number. Frames
    that are up to `late` numbers too early or too late may have changed places.
    """
    if repeats and follower <= max(value, last):
        return BELIEVED
    due = last + (step if follower - last == 2 * step else 1)
    if value > last:
        if follower > value:
            return BELIEVED
        if follower > last + 1:
            return int(due)
        if value - last - 1 <= late:
            return BELIEVED
        return LEFT_OUT if follower == last + 1 else int(due)
    if follower > last + 1:  # a number of a few frames before: only where one fits in between
        return int(due) if value < last - late or follower == 2 * due - last else BELIEVED
    if follower == last + 1:
        return BELIEVED if free else LEFT_OUT
    if free and value > before:
        return RETURNED
    if value < last - late or value < follower <= value + late:
        return LOST_COUNT
    return BELIEVED

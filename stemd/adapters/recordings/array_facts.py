"""What a file says of an array of patterns beside the patterns."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from stemd.adapters.recordings.calibration import Calibration
from stemd.blocks import Message


@dataclass(frozen=True, slots=True)
class ArrayFacts:
    """What a file says of its patterns; by default nothing.

    `mask` (height, width) is True where a pixel is to be left out, `unwritten` (n,) where a
    pattern was never written, which the file's reader gives as zeros. `lines` is the scan's shape
    where only the file's numbers say it, `expected` how many patterns there should be, `detector`
    the camera's name, `notices` what was found on opening. `look`: read some patterns on opening,
    to find pixels without data, and the steps of real numbers. `marks`: whoever wrote it gives
    pixels without data the largest value of their type.
    """

    calibration: Calibration = field(default_factory=Calibration)
    mask: NDArray[np.bool_] | None = None
    unwritten: NDArray[np.bool_] | None = None
    lines: tuple[int, int] | None = None
    expected: int | None = None
    detector: str = "array"
    notices: Sequence[Message] = field(default=())
    look: bool = True
    marks: bool = False

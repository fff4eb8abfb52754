"""Which way the beam ran: along the lines of an image, or, in an image that lies on its side, y."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from stemd.engines.restoration.estimate.noise import taper

F32 = NDArray[np.float32]

SLOW, FAST = (0.02, 0.17), 0.33
"""Frequencies, in cycles a pixel, along which an axis is compared, and beyond which the other is:
an image has little of its own there."""
SURE = 0.35
"""Natural logarithm of the ratio of powers from which on the beam ran along y."""
FRAMES = 8
"""Frames that are looked at, at most."""
SMALLEST_PX = 64


def along_y(images: Sequence[F32]) -> bool:
    """Whether the lines of a scan run along y in `images`, finite and of one size (ny, nx).

    Displaced lines differ from each other as noise does, and a slow detector smears noise along
    its line: either way there is more power at fine frequencies across the lines, slow along them,
    than the other way round. The medians of powers are compared, which the peaks of a crystal and
    the slopes of edges hardly change. Where neither is seen it makes no difference.
    """
    if min(min(image.shape) for image in images) < SMALLEST_PX:
        return False
    step = -(-len(images) // FRAMES)
    across, along, both = np.mean([_powers(each) for each in images[::step]], axis=0)
    return bool(along - across > SURE and along - both > SURE)


def _powers(image: F32) -> tuple[float, float, float]:
    """Logarithm of power across lines along x, across lines along y, and at fine frequencies."""
    ny, nx = image.shape
    centred = (image - np.float32(image.mean(dtype=np.float64))) * taper((ny, nx))
    f = np.fft.rfft2(centred)
    power = f.real**2 + f.imag**2
    y = np.abs(np.fft.fftfreq(ny))[:, None]
    x = np.fft.rfftfreq(nx)[None]
    slow_y, slow_x = ((SLOW[0] < axis) & (axis < SLOW[1]) for axis in (y, x))
    parts = ((y > FAST) & slow_x, (x > FAST) & slow_y, (y > FAST) & (x > FAST))
    across, along, both = (float(np.log(np.median(power[part]) + 1e-30)) for part in parts)
    return across, along, both

"""Where the recorded image has what a restored one shows: small displacements, smooth over it.

Waves and networks put columns back towards the lattice; a strain of some per cent is lost in
noise for a single column, but not for all columns of some cells together.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from stemd.engines.restoration.evidence.everywhere import gaussian_line, separable

F32 = NDArray[np.float32]

NEAR = 8.0
"""Widths of a column over which displacements are alike (deviation of the gaussian).

Fewer say less of a strain than noise takes away."""
CHANCE, TURNS = 8.0, 3
"""Square of deviations (two degrees of freedom) up to which a displacement may be chance, and steps
of least squares: what is far is not found at once."""
STEP = 4
"""Pixels of a block in which averages begin: displacements are smooth over many more."""
FURTHEST = 0.5
"""Widths of a column by which anything is moved, at most."""


def put_back(data: F32, image: F32, variance: F32, shaped: F32, width_px: float) -> F32:
    """The `image` (ny, nx) moved to where `data` shows the same, with noise of `variance`.

    Around each pixel the displacement u of least squares, of data - image against -u grad image
    over `NEAR` widths (B. Lucas, T. Kanade, IJCAI 1981), is drawn towards 0 by what chance makes
    of it: s^2 A / (1 + s^2 A) with its information A and the variance s^2 of displacements all over
    the image, or, where one is clearer by itself, 1 - CHANCE / z^2 for z^2 = u A u. `shaped` (ny,
    nx), 0 to 1: how much anything may move. Cost: some hundred multiplications a pixel.
    """
    line = gaussian_line(max(NEAR * width_px / STEP, 1.0))
    weight = np.float32(1.0) / variance
    # so many pixels' worth of information is in an average
    pixels = np.float32((STEP / float(np.square(line).sum())) ** 2)
    limit = np.float32(FURTHEST * width_px)
    done_y, done_x = np.zeros((2, *image.shape), np.float32)
    for _ in range(TURNS):
        slope_y, slope_x = (np.asarray(part, np.float32) for part in np.gradient(image))
        left = weight * (image - data)
        yy, yx, xx, fy, fx = (
            _around(part, line)
            for part in (
                weight * slope_y**2, weight * slope_y * slope_x, weight * slope_x**2,
                left * slope_y, left * slope_x,
            )
        )  # fmt: skip
        ridge = np.float32(1e-3) * (yy + xx) + np.float32(1e-12)
        yy, xx = yy + ridge, xx + ridge
        determinant = yy * xx - yx**2
        uy = np.clip(done_y + (xx * fy - yx * fx) / determinant, -limit, limit)
        ux = np.clip(done_x + (yy * fx - yx * fy) / determinant, -limit, limit)
        certain = pixels * (yy * uy**2 + np.float32(2.0) * yx * uy * ux + xx * ux**2)
        known = np.float32(0.5) * pixels * (yy + xx)
        # what displacements there are all over the image, beyond what chance makes of none
        beyond = float(np.mean(shaped * (0.5 * certain - 1.0), dtype=np.float64))
        square = np.float32(max(0.0, beyond) / max(float(np.mean(shaped * known)), 1e-30))
        part = square * known / (np.float32(1.0) + square * known)
        here = np.float32(1.0) - np.float32(CHANCE) / np.maximum(certain, np.float32(CHANCE))
        part = np.maximum(part, here)
        uy, ux = (u * part * shaped for u in (uy, ux))
        image = image - (uy - done_y) * slope_y - (ux - done_x) * slope_x
        done_y, done_x = uy, ux
    return image


def _around(image: F32, line: NDArray[np.float64]) -> F32:
    """Averages (ny, nx) with the weights of a line of blocks along both axes."""
    ny, nx = image.shape
    wide = np.pad(image, [(0, -n % STEP) for n in (ny, nx)], "edge")
    down, across = (n // STEP for n in wide.shape)
    blocks = wide.reshape(down, STEP, across, STEP).mean(axis=(1, 3), dtype=np.float32)
    average: F32 = separable(blocks, line).repeat(STEP, axis=0).repeat(STEP, axis=1)[:ny, :nx]
    return average

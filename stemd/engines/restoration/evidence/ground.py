"""The ground on which columns stand: a mean over so much that a single column is little of it.

A ground from beside a column only brings the noise of its neighbours into its height.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from stemd.compilation import njit
from stemd.engines.restoration.evidence.everywhere import gaussian_line, separable

F32 = NDArray[np.float32]

STEPS = 4.0
"""Blocks, in a width, of which means are taken: the ground is smooth over many more pixels."""


def over_ground(image: F32, width_px: float) -> F32:
    """The image (ny, nx) less its mean around each pixel, by a gaussian of `width_px`.

    <one, over_ground(other)> is <over_ground(one), other>, as conjugate gradients need it: so a
    block that the image has a part of only counts as this part, once as it is averaged and once as
    it is taken away.
    """
    ny, nx = image.shape
    step = max(1, int(width_px / STEPS))
    line = gaussian_line(max(width_px / step, 1.0))
    parts = [np.minimum(step, n - np.arange(0, n, step)) / step for n in (ny, nx)]
    there = separable(np.outer(*parts).astype(np.float32), line)
    share = np.float32(1.0) / np.sqrt(there)
    blocks = np.zeros_like(share)
    _block_sums(image, step, blocks)
    blocks = share * separable(share * blocks / np.float32(step**2), line)
    out = np.empty_like(image)
    _less(image, blocks, step, out)
    return out


@njit(nogil=True, cache=True)
def _block_sums(image: F32, step: int, out: F32) -> None:
    """Sums (zeros before) over squares of `step` pixels."""
    ny, nx = image.shape
    for j in range(ny):
        for column in range(out.shape[1]):
            total = 0.0
            for i in range(column * step, min(nx, (column + 1) * step)):
                total += image[j, i]
            out[j // step, column] += total


@njit(nogil=True, cache=True)
def _less(image: F32, blocks: F32, step: int, out: F32) -> None:
    """The image less the value of each pixel's block."""
    ny, nx = image.shape
    for j in range(ny):
        for column in range(blocks.shape[1]):
            value = blocks[j // step, column]
            for i in range(column * step, min(nx, (column + 1) * step)):
                out[j, i] = image[j, i] - value

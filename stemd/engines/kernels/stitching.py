"""Compiled placing of exit-wave patches into a growing object."""

from __future__ import annotations

import numpy as np

from stemd.compilation import njit

UNIT = float(1 << 32)
"""One, in the object's whole numbers: sums are exact, so their order does not matter."""


@njit(nogil=True, cache=True)
def add_patches(real, imaginary, weight, patches, row, column, ramp_y, ramp_x, ramps, weights):
    """Shift each patch by its ramps and add it to the object.

    real, imaginary, weight: int64 (height, width), in units of 1 / `UNIT`, added to; patches:
    complex64 (n, m, m); row, column: int64 (n,), where the shifted patch's first pixel falls;
    ramp_y, ramp_x: int64 (n,), which ramp; ramps: float32 (r, p, m); weights: float32
    (r, r, p, p), 0 where nothing is known. What falls outside the object is dropped.
    p m (m + p) multiply-adds of complex numbers a patch.
    """
    height, width = real.shape
    m, p = patches.shape[1], ramps.shape[1]
    between = np.empty((p, m), np.complex64)
    for n in range(patches.shape[0]):
        patch = patches[n]
        down, across = ramps[ramp_y[n]], ramps[ramp_x[n]]
        share = weights[ramp_y[n], ramp_x[n]]
        between[:] = 0
        for i in range(p):
            for k in range(m):
                factor = down[i, k]
                for j in range(m):
                    between[i, j] += factor * patch[k, j]
        for i in range(p):
            y = row[n] + i
            if y < 0 or y >= height:
                continue
            for j in range(p):
                x = column[n] + j
                if x < 0 or x >= width or share[i, j] == 0.0:
                    continue
                re, im = np.float32(0.0), np.float32(0.0)
                for k in range(m):
                    re += across[j, k] * between[i, k].real
                    im += across[j, k] * between[i, k].imag
                real[y, x] += np.int64(np.rint(re * UNIT))
                imaginary[y, x] += np.int64(np.rint(im * UNIT))
                weight[y, x] += np.int64(np.rint(share[i, j] * UNIT))

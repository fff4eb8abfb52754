"""Compiled: what each point of the disc sees of a specimen that need not be weak."""

from __future__ import annotations

import numpy as np

from stemd.compilation import njit
from stemd.engines.kernels.overlaps import aberration


@njit(nogil=True, cache=True)
def _opening(y, x, edge):
    """How far the aperture is open: its edge is `edge` wide, as a cell that lies on it sees it."""
    return min(1.0, max(0.0, (1.0 - np.sqrt(y * y + x * x)) / edge + 0.5))


@njit(nogil=True, cache=True)
def fold_waves(transmitted, points, qy, qx, c, edge, seen):
    """The transform over the scan of the wave that comes to each point k of the detector.

    psi(k, q) = T(q) A(k - q), A the aperture times exp(-i chi). Of the finer frequencies of the
    specimen those that the scan's steps fold together are added up.

    transmitted: complex64 (Y, X), of the specimen; points: float64 (n, 2), y and x of each k in
    apertures; qy, qx: float64 (Y,) and (X,), likewise; c: `Aberrations.coefficients`; edge: width
    of the aperture's edge in apertures; seen: complex64 (n, ny, nx), Y and X multiples of ny and
    nx; overwritten. 15 ns a frequency within the aperture.
    """
    reach = 1.0 + edge / 2
    ny, nx = seen.shape[1], seen.shape[2]
    seen[:] = 0.0
    for n in range(points.shape[0]):
        for i in range(qy.size):
            y = points[n, 0] - qy[i]
            if abs(y) >= reach:
                continue
            row = i % ny
            for j in range(qx.size):
                x = points[n, 1] - qx[j]
                if y * y + x * x >= reach * reach:
                    continue
                size, angle = _opening(y, x, edge), aberration(c, y, x)
                wave = np.complex64(complex(size * np.cos(angle), -size * np.sin(angle)))
                seen[n, row, j % nx] += transmitted[i, j] * wave


@njit(nogil=True, cache=True)
def unfold_waves(seen, points, qy, qx, c, edge, transmitted):
    """The adjoint of `fold_waves`: sum over k of conj(A(k - q)) psi(k, q), added to `transmitted`.

    The arguments are as there.
    """
    reach = 1.0 + edge / 2
    ny, nx = seen.shape[1], seen.shape[2]
    for n in range(points.shape[0]):
        for i in range(qy.size):
            y = points[n, 0] - qy[i]
            if abs(y) >= reach:
                continue
            row = i % ny
            for j in range(qx.size):
                x = points[n, 1] - qx[j]
                if y * y + x * x >= reach * reach:
                    continue
                size, angle = _opening(y, x, edge), aberration(c, y, x)
                wave = np.complex64(complex(size * np.cos(angle), size * np.sin(angle)))
                transmitted[i, j] += seen[n, row, j % nx] * wave


@njit(nogil=True, cache=True)
def add_transfers(points, weights, qy, qx, c, edge, phase, absorption):
    """Add sum_k n_k |Gamma|^2 and sum_k n_k |M|^2 of `overlaps.add_both` at all frequencies.

    weights: float64 (n,), n_k; phase, absorption: float64 (Y, X), added to. The rest as for
    `fold_waves`.
    """
    for n in range(points.shape[0]):
        ky, kx = points[n, 0], points[n, 1]
        own = aberration(c, ky, kx)
        for i in range(qy.size):
            for j in range(qx.size):
                low_y, low_x, high_y, high_x = ky - qy[i], kx - qx[j], ky + qy[i], kx + qx[j]
                low, high = _opening(low_y, low_x, edge), _opening(high_y, high_x, edge)
                if low == 0.0 and high == 0.0:
                    continue
                # of A*(k) A(k - q) and A(k) A*(k + q) only their angle to each other matters
                both = own - aberration(c, low_y, low_x) - aberration(c, high_y, high_x) + own
                mixed = 2.0 * low * high * np.cos(both)
                phase[i, j] += weights[n] * (low * low + high * high - mixed)
                absorption[i, j] += weights[n] * (low * low + high * high + mixed)

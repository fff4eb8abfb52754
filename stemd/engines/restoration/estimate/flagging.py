"""The beam that comes back too late: the first columns of all lines are displaced alike.

After the way back the beam relaxes to where it should be as exp(-column / length). A lattice, whose
waves the rest of the image tells, shows it: its columns are where they are not expected, in
all lines by the same, and the less the further from the left edge.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from stemd.engines.kernels.scan_distortions import sample
from stemd.engines.restoration.estimate.channels import shown_of
from stemd.engines.restoration.estimate.least_squares import Waves
from stemd.engines.restoration.estimate.waves import find_waves

F32 = NDArray[np.float32]
F64 = NDArray[np.float64]

ZONE = 0.25
"""Part of the image at its left edge that is compared with the lattice of the rest."""
LENGTHS = (0.012, 0.018, 0.027, 0.04, 0.06)
"""Lengths of the relaxation that are tried, as parts of the image's width; the last is too long."""
FINER = (1.2, 1.1)
"""Factors by which the likeliest of them is then varied."""
WAVES, STRONG = 24, 30.0
"""Waves of the lattice, and the power over the noise's that they must have."""
BANDS = 4
"""Parts of the image from top to bottom that must agree."""
CERTAIN, ALIKE = 40.0, 0.55
"""Deviations squared that a displacement must have, and the part of what bands and columns show
each by itself that is the same exponential in all lines."""
PROMISING = 15.0
"""The same of a first step, from which on more are made."""
LEAST_PX, LARGEST_PX, TURNS = 0.1, 4.0, 5
"""Displacements at the edge that are worth it, and that are believed; steps of least squares."""
REGISTER = 0.2
"""Part of the displacement by which the zone as a whole may be off the lattice of the rest."""
PIECE_PX = 6
"""Columns that are looked at together."""
FITS = 1.5
"""Times what is left elsewhere of the image beside the lattice that may be left at the edge."""
SMALLEST_PX = 64


@dataclass(frozen=True, slots=True)
class Flagging:
    """d(x) = amplitude exp(-x / length_px), x columns from the left edge.

    `amplitude` (2,) along y and x in pixels: what is recorded at p shows the place p + d.
    """

    amplitude: F64
    length_px: float

    def shifts(self, shape: tuple[int, int], part: float = 1.0) -> tuple[F64, F64]:
        """Shifts (ny, nx) along y and x, `part` of them."""
        fall = np.exp(-np.arange(shape[1]) / self.length_px)
        dy, dx = (np.tile(part * each * fall, (shape[0], 1)) for each in self.amplitude)
        return dy, dx


def find_flagging(image: F32) -> Flagging | None:
    """What is displaced at the left edge of an image (ny, nx), None where no lattice says so.

    Cost: what `find_waves` costs of three quarters of the image.
    """
    ny, nx = image.shape
    zone = int(ZONE * nx)
    if min(ny, nx) < SMALLEST_PX:
        return None
    rest = np.ascontiguousarray(image[:, zone:])
    lattice, mean, left_over = _lattice(rest)
    if len(lattice.frequency) < 2:
        return None
    # positions count from the middle of the rest: the zone's are those to its left
    x = np.arange(nx) - zone - 0.5 * (rest.shape[1] - 1)
    y = np.arange(ny) - 0.5 * (ny - 1)
    at_edge, beside = (
        _Zone(image[:, part] - np.float32(mean), lattice, y, x[part], left_over)
        for part in (slice(zone), slice(zone, 2 * zone))
    )
    if at_edge.promise(lengths := [length * nx for length in LENGTHS]) < PROMISING:
        return None
    _, _, still = at_edge.fitted(np.zeros(zone))
    _, length_px = min((at_edge.fitted(_fall(zone, each))[2], each) for each in lengths)
    for factor in FINER:
        finer = [length_px / factor, length_px, length_px * factor]
        _, length_px = min((at_edge.fitted(_fall(zone, each))[2], each) for each in finer)
    fall = _fall(zone, length_px)
    amplitude, offset, left = at_edge.fitted(fall)
    size = float(np.hypot(*amplitude))
    gain = still - left
    # what falls more slowly than any relaxation that is looked for is bent or strained
    likely = length_px < LENGTHS[-1] * nx
    likely &= LEAST_PX < size < LARGEST_PX and np.hypot(*offset) < LEAST_PX + REGISTER * size
    if not likely or gain < CERTAIN or left > FITS * ny * zone:
        return None
    # strain is not at the edge alone, and not the same in all lines
    others = beside.unlike(fall, np.zeros(2), np.zeros(2))
    if ALIKE * others > (1.0 - ALIKE) * gain:
        return None
    if gain < ALIKE * (gain + at_edge.unlike(fall, amplitude, offset)):
        return None
    return Flagging(amplitude, length_px)


def unflagged(image: F32) -> tuple[F32, float]:
    """An image (ny, nx) with its left edge where it belongs, and by how many pixels it was not.

    What it shows is moved, not the image: noise stays white.
    """
    flagging = find_flagging(image)
    if flagging is None:
        return image, 0.0
    undone = sample(image, *flagging.shifts(image.shape, -1.0), True)
    shown = shown_of(undone)
    moved = sample(shown, *flagging.shifts(image.shape), True)
    return image - (moved - shown), float(np.hypot(*flagging.amplitude))


def _lattice(rest: F32) -> tuple[Waves, float, float]:
    """Strong waves of the rest, its mean, and the variance of what is left beside them."""
    waves, mean, noise = find_waves(rest, WAVES)
    power = np.abs(waves.amplitude) ** 2 * rest.size / noise.at(waves.frequency[:, 1])
    strong = power > STRONG
    lattice = Waves(waves.shape, waves.frequency[strong], waves.amplitude[strong])
    left = rest - np.float32(mean) - lattice.image()
    return lattice, mean, float(np.square(left).mean(dtype=np.float64))


@dataclass(frozen=True, slots=True)
class _Zone:
    """What is `seen` (ny, columns) at the left edge, beside the waves that the rest has.

    `y` (ny,) and `x` (columns,) count from the middle of the rest. `variance` of what is left
    beside the waves.
    """

    seen: F32
    lattice: Waves
    y: F64
    x: F64
    variance: float

    def fitted(self, fall: F64) -> tuple[F64, F64, float]:
        """Amplitude and offset (2,) along y and x of amplitude fall + offset, by steps of Gauss and
        Newton; and what is left, over the variance.
        """
        amplitude, offset = np.zeros(2), np.zeros(2)
        for _ in range(TURNS):
            information, pull = self._normal(amplitude[:, None] * fall + offset[:, None])
            more = _step(information.sum(0), pull.sum(0), fall)
            amplitude, offset = amplitude + more[0], offset + more[1]
        shown, _ = self._shown(amplitude[:, None] * fall + offset[:, None])
        left = float(np.square(self.seen - shown).sum(dtype=np.float64)) / self.variance
        return amplitude, offset, left

    def promise(self, lengths_px: Sequence[float]) -> float:
        """The most that one step towards a displacement of any of these lengths would gain."""
        information, pull = self._normal(np.zeros((2, len(self.x))))
        own, force = information.sum(axis=0), pull.sum(axis=0)
        most = 0.0
        for length in lengths_px:
            fall = _fall(len(self.x), length)
            a, c = _step(own, force, fall)
            whole = _gain(own.sum(axis=0), force.sum(axis=0))
            moved = a[:, None] * fall + c[:, None]
            most = max(most, float(np.einsum("ai,ia->", moved, force)) - whole)
        return most

    def unlike(self, fall: F64, amplitude: F64, offset: F64) -> float:
        """What parts of the zone would gain by displacements of their own, beyond chance."""
        information, pull = self._normal(amplitude[:, None] * fall + offset[:, None])
        gain = 0.0
        for own, force in zip(information, pull, strict=True):
            a, c = _step(own, force, fall)
            moved = a[:, None] * fall + c[:, None]
            # lines may be displaced as a whole: that is jitter, or drift
            whole = _gain(own.sum(axis=0), force.sum(axis=0))
            gain += float(np.einsum("ai,ia->", moved, force)) - whole - 2.0
        for first in range(0, len(fall), PIECE_PX):
            part = np.s_[:, first : first + PIECE_PX]
            gain += _gain(information[part].sum((0, 1)), pull[part].sum((0, 1))) - 2.0
        gain -= max(0.0, _gain(information.sum((0, 1)), pull.sum((0, 1))) - 2.0)
        return max(gain, 0.0)

    def _shown(self, moved: F64) -> tuple[F64, tuple[F64, F64]]:
        """The lattice (ny, columns) displaced by (2, columns), and its slopes along y and x."""
        fy, fx = self.lattice.frequency.T
        along = np.exp(2j * np.pi * (fx[:, None] * (self.x + moved[1]) + fy[:, None] * moved[0]))
        down = np.exp(2j * np.pi * self.y[:, None] * fy)
        high = self.lattice.amplitude[:, None] * along
        turned = 2j * np.pi * high
        slopes = [2.0 * (down @ (f[:, None] * turned)).real for f in (fy, fx)]
        return 2.0 * (down @ high).real, (slopes[0], slopes[1])

    def _normal(self, moved: F64) -> tuple[F64, F64]:
        """Information (bands, columns, 2, 2) and pull (bands, columns, 2) of a displacement."""
        shown, slopes = self._shown(moved)
        left = self.seen - shown
        ny, nx = left.shape
        edges = [band * ny // BANDS for band in range(BANDS)]
        information, pull = np.empty((BANDS, nx, 2, 2)), np.empty((BANDS, nx, 2))
        for a in range(2):
            pull[..., a] = np.add.reduceat(left * slopes[a], edges, axis=0)
            for b in range(2):
                information[..., a, b] = np.add.reduceat(slopes[a] * slopes[b], edges, axis=0)
        return information / self.variance, pull / self.variance


def _fall(columns: int, length_px: float) -> F64:
    fall: F64 = np.exp(-np.arange(columns) / length_px)
    return fall


def _gain(information: F64, pull: F64) -> float:
    """What one displacement (2,) gains: the square of its deviations."""
    ridge = (1e-6 * np.trace(information) + 1e-12) * np.eye(2)
    return float(pull @ np.linalg.solve(information + ridge, pull))


def _step(information: F64, pull: F64, fall: F64) -> tuple[F64, F64]:
    """Least squares of (amplitude fall + offset), both (2,), over columns."""
    shapes = np.stack([fall, np.ones_like(fall)])
    square = np.einsum("si,ti,iab->satb", shapes, shapes, information).reshape(4, 4)
    force = np.einsum("si,ia->sa", shapes, pull).reshape(4)
    ridge = 1e-6 * np.trace(square) * np.eye(4) + 1e-12 * np.eye(4)
    amplitude, offset = np.linalg.solve(square + ridge, force).reshape(2, 2)
    return amplitude, offset

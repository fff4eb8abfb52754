"""The incident probe: from the lens's parameters, and its aperture from a recorded pattern."""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from stemd.beam import Beam
from stemd.errors import StemdError

F64 = NDArray[np.float64]
RAYS = 180
RINGS_PER_PIXEL = 4
SEEN_COUNTS, OTHER_SIZE = 20.0, 0.25
"""Counts a pixel of the disc from which on its edge is looked for where nobody has asked for it,
and part of its radius by which it may be another one than was told."""
REMEDY = "give optics.convergence_semi_angle_mrad, or check that the whole disc is on the detector"


def probe(beam: Beam, samples: int, field_angstrom: float) -> NDArray[np.complex64]:
    """The incident wave in real space, complex64 (samples, samples), of total intensity 1.

    psi_in(k) = A(k) exp(-i chi(k)) (thesis eqs 1.17, 4.2), A with an edge one pattern pixel wide;
    `field_angstrom` is the inverse of a pattern's pixel. The middle of the probe is at pixel
    (samples // 2, samples // 2).
    """
    k = np.fft.fftfreq(samples, field_angstrom / samples)
    wave = beam.radial_wave(np.hypot(k[:, None], k[None, :]), 1.0 / field_angstrom)
    real = np.fft.fftshift(np.fft.ifft2(wave))
    return (real / np.linalg.norm(real)).astype(np.complex64)


@dataclass(frozen=True, slots=True)
class Disc:
    """The undiffracted disc on the detector, in pixels; `spread` is the median distance of the
    edge's points from the circle.

    `oval`: by how much the disc is longer than wide, in parts, along (x^2 - y^2, 2 x y): its size
    is long / wide - 1 and half of its angle, from +x to +y, the direction of the longer axis.
    """

    center: tuple[float, float]
    radius: float
    spread: float
    oval: tuple[float, float] = (0.0, 0.0)


def fit_disc(pacbed: NDArray[np.floating]) -> Disc:
    """Centre and radius of the bright disc of a position-averaged pattern (height, width).

    Along each of `RAYS` directions the edge is where the intensity falls through half of the
    disc's own median; a circle is fitted to the edges by least squares, weighted anew with
    Tukey's biweight until it rests, so that neighbouring discs, a beam stop or dead pixels,
    which spoil some of the directions, do not count. Raises StemdError if there is no disc.
    """
    image = np.nan_to_num(np.asarray(pacbed, np.float64), nan=0.0, posinf=0.0, neginf=0.0)
    # single hot pixels must not set the level
    high = float(np.quantile(image, 0.995))
    if not high > 0.0:
        raise StemdError("the position-averaged pattern is empty", REMEDY)
    bright = image > 0.5 * high
    y, x = np.nonzero(bright)
    center = np.array([np.median(y), np.median(x)])
    radius = math.sqrt(y.size / math.pi)
    for _ in range(3):
        inside = np.hypot(*(np.indices(image.shape) - center[:, None, None])) < 0.8 * radius
        if not inside.any():
            break
        edges = _edges(image, center, 0.5 * float(np.median(image[inside])), 2.0 * radius + 2.0)
        if edges.shape[0] < RAYS // 3:
            break
        center, radius, spread = _circle(edges, center)
        if not (0.5 < radius < max(image.shape) and spread < 0.1 * radius + 1.0):
            break
    else:
        return Disc((float(center[0]), float(center[1])), radius, spread, _oval(edges, center))
    raise StemdError("no round disc was found in the position-averaged pattern", REMEDY)


def disc_seen(image: NDArray[np.floating], radius: float) -> Disc | None:
    """The disc that `fit_disc` finds, where one of about this radius in pixels can be seen.

    None where the counts are too few for an edge, or what looks like a disc has another size.
    """
    if float(image.sum()) < SEEN_COUNTS * math.pi * radius**2:
        return None
    try:
        disc = fit_disc(image)
    except StemdError:
        return None
    return disc if abs(disc.radius / radius - 1.0) < OTHER_SIZE else None


def _edges(image: F64, center: F64, level: float, reach: float) -> F64:
    """The first places, going outwards, where the intensity falls through `level`, (n, 2)."""
    angle = np.arange(RAYS) * (2 * math.pi / RAYS)
    ray = np.stack([np.sin(angle), np.cos(angle)], axis=1)
    r = np.arange(0.0, reach, 1.0 / RINGS_PER_PIXEL)
    place = center + r[None, :, None] * ray[:, None, :]
    value = _bilinear(image, place)
    falls = (value[:, :-1] >= level) & (value[:, 1:] < level)
    # dead pixels: an edge counts only if it is dark for good over the next two pixels
    found = []
    for n in range(RAYS):
        for at in np.nonzero(falls[n])[0]:
            after = value[n, at + 1 : at + 1 + 2 * RINGS_PER_PIXEL]
            if np.nanmax(after, initial=-np.inf) < level:
                part = (value[n, at] - level) / (value[n, at] - value[n, at + 1])
                found.append(center + (r[at] + part / RINGS_PER_PIXEL) * ray[n])
                break
    return np.array(found).reshape(-1, 2)


def _bilinear(image: F64, place: F64) -> F64:
    """The image at places (..., 2); NaN outside."""
    height, width = image.shape
    y, x = place[..., 0], place[..., 1]
    outside = (y < 0) | (x < 0) | (y > height - 1) | (x > width - 1)
    i = np.clip(y.astype(np.int64), 0, max(0, height - 2))
    j = np.clip(x.astype(np.int64), 0, max(0, width - 2))
    v, u = y - i, x - j
    lower, right = np.minimum(i + 1, height - 1), np.minimum(j + 1, width - 1)
    top = image[i, j] * (1 - u) + image[i, right] * u
    bottom = image[lower, j] * (1 - u) + image[lower, right] * u
    return np.where(outside, np.nan, top * (1 - v) + bottom * v)


def _circle(edges: F64, center: F64) -> tuple[F64, float, float]:
    """Centre, radius and median residual of the circle through most of the edges."""
    radius = float(np.median(np.hypot(*(edges - center).T)))
    spread = 0.0
    for _ in range(30):
        apart = edges - center
        distance = np.maximum(np.hypot(apart[:, 0], apart[:, 1]), 1e-9)
        residual = distance - radius
        spread = float(np.median(np.abs(residual)))
        weight = np.clip(1.0 - (residual / (7.0 * max(spread, 0.02))) ** 2, 0.0, None)
        slope = np.column_stack([apart / distance[:, None], np.ones(distance.size)])
        change = np.linalg.lstsq(slope * weight[:, None], residual * weight, rcond=None)[0]
        center, radius = center + change[:2], radius + float(change[2])
        if np.abs(change).max() < 1e-6:
            break
    return center, radius, spread


def _oval(edges: F64, center: F64) -> tuple[float, float]:
    """How the radius of most of the edges goes with twice the angle: `Disc.oval`."""
    y, x = (edges - center).T
    radius, turn = np.hypot(y, x), np.arctan2(y, x)
    terms = np.column_stack([np.ones(radius.size), np.cos(2 * turn), np.sin(2 * turn)])
    weight, found = np.ones(radius.size), np.zeros(3)
    for _ in range(10):
        found = np.linalg.lstsq(terms * weight[:, None], radius * weight, rcond=None)[0]
        residual = radius - terms @ found
        spread = max(float(np.median(np.abs(residual))), 0.02)
        weight = np.clip(1.0 - (residual / (7.0 * spread)) ** 2, 0.0, None)
    return float(2 * found[1] / found[0]), float(2 * found[2] / found[0])

"""Where an image is a crystal or a shape, and where it is only a texture.

A network, and waves over an image, show order. In an amorphous field there is none, and what they
show of it is plastic with specks: single coefficients that were by chance above a threshold.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from stemd.engines.restoration.estimate.least_squares import Waves
from stemd.engines.restoration.estimate.peaks import lone
from stemd.engines.restoration.estimate.waves import find_waves
from stemd.engines.restoration.evidence.everywhere import gaussian_line, separable
from stemd.engines.restoration.evidence.texture import texture

F32 = NDArray[np.float32]
F64 = NDArray[np.float64]

WAVES = 75
"""That are looked for, the strongest first."""
NEAR_PX = 12.0
"""Over which order and disorder are compared."""
CERTAINLY_TEXTURE, CERTAINLY_ORDER = 0.15, 0.4
"""Part of the power in waves."""
COLUMN = 2.5
"""Widths of a column over which it is looked whether it is there."""
LACKING = 1.5
"""Deviations from which on a column is not there; at twice these it certainly is not."""
WIDELY_PX, ALONE, TOGETHER = 24.0, 0.12, 0.3
"""Width over which columns are looked at together, and the parts of what is around that lack them
from which on, and at which, all do."""
EASIER, PARTLY = 0.9, 2.0
"""Part of `LACKING` that is not needed there, and four times the part of a column that may be."""
SOME, MOST = 0.25, 0.4
"""Part of what is around that must lack its columns for a crystal to have ended."""
ELSEWHERE = 3.0
"""One over the part of columns that are seen from which on a crystal may not have ended."""
BESIDE = 4.0
"""Bins around a wave in which weaker ones belong to it."""
CHANCE = 200.0
"""Power of waves that there may be in noise alone: a few of the weakest that are taken for one."""


class Judged(NamedTuple):
    """(ny, nx) each: how much is `periodic`, how much is no texture, `shaped`; `filtered`.

    `waves`: what is periodic over the image, without its mean. `absent`: how certainly the recorded
    image has no lattice; `ghost`: what the restored one has of it there. `white`: how
    white its noise is.
    """

    periodic: F32
    shaped: F32
    filtered: F32
    waves: F32
    absent: F32
    ghost: F32
    white: float


def judged(image: F32, restored: F32, seen: F32, variance: F32) -> Judged:
    """What there is around each pixel, 0 to 1, and the image by `texture`.

    Periodic is what waves over the whole image show of its power, beside what is left of the signal
    without them. Shaped is what is periodic, or has edges.
    """
    found, mean, _ = find_waves(image, WAVES)
    waves = found.image()
    rest, _, _ = texture(image - waves, variance)
    line = gaussian_line(NEAR_PX)
    # waves go on over edges and grains; here they are only as high as around the pixel
    here = _height(waves, image - np.float32(mean), line)
    rest += (np.float32(1.0) - here) * waves
    rest -= separable(rest, line)
    ordered, other = (separable(np.square(part), line) for part in (here * waves, rest))
    least = np.float32(CHANCE * variance.mean(dtype=np.float64) / image.size)
    part = ordered / (ordered + other + least)
    known = np.clip((part - CERTAINLY_TEXTURE) / (CERTAINLY_ORDER - CERTAINLY_TEXTURE), 0.0, 1.0)
    known = known.astype(np.float32)
    crystal = restored - separable(restored, line)
    lattice, present = _present(found, image - np.float32(mean), variance)
    absent = np.float32(1.0) - present
    # a column that is not there, or not whole, is a defect; where all around lack, the crystal ends
    around = (separable(absent, line) - np.float32(SOME)) / np.float32(MOST - SOME)
    ended = np.clip(around, 0.0, 1.0)
    # nor has one whose columns are there, but not where the lattice of the rest has them
    ended *= np.clip(2.0 - np.float32(ELSEWHERE) * separable(seen, line), 0.0, 1.0)
    absent *= ended
    recorded = image - separable(image, line)
    ghost = _ghost(lattice, crystal, recorded, variance, absent, line)
    crystal -= ghost
    there = known * np.maximum(present, seen) * (np.float32(1.0) - ended)
    # a crystal nearby is no reason to see a shape, nor to filter less
    crystal *= there
    filtered, like, white = texture(image - crystal, variance)
    filtered += crystal
    shaped = np.float32(1.0) - (np.float32(1.0) - there) * like
    return Judged(there, shaped, filtered, waves, absent, ghost, white)


def _height(waves: F32, image: F32, line: F64) -> F32:
    """How high waves are around each pixel, 0 to 1: 1 as they are over the whole image."""
    both, square = separable(waves * image, line), separable(np.square(waves), line)
    height: F32 = np.clip(both / np.maximum(square, np.float32(1e-30)), 0.0, 1.0)
    return height


def _ghost(lattice: F32, crystal: F32, recorded: F32, variance: F32, absent: F32, line: F64) -> F32:
    """What `crystal` has of the lattice where that is `absent`, beyond what was `recorded` of it.

    As high as around the pixel: there may be a little of everything in a texture.
    """
    square = separable(absent * np.square(lattice), line)
    square += np.float32(1e-3) * np.square(lattice).mean(dtype=np.float32) + np.float32(1e-9)
    high, seen = (separable(absent * lattice * each, line) / square for each in (crystal, recorded))
    noise = separable(np.square(absent * lattice) * variance, line)
    noise *= np.float32(np.square(line).sum() ** 2) / np.square(square)
    seen *= np.maximum(np.float32(1.0) - noise / np.maximum(np.square(seen), np.float32(1e-30)), 0)
    return np.asarray(absent * np.clip(high - seen, 0.0, 1.0) * lattice, np.float32)


def _present(found: Waves, image: F32, variance: F32) -> tuple[F32, F32]:
    """The lattice, and whether the recorded image has its columns around each pixel, 0 to 1.

    Beyond an edge it has not: what the lattice would show within a column's width is not there, by
    more than noise would hide. Averages over more would reach into the crystal.
    """
    first = np.argsort(-np.abs(found.amplitude), kind="stable")
    # weaker waves beside a strong one are its edges
    first = first[lone(found.frequency[first], found.shape, BESIDE)]
    lattice = Waves(found.shape, found.frequency[first], found.amplitude[first])
    power = np.square(np.abs(lattice.amplitude))
    if not power.sum() > 0.0:
        return np.zeros_like(image), np.ones_like(image)
    square = (power * np.square(lattice.frequency).sum(axis=1)).sum() / power.sum()
    # gaussian columns of this width have this root mean square frequency
    line = gaussian_line(COLUMN * 0.5 / (np.pi * float(np.sqrt(square))))
    shown = lattice.image()
    whole = separable(np.square(shown), line)
    lacking = whole - separable(shown * image, line)
    noise = separable(np.square(shown) * variance, line) * np.float32(np.square(line).sum() ** 2)
    clear = lacking / np.sqrt(np.maximum(noise, np.float32(1e-30)))
    part = lacking / np.maximum(whole, np.float32(1e-30))
    # what is there in part, such as a thin crystal or one of two grains, is believed
    whole = np.clip(4.0 * part - 1.4, 0.0, 1.0)
    absent = np.clip(clear / LACKING - 1.0, 0.0, 1.0) * whole
    # by single columns noise alone says here and there that one is present: not where most around
    # are absent, and this one is rather so
    around = (separable(absent, gaussian_line(WIDELY_PX)) - ALONE) / (TOGETHER - ALONE)
    around = np.clip(around, 0.0, 1.0)
    less = 1.0 - EASIER * around
    whole = np.clip(4.0 * part - 1.4 + PARTLY * around, 0.0, 1.0)
    absent = np.clip(clear / (LACKING * less) - 1.0, 0.0, 1.0) * whole
    return shown, np.asarray(1.0 - absent, np.float32)

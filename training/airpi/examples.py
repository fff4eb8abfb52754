"""Shards made ready for training: patterns on the network's grid, and what it is to say of them.

Noise is not in them: every step draws its own electrons (`draw`).
"""

from __future__ import annotations

import math
import os
from dataclasses import dataclass, fields
from functools import cache
from pathlib import Path
from statistics import NormalDist
from typing import Any

import numba
import numpy as np
from numpy.typing import NDArray

from stemd.engines.airpi.features import GRID, WINDOW, fill_features, inputs, scalars
from stemd.engines.airpi.patch_offsets import centred
from training.airpi.samples import DETECTOR, Group, incident
from training.airpi.shards import read_shard

F16 = NDArray[np.float16]
F32 = NDArray[np.float32]
FINE = 2
"""Pixels of a sample in one of the network's grid."""
DARK = 0.05
"""Of the probe's largest intensity: below it the transmission is not asked for."""
UNITS = 65535
READY = 2
"""Version of what is kept ready."""
SAME_MASK = 32
"""Examples of a batch that share a detector."""
K = GRID.members.size


@dataclass(slots=True)
class Examples:
    """`root` uint16 (n, 9, K): square root of the share of the electrons in each grid pixel, in
    units of 1 / `UNITS`;
    `change` float16 (n, 2, w, w): D = T - 1, real and imaginary,
    T without the phase of its weighted mean (`centred`); `weight` float16 (n, w, w): the
    probe's intensity, of sum 1, 0 where it is dark; `optics` float32 (n, SCALARS); `overlap`
    float32 (n,): patches that lie over a place of the stitched object.
    """

    root: NDArray[np.uint16]
    change: F16
    weight: F16
    optics: F32
    overlap: F32

    def __len__(self) -> int:
        return self.root.shape[0]


@cache
def _binning() -> NDArray[np.float32]:
    """(2 half + 1, DETECTOR): what each of a sample's pixels gives to each of the grid's.

    A pixel of the grid is `FINE` of the sample's wide and shares its middle with one.
    """
    matrix = np.zeros((GRID.side, DETECTOR), np.float32)
    for n in range(GRID.side):
        middle = DETECTOR // 2 + FINE * (n - GRID.half)
        for offset, share in ((-1, 0.5), (0, 1.0), (1, 0.5)):
            matrix[n, middle + offset] = share
    return matrix


def on_grid(patterns: F32) -> F32:
    """Patterns (..., DETECTOR, DETECTOR) binned to the pixels of `GRID`, (..., K)."""
    matrix = _binning()
    square = np.einsum("ai,...ij,bj->...ab", matrix, patterns, matrix, optimize=True)
    return np.asarray(square.reshape(*patterns.shape[:-2], -1)[..., GRID.members], np.float32)


def real_space(waves: NDArray[np.complexfloating]) -> NDArray[np.complex128]:
    """Waves (..., DETECTOR, DETECTOR), zero frequency in the middle, in real space about the
    probe: the network's window of it, (..., WINDOW, WINDOW).

    Frequencies that the sample's square has on one side only are left out.
    """
    wave = np.array(waves, np.complex128)
    wave[..., 0, :] = wave[..., :, 0] = 0.0
    whole = np.fft.ifft2(np.fft.ifftshift(wave, axes=(-2, -1)))
    first = DETECTOR // 2 - WINDOW // 2
    kept = slice(first, first + WINDOW)
    return np.asarray(np.fft.fftshift(whole, axes=(-2, -1))[..., kept, kept])


def _example(group: Group) -> tuple[F32, F32, F32, F32, float]:
    what = group.conditions
    probe = real_space(incident(what))
    intensity = np.abs(probe) ** 2
    weight = np.where(intensity >= DARK * intensity.max(), intensity, 0.0)
    product = real_space(group.wave) * np.conj(probe)
    through = product / np.maximum(intensity, 1e-30)
    change = np.where(weight > 0, centred(through, weight) - 1.0, 0.0)
    root = np.rint(UNITS * np.sqrt(np.clip(on_grid(group.patterns), 0.0, 1.0)))
    pixel = what.side / DETECTOR
    area = float((intensity >= 0.5 * intensity.max()).sum()) * pixel**2
    return (
        root,
        np.stack([change.real, change.imag]).astype(np.float32),
        (weight / weight.sum()).astype(np.float32),
        scalars(what.beam, what.step, GRID.half / GRID.per_angle),
        area / what.step**2,
    )


def examples(path: Path) -> Examples:
    """All samples of a shard; kept beside it, ready to be read again."""
    ready = path.with_suffix(f".ready{READY}")
    if not ready.exists():
        rows = [_example(group) for group in read_shard(path)]
        kinds = (np.uint16, np.float16, np.float16, np.float32, np.float32)
        names = [field.name for field in fields(Examples)]
        columns: dict[str, Any] = {
            name: np.array([row[n] for row in rows], kind)
            for n, (name, kind) in enumerate(zip(names, kinds, strict=True))
        }
        temporary = path.with_name(f".{ready.name}.{os.getpid()}")
        with temporary.open("wb") as file:
            np.savez(file, **columns)
        temporary.replace(ready)
    with np.load(ready) as data:
        return Examples(**dict(data.items()))


def joined(parts: list[Examples]) -> Examples:
    """Several shards' examples as one."""
    return Examples(
        **{
            field.name: np.concatenate([getattr(part, field.name) for part in parts])
            for field in fields(Examples)
        }
    )


@cache
def symmetries() -> tuple[NDArray[np.int64], NDArray[np.int64], NDArray[np.int64]]:
    """The eight turns and mirrorings as permutations: of the grid's pixels (8, K), of a group's
    positions (8, 9), of the window's pixels (8, w w). Real and reciprocal space turn alike.
    """

    def turned(image: NDArray[np.int64], number: int) -> NDArray[np.int64]:
        mirrored = image.T if number >= 4 else image
        return np.rot90(mirrored, number % 4)

    square = np.full((GRID.side, GRID.side), -1, np.int64)
    square.reshape(-1)[GRID.members] = np.arange(K)
    nine, window = np.arange(9).reshape(3, 3), np.arange(WINDOW**2).reshape(WINDOW, WINDOW)
    pixels, places, inside = [], [], []
    for number in range(8):
        flat = turned(square, number).reshape(-1)
        pixels.append(flat[flat >= 0])
        places.append(turned(nine, number).reshape(-1))
        inside.append(turned(window, number).reshape(-1))
    return np.stack(pixels), np.stack(places), np.stack(inside)


@numba.njit(nogil=True, cache=True, inline="always")
def _random(state):  # type: ignore[no-untyped-def]
    """64 random bits: SplitMix64 (Steele, Lea, Flood 2014). state: uint64 (1,)."""
    state[0] += np.uint64(0x9E3779B97F4A7C15)
    z = state[0]
    z = (z ^ (z >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
    z = (z ^ (z >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
    return z ^ (z >> np.uint64(31))


@numba.njit(nogil=True, cache=True, inline="always")
def _poisson(mean, state, normal):  # type: ignore[no-untyped-def]
    """A Poisson number: by products of uniforms below 4, else from a normal deviate z, by
    m + sqrt(m) z + (z^2 - 1) / 6 (Cornish and Fisher), rounded. normal: float32 (65536,),
    quantiles of the normal distribution.
    """
    if mean < 4.0:
        limit = math.exp(-mean)
        product = 1.0
        n = -1
        while product >= limit:
            product *= (_random(state) >> np.uint64(11)) * 2.0**-53
            n += 1
        return float(n)
    z = float(normal[_random(state) >> np.uint64(48)])
    return max(0.0, np.rint(mean + math.sqrt(mean) * z + (z * z - 1.0) / 6.0))


@cache
def normal_quantiles() -> F32:
    """float32 (65536,): the normal distribution cut into equally likely parts, their medians."""
    inverse = NormalDist().inv_cdf
    return np.array([inverse((n + 0.5) / 65536) for n in range(65536)], np.float32)


@numba.njit(nogil=True, cache=True)
def _draw(seed, normal, root, chosen, pixels, places, electrons, camera, members, side, known,
          optics, disc, out):  # type: ignore[no-untyped-def]  # fmt: skip
    """Features of example chosen[i], turned, twice with electrons of their own; see `draw`.

    camera: float64 (n, 2, 3), (n,), (n, K): of `Camera`; members: places of the K pixels in a
    square of `side`.
    """
    taps, background, gain = camera
    state = np.array([seed], np.uint64)
    size = disc.size
    counts = np.empty((9, size), np.float32)
    mean = np.empty((9, size))
    square = np.zeros((side + 2, side + 2))
    group = np.arange(9).reshape(1, 9)
    for i in range(chosen.size):
        for j in range(9):
            row = root[chosen[i], places[i, j]]
            for k in range(size):
                amplitude = row[pixels[i, k]] / UNITS
                y, x = members[k] // side, members[k] % side
                square[y + 1, x + 1] = electrons[i] * amplitude * amplitude
            for k in range(size):
                y, x = members[k] // side, members[k] % side
                total = 0.0
                for a in range(3):
                    for b in range(3):
                        total += taps[i, 0, a] * taps[i, 1, b] * square[y + a, x + b]
                mean[j, k] = gain[i, k] * (total + electrons[i] * background[i] / size)
        for twin in range(2):
            for j in range(9):
                for k in range(size):
                    counts[j, k] = _poisson(mean[j, k], state, normal)
            seen = known[i // SAME_MASK]
            fill_features(counts, group, disc, seen, optics[i], out[twin, i : i + 1])


@dataclass(frozen=True, slots=True)
class Camera:
    """What a camera does to the patterns of n examples, in pixels of the grid.

    `taps` (n, 2, 3): along y and x, what a pixel gets of the one before, itself and the one after:
    point spread, and a centre that is wrong by up to a fifth of a grid pixel; `background` (n,):
    shares of the electrons spread over all pixels; `gain` (n, K): 0 of dead, 3 of hot pixels.
    """

    taps: NDArray[np.float64]
    background: NDArray[np.float64]
    gain: NDArray[np.float64]

    @classmethod
    def perfect(cls, n: int) -> Camera:
        """Counts are where the electrons were."""
        taps = np.tile(np.array([0.0, 1.0, 0.0]), (n, 2, 1))
        return cls(taps, np.zeros(n), np.ones((n, K)))

    @classmethod
    def drawn(cls, n: int, rng: np.random.Generator) -> Camera:
        """Half of them perfect, the others at random."""
        made = cls.perfect(n)
        worse = rng.random(n) < 0.5
        sides = rng.uniform(0.0, 0.2, (n, 2, 2)) * worse[:, None, None]
        made.taps[:, :, 0], made.taps[:, :, 2] = sides[..., 0], sides[..., 1]
        made.taps[:, :, 1] -= sides.sum(axis=2)
        made.background[:] = worse * rng.exponential(0.01, n)
        for i in np.flatnonzero(worse & (rng.random(n) < 0.2)):
            made.gain[i, rng.integers(K, size=int(rng.integers(1, 4)))] = rng.choice([0.0, 3.0])
        return made


def draw(
    data: Examples,
    chosen: NDArray[np.int64],
    electrons: NDArray[np.float64],
    rng: np.random.Generator,
    augment: bool = True,
    camera: Camera | None = None,
) -> tuple[F32, F32, F32, F32]:
    """A batch: features (2, n, inputs), drawn twice from the same patterns; change (n, 2, w, w);
    weight (n, w, w); overlap (n,).

    electrons (n,) a pattern. When `augment`, examples are turned and mirrored, seen by a `camera`
    at random unless one is given,
    and half of the detectors (one for each `SAME_MASK` examples) see less than the whole grid.
    """
    pixels, places, inside = symmetries()
    n = chosen.size
    turn = rng.integers(0, 8, n) if augment else np.zeros(n, np.int64)
    masks = -(-n // SAME_MASK)
    known = np.ones((masks, K), np.float32)
    optics = data.optics[chosen].copy()
    if augment:
        whole = GRID.half / GRID.per_angle
        for m in range(masks):
            if rng.random() < 0.5:
                reach = rng.uniform(1.05, whole)
                vectors = np.abs(GRID.vectors)
                distance = vectors.max(axis=1) if rng.random() < 0.7 else np.hypot(*vectors.T)
                known[m] = distance <= reach
                optics[m * SAME_MASK : (m + 1) * SAME_MASK, -1] = reach - 2.5
    out = np.empty((2, n, inputs()), np.float32)
    if camera is None:
        camera = Camera.drawn(n, rng) if augment else Camera.perfect(n)
    _draw(int(rng.integers(2**62)), normal_quantiles(), data.root, chosen, pixels[turn],
          places[turn], electrons, (camera.taps, camera.background, camera.gain), GRID.members,
          GRID.side, known, optics, GRID.disc(), out)  # fmt: skip
    flat = data.change[chosen].reshape(n, 2, -1).astype(np.float32)
    change = np.take_along_axis(flat, inside[turn][:, None, :], axis=2)
    heavy = data.weight[chosen].reshape(n, -1).astype(np.float32)
    weight = np.take_along_axis(heavy, inside[turn], axis=1)
    return (
        out,
        change.reshape(n, 2, WINDOW, WINDOW),
        weight.reshape(n, WINDOW, WINDOW),
        data.overlap[chosen],
    )

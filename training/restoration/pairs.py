"""Training pairs: a truth, and the image that a scan would have made of it."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from stemd.engines.restoration.distortions import (
    DetectorChain,
    Distortions,
    Jitter,
    Spikes,
    Tail,
    distort,
)
from stemd.engines.restoration.robust_scale import normalise
from training.restoration.annotations import annotate
from training.restoration.fields import blurred, field_scene, flat_scene, smooth_noise
from training.restoration.lattices import lattice_scene, scattered_atoms
from training.restoration.mixtures import SCENES

Image = NDArray[np.float32]

KINDS = {
    "lattice": 0.28, "field": 0.18, "both": 0.06, "atoms": 0.05, "flat": 0.04, "fine": 0.13,
    "blobs": 0.1, "grains": 0.05, "branches": 0.03, "slabs": 0.03, "texture": 0.05,
}  # fmt: skip
"""What an image shows, and how often."""
SHAKEN = {"fine": 0.75, "blobs": 0.25, "texture": 0.2}
"""How often the lines of these are displaced by pixels rather than by parts of one."""
ANNOTATED = 0.35
"""How often something is painted over an image that no detector wrote."""
MARGIN = 12
"""Pixels drawn around each pair and cut off: lines move and smear across the border."""


@dataclass(frozen=True, slots=True)
class Pair:
    """What the network sees and what it should say, both (n, n) on the network's scale.

    `noisy` is normalised by its own mean and deviation; `truth` by the same two numbers.
    """

    noisy: Image
    truth: Image


def pair(seed: int, index: int, size: int) -> Pair:
    """Pair number `index` of the endless series `seed`, (size, size); always the same one."""
    rng = np.random.default_rng([seed, index])
    shape = (size + 2 * MARGIN, size + 2 * MARGIN)
    inner = slice(MARGIN, -MARGIN)
    while True:
        kind = drawn_kind(rng)
        truth = truth_scene(shape, rng, kind)
        recorded = _recorded(truth, rng, shaken=rng.random() < SHAKEN.get(kind, 0.0))
        noisy, wanted = (image[inner, inner].copy() for image in recorded)
        if rng.random() < ANNOTATED:
            annotate(noisy, wanted, rng)
        seen = normalise(noisy)
        scaled = ((wanted - seen.mean) / seen.deviation).astype(np.float32)
        # an image that was cut off almost everywhere teaches nothing: the next draw
        if abs(float(scaled.mean())) < 1.0:
            return Pair(seen.values, scaled)


def drawn_kind(rng: np.random.Generator) -> str:
    """What an image shows, as often as `KINDS` says."""
    return str(rng.choice(list(KINDS), p=list(KINDS.values())))


def truth_scene(shape: tuple[int, int], rng: np.random.Generator, kind: str | None = None) -> Image:
    """An undistorted image (ny, nx), finite, in [0, 1], with any contrast and background.

    `kind` is one of `KINDS`; without it one is drawn.
    """
    kind = drawn_kind(rng) if kind is None else kind
    if kind == "flat":
        return flat_scene(shape, rng) / np.float32(2.0)
    if kind == "lattice":
        image = lattice_scene(shape, rng)
    elif kind == "atoms":
        image = scattered_atoms(shape, rng)
    elif kind in SCENES:
        image = SCENES[kind](shape, rng)
    else:
        image = field_scene(shape, rng)
    if float(np.ptp(image)) < 1e-6:
        return flat_scene(shape, rng) / np.float32(2.0)
    image = _spread(image)
    if kind == "both":
        where = 1.0 / (1.0 + np.exp(-np.exp(rng.uniform(1, 4)) * smooth_noise(shape, 3.5, rng)))
        image = image * where.astype(np.float32) * np.float32(rng.uniform(0.2, 1.5))
        image = _spread(image + _spread(lattice_scene(shape, rng)))
    return _contrast(image, rng)


def _spread(image: Image) -> Image:
    low, high = float(image.min()), float(image.max())
    return ((image - low) / max(high - low, 1e-9)).astype(np.float32)


def _contrast(image: Image, rng: np.random.Generator) -> Image:
    """Differential, inverted, bent contrast; uneven illumination; a dark level."""
    if rng.random() < 0.06:
        angle = rng.uniform(0.0, 2.0 * np.pi)
        gy, gx = np.gradient(image)
        image = _spread((np.cos(angle) * gy + np.sin(angle) * gx).astype(np.float32))
    if rng.random() < 0.33:
        image = 1.0 - image
    if rng.random() < 0.3:
        image = image ** np.float32(np.exp(rng.normal(0.0, 0.4)))
    if rng.random() < 0.15:
        shape = (image.shape[0], image.shape[1])
        image = image * (1.0 + np.float32(0.25) * np.tanh(smooth_noise(shape, 4.0, rng)))
    dark = rng.choice([0.0, rng.uniform(0.0, 0.3), rng.uniform(0.3, 0.95)], p=[0.3, 0.45, 0.25])
    lit: Image = (dark + (1.0 - dark) * _spread(image)).astype(np.float32)
    return lit


def _recorded(truth: Image, rng: np.random.Generator, shaken: bool) -> tuple[Image, Image]:
    """(noisy, wanted) in one unit: the truth through a random microscope.

    `shaken`: lines are displaced by pixels, most often at a dose that lets them be found.
    """
    mean, contrast = float(truth.mean()), float(truth.std())
    # the signal-to-noise ratio of a pixel is what makes an image hard, so it is drawn evenly;
    # the electrons a pixel follow from it: ratio = contrast / sqrt(mean / electrons)
    low, high = (0.15, 4.0) if rng.random() < 0.4 else (0.1, 60.0)
    if shaken and rng.random() < 0.7:
        low, high = 0.6, 8.0
    ratio = np.exp(rng.uniform(np.log(low), np.log(high)))
    electrons = float(np.clip((ratio * mean / max(contrast, 0.02 * mean)) ** 2, 0.02, 5e4))
    scale = np.float32(electrons / mean)
    wanted = truth * scale
    what = _distortions(wanted, rng, shaken)
    if rng.random() < 0.1:
        noisy = _additive(wanted, what, contrast * float(scale) / ratio, rng)
    else:
        noisy = distort(wanted, what, rng)
    if rng.random() < 0.08:
        noisy = blurred(noisy, rng.uniform(0.3, 0.8))
    if rng.random() < 0.1:
        noisy = along_lines(noisy, rng.uniform(0.4, 1.5))
    return noisy, wanted


def _distortions(wanted: Image, rng: np.random.Generator, shaken: bool) -> Distortions:
    top = float(wanted.max())
    ceiling = top + 3.0 * np.sqrt(top) + 1.0
    deviation = float(np.sqrt(max(wanted.mean(), 1e-6)))
    readout = deviation * rng.uniform(0.0, 0.7) if rng.random() < 0.3 else 0.0
    return Distortions(
        jitter=_large_jitter(rng) if shaken else _jitter(rng),
        tail=_tail(rng),
        detector=DetectorChain(
            gain_spread=rng.uniform(0.0, 1.0) if rng.random() < 0.7 else 0.0,
            readout=readout,
            line_noise=deviation * rng.uniform(0.0, 0.3) if rng.random() < 0.15 else 0.0,
            saturation=ceiling - np.ptp(wanted) * rng.uniform(0.0, 0.3)
            if rng.random() < 0.12
            else np.inf,
            clip_black=rng.random() < (0.1 if readout > 0.0 else 0.5),
            step=ceiling / rng.integers(16, 256) if rng.random() < 0.2 else 0.0,
        ),
        spikes=_spikes(ceiling, rng) if rng.random() < 0.2 else None,
    )


def _jitter(rng: np.random.Generator) -> Jitter | None:
    kind = rng.choice(["none", "published", "any"], p=[0.3, 0.4, 0.3])
    if kind == "none":
        return None
    cubic = bool(rng.random() < 0.7)
    if kind == "published":
        return Jitter(0.25, 0.5, 0.5, cubic)
    sigma = np.exp(rng.uniform(np.log(0.1), np.log(3.0 if rng.random() < 0.3 else 1.2)))
    return Jitter(sigma * rng.uniform(0.0, 0.8), sigma, rng.uniform(0.0, 0.9), cubic)


def _large_jitter(rng: np.random.Generator) -> Jitter:
    sigma = np.exp(rng.uniform(np.log(0.7), np.log(2.5)))
    return Jitter(
        sigma * rng.uniform(0.0, 0.5), sigma, rng.uniform(0.0, 0.8), bool(rng.random() < 0.5)
    )


def along_lines(image: Image, sigma_px: float) -> Image:
    """Each line convolved with a gaussian: an amplifier that is slower than the scan, undelayed."""
    reach = int(np.ceil(4.0 * sigma_px))
    weights = np.exp(-0.5 * (np.arange(-reach, reach + 1) / sigma_px) ** 2)
    weights /= weights.sum()
    wide = np.pad(image, ((0, 0), (reach, reach)), mode="edge")
    n = image.shape[1]
    out = sum(np.float32(w) * wide[:, k : k + n] for k, w in enumerate(weights))
    return np.asarray(out, np.float32)


def _tail(rng: np.random.Generator) -> Tail | None:
    kind = rng.choice(["none", "exponential", "half_lorentzian", "box"], p=[0.55, 0.25, 0.08, 0.12])
    if kind == "none":
        return None
    if kind == "exponential":
        return Tail("exponential", np.exp(rng.uniform(np.log(0.25), np.log(4.0))))
    if kind == "half_lorentzian":
        return Tail("half_lorentzian", np.exp(rng.uniform(np.log(0.5), np.log(12.0))))
    return Tail("box", rng.uniform(1.2, 4.0))


def _spikes(ceiling: float, rng: np.random.Generator) -> Spikes:
    value = ceiling * np.exp(rng.uniform(0.0, 3.5))
    few = np.exp(rng.uniform(np.log(5e-5), np.log(4e-3), 3)) * (rng.random(3) < 0.5)
    return Spikes(hot=few[0], hot_value=value, dead=few[1], xrays=few[2], xray_value=value)


def _additive(wanted: Image, what: Distortions, sigma: float, rng: np.random.Generator) -> Image:
    """Noise that does not count electrons: of images computed from patterns, as riCOM is."""
    moved = distort(wanted, Distortions(what.jitter, False, what.tail, what.detector), rng)
    shape = (wanted.shape[0], wanted.shape[1])
    slope = rng.choice([0.0, rng.uniform(0.0, 1.0)])
    noise = smooth_noise(shape, slope, rng, finest=rng.choice([0.0, rng.uniform(0.0, 0.7)]))
    return moved + np.float32(sigma) * noise

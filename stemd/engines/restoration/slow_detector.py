"""What a detector that is slower than the dwell time does to an image, undone before all else.

It smears an electron's pulse over later pixels of its line (thesis 2.17, 2.18), after the electron
has been counted: so the noise, which would be white, shows along the line what the detector does
to the image, too. Of all that have such a spectrum the one that answers soonest (of minimum phase;
an exponential is one) is undone. Then noise is white again, and everything is sharp and where it
belongs: a tail delays all that is fine by a pixel and more.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from itertools import product

import numpy as np
from numpy.typing import NDArray

from stemd.engines.restoration.estimate.channels import estimate
from stemd.engines.restoration.estimate.noise import taper
from stemd.engines.restoration.robust_scale import normalise
from stemd.engines.restoration.tail_direction import runs, that_runs

F32 = NDArray[np.float32]
F64 = NDArray[np.float64]
C128 = NDArray[np.complex128]

EVEN = 0.6
"""Lowest power of the noise along the lines, as a part of its highest, that passes for white."""
STILL = 1.15
"""How much more noise there must be at half the highest frequency than at the highest: the beam's
current flickers, and lines differ, slowly only, above a floor that is white."""
WHITE = 1.15
"""Ratio of noise at middle and fine frequencies along y up to which it is the detector's: from line
to line electrons know nothing of each other. Beyond, it is the image's own, or was interpolated."""
CERTAIN_PX, LEFT_PX = 2.0, 0.15
"""Displacements that all of an image's lines may have, and that may be left in lines that were put
back: what is no more than these make of the image is not taken for noise."""
MIDDLE, FINE = 0.12, 0.28
"""Frequencies along y, in cycles a pixel, from which on there is noise next to alone."""
SLOWEST = 1 / 64
"""Frequency along x below which offsets of lines, and slow changes, are more than the noise."""
MEMORY_PX = (1, 2, 3, 4, 5, 6, 8, 10, 12, 16)
"""Pixels that a detector may remember: as many terms has its spectrum."""
PRICE = 9.0
"""Of a term: the logarithm of the misfit, times its numbers, must fall by more. Of tails of known
shape 6 finds some of 3 pixels a fifth better and is twice as far off in its worst cases."""
LOOKS = 8
"""Rounds of each fit."""
WORTH = 0.01
"""Amplitude below which nothing is made more of: of a box nothing is left somewhere."""
MIDWAY = 0.25
"""Frequency along x, in cycles a pixel, that tells how wide an even filter is."""
LEAST_PX = 0.15
"""Delay of the pulses below which there is none."""
RINGS = 8.0
"""Deviations of the noise by which an image may reach beyond the recorded one at both ends."""
SMALLEST_PX, SQUARE_PX, ASIDE = 64, 512, 3
"""Least size of an image, size of what is looked at at once, and how many of these a side."""
LINES = 256
"""Lines that are undone at once."""


@dataclass(frozen=True, slots=True)
class Undone:
    """An image (ny, nx) as a detector of any speed would have recorded it.

    `tail_px`: by how many pixels pulses came late on average; below 0 in an image that was
    mirrored. `filtered_px`: deviation of a filter along the lines that was even, as that of an
    interpolation, and no detector's. Both 0.0: `image` is the recorded one.
    """

    image: F32
    tail_px: float
    filtered_px: float = 0.0


def undone(image: F32) -> Undone:
    """The finite `image` (ny, nx) without the tails that its noise shows, if it shows any.

    Which way they run the noise says, too (`tail_direction`). Cost: two transforms; where there may
    be a tail, an estimate of up to nine parts.
    """
    if min(image.shape) < SMALLEST_PX:
        return Undone(image, 0.0)
    seen = [normalise(part) for part in _squares(image)]
    known = _detector([each.values for each in seen])
    if known is None:
        return Undone(image, 0.0)
    terms, noise_of = known
    late = 0.5 * float(np.arange(terms.size) @ terms)
    if late < LEAST_PX:
        return Undone(image, 0.0)
    nx = image.shape[1]
    way = runs(noise_of, _answer(terms, 2 * noise_of[0].shape[1]))
    answer = that_runs(_answer(terms, 2 * nx), way)
    out = np.empty_like(image, np.float32)
    for first in range(0, len(image), LINES):
        lines = image[first : first + LINES]
        # before its first pixel a line goes on as in a mirror
        both = np.concatenate([lines[:, ::-1], lines], axis=1)
        found = np.fft.irfft(np.fft.rfft(both, axis=1) / answer, 2 * nx, axis=1)
        out[first : first + LINES] = found[:, nx:]
    noise = float(np.exp(0.5 * terms.sum())) * max(each.deviation for each in seen)
    beyond = float(image.min() - out.min()), float(out.max() - image.max())
    # of pulses that are sharp again one end goes further; what was none rings to both sides
    if min(beyond) > RINGS * noise:
        return Undone(image, 0.0)
    if way == "both":
        # as wide as a gaussian that leaves as much at this frequency
        left = float(np.abs(answer[round(2 * nx * MIDWAY)]))
        return Undone(
            out, 0.0, float(np.sqrt(-2.0 * np.log(min(left, 0.99)))) / (2 * np.pi * MIDWAY)
        )
    return Undone(out, late if way == "later" else -late)


def _squares(image: F32) -> list[F32]:
    """All of a small image, or parts of it that lie evenly over a large one."""
    places = []
    for size in image.shape:
        some = min(ASIDE, -(-size // SQUARE_PX))
        places.append(np.linspace(0, max(0, size - SQUARE_PX), some).astype(int))
    return [image[y : y + SQUARE_PX, x : x + SQUARE_PX] for y, x in product(*places)]


@dataclass(frozen=True, slots=True)
class _Noise:
    """What the noise is along the lines, and whether it is any.

    `terms`: see `_response`. `variance` of a pixel. `across`: by how much more of it
    there is at middle than at fine frequencies along y. `moved`: variance that a displacement of
    all lines by one pixel, each by its own, would make of the image.
    """

    terms: F64
    variance: float
    across: float
    moved: float

    @property
    def falls(self) -> bool:
        """Whether there is clearly less at fine frequencies along x, and ever less."""
        slow, half, fine = (self._at(*ends) for ends in ((0.0, 0.06), (0.2, 0.3), (0.44, 0.5)))
        return fine < EVEN * slow and STILL * fine < half

    def _at(self, first: float, last: float) -> float:
        """Power at frequencies along x from `first` to `last`."""
        frequency = np.linspace(first, last, 9)[:, None]
        waves = np.cos(2.0 * np.pi * frequency * np.arange(self.terms.size))
        return float(np.exp(np.mean(waves @ self.terms)))

    def is_any(self, displaced_px: float) -> bool:
        """Whether it is that of electrons, though lines may be displaced by so much."""
        enough = self.variance > displaced_px**2 * self.moved
        return enough and 1.0 / WHITE < self.across < WHITE


def _detector(squares: list[F32]) -> tuple[F64, list[F32]] | None:
    """What a detector makes of the frequencies along x, see `_response`, if it is slow.

    And the noise of the squares.
    """
    seen = _noise(squares)
    if not seen.falls:
        return None
    known = [estimate(each) for each in squares]
    noise = [each.aligned - each.shown for each in known]
    if seen.is_any(CERTAIN_PX):
        return seen.terms, noise
    seen = _noise(noise)
    slope = float(np.mean([np.square(np.gradient(each.shown, axis=1)).mean() for each in known]))
    if seen.falls and replace(seen, moved=slope).is_any(LEFT_PX):
        return seen.terms, noise
    return None


def _noise(squares: list[F32]) -> _Noise:
    """Of several parts of an image, all of one size, together."""
    window = taper(squares[0].shape)
    scale = 1.0 / (len(squares) * float(np.square(window, dtype=np.float64).sum()))
    power = np.zeros((len(window), window.shape[1] // 2 + 1))
    for each in squares:
        f = np.fft.rfft2((each - np.float32(each.mean(dtype=np.float64))) * window)
        power += scale * (f.real**2 + f.imag**2)
    power = np.maximum(power, 1e-12 * float(power.max()) + 1e-30)  # flat images have none
    y = np.abs(np.fft.fftfreq(len(power)))
    x = np.fft.rfftfreq(window.shape[1])
    # a crystal's peaks, and the slopes of edges, stand above the median, which is that of sums of
    # exponentially distributed numbers (Wilson and Hilferty 1931)
    usual = (1.0 - 1.0 / (9.0 * len(squares))) ** 3
    noise = np.median(power[y > MIDDLE], axis=0) / usual
    most = (noise > 0.3 * np.median(noise[x < 0.125])) & (x >= SLOWEST)
    middle = np.median(power[(y > MIDDLE) & (y < FINE)][:, most], axis=0)
    across = np.median(np.log(middle / np.median(power[y >= FINE][:, most], axis=0)))
    moved = np.square(2.0 * np.pi * x) * np.maximum(power.mean(axis=0) - noise, 0.0)
    return _Noise(_response(noise), float(noise.mean()), float(np.exp(across)), float(moved.mean()))


def _response(noise: F64) -> F64:
    """Terms (n + 1,) of a smooth spectrum: log power = sum of terms[k] cos(2 pi k frequency).

    By least squares, with a crystal's streaks, which stand out, counting less, and with as many
    terms as are worth it. Offsets of lines and slow changes of the image do not count.
    """
    frequency = np.linspace(0.0, 0.5, noise.size)
    known = frequency >= SLOWEST
    waves = np.cos(2.0 * np.pi * frequency[known, None] * np.arange(MEMORY_PX[-1] + 1))
    log = np.log(noise[known])
    best, found = np.inf, np.zeros(1)
    for memory in MEMORY_PX:
        some = waves[:, : memory + 1]
        weight = np.ones_like(log)
        for _ in range(LOOKS):
            root = np.sqrt(weight)
            terms = np.linalg.lstsq(some * root[:, None], log * root, rcond=None)[0]
            rest = log - some @ terms
            usual = 1.5 * float(np.median(np.abs(rest))) + 1e-6
            weight = 1.0 / (1.0 + np.square(rest / (2.0 * usual)))
        left = float((weight * rest**2).sum() / weight.sum()) + 1e-12
        misfit = log.size * np.log(left) + PRICE * memory
        if misfit < best:
            best, found = misfit, terms
    return found


def _answer(terms: F64, nx: int) -> C128:
    """What a detector makes of each frequency of lines of `nx` pixels, (nx // 2 + 1,).

    Of all with this power the one of minimum phase: each cosine becomes a turning pointer.
    """
    turns = np.exp(-2j * np.pi * np.fft.rfftfreq(nx)[:, None] * np.arange(1, terms.size))
    log = 0.5 * (turns - 1.0) @ terms[1:]
    found: C128 = np.exp(np.maximum(log.real, np.log(WORTH)) + 1j * log.imag)
    return found

"""Lines of a lattice that are displaced by pixels, placed by their phase.

Lines displaced by a good part of a period smear a lattice's peaks along y into many, until hardly
one stands above its own streak, and the first waves that are found show the displaced lattice
itself: lines that are compared with these have not moved. Along x the peaks are as sharp as before:
there each line tells by its phase where it is.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

F32 = NDArray[np.float32]
F64 = NDArray[np.float64]
C128 = NDArray[np.complex128]

REACH_PX, STEP_PX = 4.0, 0.1
"""Displacements that are tried."""
EXPECTED_PX = 2.0
"""Standard deviation of the displacements that are expected."""
LOOKS = 8
"""Rounds: waves through the lines as they are placed, then lines placed by the waves."""
STREAKS, WAVES = 6, 3
"""Frequencies along x that are looked at, and waves along y at each, the strongest first."""
ABOVE = 2.0
"""Power of a streak over the median along x."""
FINEST, COARSEST = 0.45, 0.03
"""Frequencies along x of streaks, cycles a pixel."""
CHANCE = 7.0
"""Power of a wave along y, over what noise of the same power would have on average."""
COHERENT, AT_FIRST = 0.3, 0.15
"""Part of all signal along x, beyond what is slow, that must be in waves once the lines are placed,
and after the first `LOOKS_AT_FIRST` looks: other images stay below, however their lines are placed.
"""
LOOKS_AT_FIRST = 3
GROWN = 1.1
"""Factor by which the placing of lines must raise the part of the streaks' signal in waves."""
AGREED = 0.35
"""Length of the mean of exp(i phase) between what the left and the right half of each line say, but
for what is the same in all lines: a frequency between two is no displacement. 0 by chance."""
FARTHEST = 0.1
"""Part of the lines that may be placed at the ends of what is tried."""
JUMPS_PX = 0.35
"""Deviation, by its median, of the difference between neighbouring lines, below which nothing is
found: smaller ones are found without, and a bent crystal, or two on top of each other, is smooth.
"""


def placed(image: F32) -> F64:
    """Displacements (ny,) along x in pixels of the lines of `image`, or zeros.

    Line j shows the undisplaced image read at i + d[j], to a fraction of a pixel: a start for
    `lines.displacements`. Zeros where there is no lattice over most of the image, where its lines
    are displaced by little, and where the two halves of the lines do not say the same.
    """
    ny, nx = image.shape
    still = np.zeros(ny)
    lines = _transformed(image, 0, nx)
    power = np.square(np.abs(lines)).mean(axis=0)
    noise = max(float(np.median(power)), 1e-12)
    streaks = _streaks(power, noise)
    if not len(streaks):
        return still
    frequency, seen = streaks / nx, lines[:, streaks]
    fast = power[int(COARSEST * nx) : int(FINEST * nx)]
    signal = float(np.maximum(fast - noise, 0.0).sum())
    coherent = least = 0.0
    shifts, waves = still, np.zeros_like(seen)
    for look in range(LOOKS):
        waves = _waves(seen * _turned(shifts, -frequency))
        coherent = float(np.square(np.abs(waves)).mean(axis=0).sum())
        if look == 0:
            least = max(GROWN * coherent, COHERENT * signal)
            if coherent == 0.0 or least > float(np.maximum(power[streaks] - noise, 0.0).sum()):
                return still
        elif look == LOOKS_AT_FIRST and coherent < AT_FIRST * signal:
            return still
        before, shifts = shifts, _most_likely(seen, waves, frequency, noise)
        shifts -= np.median(shifts)
        if float(np.abs(shifts - before).max()) < STEP_PX:
            break
    if coherent < least or np.mean(np.abs(shifts) > 0.9 * REACH_PX) > FARTHEST:
        return still
    if float(np.median(np.abs(np.diff(shifts)))) < 0.6745 * JUMPS_PX:
        return still
    left, right = (
        _most_likely(_transformed(image, first, last)[:, streaks], waves, frequency, noise)
        for first, last in ((0, nx // 2), (nx // 2, nx))
    )
    strongest = frequency[int(np.argmax(np.square(np.abs(waves)).mean(axis=0)))]
    alike = np.exp(2j * np.pi * strongest * (left - right))
    return shifts if float(np.abs(alike.mean())) > AGREED else still


def _transformed(image: F32, first: int, last: int) -> C128:
    """Fourier transform (ny, nx // 2 + 1) of each line, from pixel `first` to `last` alone."""
    window = np.zeros(image.shape[1])
    window[first:last] = np.hanning(last - first + 2)[1:-1]
    transform: C128 = np.fft.rfft((image - image.mean()) * window, axis=1)
    return transform


def _streaks(power: F64, noise: float) -> NDArray[np.intp]:
    """The strongest local maxima along x of `power` (nx // 2 + 1,) that stand above noise."""
    inner = power[1:-1]
    peak = np.flatnonzero((inner >= power[:-2]) & (inner > power[2:])) + 1
    frequency = peak / (2.0 * (len(power) - 1))
    allowed = (frequency > COARSEST) & (frequency < FINEST) & (power[peak] > ABOVE * noise)
    peak = peak[allowed]
    return peak[np.argsort(-power[peak], kind="stable")][:STREAKS]


def _turned(shifts: F64, frequency: F64) -> C128:
    """Factors (ny, n) by which a displacement turns the amplitudes at each frequency."""
    turned: C128 = np.exp(2j * np.pi * shifts[:, None] * frequency)
    return turned


def _waves(seen: C128) -> C128:
    """What is waves along y in amplitudes (ny, n): a few plane waves each, or 0."""
    ny = len(seen)
    window = np.hanning(ny + 2)[1:-1]
    y = np.arange(ny)
    waves = np.zeros_like(seen)
    for k in range(seen.shape[1]):
        rest = seen[:, k].copy()
        for _ in range(WAVES):
            power = np.square(np.abs(np.fft.fft(rest * window, 4 * ny)))
            n = int(np.argmax(power))
            if power[n] < CHANCE * float(np.square(np.abs(rest) * window).sum()):
                break
            low, middle, high = np.log(np.maximum(power[[n - 1, n, (n + 1) % (4 * ny)]], 1e-30))
            bend = low - 2.0 * middle + high
            at = (n + (0.5 * (low - high) / bend if bend < 0.0 else 0.0)) / (4 * ny)
            wave = np.exp(2j * np.pi * at * y)
            wave *= (rest * np.conj(wave) * window).sum() / window.sum()
            waves[:, k] += wave
            rest -= wave
    return waves


def _most_likely(seen: C128, waves: C128, frequency: F64, noise: float) -> F64:
    """Most likely displacement (ny,) of each line, of those that are tried."""
    tried = np.arange(-REACH_PX, REACH_PX + 0.5 * STEP_PX, STEP_PX)
    both = seen * np.conj(waves)
    likelihood = np.tile(-0.5 * np.square(tried / EXPECTED_PX), (len(seen), 1))
    for k, turn in enumerate(_turned(tried, -frequency).T):
        likelihood += 2.0 / noise * (both[:, k, None] * turn).real
    places: F64 = tried[np.argmax(likelihood, axis=1)]
    return places

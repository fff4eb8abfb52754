"""Mains hum: the beam is moved by a sine of time, whose frequency is known beforehand.

In a lattice's image it makes two weak waves beside each strong one, at the hum's own distance.
Those of a displacement differ from those of any other modulation: they are i pi a (k B) and
i pi a (k B*) for all waves k of amplitude a, with one amplitude B of the hum.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from stemd.engines.kernels.scan_distortions import sample
from stemd.engines.restoration.estimate.channels import shown_of
from stemd.engines.restoration.estimate.least_squares import Waves
from stemd.engines.restoration.estimate.nonuniform import Sums
from stemd.engines.restoration.estimate.waves import find_waves

F32 = NDArray[np.float32]
F64 = NDArray[np.float64]
C128 = NDArray[np.complex128]

MAINS_HZ, OFF = (50.0, 60.0), 0.004
"""Frequencies of mains, and the part by which they may be off."""
PHASE = 0.2
"""Periods over the scan between frequencies that are tried."""
MOST, STRONG = 60, 30.0
"""Waves that are looked for, and the power over the noise's from which on what is beside one tells
something."""
BESIDE = 1.5
"""Bins around a wave in which another belongs to it."""
CERTAIN, EXPLAINED = 30.0, 0.6
"""What waves beside others must have of the power of noise for them to be hum (chance reaches half
of it once in a thousand times), and the part of it that must be that of a displacement: a
superlattice has more."""
LARGEST_PX, TURNS = 4.0, 4
"""Hum beyond which it is not believed, and looks at what is left of it."""
LONGEST_S = 600.0
"""Of a scan in which hum is looked for: what is tried, and its time, grow with it (2 s here)."""
SMALLEST_PX = 64
"""Of a side of an image in which periods are looked for."""


@dataclass(frozen=True, slots=True)
class Hum:
    """d(p) = Re(amplitude exp(2 pi i q p)), p (y, x) in pixels from the middle of the image.

    `amplitude` (2,) along y and x in pixels, complex; `frequency` q (2,) in periods a pixel along
    y and x.
    """

    amplitude: C128
    frequency: F64

    def shifts(self, shape: tuple[int, int]) -> tuple[F64, F64]:
        """Shifts (ny, nx) along y and x: pixel p shows the place p + d(p)."""
        y, x = (np.arange(n) - 0.5 * (n - 1) for n in shape)
        phase = np.exp(2j * np.pi * self.frequency[0] * y)[:, None] * np.exp(
            2j * np.pi * self.frequency[1] * x
        )
        dy, dx = ((part * phase).real for part in self.amplitude)
        return np.ascontiguousarray(dy), np.ascontiguousarray(dx)


def steadied_image(image: F32, line_s: float, pixel_s: float) -> tuple[F32, float]:
    """An image (ny, nx) without its mains hum, and how many pixels (rms) that moved it.

    Its lines all run one way, `line_s` from one to the next, `pixel_s` from pixel to pixel. Nothing
    is done for a scan that takes longer than LONGEST_S.
    """
    if min(image.shape) < SMALLEST_PX or line_s * len(image) > LONGEST_S:
        return image, 0.0
    hum = find_hum(image, line_s, pixel_s)
    if hum is None:
        return image, 0.0
    moved = float(np.sqrt(0.5 * np.square(np.abs(hum.amplitude)).sum()))
    return without_hum(image, hum), moved


def find_hum(image: F32, line_s: float, pixel_s: float) -> Hum | None:
    """The mains hum of an image (ny, nx), None where it shows none.

    `line_s` from line to line, `pixel_s` from pixel to pixel. Cost: that of four times `find_waves`
    where there is hum, of one where there is none.
    """
    ny = len(image)
    tried = _frequencies(ny * line_s) * np.array([[line_s], [pixel_s]])
    found: Hum | None = None
    undone = image
    for _ in range(TURNS):
        amplitude, frequency, certain = _beside(undone, tried.T)
        if not certain:
            break
        total = amplitude if found is None else found.amplitude + amplitude
        if np.abs(total).max() > LARGEST_PX:
            return None
        found = Hum(total, frequency)
        tried = frequency[:, None]
        undone = _undone(image, found)
    return found


def without_hum(image: F32, hum: Hum) -> F32:
    """The image (ny, nx) with its hum undone, its noise as it is.

    What it shows is moved, not the image: noise stays white.
    """
    shown = shown_of(_undone(image, hum))
    dy, dx = hum.shifts(shown.shape)
    return image - (sample(shown, dy, dx, True) - shown)


def _undone(image: F32, hum: Hum) -> F32:
    dy, dx = replace(hum, amplitude=-hum.amplitude).shifts(image.shape)
    return sample(image, dy, dx, True)


def _frequencies(seconds: float) -> F64:
    """Mains frequencies in Hz that differ over the scan."""
    found = []
    for middle in MAINS_HZ:
        steps = int(np.ceil(OFF * middle * seconds / PHASE))
        found.append(middle + np.arange(-steps, steps + 1) * PHASE / seconds)
    return np.concatenate(found)


def _beside(image: F32, tried: F64) -> tuple[C128, F64, bool]:
    """Amplitude, frequency and certainty of the likeliest of the frequencies (n, 2)."""
    waves, mean, noise = find_waves(image, MOST)
    count = image.size
    power = np.abs(waves.amplitude) ** 2 * count / noise.at(waves.frequency[:, 1])
    rest = Sums(image - np.float32(mean) - waves.image())
    variance = noise.variance / count
    best: tuple[float, C128, F64, bool] = (0.0, np.zeros(2, np.complex128), np.zeros(2), False)
    for q in tried:
        strong = power > STRONG
        strong &= ~_satellites(waves, q)
        if strong.sum() < 2:
            continue
        k, a = waves.frequency[strong], waves.amplitude[strong]
        others = Waves(waves.shape, waves.frequency[~strong], waves.amplitude[~strong])
        plus = _amplitudes(rest, others, k + q)
        minus = _amplitudes(rest, others, k - q)
        rows = np.concatenate([1j * np.pi * a[:, None] * k, -1j * np.pi * a.conj()[:, None] * k])
        seen = np.concatenate([plus, minus.conj()])
        square = (rows.conj().T @ rows).real + variance * np.eye(2)
        pull = rows.conj().T @ seen
        amplitude = np.linalg.solve(square, pull)
        explained = float((amplitude.conj() @ pull).real)
        left = float((np.abs(seen) ** 2).sum()) - explained - variance * (len(seen) - 2)
        certain = explained > CERTAIN * variance
        certain &= explained > EXPLAINED * (explained + max(left, 0.0))
        if explained > best[0]:
            best = (explained, amplitude, np.asarray(q), certain)
    return best[1:]


def _amplitudes(rest: Sums, waves: Waves, frequency: F64) -> C128:
    """What an image has at frequencies (n, 2): of what is left of it, and of these waves."""
    ny, nx = waves.shape
    count = ny * nx
    seen = rest.at(frequency) / count
    for sign in (1.0, -1.0):
        apart = frequency[:, None] - sign * waves.frequency[None]
        part = _dirichlet(apart[..., 0], ny) * _dirichlet(apart[..., 1], nx) / count
        seen = seen + part @ (waves.amplitude if sign > 0.0 else waves.amplitude.conj())
    return np.asarray(seen, np.complex128)


def _dirichlet(f: F64, n: int) -> F64:
    """Sum over n positions from the middle of exp(2 pi i f p)."""
    below = np.sin(np.pi * f)
    near = np.abs(below) < 1e-9
    turns = np.rint(f)
    return np.where(
        near,
        n * np.cos(np.pi * turns * (n - 1)),
        np.sin(np.pi * f * n) / np.where(near, 1.0, below),
    )


def _satellites(waves: Waves, q: F64) -> NDArray[np.bool_]:
    """Which waves (n,) stand at the hum's distance from a stronger one."""
    k, size = waves.frequency, np.abs(waves.amplitude)
    bins = np.array(waves.shape)
    found = np.zeros(len(k), np.bool_)
    for sign in (1.0, -1.0):
        for mirrored in (1.0, -1.0):
            apart = k[:, None] - mirrored * k[None] - sign * q
            apart -= np.rint(apart)
            near = np.hypot(*(apart * bins).T).T < BESIDE
            found |= (near & (size[None] > size[:, None])).any(axis=1)
    return found

"""Diffraction patterns of a specimen at any probe position, as a camera would see them."""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from stemd.aberrations import Aberrations
from stemd.beam import Beam
from stemd.errors import UsageError
from stemd.virtual.fft import LANES, SIZES, size_of, twiddles
from stemd.virtual.kernels import WAVE_STEPS, bin_patterns, enlarge_patterns, render
from stemd.virtual.specimen import Specimen

WINDOW_AIRY_RADII = 20.0
"""Least width of the window around the probe, in Airy radii, defocus comes on top."""
HOT_SHARE = 0.02
FAULTY_SEED = 11
FIELD_SAMPLES = 24_000_000
"""Most samples of the transmission function held at a time (8 bytes each)."""


@dataclass(frozen=True, slots=True)
class Camera:
    """Geometry of the detector: `shape` (height, width) in pixels of `pixel_size_mrad`.

    `rotation_deg` and `flip` are what turns detector axes into scan axes (docs/conventions.md).
    The undiffracted beam falls on the middle of the detector, ((height - 1) / 2,
    (width - 1) / 2), plus `offset` (y, x) in pixels, plus `descan` (y, x) in pixels times where
    the probe is in the field, from -1/2 to 1/2 along each scan axis.

    The detector's plane is tilted by `tilt_deg` against the one across the beam, about the line
    that is square to the direction `tilt_to_deg` (from +x to +y): patterns are longer along it.

    `hot` pixels count HOT_SHARE of a pattern's electrons too many each, `dead` ones count nothing;
    `point_spread` is the standard deviation in pixels with which each electron is seen.
    """

    shape: tuple[int, int] = (64, 64)
    pixel_size_mrad: float = 1.25
    rotation_deg: float = 0.0
    flip: bool = False
    offset: tuple[float, float] = (0.0, 0.0)
    descan: tuple[float, float] = (0.0, 0.0)
    hot: int = 0
    dead: int = 0
    point_spread: float = 0.0
    tilt_deg: float = 0.0
    tilt_to_deg: float = 0.0

    def faulty(self) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
        """Flat indices of the hot and of the dead pixels, the same for cameras of one shape."""
        height, width = self.shape
        order = np.random.default_rng(FAULTY_SEED).permutation(height * width)
        return order[: self.hot], order[self.hot : self.hot + self.dead]

    @property
    def axes(self) -> NDArray[np.float64]:
        """(2, 2) orthogonal: it times a detector's column vector (y, x) is the scan's (y, x)."""
        c, s = math.cos(math.radians(self.rotation_deg)), math.sin(math.radians(self.rotation_deg))
        rotation = np.array([[c, -s], [s, c]])
        return rotation[:, ::-1].copy() if self.flip else rotation

    def seen_by_tilted(self) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
        """Where a plane across the beam has what each pixel of the tilted one sees, (2, h, w) in
        its pixels, and by how much less of it falls on a pixel, (h, w).

        A pixel that is `along` the tilt from where the beam falls, in radian, is nearer or farther
        by along sin(tilt), so it sees along cos / (1 + along sin) and across / (1 + along sin).
        """
        height, width = self.shape
        middle = np.array([(height - 1) / 2, (width - 1) / 2]) + np.array(self.offset)
        place = (np.indices(self.shape) - middle[:, None, None]) * self.pixel_size_mrad * 1e-3
        tilt, to = math.radians(self.tilt_deg), math.radians(self.tilt_to_deg)
        way = np.array([math.sin(to), math.cos(to)])
        along = place[0] * way[0] + place[1] * way[1]
        across = place - along * way[:, None, None]
        far = 1.0 + along * math.sin(tilt)
        seen = (along * math.cos(tilt) * way[:, None, None] + across) / far
        share = math.cos(tilt) / far**3
        return seen / (self.pixel_size_mrad * 1e-3) + middle[:, None, None], share

    def shifts(
        self, positions: NDArray[np.float64], field: tuple[float, float]
    ) -> NDArray[np.float64]:
        """Where the undiffracted beam falls, (n, 2) pixels from the detector's middle.

        positions (n, 2) in angstrom, `field` height and width of the scan in angstrom.
        """
        part = positions / np.maximum(np.array(field), 1e-9) - 0.5
        return np.asarray(np.array(self.offset) + np.array(self.descan) * part)


class PatternRenderer:
    """Expected diffraction patterns, 1 electron each, in the phase-object approximation.

    psi_out(r) = psi(r - rp) exp(i sigma V(r)), I(k) = |F psi_out|^2: with the detector's k axes
    along the specimen's, the pattern's centre of mass is the gradient of eq. 3.2 (potential
    cross-correlated with probe intensity) divided by 2 pi, in inverse angstrom. Electrons
    scattered past the detector's rim are lost. A turned or flipped camera is simulated by
    turning specimen and scan the other way, which is exact. `lens`: what is not round of the
    probe's aberrations, in scan axes; the beam has the rest.

    Patterns are computed on a core grid of a few dozen pixels whose pixel is the camera's times
    `enlarge` or divided by `bin`, chosen so that the window, lambda / core pixel, holds the
    probe and is not much larger.
    """

    def __init__(
        self, specimen: Specimen, beam: Beam, camera: Camera, lens: Aberrations | None = None
    ) -> None:
        self.specimen, self.beam, self.camera = specimen, beam, camera
        lens = lens or Aberrations()
        self._lens = lens.not_round.coefficients(beam)
        self._hot, self._dead = camera.faulty()
        pixel = camera.pixel_size_mrad * 1e-3 / beam.wavelength
        spread = beam.blur_radius + lens.spread(beam)
        window = WINDOW_AIRY_RADII * beam.airy_radius + 2 * spread
        self.enlarge = max(1, int(1 / (pixel * window) + 1e-9))
        self.bin = max(1, math.ceil(pixel * window - 1e-9)) if self.enlarge == 1 else 1
        self.core_pixel = pixel * self.enlarge / self.bin
        """Core pixel in inverse angstrom."""
        h, w = camera.shape
        if self.enlarge > 1:
            self.core_shape = (
                math.ceil((h - 1) / self.enlarge) + 2,
                math.ceil((w - 1) / self.enlarge) + 2,
            )
        else:
            self.core_shape = (h * self.bin, w * self.bin)
        radius = beam.aperture / self.core_pixel
        reach = max(abs(value) for value in (*camera.offset, *camera.descan))
        tilt = reach * self.bin / self.enlarge
        need = max(self.core_shape) + 2 * (radius + tilt)
        fitting = [size for size in SIZES if size >= need]
        if not fitting:
            raise UsageError(
                f"patterns of {h} x {w} pixels of {camera.pixel_size_mrad:g} mrad would need "
                f"{math.ceil(need)} samples across, the virtual microscope has {SIZES[-1]}",
                "choose a smaller detector, a smaller --pixel-size-mrad or less defocus",
            )
        self.samples = fitting[0]
        self.pitch = 1 / (self.core_pixel * self.samples)
        """Grid of the specimen in angstrom."""
        k = np.arange(int((radius + 2) * WAVE_STEPS), dtype=np.float64) * (
            self.core_pixel / WAVE_STEPS
        )
        self._wave = beam.radial_wave(k, self.core_pixel).astype(np.complex64)
        widest = 2 * (radius + 1.5 + tilt)
        self._disc = min(self.samples, math.ceil(widest / LANES) * LANES)
        self._cos, self._sin = twiddles(self.samples)
        self._re = self._im = np.zeros((0, 0), np.float32)
        self._first = np.zeros(2, np.int64)

    @property
    def g_limit(self) -> float:
        """Band limit of the potential in inverse angstrom: the grid's Nyquist frequency."""
        return 0.5 / self.pitch

    def _extent(self, base: NDArray[np.int64]) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
        low = base.min(axis=0)
        return low, base.max(axis=0) + self.samples - low

    def _cover(self, base: NDArray[np.int64]) -> int:
        """Have the transmission function ready for windows at `base`; for how many of them."""
        count = int(base.shape[0])
        while True:
            low, size = self._extent(base[:count])
            inside = low - self._first
            have = np.array(self._re.shape[::-1])
            if np.all(inside >= 0) and np.all(inside + size <= have):
                return count
            if count == 1 or int(size[0]) * int(size[1]) <= FIELD_SAMPLES:
                break
            count = (count + 1) // 2
        potential = self.specimen.potential(
            (float(low[1]) * self.pitch, float(low[0]) * self.pitch),
            (int(size[1]), int(size[0])),
            self.pitch,
            self.g_limit,
            self.camera.axes[:, ::-1],
        )
        phase = np.float32(self.beam.sigma) * potential
        self._re, self._im = np.cos(phase), np.sin(phase)
        self._first = low
        return count

    def core(
        self,
        positions: NDArray[np.float64],
        shifts: NDArray[np.float64] | None = None,
        part: int = 256,
    ) -> Iterator[NDArray[np.float32]]:
        """Core patterns (n, hc, wc) in order, at most `part` at a time.

        positions (m, 2) in angstrom in the scan's frame, shifts (m, 2) in camera pixels. The
        specimen is laid out for as many of the positions as fit, so give many at a time.
        """
        grid = positions @ self.camera.axes / self.pitch
        whole = np.floor(grid).astype(np.int64)
        fraction = grid - whole
        base = whole - self.samples // 2
        # an even number of pixels has its middle half a pixel before pixel n // 2
        even = np.array([(size - 1) / 2 - size // 2 for size in self.core_shape])
        moved = np.zeros_like(positions) if shifts is None else shifts
        moved = moved * (self.bin / self.enlarge) + even
        done = covered = 0
        while done < positions.shape[0]:
            if done == covered:
                covered += self._cover(base[done:])
            now = slice(done, min(done + part, covered))
            out = np.empty((now.stop - now.start, *self.core_shape), np.float32)
            render(
                self._re,
                self._im,
                base[now] - self._first,
                fraction[now],
                moved[now],
                self._wave,
                self._disc,
                size_of(self.samples),
                self._cos,
                self._sin,
                self._lens,
                self.camera.axes,
                self.beam.aperture / self.core_pixel,
                out,
            )
            yield out
            done = now.stop

    def finish(self, core: NDArray[np.float32]) -> NDArray[np.float32]:
        """Core patterns as the camera's pixels, (n, h, w)."""
        if self.bin == 1 and self.enlarge == 1:
            return self._seen(core)
        out = np.empty((core.shape[0], *self.camera.shape), np.float32)
        if self.bin > 1:
            bin_patterns(core, self.bin, out)
        else:
            enlarge_patterns(core, self.enlarge, out)
        return self._seen(out)

    def _seen(self, patterns: NDArray[np.float32]) -> NDArray[np.float32]:
        """Patterns as a detector with a point spread and faulty pixels sees them."""
        camera = self.camera
        if camera.tilt_deg:
            patterns = _tilted(patterns, *camera.seen_by_tilted())
        if camera.point_spread > 0.0:
            patterns = _spread(patterns, camera.point_spread)
        if camera.hot or camera.dead:
            patterns = patterns.copy()
            flat = patterns.reshape(patterns.shape[0], -1)
            flat[:, self._hot] += np.float32(HOT_SHARE)
            flat[:, self._dead] = 0.0
        return patterns

    def patterns(
        self, positions: NDArray[np.float64], shifts: NDArray[np.float64] | None = None
    ) -> NDArray[np.float32]:
        """Expected patterns (n, h, w), the share of a position's electrons in each pixel."""
        return np.concatenate([self.finish(part) for part in self.core(positions, shifts)])


def _tilted(
    patterns: NDArray[np.float32], place: NDArray[np.float64], share: NDArray[np.float64]
) -> NDArray[np.float32]:
    """Patterns (n, h, w) at places (2, h, w), times a share (h, w); 0 beyond the rim."""
    height, width = patterns.shape[1:]
    low = np.floor(place).astype(np.int64)
    rest = place - low
    flat, out = patterns.reshape(patterns.shape[0], -1), np.zeros_like(patterns)
    for j, i in ((0, 0), (0, 1), (1, 0), (1, 1)):
        y, x = low[0] + j, low[1] + i
        weight = np.abs(1 - j - rest[0]) * np.abs(1 - i - rest[1]) * share
        inside = (y >= 0) & (y < height) & (x >= 0) & (x < width)
        at = np.clip(y, 0, height - 1) * width + np.clip(x, 0, width - 1)
        out += np.where(inside, weight, 0.0).astype(np.float32) * flat[:, at]
    return out


def _spread(patterns: NDArray[np.float32], deviation: float) -> NDArray[np.float32]:
    """Patterns (n, h, w) smeared by a gaussian along both axes; what leaves the rim is lost."""
    reach = math.ceil(4.0 * deviation)
    weight = np.exp(-0.5 * (np.arange(-reach, reach + 1) / deviation) ** 2)
    weight = (weight / weight.sum()).astype(np.float32)
    for axis in (1, 2):
        size, total = patterns.shape[axis], np.zeros_like(patterns)
        along, to = np.moveaxis(patterns, axis, 0), np.moveaxis(total, axis, 0)
        for offset, share in zip(range(-reach, reach + 1), weight, strict=True):
            low, high = max(0, offset), min(size, size + offset)
            if low < high:
                to[low:high] += share * along[low - offset : high - offset]
        patterns = total
    return patterns

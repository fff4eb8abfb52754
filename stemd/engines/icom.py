"""iCOM: the whole COM field integrated in Fourier space, for comparison and final quality."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from stemd.acquisition import Acquisition
from stemd.blocks import Block
from stemd.engines.base import PositionMaps, Positions
from stemd.engines.growing import clear_not_done
from stemd.engines.kernels.ricom import Lines
from stemd.engines.vectors import resolve_zero, scan_lines
from stemd.plugins import Plugin
from stemd.results import Result
from stemd.settings import EngineSettings, Settings


class IcomSettings(EngineSettings):
    """iCOM has no settings of its own."""


LINES = 32
"""Lines, and then columns, that are transformed at once."""


def integrate_gradient(lines: Lines, shape: tuple[int, int]) -> NDArray[np.float32]:
    """The image (ny, nx) of zero mean whose gradient is closest to the given one, least squares.

    Solves the Poisson equation in Fourier space: O = -i (k_y G_y + k_x G_x) / (2 pi |k|^2), k in
    cycles a pixel. The field is mirrored at the image's edges (even image, odd normal
    gradient), so that a specimen that does not repeat leaves no seam. `lines` gives the
    gradients (y, x) of lines first..stop-1, each (stop - first, nx).

    The transform of what is mirrored is real but for a phase, so the mirrored field, four times
    the image, is never made: lines and then columns are transformed a few at once. In between
    two float32 arrays of the image's size are kept, which costs 1e-7 of the image's range; the
    image takes the place of one of them.
    """
    ny, nx = shape
    kx = np.fft.rfftfreq(2 * nx)
    phase = np.exp(1j * np.pi * kx)
    room = np.empty(ny * (nx + 1), np.float32)
    even, odd = room.reshape(ny, nx + 1), np.empty((ny, nx + 1), np.float32)
    for first in range(0, ny, LINES):
        part = slice(first, min(ny, first + LINES))
        gradient_y, gradient_x = lines(part.start, part.stop)
        even[part] = (np.fft.rfft(_mirrored(gradient_y, 1, 1.0)) / phase).real
        odd[part] = -(np.fft.rfft(_mirrored(gradient_x, 1, -1.0)) / phase).imag
    ky = np.fft.fftfreq(2 * ny)[:, None]
    for first in range(0, nx + 1, LINES):
        columns = slice(first, first + LINES)
        square = ky**2 + kx[columns] ** 2
        square[0, 0] += first == 0  # the mean, which has no gradient
        spectrum = ky * np.fft.fft(_mirrored(even[:, columns], 0, -1.0), axis=0)
        spectrum -= 1j * kx[columns] * np.fft.fft(_mirrored(odd[:, columns], 0, 1.0), axis=0)
        spectrum *= -1j / (2 * np.pi * square)
        spectrum[ny] = 0.0  # an even image has none of the highest frequency
        even[:, columns] = np.fft.ifft(spectrum, axis=0)[:ny].real
    del odd
    image = room[: ny * nx].reshape(shape)
    for first in range(0, ny, LINES):
        part = slice(first, min(ny, first + LINES))
        # what is written ends before the lines that are still to be read
        image[part] = np.fft.irfft(phase * even[part], 2 * nx)[:, :nx]
    return image


def _mirrored(field: NDArray[np.floating[Any]], axis: int, sign: float) -> NDArray[np.float64]:
    """The field and its mirror image behind it along an axis."""
    return np.concatenate([field, sign * np.flip(field, axis)], axis, dtype=np.float64)


class IcomEngine:
    """`icom`, made once, at the end of the scan."""

    def __init__(self, settings: IcomSettings) -> None:
        self.name = settings.name or "icom"

    def start(self, acquisition: Acquisition, settings: Settings, maps: PositionMaps) -> None:
        """A scan begins."""
        self._acquisition, self._settings, self._maps = acquisition, settings, maps

    def update(self, settings: Settings) -> None:
        """Centre, rotation or flip changed."""
        self._settings = settings

    def consume(self, item: Positions | Block) -> None:
        """Nothing to do: the maps are the accumulators."""

    def snapshot(self, *, final: bool) -> Sequence[Result]:
        """The image, float32 (ny, nx), in detector pixels times scan pixels; only when final."""
        if not final:
            return []
        acquisition, optics = self._acquisition, self._settings.optics
        zero = resolve_zero(self._maps, optics, acquisition.detector.shape)
        image = integrate_gradient(scan_lines(self._maps, zero, optics), self._maps.shape)
        clear_not_done(image, self._maps)
        extra = {**zero.about(), "rotation_deg": optics.rotation_deg, "flip": optics.flip}
        step = acquisition.scan.step_size_angstrom
        return [Result(self.name, image, "px*px", "scan", step, extra)]


PLUGIN = Plugin(
    name="icom",
    summary="integrated centre of mass of the whole scan, at its end",
    settings=IcomSettings,
    build=IcomEngine,
)

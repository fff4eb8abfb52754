"""iCOM: the whole COM field integrated in Fourier space, for comparison and final quality."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from stemd.acquisition import Acquisition
from stemd.blocks import Block
from stemd.engines.base import PositionMaps, Positions
from stemd.engines.vectors import resolve_zero, shifts_from, to_scan_axes
from stemd.plugins import Plugin
from stemd.results import Result
from stemd.settings import EngineSettings, Settings


class IcomSettings(EngineSettings):
    """iCOM has no settings of its own."""


def integrate_gradient(
    gradient_y: NDArray[np.float64], gradient_x: NDArray[np.float64]
) -> NDArray[np.float64]:
    """The image of zero mean whose gradient is closest to the given one, least squares.

    Solves the Poisson equation in Fourier space: O = -i (k_y G_y + k_x G_x) / (2 pi |k|^2), k in
    cycles a pixel. The field is mirrored at the image's edges (even image, odd normal
    gradient), so that a specimen that does not repeat leaves no seam. Shapes (ny, nx).
    """
    ny, nx = gradient_y.shape

    def mirrored(field: NDArray[np.float64], odd_axis: int) -> NDArray[np.float64]:
        for axis in (0, 1):
            sign = -1.0 if axis == odd_axis else 1.0
            field = np.concatenate([field, sign * np.flip(field, axis)], axis)
        return field

    ky = np.fft.fftfreq(2 * ny)[:, None]
    kx = np.fft.rfftfreq(2 * nx)[None, :]
    square = ky**2 + kx**2
    square[0, 0] = 1.0
    spectrum = ky * np.fft.rfft2(mirrored(gradient_y, 0)) + kx * np.fft.rfft2(
        mirrored(gradient_x, 1)
    )
    spectrum *= -1j / (2 * np.pi * square)
    spectrum[0, 0] = 0.0
    return np.fft.irfft2(spectrum, (2 * ny, 2 * nx))[:ny, :nx]


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
        scan_y, scan_x = to_scan_axes(*shifts_from(self._maps, zero), optics)
        shape = self._maps.shape
        image = integrate_gradient(scan_y.reshape(shape), scan_x.reshape(shape))
        extra = {**zero.about(), "rotation_deg": optics.rotation_deg, "flip": optics.flip}
        step = acquisition.scan.step_size_angstrom
        return [Result(self.name, image.astype(np.float32), "px*px", "scan", step, extra)]


PLUGIN = Plugin(
    name="icom",
    summary="integrated centre of mass of the whole scan, at its end",
    settings=IcomSettings,
    build=IcomEngine,
)

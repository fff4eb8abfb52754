"""What a perfect reconstruction of a virtual scan would show, computed without any pattern."""

from __future__ import annotations

import math
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from stemd.beam import Beam
from stemd.errors import SinkError, UsageError
from stemd.virtual.diffraction import Camera
from stemd.virtual.scan import ScanPath
from stemd.virtual.specimen import Specimen

Image = NDArray[np.float32]
MAX_SAMPLES = 40_000_000
"""Largest grid in samples: some 2 GB of memory while the truth is computed."""
MARGIN_ANGSTROM = 8.0


@dataclass(frozen=True, slots=True)
class Truth:
    """Images (y, x), one pixel a probe position of the undistorted scan.

    `potential`: projected potential in V angstrom. `phase`: sigma times the potential
    cross-correlated with the probe intensity, in radian (thesis eq. 3.2). `com_y`, `com_x`: its
    gradient as centre of mass in detector pixels, along the scan's axes (before the camera is
    turned or flipped).
    """

    potential: Image
    phase: Image
    com_y: Image
    com_x: Image

    def ricom(
        self,
        kernel_size: int,
        band_pass: tuple[float, float] | None = None,
        step_angstrom: float = 1.0,
    ) -> Image:
        """What riCOM with a kernel of n x n pixels makes of the true COM map.

        The phase times the transfer of eq. 3.4's kernel, step^2 / (2 pi) r / |r|^2 in a square
        window, with nothing known outside the scan; in float64 by Fourier transforms. `band_pass`
        keeps k_min <= |k| <= k_max in inverse pixels of an image of N pixels, N the longer side
        (eq. 3.8), before the kernel would be cropped. The line-integral approximation of this
        transfer is `line_integral_transfer`.
        """
        ny, nx = self.phase.shape
        half = kernel_size // 2
        y, x = np.mgrid[-half : half + 1, -half : half + 1].astype(np.float64)
        r2 = y**2 + x**2
        r2[half, half] = np.inf
        padded = (_even_size(ny + 2 * half), _even_size(nx + 2 * half))

        def transform(image: NDArray[np.floating]) -> NDArray[np.complex128]:
            return np.asarray(np.fft.rfft2(image.astype(np.float64), padded))

        spectrum = transform(self.com_y) * transform(y / r2) + transform(self.com_x) * transform(
            x / r2
        )
        if band_pass is not None:
            k = max(ny, nx) * _radial_frequency(padded)
            spectrum *= (k >= band_pass[0]) & (k <= band_pass[1])
        image = np.fft.irfft2(spectrum, padded)[half : half + ny, half : half + nx]
        return (image * step_angstrom**2 / (2 * math.pi)).astype(np.float32)

    def filtered(self, kernel_size: int) -> Image:
        """`phase` times the line-integral approximation of the kernel's transfer (eq. 3.7)."""
        shape = (self.phase.shape[0], self.phase.shape[1])
        transfer = line_integral_transfer(_radial_frequency(shape), kernel_size)
        spectrum = np.fft.rfft2(self.phase - self.phase.mean()) * transfer
        return np.fft.irfft2(spectrum, shape).astype(np.float32)


def _radial_frequency(shape: tuple[int, int]) -> NDArray[np.float64]:
    """|k| in cycles a pixel on the grid of rfft2."""
    return np.asarray(
        np.hypot(np.fft.fftfreq(shape[0])[:, None], np.fft.rfftfreq(shape[1])[None, :])
    )


def line_integral_transfer(frequency: NDArray[np.float64], kernel_size: int) -> NDArray[np.float64]:
    """From potential to riCOM along one line through the kernel: 1 - cos(pi (n - 1) f).

    Eq. 3.7, N / (2 pi k) (1 - cos((n - 1) / 2 * 2 pi k / N)) with f = k / N in cycles a pixel,
    times the 2 pi k / N of the gradient that the centre of mass is. The square window of
    eq. 3.4 averages this over its directions.
    """
    return np.asarray(1 - np.cos(math.pi * (kernel_size - 1) * frequency))


def compute(specimen: Specimen, beam: Beam, camera: Camera, path: ScanPath) -> Truth:
    """The truth of a scan. Raises UsageError when the field is too large for memory."""
    step = path.step
    # The probe's intensity ends at twice the aperture: Nyquist beyond 3 of them is ample.
    fine = max(1, math.ceil(step * 6 * beam.aperture))
    pitch = step / fine
    margin = math.ceil((MARGIN_ANGSTROM + 2 * beam.blur_radius) / step) * fine
    ny, nx = path.scan.shape
    rows = _even_size((ny - 1) * fine + 1 + 2 * margin)
    columns = _even_size((nx - 1) * fine + 1 + 2 * margin)
    if rows * columns > MAX_SAMPLES:
        raise UsageError(
            f"the truth of {ny} x {nx} positions of {step:g} angstrom needs a grid of "
            f"{rows} x {columns} samples, which is beyond the limit of {MAX_SAMPLES}",
            "choose a smaller --scan or --step, or leave --truth out",
        )
    origin = (-margin * pitch, -margin * pitch)
    # Aliases of the potential fall beyond the probe's band as long as the limit is this one.
    fine_potential = specimen.potential(origin, (rows, columns), pitch, 0.9 / pitch / 2)
    ky = np.fft.fftfreq(rows, pitch)[:, None]
    kx = np.fft.fftfreq(columns, pitch)[None, :]
    k = np.hypot(ky, kx)
    probe = np.abs(np.fft.ifft2(beam.radial_wave(k, 1 / (rows * pitch)))) ** 2
    probe /= probe.sum()
    # a cross-correlation: the conjugate of the probe's transform
    spectrum = np.fft.rfft2(fine_potential) * np.conj(np.fft.rfft2(probe)) * beam.sigma
    half = kx[:, : spectrum.shape[1]]
    pixel = camera.pixel_size_mrad * 1e-3 / beam.wavelength

    def at_positions(transform: NDArray[Any]) -> Image:
        image = np.fft.irfft2(transform, s=(rows, columns))
        inner = image[margin : margin + (ny - 1) * fine + 1, margin : margin + (nx - 1) * fine + 1]
        return inner[::fine, ::fine].astype(np.float32)

    return Truth(
        potential=specimen.potential((0.0, 0.0), (ny, nx), step, 6.0),
        phase=at_positions(spectrum),
        com_y=at_positions(spectrum * 1j * ky / pixel),
        com_x=at_positions(spectrum * 1j * half / pixel),
    )


def _even_size(n: int) -> int:
    """The next even size without large prime factors."""
    while True:
        n += n % 2
        rest = n
        for prime in (2, 3, 5, 7):
            while rest % prime == 0:
                rest //= prime
        if rest == 1:
            return n
        n += 2


def write(truth: Truth, folder: Path, step: float, kernel_size: int) -> list[Path]:
    """Write every image as <folder>/<name>.tif (float32, ImageJ scale in nm).

    `ricom` is for a kernel of `kernel_size`. Raises SinkError when the folder cannot be written.
    """
    import tifffile

    images = {
        "potential": truth.potential,
        "phase": truth.phase,
        "com_y": truth.com_y,
        "com_x": truth.com_x,
        "ricom": truth.ricom(kernel_size, step_angstrom=step),
    }
    written = []
    try:
        folder.mkdir(parents=True, exist_ok=True)
        for name, image in images.items():
            path = folder / f"{name}.tif"
            tifffile.imwrite(
                path,
                image,
                imagej=True,
                resolution=(10 / step, 10 / step),
                metadata={"unit": "nm", "axes": "YX"},
            )
            written.append(path)
    except OSError as error:
        raise SinkError(
            f"the truth cannot be written to {folder}: {error.strerror or error}",
            "choose a folder for --truth that you may write to",
        ) from error
    return written

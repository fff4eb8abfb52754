"""Scans of the virtual microscope and what the engines make of them."""

from __future__ import annotations

import math
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray

from stemd.aberrations import Aberrations
from stemd.acquisition import Acquisition, Detector, Optics, Scan
from stemd.beam import Beam
from stemd.blocks import FrameBlock
from stemd.config.resolved import EngineConfig
from stemd.results import Result
from stemd.scan.run import ScanRun
from stemd.settings import Settings
from stemd.virtual.diffraction import Camera
from stemd.virtual.microscope import Microscope, Setup

PATTERN, PIXEL_MRAD = 40, 2.0
MARGIN = 20.0
"""Angstrom about the scan in which the specimen is looked at for the truth."""


@dataclass(frozen=True)
class Case:
    """A scan: lengths in angstrom, `dose` in electrons an angstrom^2."""

    specimen: str = "mos2_twisted"
    dose: float = 1e4
    lens: Aberrations = field(default_factory=Aberrations)
    side: int = 64
    step: float = 0.3
    thickness: float = 7.81
    seed: int = 1
    camera: Camera = field(default_factory=lambda: Camera((PATTERN, PATTERN), PIXEL_MRAD))
    source_size: float = 0.0
    energy_ev: float = 300e3
    angle_mrad: float = 20.0

    @property
    def beam(self) -> Beam:
        """With what is round of the lens."""
        return Beam(self.energy_ev, self.angle_mrad, self.lens.defocus, self.lens.spherical * 1e-7)

    def microscope(self) -> Microscope:
        """That makes this scan."""
        return Microscope(
            Setup(
                Scan(shape=(self.side, self.side), step_size_angstrom=self.step),
                self.specimen,
                self.thickness,
                self.beam,
                self.lens.not_round,
                self.source_size,
                self.camera,
                self.dose * self.step**2,
                self.seed,
            )
        )


def counts_of(microscope: Microscope) -> NDArray[np.uint16]:
    """Patterns (n, h, w) of a whole scan."""
    frames = microscope.setup.scan.frames
    return np.concatenate(list(microscope.counts(0, 0, frames))).astype(np.uint16)


def truth_of(case: Case) -> NDArray[np.float64]:
    """The specimen's phase at the positions, band-limited to what the bright field can show.

    That is done on a finer grid: waves beyond twice the aperture, of which the bright field has
    nothing, must not be folded onto others by the scan's step.
    """
    beam, n = case.beam, case.side
    fine = max(1, math.ceil(case.step * 6 * beam.aperture))
    pitch, margin = case.step / fine, math.ceil(MARGIN / case.step) * fine
    size = (n - 1) * fine + 1 + 2 * margin
    origin = (-margin * pitch, -margin * pitch)
    specimen = case.microscope().specimen
    potential = specimen.potential(origin, (size, size), pitch, 0.9 / pitch / 2)
    phase = potential.astype(np.float64) * beam.sigma
    k = np.hypot(np.fft.fftfreq(size, pitch)[:, None], np.fft.rfftfreq(size, pitch)[None, :])
    spectrum = np.fft.rfft2(phase)
    spectrum[k > 2 * beam.aperture] = 0.0
    inner = slice(margin, margin + (n - 1) * fine + 1, fine)
    seen = np.fft.irfft2(spectrum, (size, size))[inner, inner]
    return np.asarray(seen - seen.mean())


def made(
    case: Case, patterns: NDArray[np.uint16], engines: dict[str, dict[str, Any]], **told: Any
) -> tuple[dict[str, Result], ScanRun]:
    """Final images by name, with what is told of the optics beyond energy and angle."""
    optics = Optics(
        **{
            "energy_ev": case.energy_ev,
            "convergence_semi_angle_mrad": case.angle_mrad,
            "pixel_size_mrad": case.camera.pixel_size_mrad,
            "rotation_deg": case.camera.rotation_deg,
            "flip": case.camera.flip,
            **told,
        }
    )
    choices = [EngineConfig.of(name, table) for name, table in engines.items()]
    acquisition = Acquisition(
        Scan(shape=(case.side, case.side), step_size_angstrom=case.step),
        Detector("virtual", case.camera.shape, "u2", 16),
    )
    settings = Settings(optics=optics, engines={each.name: each.settings for each in choices})
    run = ScanRun(acquisition, settings, choices)
    nx, pixels = case.side, patterns.shape[1] * patterns.shape[2]
    for line in range(case.side):
        wire = patterns[line * nx : (line + 1) * nx].reshape(-1).view(np.uint8)
        numbers = np.arange(line * nx, (line + 1) * nx)
        run.reduce(
            FrameBlock(
                acquisition=acquisition, pixels=wire, pixel_offset=0, stride=2 * pixels,
                count=nx, shape=case.camera.shape, dtype="u2", big_endian=False,
                sequence=numbers, probe=numbers, wire=wire, received_ns=1,
            )
        )  # fmt: skip
    run.end("complete")
    final = run.serve(lambda snapshot: None, lambda: 1.0)
    if run.failed:
        raise RuntimeError(str(run.failed))
    return {result.name: result for result in final.results}, run


def correlation(image: NDArray[np.floating], truth: NDArray[np.float64]) -> float:
    """Of an image with the true phase, without the outermost eight positions."""
    inner = (slice(8, -8), slice(8, -8))
    return float(np.corrcoef(image[inner].ravel(), truth[inner].ravel())[0, 1])

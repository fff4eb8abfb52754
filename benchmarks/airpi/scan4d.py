"""A simulated scan as the methods are given it."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import IO

import numpy as np
from numpy.typing import NDArray

from stemd.beam import Beam

F32 = NDArray[np.float32]

PATTERN = 64
"""Pixels across a pattern, each 1/8 of the convergence semi-angle; k = 0 at pixel (32, 32)."""
SCALE = 4096.0
"""Stored patterns are this times the share of the electrons, so that float16 holds them."""


@dataclass(frozen=True, slots=True)
class Picture:
    """A phase image: `values` (y, x), any unit and offset; `pixel` in angstrom.

    `origin` (y, x), angstrom, is where the middle of pixel (0, 0) lies, seen from the middle of
    the scan's first position.
    """

    values: NDArray[np.floating]
    pixel: float
    origin: tuple[float, float] = (0.0, 0.0)


@dataclass(frozen=True, slots=True)
class Scan4D:
    """Patterns of a scan, and the truth.

    `patterns` (ny, nx, 64, 64): float16 `SCALE` times the share of the electrons, free of noise
    (`electrons` None), or float32 counts at that many electrons a pattern. Axes y and x of
    detector and scan agree. `truth` float32: projected potential times sigma in radian on pixels
    of `truth_pixel` angstrom, beginning `truth_margin` angstrom before the first position.
    """

    name: str
    patterns: NDArray[np.floating]
    beam: Beam
    step: float
    truth: F32
    truth_pixel: float
    truth_margin: float
    electrons: float | None = None

    @property
    def shape(self) -> tuple[int, int]:
        """Scan positions (ny, nx)."""
        return self.patterns.shape[0], self.patterns.shape[1]

    @property
    def pixel_mrad(self) -> float:
        """Detector pixel."""
        return self.beam.convergence_semi_angle_mrad / 8.0

    def fraction(self) -> F32:
        """Patterns as shares of the incident electrons, float32 (ny, nx, 64, 64)."""
        divisor = SCALE if self.electrons is None else self.electrons
        return self.patterns.astype(np.float32) / np.float32(divisor)

    def at_dose(self, dose: float, seed: int = 0) -> Scan4D:
        """Counts at `dose` electrons a square angstrom: dose x step^2 a pattern, Poisson.

        An infinite dose leaves the patterns as they are.
        """
        if np.isinf(dose):
            return self
        electrons = dose * self.step**2
        rng = np.random.default_rng([seed, round(dose), *self.name.encode()])
        counts = np.empty(self.patterns.shape, np.float32)
        for line, row in enumerate(self.patterns):
            mean = row.astype(np.float64) * (electrons / SCALE)
            counts[line] = rng.poisson(mean)
        return replace(self, patterns=counts, electrons=electrons)

    def save(self, file: IO[bytes]) -> None:
        """As .npz, without compression."""
        beam = {
            "energy_ev": self.beam.energy_ev,
            "convergence_semi_angle_mrad": self.beam.convergence_semi_angle_mrad,
            "defocus_angstrom": self.beam.defocus_angstrom,
            "cs_mm": self.beam.cs_mm,
        }
        about = {"name": self.name, "step": self.step, "beam": beam,
                 "truth_pixel": self.truth_pixel, "truth_margin": self.truth_margin}  # fmt: skip
        np.savez(file, patterns=self.patterns, truth=self.truth, about=json.dumps(about))

    @classmethod
    def load(cls, path: Path) -> Scan4D:
        """From such a file."""
        with np.load(path) as held:
            about = json.loads(str(held["about"]))
            return cls(about["name"], held["patterns"], Beam(**about["beam"]), about["step"],
                       held["truth"], about["truth_pixel"], about["truth_margin"])  # fmt: skip


Method = Callable[[Scan4D], Picture]
"""What turns a scan's patterns into a phase image. It must not look at the truth."""

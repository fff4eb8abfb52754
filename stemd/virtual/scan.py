"""Where the probe is at each frame: the scan as it should be, and as a real one is."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from stemd.acquisition import Scan

JITTER_CORRELATION = 0.5
"""From line to line (thesis eqs 2.14, 2.15)."""


@dataclass(frozen=True, slots=True)
class ScanPath:
    """Probe positions of every frame of a scan, flyback and leading frames included.

    `scan.step_size_angstrom` must be set. `frame_time_s` is the time between frames.
    `drift_angstrom_per_s` (y, x) moves the specimen under the probe from the first frame on, and
    goes on from scan to scan. `jitter` shifts each line by an AR(1) series of standard deviation
    `jitter` steps along x and half of it along y (thesis section 2.2), new for each scan number.
    """

    scan: Scan
    frame_time_s: float = 1e-3
    drift_angstrom_per_s: tuple[float, float] = (0.0, 0.0)
    jitter: float = 0.0
    seed: int = 0

    @property
    def step(self) -> float:
        """Step in angstrom."""
        return self.scan.step_size_angstrom or 1.0

    @property
    def field(self) -> tuple[float, float]:
        """Height and width in angstrom: ny and nx steps."""
        return self.scan.shape[0] * self.step, self.scan.shape[1] * self.step

    @property
    def repeats(self) -> bool:
        """Every scan visits the same places."""
        return self.jitter == 0 and self.drift_angstrom_per_s == (0.0, 0.0)

    def nominal(self, frames: NDArray[np.int64]) -> NDArray[np.float64]:
        """Intended (n, 2) positions in angstrom of frame numbers from 0.

        Leading frames wait at the first position; flyback frames sweep back evenly to the start
        of the next line. Each repeat of the place begins anew at the first line.
        """
        nx = self.scan.shape[1]
        n = np.maximum(frames - self.scan.leading, 0)
        line = n // self.scan.line_frames
        column = n % self.scan.line_frames
        back = np.clip((column - (nx - 1)) / (self.scan.flyback_frames + 1), 0.0, None)
        odd = (line % 2 == 1) & self.scan.serpentine
        along = np.minimum(column, nx - 1).astype(np.float64)
        along = np.where(odd, nx - 1 - along, along)
        if not self.scan.serpentine:
            along = along - (nx - 1) * back
        line %= self.scan.shape[0]
        return np.asarray(np.stack([line + back, along], axis=1) * self.step)

    def lines(self, scan_number: int) -> NDArray[np.float64]:
        """Shift (lines + 1, 2) of each line in angstrom, for the scan of this number."""
        ny = self.scan.lines
        shift = np.zeros((ny + 1, 2))
        if self.jitter > 0:
            random = np.random.default_rng([self.seed, scan_number, 1])
            kick = random.standard_normal((ny + 1, 2)) * np.array([0.5, 1.0]) * self.jitter
            fresh = np.sqrt(1 - JITTER_CORRELATION**2)
            shift[0] = kick[0]
            for line in range(1, ny + 1):
                shift[line] = JITTER_CORRELATION * shift[line - 1] + fresh * kick[line]
        return np.asarray(shift * self.step)

    def positions(self, frames: NDArray[np.int64], scan_number: int = 0) -> NDArray[np.float64]:
        """Where the probe truly is on the specimen, (n, 2) in angstrom."""
        place = self.nominal(frames)
        line = np.maximum(frames - self.scan.leading, 0) // self.scan.line_frames
        place += self.lines(scan_number)[line]
        elapsed = (frames + scan_number * self.scan.frames) * self.frame_time_s
        return np.asarray(place + elapsed[:, None] * np.array(self.drift_angstrom_per_s))

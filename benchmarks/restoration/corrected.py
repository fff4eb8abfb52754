"""What `--correct` does to a riCOM image: of still scans, and of scans with displaced lines.

    python -m benchmarks.restoration.corrected

A dark-field image and the shifts of the pattern (noise of counting in both) are recorded at
displaced positions. The dark field is restored, shifts are found, all maps are moved, and the
integrated centre of mass is compared with that of the true positions: normalised correlation.
"""

from __future__ import annotations

import argparse
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from benchmarks.restoration.defects import PIXEL_ANGSTROM, Scene, scenes
from benchmarks.restoration.truthful import fresh_seed
from stemd.acquisition import Acquisition, Detector, Scan
from stemd.engines.base import PositionMaps
from stemd.engines.restoration.correction import Shifts, find_shifts, moved
from stemd.engines.restoration.distortions import ar1, displace_lines

Image = NDArray[np.float32]
Numbers = NDArray[np.float64]


def integrated(y: Numbers, x: Numbers) -> Numbers:
    """The image whose gradient is nearest to (y, x), without its slow half."""
    fy = np.fft.fftfreq(y.shape[0])[:, None]
    fx = np.fft.fftfreq(y.shape[1])[None]
    square = fy**2 + fx**2
    square[0, 0] = 1.0
    gain = (1.0 - np.exp(-square / (2 * 0.01**2))) / (2j * np.pi * square)
    return np.fft.ifft2(gain * (fy * np.fft.fft2(y) + fx * np.fft.fft2(x))).real


def alike(one: Numbers, other: Numbers) -> float:
    """Normalised correlation, edges left out."""
    inner = np.s_[8:-8, 8:-8]
    return float(np.corrcoef(one[inner].ravel(), other[inner].ravel())[0, 1])


class Recorded:
    """A scan of a scene: its dark field and moments with noise, and where the beam was."""

    def __init__(self, scene: Scene, dose: float, jitter_px: float, seed: int) -> None:
        rng = np.random.default_rng(seed)
        dark = scene.electrons(dose)
        ny, nx = dark.shape
        total = np.float32(dose * PIXEL_ANGSTROM**2)
        phase = scene.truth / scene.truth.std()
        slopes = [part.astype(np.float32) * np.float32(0.1) for part in np.gradient(phase)]
        self.true = [part.astype(np.float64) for part in slopes]
        self.dy, self.dx = (ar1(ny, 0.5, jitter_px * part, rng) for part in (0.5, 1.0))
        seen = [displace_lines(part, self.dy, self.dx, cubic=True) for part in (dark, *slopes)]
        counts = np.maximum(rng.poisson(total, (ny, nx)), 1)
        self.dark = rng.poisson(np.maximum(seen[0], 0.0)).astype(np.float32)
        noise = 0.5 * rng.standard_normal((2, ny, nx)) * np.sqrt(counts)
        self.acquisition = Acquisition(Scan(shape=(ny, nx)), Detector("test", (8, 8), "u2", 12))
        self.maps = PositionMaps(self.acquisition, ("adf",))
        self.maps.total[:] = counts.ravel()
        self.maps.moment_y = (seen[1] * counts + noise[0]).ravel()
        self.maps.moment_x = (seen[2] * counts + noise[1]).ravel()
        self.maps.detector_sums[0] = self.dark.ravel().astype(np.int64)
        self.maps.done[:] = True

    def image(self, shifts: Shifts | None = None) -> Numbers:
        """The integrated centre of mass, with the maps moved by shifts."""
        maps = self.maps
        if shifts is not None:
            maps = moved(self.acquisition, maps, shifts)
        total = np.maximum(np.asarray(maps.total, np.float64), 1e-9)
        y, x = (np.asarray(m / total).reshape(maps.shape) for m in (maps.moment_y, maps.moment_x))
        return integrated(y, x)

    @property
    def truth(self) -> Numbers:
        """Without noise and displacements."""
        return integrated(self.true[0], self.true[1])

    @property
    def shifts(self) -> Shifts:
        """Where the beam really was."""
        nx = self.maps.shape[1]
        return Shifts(np.repeat(self.dy[:, None], nx, 1), np.repeat(self.dx[:, None], nx, 1))


def main() -> None:
    """Command line."""
    from benchmarks.restoration.score import Network

    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else "")
    parser.add_argument("--model", type=Path, default=Path("stemd/models/restoration.onnx"))
    options = parser.parse_args()
    network = Network(options.model)
    print("| scene | dose | jitter px | moved px rms | error px rms | as recorded | found | true |")
    print("|---" * 8 + "|")
    for seed in (fresh_seed(0), fresh_seed(1)):
        for number, scene in enumerate(scenes(seed)[:5]):
            for dose in (2e3, 2e4, 1e5):
                for jitter in (0.0, 0.5):
                    scan = Recorded(scene, dose, jitter, seed + number)
                    found = find_shifts(scan.dark, network(scan.dark))
                    inner = np.s_[4:-4, 8:-8]
                    moved_px = np.sqrt(np.mean(found.y[inner] ** 2 + found.x[inner] ** 2))
                    off_y, off_x = found.y - scan.shifts.y, found.x - scan.shifts.x
                    off = np.sqrt(np.mean(off_y[inner] ** 2 + off_x[inner] ** 2))
                    marks = [
                        alike(image, scan.truth)
                        for image in (scan.image(), scan.image(found), scan.image(scan.shifts))
                    ]
                    print(
                        f"| {scene.name} | {dose:g} | {jitter} | {moved_px:.3f} | {off:.3f} | "
                        + " | ".join(f"{mark:.4f}" for mark in marks) + " |"
                    )  # fmt: skip


if __name__ == "__main__":
    main()

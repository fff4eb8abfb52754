"""Amorphous fields, restored and by the best of all gaussians, which the truth has chosen.

    python -m benchmarks.restoration.fields --seed 5

What a restoration gains over it in dB: mean and worst of fields of textures of three widths.
"""

from __future__ import annotations

import argparse
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

from benchmarks.restoration.defects import film
from benchmarks.restoration.measures import psnr
from benchmarks.restoration.truthful import CONDITIONS, fresh_seed
from stemd.engines.restoration.distortions import distort

Image = NDArray[np.float32]

WIDTHS = np.concatenate([np.arange(0.5, 3.5, 0.1), np.arange(3.5, 14.0, 0.5)])
TEXTURES_PX = (1.5, 2.0, 3.0)
DOSES = (5e2, 1e3, 2e3, 5e3, 2e4, 1e5)


def best_gaussian(image: Image, truth: Image) -> float:
    """PSNR after the gaussian, of `WIDTHS` pixels, that comes nearest to the truth."""
    return max(psnr(ndimage.gaussian_filter(image, width), truth) for width in WIDTHS)


def field(seed: int, number: int, texture_px: float, dose: float) -> tuple[Image, Image]:
    """(recorded, truth) in electrons."""
    rng = np.random.default_rng([seed, number, int(10 * texture_px), int(dose)])
    truth = film(rng, texture_px).electrons(dose)
    return distort(truth, CONDITIONS["still"], rng), truth


def main() -> None:
    """Command line."""
    from benchmarks.restoration.score import Network

    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else "")
    parser.add_argument("--model", type=Path, default=Path("stemd/models/restoration.onnx"))
    parser.add_argument("--seed", type=int, default=fresh_seed())
    parser.add_argument("--fields", type=int, default=6, help="of each texture and dose")
    options = parser.parse_args()
    network = Network(options.model)
    print("| texture px | e/A^2 | best gaussian dB | gained dB | worst |")
    print("|---" * 5 + "|")
    for texture_px in TEXTURES_PX:
        for dose in DOSES:
            rows = []
            for number in range(options.fields):
                image, truth = field(options.seed, number, texture_px, dose)
                best = best_gaussian(image, truth)
                rows.append((best, psnr(network(image), truth) - best))
            best, gained = np.array(rows).T
            print(
                f"| {texture_px} | {dose:g} | {best.mean():.2f} | {gained.mean():.2f}"
                f" | {gained.min():.2f} |",
                flush=True,
            )


if __name__ == "__main__":
    main()

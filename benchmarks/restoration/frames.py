"""Many fast frames against one slow one: how much aligning loses.

    python -m benchmarks.restoration.frames

`--frames` frames of that part of a dose, which drift and whose lines are displaced, are aligned
and added up; against the truth the sum is compared with one still frame of the whole dose.
"""

from __future__ import annotations

import argparse

import numpy as np
from numpy.typing import NDArray

from benchmarks.restoration.defects import Scene, scenes
from benchmarks.restoration.measures import psnr
from benchmarks.restoration.truthful import fresh_seed
from stemd.engines.restoration.distortions import ar1, displace_lines
from stemd.engines.restoration.frames.aligned import align

Image = NDArray[np.float32]
DRIFT_PX = 0.9
"""From frame to frame, in any direction."""
EDGE_PX = 24


def series(
    scene: Scene, dose: float, frames: int, jitter_px: float, rng: np.random.Generator
) -> tuple[list[Image], NDArray[np.float64]]:
    """Frames, and the shift (y, x) of each: what stands at p in the first is at p - shift."""
    truth = scene.electrons(dose / frames)
    ny = len(truth)
    turn = rng.uniform(0.0, 2.0 * np.pi)
    step = DRIFT_PX * np.array([np.sin(turn), np.cos(turn)])
    made, shifts = [], []
    for n in range(frames):
        along = (n + np.arange(ny) / ny)[:, None] * step
        lines = np.stack([ar1(ny, 0.5, part * jitter_px, rng) for part in (0.5, 1.0)], 1)
        dy, dx = (along + lines if jitter_px else along).T
        seen = displace_lines(truth, dy, dx, cubic=True)
        made.append(rng.poisson(np.maximum(seen, 0.0)).astype(np.float32))
        shifts.append(along.mean(axis=0))
    return made, np.array(shifts) - shifts[0]


def lost(
    scene: Scene, dose: float, frames: int, jitter_px: float, rng: np.random.Generator
) -> tuple[float, float, float]:
    """dB of the sum below one still frame (where it can show the place), error of shifts, used.

    The sum is moved as a whole by up to a pixel to where it fits best: where the first frame
    stands is nobody's error.
    """
    made, shifts = series(scene, dose, frames, jitter_px, rng)
    found = align(made)
    whole = scene.electrons(dose)
    once = rng.poisson(whole).astype(np.float32)
    j, i = found.corner
    ny, nx = found.image.shape
    aligned = np.full_like(whole, np.nan)
    aligned[j : j + ny, i : i + nx] = found.image
    inner = np.s_[EDGE_PX:-EDGE_PX, EDGE_PX:-EDGE_PX]
    best = -np.inf
    for dy in np.linspace(-1.0, 1.0, 9):
        for dx in np.linspace(-1.0, 1.0, 9):
            lines = np.full(len(whole), dy), np.full(len(whole), dx)
            true = displace_lines(whole, *lines, cubic=True)
            there = np.isfinite(aligned[inner])
            best = max(best, psnr(aligned[inner][there], true[inner][there]))
    off = found.shifts - found.shifts[0] - shifts
    off -= off.mean(axis=0)
    error = float(np.sqrt(np.mean(np.square(off).sum(axis=1))))
    return psnr(once[inner], whole[inner]) - best, error, float(found.used.mean())


def main() -> None:
    """Command line."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else "")
    parser.add_argument("--frames", type=int, default=16)
    parser.add_argument("--seeds", type=int, default=2, help="fresh specimens of each kind")
    options = parser.parse_args()
    print("| specimen | e/A2 | lines px | lost dB | shifts' error px | used |\n" + "|---" * 6 + "|")
    for jitter in (0.0, 0.5):
        for dose in (2e3, 2e4):
            for number in range(5):
                rows, name = [], ""
                for seed in (fresh_seed(n) for n in range(options.seeds)):
                    scene = scenes(seed)[number]
                    name = scene.name
                    rng = np.random.default_rng([seed, number, int(dose), int(10 * jitter)])
                    rows.append(lost(scene, dose, options.frames, jitter, rng))
                row = " | ".join(
                    f"{mean:.2f} (worst {worst:.2f})" for mean, worst in
                    zip(np.mean(rows, axis=0)[:2], np.max(rows, axis=0)[:2], strict=True)
                )  # fmt: skip
                print(f"| {name} | {dose:g} | {jitter} | {row} | {np.mean(rows, axis=0)[2]:.2f} |")


if __name__ == "__main__":
    main()

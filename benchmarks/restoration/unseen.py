"""What networks make of images of the kinds in `mixtures` and `annotations` that none was shown.

    python -m benchmarks.restoration.unseen stemd/models/restoration.onnx state/new.onnx

Thirty-two images of a seed of their own, at three ratios of signal to noise, still and with
displaced lines (fine lattices: by more than a pixel), every third with noise that is correlated
along the line. The figures are the networks' own, before the recorded image is asked.
"""

from __future__ import annotations

import argparse
from collections import defaultdict
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from benchmarks.restoration.measures import psnr
from stemd.engines.restoration.distortions import (
    DetectorChain,
    Distortions,
    Jitter,
    Tail,
    distort,
)
from stemd.engines.restoration.tiling import restore
from stemd.inference import choice
from stemd.inference.model_file import read_model
from training.restoration.annotations import annotate
from training.restoration.pairs import MARGIN, truth_scene

Image = NDArray[np.float32]

SEED, SIZE, EACH = 880_001, 256, 8
RATIOS = (0.3, 1.0, 5.0)
"""Deviation of the truth over the mean deviation of a pixel's noise."""
GROUPS: dict[str, tuple[str, ...]] = {
    "masked": ("lattice", "blobs", "fine", "field", "both", "grains", "lattice", "texture"),
    "blobs, grains, branches": ("blobs", "grains", "branches", "blobs", "grains", "slabs"),
    "textures": ("texture",),
    "fine lattices": ("fine",),
}
CONDITIONS = ("still", "jitter")
TAILS = (None, Tail("box", 2.5), None, Tail("exponential", 1.0), None, None)


def judged(group: str, number: int, ratio: float, jittered: bool) -> tuple[Image, Image]:
    """(recorded, truth), both (SIZE, SIZE) in electrons; the same for the same arguments."""
    rng = np.random.default_rng([SEED, list(GROUPS).index(group), number])
    kind = GROUPS[group][number % len(GROUPS[group])]
    truth = truth_scene((SIZE + 2 * MARGIN, SIZE + 2 * MARGIN), rng, kind)
    mean, deviation = float(truth.mean()), max(float(truth.std()), 0.02 * float(truth.mean()))
    wanted = truth * np.float32((ratio / deviation) ** 2 * mean)
    jitter = Jitter(0.4, 1.4, 0.5, cubic=True) if kind == "fine" else Jitter(cubic=True)
    what = Distortions(
        jitter=jitter if jittered else None,
        tail=TAILS[number % len(TAILS)],
        detector=DetectorChain(clip_black=True),
    )
    inner = slice(MARGIN, -MARGIN)
    recorded = distort(wanted, what, rng)[inner, inner].copy()
    wanted = wanted[inner, inner].copy()
    if group == "masked":
        annotate(recorded, wanted, rng)
    return recorded, wanted


def score(models: list[Path]) -> dict[tuple[str, str, float], list[list[float]]]:
    """PSNR of each image by each model, by group, condition and ratio."""
    known = [read_model(path) for path in models]
    networks = [choice.load(model, "onnxruntime") for model in known]
    rows: dict[tuple[str, str, float], list[list[float]]] = defaultdict(list)
    for group in GROUPS:
        for number in range(EACH):
            for condition in CONDITIONS:
                for ratio in RATIOS:
                    recorded, truth = judged(group, number, ratio, condition == "jitter")
                    rows[group, condition, ratio].append(
                        [psnr(recorded, truth)]
                        + [
                            psnr(restore(recorded, model, network), truth)
                            for model, network in zip(known, networks, strict=True)
                        ]
                    )
    return rows


def table(rows: dict[tuple[str, str, float], list[list[float]]], names: list[str]) -> str:
    """Means as a Markdown table, a line for each group, condition and ratio."""
    lines = ["| images | " + " | ".join(["raw", *names]) + " |"]
    lines.append("|---" * (len(names) + 2) + "|")
    for (group, condition, ratio), values in rows.items():
        cells = " | ".join(f"{value:.2f}" for value in np.mean(values, axis=0))
        lines.append(f"| {group}, {condition}, {ratio:g} | {cells} |")
    for group in GROUPS:
        all_of = [np.mean(values, axis=0) for key, values in rows.items() if key[0] == group]
        cells = " | ".join(f"{value:.2f}" for value in np.mean(all_of, axis=0))
        lines.append(f"| {group}, mean | {cells} |")
    mean = np.mean([np.mean(values, axis=0) for values in rows.values()], axis=0)
    return "\n".join([*lines, "| mean | " + " | ".join(f"{value:.2f}" for value in mean) + " |"])


def main() -> None:
    """Command line."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else "")
    parser.add_argument("models", type=Path, nargs="+", help="exported networks")
    options = parser.parse_args()
    print(table(score(options.models), [path.stem for path in options.models]))


if __name__ == "__main__":
    main()

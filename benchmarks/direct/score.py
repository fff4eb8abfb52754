"""How well the lens is measured, and how good the images made with it are.

    python -m benchmarks.direct.score --draws 24 --seed 101

Each draw is a specimen, dose, defocus (up to 28 nm), two-fold astigmatism (up to 4.5 nm), step and
noise of its own. Nothing of the lens is told to `direct`; `ssb` and the column `known` are told all
of it. Printed: correlations with the true phase, errors over their sigma, and what part of them
lies within one sigma (68 % is right).
"""

from __future__ import annotations

import argparse
import time
from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import Any

import numpy as np

from benchmarks.direct.cases import Case, correlation, counts_of, made, truth_of
from stemd.aberrations import Aberrations
from stemd.virtual import specimen as specimens
from stemd.virtual.specimen import Atoms, Box

DOSES = (1e3, 3e3, 1e4, 1e5)
STEPS = (0.25, 0.35, 0.5)
BEAMS = ((300e3, 20.0), (200e3, 18.0), (80e3, 25.0))
NAMES = ("mos2", "mos2_twisted", "srtio3", "nanoparticle", "amorphous")


def amorphous(field: tuple[float, float], thickness: float) -> Callable[[Box], Sequence[Atoms]]:
    """Oxygen atoms at random, 0.07 to a cubic angstrom: no lattice to hold on to."""
    rng = np.random.default_rng(77)
    margin = 25.0
    height, width = (side + 2 * margin for side in field)
    count = int(height * width * thickness * 0.07)
    y = rng.uniform(-margin, height - margin, count)
    x = rng.uniform(-margin, width - margin, count)
    atoms = Atoms("O", y, x, np.ones(count, np.float32))
    return lambda box: [atoms]


def cases(draws: int, seed: int) -> list[Case]:
    """Draws of everything that is varied."""
    specimens.SPECIMENS.setdefault("amorphous", ("oxygen atoms at random", amorphous))
    rng = np.random.default_rng(seed)
    found = []
    for n in range(draws):
        size, angle = rng.uniform(0.0, 45.0), rng.uniform(0.0, 2 * np.pi)
        name = NAMES[n % len(NAMES)]
        energy, alpha = BEAMS[int(rng.integers(len(BEAMS)))]
        found.append(
            Case(
                name,
                DOSES[int(rng.integers(len(DOSES)))],
                Aberrations(
                    float(rng.uniform(-280.0, 280.0)),
                    float(size * np.cos(angle)),
                    float(size * np.sin(angle)),
                ),
                side=56,
                step=STEPS[int(rng.integers(len(STEPS)))],
                thickness=30.0 if name == "amorphous" else 7.81,
                seed=int(rng.integers(1 << 30)),
                energy_ev=energy,
                angle_mrad=alpha,
            )
        )
    return found


def score(case: Case) -> dict[str, Any]:
    """One draw: correlations, the lens that was found, and how far off it is."""
    patterns, truth = counts_of(case.microscope()), truth_of(case)
    began = time.process_time()
    images, run = made(case, patterns, {"direct": {}, "ricom": {}, "icom": {}})
    seconds = time.process_time() - began
    lens = run.engines.every[0].optics_found().lens  # type: ignore[attr-defined]
    known, _ = made(
        case, patterns, {"direct": {}, "ssb": {}}, **case.lens.as_optics() | {"measured": "off"}
    )
    off = lens.found.aberrations.as_array() - case.lens.as_array()
    return {
        "sure": lens.sure,
        "quality": lens.found.quality,
        "off": off[:3],
        "z": off[:3] / lens.found.sigma[:3],
        "seconds": seconds,
        "direct": correlation(images["direct_phase"].image, truth),
        "known": correlation(known["direct_phase"].image, truth),
        "ssb": correlation(known["ssb_phase"].image, truth),
        "ricom": correlation(images["ricom"].image, truth),
        "icom": correlation(images["icom"].image, truth),
    }


def main() -> None:
    """Print every draw, and the sums."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--draws", type=int, default=25)
    parser.add_argument("--seed", type=int, default=101)
    args = parser.parse_args()
    rows = []
    for case in cases(args.draws, args.seed):
        row = score(replace(case))
        rows.append(row)
        lens = case.lens
        images = " ".join(f"{key} {row[key]:.3f}" for key in ("direct", "known", "ssb", "ricom"))
        print(
            f"{case.specimen:13s} {case.dose:7.0f} e/A2 step {case.step} "
            f"{case.energy_ev / 1e3:.0f} kV  "
            f"{lens.defocus / 10:+6.1f} nm A1 {lens.astigmatism[0] / 10:.1f}  "
            f"{'sure' if row['sure'] else 'NOT sure'} {row['quality']:.2f}  "
            f"off {np.round(row['off'] / 10, 2)} nm  z {np.round(row['z'], 1)}  {images} "
            f"icom {row['icom']:.3f}  {row['seconds']:.1f} s",
            flush=True,
        )
    sure = [row for row in rows if row["sure"]]
    z = np.array([row["z"] for row in sure])
    off = np.abs([row["off"] for row in sure]) / 10
    print(f"sure of {len(sure)} of {len(rows)}")
    print(f"within one sigma: defocus {np.mean(np.abs(z[:, 0]) < 1):.0%}, "
          f"astigmatism {np.mean(np.abs(z[:, 1:]) < 1):.0%}")  # fmt: skip
    print(f"defocus off by at most {off[:, 0].max():.2f} nm, median {np.median(off[:, 0]):.2f} nm; "
          f"astigmatism {off[:, 1:].max():.2f}, {np.median(off[:, 1:]):.2f} nm")  # fmt: skip
    for key in ("direct", "known", "ssb", "ricom", "icom"):
        print(f"{key}: mean correlation {np.mean([row[key] for row in rows]):.3f}")


if __name__ == "__main__":
    main()

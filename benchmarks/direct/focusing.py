"""Whether a microscope 30 nm out of focus is in focus after three scans, in one process.

    python -m benchmarks.direct.focusing --seeds 10

The decisions are those of `examples/autofocus.py`; scans are those of the virtual microscope, what
is measured in them is the document of the topic `optics`. Begins 30 nm out of focus on either side
with 3 nm of two-fold astigmatism in any direction. Prints each loop, and ends with 1 if one of them
missed.
"""

from __future__ import annotations

import argparse
import importlib.util
import sys
from dataclasses import replace
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np

from benchmarks.direct import specimens
from benchmarks.direct.cases import Case, counts_of, made
from stemd.aberrations import Aberrations
from stemd.scan.measured_optics import measured_optics

NAMES = (("nanoparticle", 7.81), ("mos2_twisted", 7.81), ("particle_on_carbon", 10.0),
         ("rutile", 8.877), ("silica", 20.0))  # fmt: skip
DOSE, START, ASTIGMATISM, SCANS = 1e4, 300.0, 30.0, 3


class Microscope:
    """Scans when it is asked for a document, and moves as `autofocus.Drives` does."""

    def __init__(self, case: Case) -> None:
        self.case, self.scans = case, 0

    def get(self, timeout: float) -> dict[str, Any]:
        """What is measured in another scan."""
        self.scans += 1
        self.case = replace(self.case, seed=self.case.seed + 1)
        _, run = made(self.case, counts_of(self.case.microscope()), {"measured_optics": {}})
        document = measured_optics(run)
        assert document is not None
        return document | {"preliminary": False}

    def move(self, defocus_nm: float, x_nm: float, y_nm: float) -> None:
        """Focus and both stigmators."""
        step = Aberrations(10.0 * defocus_nm, 10.0 * x_nm, 10.0 * y_nm)
        self.case = replace(self.case, lens=self.case.lens.plus(step))


def example() -> ModuleType:
    """`examples/autofocus.py`."""
    path = Path(__file__).parents[2] / "examples" / "autofocus.py"
    spec = importlib.util.spec_from_file_location("autofocus", path)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def main() -> int:
    """Run the loops."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else "")
    parser.add_argument("--seeds", type=int, default=10)
    args = parser.parse_args()
    specimens.register()
    autofocus, missed = example(), 0
    for seed in range(args.seeds):
        rng = np.random.default_rng(seed)
        name, thickness = NAMES[seed % len(NAMES)]
        turn = rng.uniform(0.0, 2 * np.pi)
        lens = Aberrations(START * (-1) ** seed, ASTIGMATISM * np.cos(turn),
                           ASTIGMATISM * np.sin(turn))  # fmt: skip
        microscope = Microscope(Case(name, DOSE, lens, 64, 0.3, thickness, int(rng.integers(1e9))))
        done = autofocus.focus(microscope, microscope, SCANS)
        left = microscope.case.lens
        missed += not done
        verdict = "in focus" if done else "MISSED"
        print(f"{name}: {verdict} after {microscope.scans} scans, {left.defocus / 10:+.2f} nm and "
              f"{left.astigmatism[0] / 10:.2f} nm left", flush=True)  # fmt: skip
    print(f"{args.seeds - missed} of {args.seeds} in focus within {SCANS} scans")
    return int(missed > 0)


if __name__ == "__main__":
    sys.exit(main())

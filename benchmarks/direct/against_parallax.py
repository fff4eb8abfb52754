"""Speed of the live `direct` image beside that of LiberTEM-parallax, in rounds that alternate.

    python3 -m venv other && other/bin/pip install libertem-parallax
    python -m benchmarks.direct.against_parallax --python other/bin/python --rounds 9

Both get the same 8-bit patterns of 96 x 96 pixels with a disc of 24, 256 x 256 positions of a weak
specimen, from memory, and use one thread. Of the other program three things are timed: the
compiled loops of `ParallaxUDF` alone, nothing of LiberTEM around them (each pixel is added at one
place, which shows bright-field contrast and no phase); a run of it in LiberTEM's inline executor,
which is how a user calls it; and the loops of `ParallaxPhaseFlipUDF`, which shows phase contrast.
Of stemd: binning, keeping the cells, making the kernels and adding every line to the image, with
images taken out on the way. Figures are microseconds of processor time a pattern; ratios are of
neighbouring rounds.
"""

from __future__ import annotations

import argparse
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import numpy as np

from stemd.cli.bench.direct import BEAM, RADIUS, SIDE, SIZE, STEP_ANGSTROM, scan_of, scan_patterns

DEFOCUS = 100.0

OTHER = f"""
import sys, time
import numpy as np
import libertem.api as lt
from libertem.executor.inline import InlineJobExecutor
import libertem_parallax as parallax
few = np.load(sys.argv[1])
data = np.resize(few, ({SIDE}, {SIDE}, {SIZE}, {SIZE}))
context = lt.Context(executor=InlineJobExecutor())
dataset = context.load("memory", data=data, sig_dims=2, num_partitions=16)
make = parallax.ParallaxUDF.from_parameters
udf = make(
    shape=data.shape, scan_sampling=({STEP_ANGSTROM},) * 2, energy=300e3,
    semiangle_cutoff={BEAM.convergence_semi_angle_mrad},
    angular_sampling=({BEAM.convergence_semi_angle_mrad / RADIUS},) * 2,
    aberration_coefs={{"C10": -{DEFOCUS}}},
)
from libertem_parallax.udf.parallax import parallax_accumulate_cpu
pre = udf.preprocessed_geometry
frames = data.reshape(-1, {SIZE}, {SIZE})
coordinates = np.stack(np.divmod(np.arange(len(frames)), {SIDE}), axis=1)
out = np.zeros(({SIDE}, {SIDE}))
def loops():
    parallax_accumulate_cpu(frames, pre.bf_flat_inds, pre.shifts, coordinates, out)
def whole():
    context.run_udf(dataset=dataset, udf=udf)
from libertem_parallax.udf.parallax_phase_flip import parallax_phase_flip_accumulate_cpu
flipped = parallax.ParallaxPhaseFlipUDF.from_parallax_udf(udf).params
rows, columns = np.unravel_index(pre.bf_flat_inds, pre.gpts)
FEW = 32
def flips():
    parallax_phase_flip_accumulate_cpu(
        frames[:FEW], rows, columns, coordinates[:FEW], flipped.unique_offsets,
        flipped.grouped_kernel, out)
loops(); whole(); flips()
print("ready", len(pre.bf_flat_inds), flush=True)
for line in sys.stdin:
    call = dict(loops=loops, whole=whole, flips=flips)[line.strip()]
    began = time.process_time()
    call()
    count = FEW if call is flips else len(frames)
    print((time.process_time() - began) / count * 1e6, flush=True)
"""


class _Other:
    """The other program, in a process of its own, which waits between its turns."""

    def __init__(self, python: str, patterns: Path) -> None:
        self._process = subprocess.Popen(
            [python, "-c", OTHER, str(patterns)],
            stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True,
        )  # fmt: skip
        self.pixels = int(self._answer().split()[1])

    def time(self, what: str) -> float:
        """Microseconds of processor time a pattern."""
        assert self._process.stdin is not None
        self._process.stdin.write(what + "\n")
        self._process.stdin.flush()
        return float(self._answer())

    def _answer(self) -> str:
        assert self._process.stdout is not None
        answer = self._process.stdout.readline()
        if not answer:
            raise SystemExit("the other program has ended; see its message above")
        return answer

    def close(self) -> None:
        """End it."""
        self._process.communicate(timeout=60)


def main() -> None:
    """Print every round, and the medians."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--python", default=sys.executable, help="one that has libertem-parallax")
    parser.add_argument("--rounds", type=int, default=9)
    args = parser.parse_args()
    counts = scan_patterns(DEFOCUS)
    scan_of(counts, DEFOCUS)
    with tempfile.TemporaryDirectory() as folder:
        np.save(Path(folder, "patterns.npy"), counts)
        other = _Other(args.python, Path(folder, "patterns.npy"))
    rows = []
    for number in range(args.rounds):
        began = time.process_time()
        scan_of(counts, DEFOCUS)
        mine = (time.process_time() - began) / SIDE**2 * 1e6
        rows.append((mine, *(other.time(what) for what in ("loops", "whole", "flips"))))
        print(number, *(f"{value:.2f}" for value in rows[-1]))
    other.close()
    mine, *others = np.array(rows).T
    print(f"{other.pixels} bright-field pixels there; stemd: {np.median(mine):.2f}")
    names = ("loops of ParallaxUDF", "ParallaxUDF in LiberTEM", "loops of ParallaxPhaseFlipUDF")
    for name, theirs in zip(names, others, strict=True):
        print(f"{name}: {np.median(theirs):.2f}")
        low, middle, high = np.percentile(theirs / mine, (10, 50, 90))
        print(f"  over stemd: {middle:.1f} (10th to 90th percentile {low:.1f} to {high:.1f})")


if __name__ == "__main__":
    main()

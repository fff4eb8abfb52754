"""Quality of `direct` beside the direct methods of quantem, on the same scans.

    python3 -m venv other && other/bin/pip install quantem
    python -m benchmarks.direct.against_quantem --python other/bin/python --folder FOLDER

Draws of the acceptance (`benchmarks.direct.acceptance`): thin specimens, none of which has been
used to choose anything by. With the lens told, rotation and semi-angle too, every method of either
program; and with nothing told of the lens, rotation and semi-angle a little wrong, what each
measures by itself: quantem by its residual loss over 25 values of defocus, then by its gradient fit
of defocus, two-fold astigmatism and rotation. `wiener finer` tells apart what the scan's steps fold
together, as `direct` does where they are coarse, at the positions. Correlation with the true phase
without the outermost eight positions, seconds of processor time. Rows are kept in the folder: begun
again it goes on. Versions: stemd as it is, quantem as it is installed there.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from benchmarks.direct.acceptance import counts_kept, draws
from benchmarks.direct.cases import Case, correlation, made, truth_of

KERNELS = ("ssb", "obf", "wiener", "wdd", "prlx", "icom")
DEFOCUS, VALUES, FINER = 300.0, 25, 2

OTHER = f"""
import json, sys, time, warnings
warnings.filterwarnings("ignore")
import numpy as np
import torch
torch.set_num_threads(1)
from quantem.core.datastructures import Dataset4d
from quantem.diffractive_imaging.direct_ptychography import DirectPtychography
scan = np.load(sys.argv[1])
counts, known, told = scan["counts"], json.loads(str(scan["known"])), json.loads(str(scan["told"]))
step, pixel = known["step"], known["pixel"]
data = Dataset4d.from_array(
    counts.astype(np.float32), sampling=(step, step, pixel, pixel),
    units=("A", "A", "mrad", "mrad"))
def made(alpha, rotation, **lens):
    return DirectPtychography.from_dataset4d(
        data, energy=known["energy"], semiangle_cutoff=alpha, rotation_angle=rotation,
        aberration_coefs=lens, verbose=False)
def image(it, kernel, **more):
    it.reconstruct(deconvolution_kernel=kernel, verbose=False, **more)
    return it.corrected_bf.detach().numpy().astype(np.float32)
images, seconds = {{}}, {{}}
began = time.process_time()
lens = {{key: known[key] for key in ("C10", "C12", "phi12")}}
it = made(known["alpha"], known["rotation"], **lens)
seconds["prepare"] = time.process_time() - began
for kernel in {KERNELS!r}:
    began = time.process_time()
    images[kernel] = image(it, kernel)
    seconds[kernel] = time.process_time() - began
images["wiener complex"] = image(it, "wiener", obj_type="complex")
images["wiener finer"] = image(it, "wiener", upsampling_factor={FINER})[::{FINER}, ::{FINER}]
began = time.process_time()
it = made(told["alpha"], told["rotation"], C10=0.0)
losses = []
for defocus in np.linspace(-{DEFOCUS}, {DEFOCUS}, {VALUES}):
    image(it, "obf", override_aberration_coefs={{"C10": float(defocus)}})
    losses.append((float(it.residual_loss()), float(defocus)))
it = made(told["alpha"], told["rotation"], C10=min(losses)[1], C12=1.0, phi12=0.0)
it.fit_hyperparameters_gradient(
    ("C10", "C12", "phi12", "rotation_angle"), deconvolution_kernel="obf", verbose=False)
images["fitted"] = image(it, "wiener")
seconds["fitted"] = time.process_time() - began
lens = {{key: float(value) for key, value in it.aberration_coefs.items()}}
np.savez(sys.argv[2], **images)
print(json.dumps(dict(seconds=seconds, lens=lens, rotation=float(it.rotation_angle))))
"""


def theirs(
    python: str, case: Case, told: dict[str, Any], counts: NDArray[np.uint16]
) -> tuple[dict[str, NDArray[np.float32]], dict[str, Any]]:
    """Images of the other program by name, and its times and lens (angstrom, radian).

    Its angles are counted from the scan's slow axis, and its C10 is the defocus with its sign
    changed.
    """
    size, angle = case.lens.astigmatism
    known = {
        "step": case.step, "pixel": case.camera.pixel_size_mrad, "energy": case.energy_ev,
        "alpha": case.angle_mrad, "rotation": case.camera.rotation_deg,
        "C10": -case.lens.defocus, "C12": size, "phi12": np.pi / 2 - np.radians(angle),
    }  # fmt: skip
    wrong = {"alpha": told["convergence_semi_angle_mrad"], "rotation": told["rotation_deg"]}
    with tempfile.TemporaryDirectory() as folder:
        scan, images = Path(folder, "scan.npz"), Path(folder, "images.npz")
        shaped = counts.reshape(case.side, case.side, *counts.shape[1:])
        np.savez(scan, counts=shaped, known=json.dumps(known), told=json.dumps(wrong))
        answer = subprocess.run(
            [python, "-c", OTHER, str(scan), str(images)], check=True, capture_output=True,
            text=True,
        )  # fmt: skip
        with np.load(images) as file:
            return dict(file), json.loads(answer.stdout.splitlines()[-1])


def score(
    python: str, case: Case, told: dict[str, Any], counts: NDArray[np.uint16]
) -> dict[str, Any]:
    """One draw by both programs."""
    truth = truth_of(case)
    lens = case.lens.as_optics() | {"measured": "off"}
    began = time.process_time()
    known, _ = made(case, counts, {"direct": {}}, **lens)
    known_s = time.process_time() - began
    ssb, _ = made(case, counts, {"ssb": {}}, **lens)
    began = time.process_time()
    fitted, run = made(case, counts, {"direct": {}}, **told)
    fitted_s = time.process_time() - began
    found = run.engines.every[0].optics_found().lens  # type: ignore[attr-defined]
    images, about = theirs(python, case, told, counts)
    size, angle = about["lens"].get("C12", 0.0), 2 * (np.pi / 2 - about["lens"].get("phi12", 0.0))
    other = np.array([about["lens"]["C10"], size * np.cos(angle), size * np.sin(angle)])
    mine = found.found.aberrations.as_array()[:3]
    return {
        "specimen": case.specimen, "kv": case.energy_ev / 1e3, "mrad": case.angle_mrad,
        "step": case.step, "airy": case.step / case.beam.airy_radius, "dose": case.dose,
        "defocus": case.lens.defocus, "sure": found.sure,
        "off": (mine - case.lens.as_array()[:3]).tolist(),
        "their off": (other - case.lens.as_array()[:3]).tolist(),
        "correlation": {
            "direct": correlation(known["direct_phase"].image, truth),
            "ssb": correlation(ssb["ssb_phase"].image, truth),
            "direct fitted": correlation(fitted["direct_phase"].image, truth),
            **{f"quantem {name}": correlation(image, truth) for name, image in images.items()},
        },
        "seconds": {"direct": known_s, "direct fitted": fitted_s,
                    **{f"quantem {name}": value for name, value in about["seconds"].items()}},
    }  # fmt: skip


def table(rows: list[dict[str, Any]]) -> list[str]:
    """Means, worst draws, and in how many `direct` is below."""
    lines = [f"{len(rows)} draws; correlation: mean, least; above `direct` (or its own fit) in"]
    for name in rows[0]["correlation"]:
        values = np.array([row["correlation"][name] for row in rows])
        against = "direct fitted" if name.endswith("fitted") else "direct"
        best = np.array([row["correlation"][against] for row in rows])
        above = values > best + 1e-4
        most = float((values - best).max())
        lines.append(f"{name:24s} {values.mean():.3f} {values.min():6.3f}   {above.sum()} of "
                     f"{len(rows)}, by {max(0.0, most):.3f} at most")  # fmt: skip
    lines += [
        f"{name:24s} {np.median([row['seconds'][name] for row in rows]):.2f} s"
        for name in rows[0]["seconds"]
    ]
    for name, key in (("stemd", "off"), ("quantem", "their off")):
        off = np.abs([row[key] for row in rows]) / 10
        lines.append(
            f"{name}: defocus off by {np.median(off[:, 0]):.2f} nm in the median, "
            f"{off[:, 0].max():.2f} at worst, within 1 nm in {np.sum(off[:, 0] < 1)}; astigmatism "
            f"{np.median(np.hypot(*off[:, 1:].T)):.2f}, {np.hypot(*off[:, 1:].T).max():.2f}"
        )
    lines.append(f"stemd claims {sum(row['sure'] for row in rows)}")
    return lines


def main() -> None:
    """Score what has not been scored yet, and print the table."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else "")
    parser.add_argument("--python", default=sys.executable, help="one that has quantem")
    parser.add_argument("--folder", type=Path, required=True)
    parser.add_argument("--draws", type=int, default=14)
    parser.add_argument("--seed", type=int, default=2030)
    parser.add_argument("--table", action="store_true", help="score nothing more")
    args = parser.parse_args()
    args.folder.mkdir(parents=True, exist_ok=True)
    path = args.folder / f"quantem-{args.seed}.jsonl"
    rows = [json.loads(line) for line in path.read_text().splitlines()] if path.exists() else []
    for number, (case, told) in enumerate(draws(args.draws, args.seed)):
        if number < len(rows) or args.table:
            continue
        counts = counts_kept(case, args.folder / f"scan-{args.seed}-{number}.npz")
        rows.append(score(args.python, case, told, counts))
        with path.open("a") as file:
            file.write(json.dumps(rows[-1]) + "\n")
        print(number, rows[-1], flush=True)
    print("\n".join(table(rows)))


if __name__ == "__main__":
    main()

"""What is promised of `direct` and of the measured optics, on specimens used for nothing else.

    nice -n 19 python -m benchmarks.direct.acceptance --folder FOLDER

Draws of thin specimens; defocus up to 30 nm and two-fold astigmatism up to 5 nm that nobody tells,
doses of 1,000 to 1e6 electrons an angstrom^2, steps of 0.15 to 3 angstrom, the camera's rotation
told up to 4 degrees wrong, its semi-angle up to 2 %, the disc aside. Rows are kept in the folder:
begun again it goes on, and scans that were made once are read. `--table` prints what there is.

Of every draw: the images after the fit and with the lens told; `ssb` with all of it told; `ricom`;
then `ssb` and `airpi` with the focus believed to be right, which must warn where they cannot serve.
"""

from __future__ import annotations

import argparse
import itertools
import json
import time
from pathlib import Path
from typing import Any

import numpy as np
import scipy.ndimage
from numpy.typing import NDArray

from benchmarks.direct import specimens
from benchmarks.direct.cases import Case, correlation, counts_of, made, truth_of
from benchmarks.direct.optics import BEAMS
from stemd.aberrations import Aberrations
from stemd.virtual.diffraction import Camera

FRESH = (
    ("wse2", 6.5), ("mgo", 8.424), ("rutile", 8.877), ("silicon", 15.36), ("gan", 10.37),
    ("silica", 20.0), ("atoms_on_carbon", 10.0),
)  # fmt: skip
SIDE, PATTERN, PER_ANGLE = 48, 36, 10.0
DEFOCUS, ASTIGMATISM, DOSES, STEPS = 300.0, 50.0, (1e3, 1e6), (0.15, 3.0)
STEPS_AIRY = (0.2, 0.9)
DEFOCUSED = 50.0
"""Angstrom from which on a case counts as out of focus."""
AIRPI_EVERY = 4
"""Draws of which one is shown to AIRPI, which takes as long as all the rest."""
SERVED = 0.8
"""Part of what `direct` reaches that an image has to reach to serve."""


def draws(count: int, seed: int) -> list[tuple[Case, dict[str, Any]]]:
    """Cases, and what is told of their optics."""
    specimens.register()
    rng = np.random.default_rng(seed)
    found = []
    for number in range(count):
        name, thickness = FRESH[number % len(FRESH)]
        energy, alpha = BEAMS[int(rng.integers(len(BEAMS)))]
        size, angle = ASTIGMATISM * np.sqrt(rng.random()), rng.uniform(0.0, 2 * np.pi)
        lens = Aberrations(
            float(rng.uniform(-DEFOCUS, DEFOCUS)), float(size * np.cos(angle)),
            float(size * np.sin(angle)),
        )  # fmt: skip
        camera = Camera(
            (PATTERN, PATTERN), alpha / PER_ANGLE, float(rng.uniform(-180.0, 180.0)),
            offset=(float(rng.uniform(-1.5, 1.5)), float(rng.uniform(-1.5, 1.5))),
        )  # fmt: skip
        airy = Case(energy_ev=energy, angle_mrad=alpha).beam.airy_radius
        step = float(np.clip(airy * np.exp(rng.uniform(*np.log(STEPS_AIRY))), *STEPS))
        dose = float(np.exp(rng.uniform(*np.log(DOSES))))
        case = Case(
            name, dose, lens, SIDE, step, thickness, int(rng.integers(1 << 30)), camera, 0.0,
            energy, alpha,
        )  # fmt: skip
        told = {
            "rotation_deg": camera.rotation_deg + float(rng.uniform(-4.0, 4.0)),
            "convergence_semi_angle_mrad": alpha * (1.0 + float(rng.uniform(-0.02, 0.02))),
        }
        found.append((case, told))
    return found


def score(
    case: Case, told: dict[str, Any], counts: NDArray[np.uint16], focused: tuple[str, ...]
) -> dict[str, Any]:
    """One draw; `focused`: engines that are told that the beam is in focus."""
    truth, began = truth_of(case), time.process_time()
    images, run = made(case, counts, {"direct": {}, "ricom": {}}, **told)
    seconds = time.process_time() - began
    row: dict[str, Any] = {
        "specimen": case.specimen, "kv": case.energy_ev / 1e3, "mrad": case.angle_mrad,
        "step": case.step, "dose": case.dose, "defocus": case.lens.defocus,
        "astigmatism": case.lens.astigmatism[0], "seconds": seconds,
    }  # fmt: skip
    found = run.engines.every[0].optics_found()  # type: ignore[attr-defined]
    row |= _optics(case, found)
    known, _ = made(
        case, counts, {"direct": {}, "ssb": {}}, **case.lens.as_optics() | {"measured": "off"}
    )
    row["correlation"] = {
        "fitted": correlation(images["direct_phase"].image, truth),
        "known": correlation(known["direct_phase"].image, truth),
        "ssb": correlation(known["ssb_phase"].image, truth),
        "ricom": correlation(images["ricom"].image, truth),
    }
    row["covered"], row["covered whole"] = _covered(images, truth)
    for name in focused:
        alone, run = made(case, counts, {name: {}}, **told)
        image = _at_positions(alone[f"{name}_phase"].image, SIDE)
        row["correlation"][f"{name} in focus"] = correlation(image, truth)
        row[f"{name} warns"] = sorted(each["kind"] for each in run.notices)
    return row


def _at_positions(image: NDArray[np.float32], side: int) -> NDArray[np.floating]:
    """A finer image, which ends at the outermost positions, at the positions."""
    if image.shape == (side, side):
        return image
    places = [np.linspace(0, n - 1, side) for n in image.shape]
    return scipy.ndimage.map_coordinates(image, np.meshgrid(*places, indexing="ij"), order=1)


def _optics(case: Case, found: Any) -> dict[str, Any]:
    """Errors of what was measured over their standard errors, and the errors."""
    lens, disc, camera = found.lens, found.disc, case.camera
    row: dict[str, Any] = {"sure": lens is not None and lens.sure, "off": {}, "z": {}}
    if row["sure"]:
        off = lens.found.aberrations.as_array()[:3] - case.lens.as_array()[:3]
        turn = (lens.rotation_deg - camera.rotation_deg + 180.0) % 360.0 - 180.0
        sigma = [*lens.found.sigma[:3], lens.found.turn_sigma_deg]
        for name, value, error in zip(
            ("defocus", "A1 x", "A1 y", "rotation"), (*off, turn), sigma, strict=True
        ):
            row["off"][name], row["z"][name] = float(value), float(value / error)
    if disc is not None:
        middle = (PATTERN - 1) / 2 + np.array(camera.offset)
        off = [*(np.array(disc.center) - middle), disc.radius - PER_ANGLE]
        sigma = [disc.center_sigma / np.sqrt(2.0)] * 2 + [disc.radius_sigma]
        for name, value, error in zip(
            ("centre y", "centre x", "semi-angle"), off, sigma, strict=True
        ):
            row["off"][name], row["z"][name] = float(value), float(value / error)
    return row


def _covered(images: dict[str, Any], truth: NDArray[np.float64]) -> tuple[float, float]:
    """Part of the picture in which the truth is within one standard error: without its outermost
    eight positions, and all of it."""
    inner = (slice(8, -8), slice(8, -8))
    phase, error = (images[f"direct_{name}"].image for name in ("phase", "uncertainty"))
    off = phase - (truth - truth[inner].mean() + phase[inner].mean())
    within = np.abs(off) < error
    return float(within[inner].mean()), float(within.mean())


def counts_kept(case: Case, path: Path) -> NDArray[np.uint16]:
    """The scan, from its file where there is one."""
    if not path.exists():
        path.parent.mkdir(parents=True, exist_ok=True)
        np.savez_compressed(path, counts=counts_of(case.microscope()))
    return np.asarray(np.load(path)["counts"])


def table(rows: list[dict[str, Any]]) -> list[str]:
    """Every promise with its figure."""
    lines = [f"{len(rows)} draws, the lens is claimed in {sum(row['sure'] for row in rows)}"]
    sure = [row for row in rows if row["sure"]]
    lost = [row["correlation"]["known"] - row["correlation"]["fitted"] for row in rows]
    lines.append(
        f"after the fit within .03 of the lens known: {np.mean(np.array(lost) < 0.03):.0%} of all, "
        f"{_share(sure, lambda row: _lost(row) < 0.03)} of the claimed; "
        f"worst {max(map(_lost, sure), default=np.nan):.3f}"
    )
    off = np.abs([row["off"]["defocus"] for row in sure]) / 10
    lines.append(f"defocus within 1 nm: {np.mean(off < 1.0):.0%}, median {np.median(off):.2f} nm, "
                 f"worst {off.max(initial=0.0):.2f}")  # fmt: skip
    large = [row for row in sure if row["astigmatism"] >= 10.0]
    size = np.array([row["astigmatism"] for row in large])
    off = np.array([np.hypot(row["off"]["A1 x"], row["off"]["A1 y"]) for row in large])
    part = off / size
    lines.append(f"astigmatism above 1 nm within 10 %: {np.mean(part < 0.1):.0%}, median "
                 f"{np.median(part):.1%}, worst {part.max(initial=0.0):.1%}")  # fmt: skip
    for name in ("defocus", "A1 x", "A1 y", "rotation", "centre y", "centre x", "semi-angle"):
        z = np.abs([row["z"][name] for row in rows if name in row["z"]])
        lines.append(f"{name:10s} within one sigma {np.mean(z < 1):.0%} of {z.size}, two "
                     f"{np.mean(z < 2):.0%}; 68 % within {np.percentile(z, 68):.2f}")  # fmt: skip
    for name in ("covered", "covered whole"):
        share = [row[name] for row in rows if name in row]
        lines.append(f"picture {name}: {np.mean(share):.0%} within one sigma, 10th to 90th "
                     f"percentile {np.percentile(share, 10):.0%} to "
                     f"{np.percentile(share, 90):.0%}")  # fmt: skip
    lines += _groups(rows)
    dim = [row for row in rows if abs(row["defocus"]) >= DEFOCUSED]
    above = [row["correlation"]["fitted"] > row["correlation"]["ricom"] for row in dim]
    lines.append(f"above riCOM out of focus: {sum(above)} of {len(above)}")
    for name in ("ssb", "airpi"):
        poor = [row for row in rows if not _serves(row, f"{name} in focus")]
        asked = sum(f"{name} warns" in row for row in rows)
        warned = sum(bool(row[f"{name} warns"]) for row in poor)
        lines.append(f"{name}, told to be in focus, cannot serve in {len(poor)} of {asked}, "
                     f"warns in {warned}")  # fmt: skip
    return lines


def _groups(rows: list[dict[str, Any]]) -> list[str]:
    """Mean correlations by dose, step and defocus."""
    lines = []
    for key, edges in (
        ("dose", (1e3, 1e4, 1e5, 1e6)),
        ("step", (0.15, 0.4, 1.0, 3.01)),
        ("defocus", (0.0, 50.0, 100.0, 200.0, 301.0)),
    ):
        for low, high in itertools.pairwise(edges):
            those = [row["correlation"] for row in rows if low <= abs(row[key]) < high]
            means = [np.mean([each[name] for each in those]) if those else np.nan
                     for name in ("fitted", "known", "ssb", "ricom")]  # fmt: skip
            lines.append(f"{key} {low:g} to {high:g} ({len(those)}): direct {means[0]:.3f}, known "
                         f"{means[1]:.3f}, ssb {means[2]:.3f}, ricom {means[3]:.3f}")  # fmt: skip
    return lines


def _lost(row: dict[str, Any]) -> float:
    return float(row["correlation"]["known"] - row["correlation"]["fitted"])


def _serves(row: dict[str, Any], name: str) -> bool:
    each = row["correlation"]
    return name not in each or each[name] >= SERVED * each["known"]


def _share(rows: list[dict[str, Any]], holds: Any) -> str:
    return f"{np.mean([holds(row) for row in rows]):.0%}" if rows else "none"


def main() -> None:
    """Score what has not been scored yet, and print the table."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else "")
    parser.add_argument("--draws", type=int, default=28, help="of each seed")
    parser.add_argument("--seed", type=int, nargs="+", default=[2026, 2027])
    parser.add_argument("--folder", type=Path, required=True)
    parser.add_argument("--table", action="store_true", help="score nothing more")
    args = parser.parse_args()
    rows = []
    for seed in args.seed:
        path = args.folder / f"rows-{seed}.jsonl"
        known = path.read_text().splitlines() if path.exists() else []
        rows += [json.loads(line) for line in known[: args.draws]]
        for number, (case, told) in enumerate(draws(args.draws, seed)):
            if number < len(known) or args.table:
                continue
            counts = counts_kept(case, args.folder / f"scan-{seed}-{number}.npz")
            focused = ("ssb", "airpi")[: 1 if number % AIRPI_EVERY else 2]
            rows.append(score(case, told, counts, focused))
            with path.open("a") as file:
                file.write(json.dumps(rows[-1]) + "\n")
            print(seed, number, rows[-1], flush=True)
    print("\n".join(table(rows)))


if __name__ == "__main__":
    main()

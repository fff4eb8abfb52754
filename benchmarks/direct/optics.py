"""How well the optics are measured, on draws of everything that may vary.

    python -m benchmarks.direct.optics --draws 48 --seed 11 --folder FOLDER

Each draw is a specimen of a class, thin or 100 angstrom thick, a beam, a step, a dose, defocus and
two-fold astigmatism, and some of: descan, a centre that is off, a camera that is turned and nobody
knows by how much, a semi-angle told wrong, hot and dead pixels, a source of finite size, a point
spread. Nothing of the lens is told. The patterns are kept in the folder, so that the same draws
can be measured again. Printed: what was found and how far off it is, wrong answers by class, and
what part of the errors lies within one standard error (68 % is right).
"""

from __future__ import annotations

import argparse
import itertools
import json
import time
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from benchmarks.direct import specimens, thick
from benchmarks.direct.cases import Case, counts_of, made
from stemd.aberrations import Aberrations
from stemd.engines.base import MeasuringEngine
from stemd.engines.lens.found import LensFound
from stemd.virtual.diffraction import Camera
from stemd.virtual.specimen import Specimen, build

BEAMS = (
    (60e3, 30.0), (60e3, 18.0), (80e3, 25.0), (80e3, 12.0), (200e3, 20.0), (200e3, 9.0),
    (300e3, 20.0), (300e3, 10.0), (300e3, 5.0),
)  # fmt: skip
CLASSES = {
    "2D": (("mos2", 6.15), ("mos2_twisted", 12.3)),
    "perovskite": (("srtio3", 7.81), ("srtio3", 15.6)),
    "particle": (("particle_on_carbon", 20.0), ("nanoparticle", 7.81)),
    "zeolite": (("sodalite", 8.965), ("sodalite", 17.9)),
    "amorphous": (("carbon", 30.0), ("amorphous", 30.0)),
    "light": (("hbn", 3.33), ("hbn", 6.66)),
    "thick": (("srtio3", 100.0), ("carbon", 100.0), ("sodalite", 100.0)),
}
SIDE, PER_ANGLE, SLICE = 44, 10.0, 10.0
DEFOCUS, ASTIGMATISM = 300.0, 50.0
DOSES, STEPS = (500.0, 1e6), (0.15, 3.0)
STEPS_AIRY = (0.25, 1.5)
"""Of the Airy disc's radius: from fine steps to ones beyond what its detail asks for."""


@dataclass(frozen=True)
class Draw:
    """A case, what is told beside energy and angle, and what is the matter with it."""

    kind: str
    case: Case
    told: dict[str, Any] = field(default_factory=dict)
    spoilt: tuple[str, ...] = ()


def draws(count: int, seed: int, kinds: tuple[str, ...] = tuple(CLASSES)) -> list[Draw]:
    """Draws of every class in turn."""
    specimens.register()
    rng = np.random.default_rng(seed)
    found = []
    for kind, _ in zip(itertools.cycle(kinds), range(count), strict=False):
        choices = CLASSES[kind]
        name, thickness = choices[int(rng.integers(len(choices)))]
        energy, alpha = BEAMS[int(rng.integers(len(BEAMS)))]
        size, angle = ASTIGMATISM * np.sqrt(rng.random()), rng.uniform(0.0, 2 * np.pi)
        lens = Aberrations(
            float(rng.uniform(-DEFOCUS, DEFOCUS)),
            float(size * np.cos(angle)),
            float(size * np.sin(angle)),
        )
        plain = Case(energy_ev=energy, angle_mrad=alpha)
        step = plain.beam.airy_radius * np.exp(rng.uniform(*np.log(STEPS_AIRY)))
        case = Case(
            name,
            float(np.exp(rng.uniform(*np.log(DOSES)))),
            lens,
            SIDE,
            float(np.clip(step, *STEPS)),
            thickness,
            int(rng.integers(1 << 30)),
            Camera((thick.PATTERN, thick.PATTERN), alpha / PER_ANGLE),
            0.0,
            energy,
            alpha,
        )
        found.append(_spoilt(kind, case, rng))
    return found


def _spoilt(kind: str, case: Case, rng: np.random.Generator) -> Draw:
    """With some of what a real microscope has."""
    lot = rng.random(7)
    camera, told, spoilt = case.camera, {}, []
    if kind == "thick":
        return Draw(kind, case)
    if lot[0] < 0.4:
        camera = replace(camera, rotation_deg=float(rng.uniform(-180.0, 180.0)))
        told["rotation_deg"] = 0.0 if lot[0] < 0.3 else camera.rotation_deg
        spoilt.append("rotation" if lot[0] < 0.3 else "turned")
    if lot[1] < 0.3:
        camera = replace(camera, descan=(2.0, -1.0))
        spoilt.append("descan")
    if lot[2] < 0.3:
        camera = replace(camera, offset=(1.6, -1.1))
        spoilt.append("offset")
        if lot[2] < 0.1:
            told["center"] = (19.5, 19.5)
            spoilt.append("centre told wrong")
    if lot[3] < 0.3:
        told["convergence_semi_angle_mrad"] = case.angle_mrad * (1.03 if lot[3] < 0.15 else 0.97)
        spoilt.append("semi-angle 3 %")
    if lot[4] < 0.25:
        camera = replace(camera, hot=2, dead=3)
        told["mask"] = "auto" if lot[4] < 0.15 else None
        spoilt.append("bad pixels" + (" masked" if lot[4] < 0.15 else ""))
    if lot[5] < 0.2:
        camera = replace(camera, point_spread=0.5)
        spoilt.append("spread")
    source = 0.2 * case.beam.airy_radius if lot[6] < 0.1 else 0.0
    if source:
        spoilt.append("source")
    return Draw(kind, replace(case, camera=camera, source_size=source), told, tuple(spoilt))


def patterns_of(draw: Draw, path: Path | None) -> NDArray[np.uint16]:
    """The draw's counts (n, h, w), from its file where there is one."""
    if path is not None and path.exists():
        return np.asarray(np.load(path)["counts"])
    case = draw.case
    if draw.kind == "thick":
        count = round(case.thickness / SLICE)
        field_of = (case.side * case.step,) * 2
        each: list[Specimen] = [build(case.specimen, field_of, SLICE)] * count
        if case.specimen == "carbon":  # every layer of it has atoms of its own
            makers = [specimens.glass("C", number) for number in range(count)]
            each = [Specimen("C", "", make(field_of, SLICE)) for make in makers]
        expected = thick.patterns(
            each, SLICE, case.beam, case.lens, case.side, case.step, case.camera.pixel_size_mrad
        )
        rng = np.random.default_rng(case.seed)
        counts = rng.poisson(expected * case.dose * case.step**2).astype(np.uint16)
    else:
        counts = counts_of(case.microscope())
    if path is not None:
        path.parent.mkdir(parents=True, exist_ok=True)
        np.savez_compressed(path, counts=counts)
    return counts


def lens_of(draw: Draw, counts: NDArray[np.uint16]) -> LensFound | None:
    """What an engine that makes no image measures in the scan."""
    told = {"rotation_deg": draw.case.camera.rotation_deg, **draw.told}
    _, run = made(draw.case, counts, {"measured_optics": {}}, **told)
    (engine,) = (each for each in run.engines.every if isinstance(each, MeasuringEngine))
    found = engine.optics_found()
    return found.lens if found is not None else None


def score(draw: Draw, counts: NDArray[np.uint16]) -> dict[str, Any]:
    """One draw: what was found, and how far off it is."""
    began = time.process_time()
    lens = lens_of(draw, counts)
    case, truth = draw.case, draw.case.lens
    row: dict[str, Any] = {
        "kind": draw.kind,
        "specimen": case.specimen,
        "kv": case.energy_ev / 1e3,
        "mrad": case.angle_mrad,
        "step": case.step,
        "dose": case.dose,
        "spoilt": " ".join(draw.spoilt),
        "true": truth.as_array()[:3].tolist(),
        "sure": False,
    }
    if lens is not None:
        found = lens.found
        middle = case.thickness / 2 if draw.kind == "thick" else 0.0
        off = found.aberrations.as_array()[:3] - truth.as_array()[:3]
        # what is measured of a thick specimen is the focus of its middle
        off[0] -= middle
        turn = (lens.rotation_deg - case.camera.rotation_deg + 180.0) % 360.0 - 180.0
        row |= {
            "sure": lens.sure,
            "quality": found.quality,
            "evidence": found.evidence,
            "floor": found.floor,
            "off": off.tolist(),
            "sigma": found.sigma[:3].tolist(),
            "turn_off": turn,
            "turn_sigma": found.turn_sigma_deg,
            "flip": lens.flip,
            "lead": found.lead,
            "explained": found.explained,
            "upright": found.upright,
        }
    row["seconds"] = time.process_time() - began
    return row


def wrong(row: dict[str, Any]) -> bool:
    """Whether a confident answer is off by more than a nanometre (or a tenth of A1) and three
    of its standard errors.
    """
    off, sigma = np.abs(row["off"]), np.array(row["sigma"])
    size = float(np.hypot(*row["true"][1:]))
    least = np.array([10.0, max(0.1 * size, 3.0), max(0.1 * size, 3.0)])
    return bool((off > np.maximum(3.0 * sigma, least)).any())


def summary(rows: list[dict[str, Any]]) -> list[str]:
    """A line a class."""
    lines = ["class        draws  sure  wrong  defocus nm: median, worst   A1 nm   within 1 sigma"]
    for kind in [*CLASSES, "all thin"]:
        those = [row for row in rows if kind in (row["kind"], "all thin")]
        if kind == "all thin":
            those = [row for row in rows if row["kind"] != "thick"]
        sure = [row for row in those if row["sure"]]
        if not sure:
            lines.append(f"{kind:12s} {len(those):5d} {0:5d}")
            continue
        off = np.abs([row["off"] for row in sure]) / 10
        z = np.abs([row["off"] for row in sure]) / np.array([row["sigma"] for row in sure])
        lines.append(
            f"{kind:12s} {len(those):5d} {len(sure):5d} {sum(map(wrong, sure)):6d}  "
            f"{np.median(off[:, 0]):10.2f} {off[:, 0].max():8.2f}  "
            f"{np.median(off[:, 1:]):11.2f} {off[:, 1:].max():6.2f}   "
            f"{np.mean(z[:, 0] < 1):.0%} {np.mean(z[:, 1:] < 1):.0%}"
        )
    return lines


def words(row: dict[str, Any]) -> str:
    """A draw in a line."""
    text = (
        f"{row['kind']:10s} {row['specimen']:18s} {row['kv']:3.0f} kV {row['mrad']:2.0f} mrad "
        f"step {row['step']:.2f} dose {row['dose']:7.0f}  {-row['true'][0] / 10:+6.1f} nm "
        f"A1 {np.hypot(*row['true'][1:]) / 10:.1f}  "
    )
    if "off" not in row:
        return text + "not measured"
    verdict = "not sure" if not row["sure"] else "WRONG   " if wrong(row) else "sure    "
    off, sigma = (np.round(np.array(row[key]) / 10, 2) for key in ("off", "sigma"))
    return (
        f"{text}{verdict} {row['quality']:.2f} {row['evidence'] - row['floor']:8.0f}  "
        f"off {off} +- {sigma} nm, turned {row['turn_off']:.1f}, explained {row['explained']:.2f}, "
        f"lead {row['lead']:.0f}  {row['seconds']:.1f} s  {row['spoilt']}"
    )


def main() -> None:
    """Print every draw, and the table."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else "")
    parser.add_argument("--draws", type=int, default=28)
    parser.add_argument("--seed", type=int, default=11)
    parser.add_argument("--first", type=int, default=0, help="leave out the draws before")
    parser.add_argument("--kinds", default=",".join(CLASSES))
    parser.add_argument("--folder", type=Path, help="where the patterns are kept")
    parser.add_argument("--json", type=Path, help="where the rows are written")
    args = parser.parse_args()
    rows = []
    for number, draw in enumerate(draws(args.draws, args.seed, tuple(args.kinds.split(",")))):
        if number < args.first:
            continue
        path = args.folder / f"{args.seed}-{args.kinds}-{number}.npz" if args.folder else None
        rows.append(score(draw, patterns_of(draw, path)))
        print(f"{number:3d} {words(rows[-1])}", flush=True)
        if args.json:
            args.json.write_text(json.dumps(rows))
    print("\n".join(summary(rows)))


if __name__ == "__main__":
    main()

"""What a restoration adds and removes: defects, column intensities, ghosts, texture, noise.

    python -m benchmarks.restoration.truthful

Every method gets the same images. The classical filters are given their best parameter by the
truth itself, the restoration of stemd nothing. The specimens' seed changes with the version.
Needs scipy; scikit-image and bm3d where they are there.
"""

from __future__ import annotations

import argparse
import importlib.util
import json
import zlib
from collections import defaultdict
from collections.abc import Callable
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from benchmarks.restoration import methods
from benchmarks.restoration.defects import (
    PIXEL_ANGSTROM,
    SIGMA_ANGSTROM,
    Scene,
    column_profile,
    scenes,
)
from benchmarks.restoration.measures import fitted_columns, psnr
from stemd import __version__
from stemd.engines.restoration.distortions import Distortions, Jitter, distort

Image = NDArray[np.float32]
Filter = Callable[[Image, Image], Image]
"""(recorded, truth) in electrons to an image."""
Measured = dict[str, float]

DOSES = (5e2, 2e3, 2e4, 1e5)
DETECTED, KEPT = 5.0, 0.9
CONDITIONS = {"still": Distortions(), "jitter": Distortions(jitter=Jitter())}


def fresh_seed(number: int = 0) -> int:
    """A seed that nobody has tuned on: another one in every version."""
    return zlib.crc32(f"{__version__} {number}".encode())


def shown(image: Image, scene: Scene, electrons: float) -> dict[str, list[tuple[float, float]]]:
    """By kind, of each defect: the part that an image shows, and its deviation in raw data.

    The part is <image - perfect, defect> / <defect, defect> around the defect, 0 where it is
    painted over, 1 where it is as in the truth; `electrons` are those of a fraction of 1.
    """
    found: dict[str, list[tuple[float, float]]] = defaultdict(list)
    difference = (scene.truth - scene.perfect) * electrons
    perfect, truth = scene.perfect * electrons, scene.truth * electrons
    for kind, y, x in scene.defects:
        j, i = round(y), round(x)
        part = np.s_[j - 8 : j + 9, i - 8 : i + 9]
        defect = difference[part]
        square = float((defect**2).sum())
        value = float(((image - perfect)[part] * defect).sum()) / square
        found[kind].append((value, float(np.sqrt((defect**2 * truth[part]).sum())) / square))
    return found


def heights(image: Image, places: NDArray[np.float64]) -> NDArray[np.float64]:
    """Least-squares height (n,) of a column at each place (n, 2), on the image's own ground."""
    profile = column_profile()
    reach = len(profile) // 2
    centred = profile - profile.mean()
    scale = float((centred * profile).sum())
    out = []
    for y, x in places:
        j, i = round(float(y)), round(float(x))
        part = image[j - reach : j + reach + 1, i - reach : i + reach + 1]
        out.append(float((part * centred).sum()) / scale)
    return np.array(out)


def displacements(image: Image, truth: Image, scene: Scene) -> Measured:
    """How well an image shows where columns are that are not on the perfect lattice.

    `position px`: root mean square error; `core px`: of the columns within two cells of the core.
    `followed`: the part of their displacement that is shown, 1 as in the truth, 0 where all are put
    back on the lattice. Against the same fit to the truth.
    """
    sigma = SIGMA_ANGSTROM / PIXEL_ANGSTROM
    places = scene.columns[:, :2]
    ideal, found = (fitted_columns(each, places, 5.0, sigma)[:, :2] for each in (truth, image))
    error = np.hypot(*(found - ideal).T)
    row = {"position px": float(np.sqrt(np.mean(error**2)))}
    near = np.ones(len(places), np.bool_)
    if scene.core is not None:
        near = np.hypot(*(places - scene.core).T) < 2.0 * 3.905 / PIXEL_ANGSTROM
        row["core px"] = float(np.sqrt(np.mean(error[near] ** 2)))
    moved, shown_moved = ((each - scene.sites)[near] for each in (ideal, found))
    moved, shown_moved = moved - moved.mean(axis=0), shown_moved - shown_moved.mean(axis=0)
    row["followed"] = float((moved * shown_moved).sum() / (moved**2).sum())
    return row


def measured(image: Image, scene: Scene, electrons: float) -> Measured:
    """All numbers of one image of a scene."""
    truth = (scene.truth * electrons).astype(np.float32)
    row: Measured = {}
    if float(np.ptp(truth)) > 0.0:
        row["psnr"] = psnr(image, truth)
    for kind, values in shown(image, scene, electrons).items():
        part, deviation = np.array(values).T
        row[f"{kind}"] = float(part.mean())
        row[f"{kind} detected"] = float(1.0 / deviation.mean())
    if scene.name == "SrTiO3":
        places = scene.columns[:, :2]
        true, seen = heights(truth, places), heights(image, places)
        row["slope"] = float(np.polyfit(true, seen, 1)[0])
        row["correlation"] = float(np.corrcoef(true, seen)[0, 1])
    if len(scene.beyond):
        extra = heights(image - truth, scene.beyond) / (scene.columns[:, 2].mean() * electrons)
        row["ghost %"] = 100.0 * float(extra.mean())
    if len(scene.sites):
        row |= displacements(image, truth, scene)
    if scene.name == "nothing":
        row["left %"] = 100.0 * float(image.std() / np.sqrt(truth.mean() * 1.09))
    return row


def classical() -> dict[str, Filter]:
    """The filters whose packages are there, each with its best parameter by the truth."""
    chosen: dict[str, methods.Method] = {"raw": methods.raw, "gaussian": methods.gaussian}
    if importlib.util.find_spec("skimage"):
        chosen["NLM"] = methods.nonlocal_means
    if importlib.util.find_spec("bm3d"):
        chosen["BM3D"] = methods.bm3d

    def best(method: methods.Method) -> Filter:
        return lambda image, truth: min(
            method(image), key=lambda each: float(np.mean((each - truth) ** 2))
        )

    return {name: best(method) for name, method in chosen.items()}


def score(filters: dict[str, Filter], seeds: list[int]) -> dict[str, Measured]:
    """Means over seeds, by 'condition|dose|scene|method'."""
    sums: dict[str, list[Measured]] = defaultdict(list)
    for seed in seeds:
        for number, scene in enumerate(scenes(seed)):
            for condition, distortions in CONDITIONS.items():
                for dose in DOSES:
                    truth = scene.electrons(dose)
                    rng = np.random.default_rng([seed, number, int(dose), condition == "jitter"])
                    recorded = distort(truth, distortions, rng)
                    scale = float(truth.max() / scene.truth.max())
                    for name, method in filters.items():
                        row = measured(method(recorded, truth), scene, scale)
                        sums[f"{condition}|{dose:g}|{scene.name}|{name}"].append(row)
    return {
        key: {name: float(np.mean([row[name] for row in rows])) for name in rows[0]}
        for key, rows in sums.items()
    }


def table(rows: dict[str, Measured], names: list[str]) -> str:
    """A line for each scene, condition, dose and quantity, a column for each method."""
    lines = ["| scene | quantity | " + " | ".join(names) + " |", "|---" * (len(names) + 2) + "|"]
    for condition in CONDITIONS:
        for dose in DOSES:
            for scene in dict.fromkeys(key.split("|")[2] for key in rows):
                found = [rows[f"{condition}|{dose:g}|{scene}|{name}"] for name in names]
                for quantity in found[0]:
                    cells = " | ".join(f"{row[quantity]:.2f}" for row in found)
                    lines.append(f"| {scene}, {condition}, {dose:g} | {quantity} | {cells} |")
    return "\n".join(lines)


def gates(rows: dict[str, Measured], name: str) -> str:
    """A line for each defect of each scene: which gate applies to a method, and whether it holds.

    A defect that the recorded image detects at `DETECTED` deviations must have `KEPT` of its true
    contrast; of another one a method must say what the recorded image says, within one deviation.
    """
    lines = ["| defect | deviations | recorded | shown | gate | holds |", "|---" * 6 + "|"]
    for key, row in rows.items():
        where, _, method = key.rpartition("|")
        if method != name:
            continue
        for kind in (each for each in row if f"{each} detected" in row):
            clear, part = row[f"{kind} detected"], row[kind]
            recorded = rows[f"{where}|raw"][kind]
            condition, dose, scene = where.split("|")
            if clear >= DETECTED:
                gate, holds = f"at least {KEPT}", part >= KEPT
            else:
                gate, holds = f"within {1.0 / clear:.2f}", abs(part - recorded) <= 1.0 / clear
            lines.append(
                f"| {scene}, {condition}, {dose}: {kind} | {clear:.1f} | {recorded:.2f}"
                f" | {part:.2f} | {gate} | {'yes' if holds else 'NO'} |"
            )
    return "\n".join(lines)


def main() -> None:
    """Command line."""
    from benchmarks.restoration.score import Network

    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else "")
    parser.add_argument("--model", type=Path, default=Path("stemd/models/restoration.onnx"))
    parser.add_argument("--seeds", type=int, default=2, help="fresh specimens of each kind")
    parser.add_argument("--json", type=Path, help="write every number here")
    options = parser.parse_args()
    network = Network(options.model)
    filters = classical()
    filters["network alone"] = lambda image, truth: network.alone(image)
    filters["stemd"] = lambda image, truth: network(image)
    rows = score(filters, [fresh_seed(n) for n in range(options.seeds)])
    if options.json is not None:
        options.json.write_text(json.dumps(rows, indent=1))
    print(table(rows, list(filters)), gates(rows, "stemd"), sep="\n\n")


if __name__ == "__main__":
    main()

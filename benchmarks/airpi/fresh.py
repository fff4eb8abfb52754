"""Phase images on specimens that nobody has seen: drawn anew with every version of stemd.

    python -m benchmarks.airpi.fresh --folder FOLDER --seed 7

Each class of specimen (two-dimensional, perovskite, metal particle on carbon, zeolite, amorphous,
light monolayer, thick silicon) is drawn with elements, thickness and rotation of its own, and seen
through several lenses; the optics that are told are those, or wrong ones. The seed follows from the
version, so that nothing can be tuned on what is reported: constants are chosen with `--half tune`
(even draws) and reported with `--half report` (odd ones). For each engine: correlation with the
true phase, slope of the image against it, and Fourier ring correlation up to one and to two
semi-angles; of SSB also the correlation after the low-pass that is best for it, which nobody could
choose without the truth. Multislice with frozen phonons; a minute of one core a specimen. Needs
torch and abtem.
"""

from __future__ import annotations

import argparse
import json
import math
import zlib
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from importlib.metadata import version
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from benchmarks.airpi import measures, simulate
from benchmarks.airpi.engines import results
from benchmarks.airpi.scan4d import PATTERN, SCALE, Picture, Scan4D
from benchmarks.airpi.specimens import GOLD, SRTIO3, joined, sodalite, turned
from stemd.aberrations import Aberrations
from stemd.beam import Beam
from training.airpi.multislice import displacements
from training.airpi.potential import Atoms, Grid
from training.airpi.samples import RMS_ANGSTROM
from training.airpi.specimens import SHEETS, along, cut_out
from training.restoration.structures import Crystal

F32 = NDArray[np.float32]
F64 = NDArray[np.float64]
Maker = Callable[[float, np.random.Generator], Atoms]

SHAPE, STEP = (44, 44), 0.25
SAMPLES, PHONONS = 216, 2
FOCUS = Aberrations(defocus=0.0)
LENSES = {
    "focus": FOCUS,
    "+10 nm": Aberrations(defocus=100.0),
    "-10 nm": Aberrations(defocus=-100.0),
    "A1 3 nm": Aberrations(astigmatism_x=24.0, astigmatism_y=18.0),
}
DRAWN = "drawn"
"""A lens of each draw's own, see `lenses`."""
DRAWN_DEFOCUS, DRAWN_ASTIGMATISM = 200.0, 50.0
"""Angstrom within which it lies."""
UNTOLD = ("+10 nm", "-10 nm", "A1 3 nm", DRAWN)
"""Lenses of which a second case tells nothing."""
DESCAN_MRAD = 5.0
"""Across the scan, along y and x: two pixels of those of the simulation."""
DOSES = (5e2, 1e4, 1e5)
ENGINES = ("airpi", "direct", "ssb", "ricom", "icom")
SILICON = Crystal("silicon", (5.431, 5.431, 5.431), (90.0, 90.0, 90.0), tuple(
    (14, ((x + shift) % 1.0, (y + shift) % 1.0, (z + shift) % 1.0))
    for shift in (0.0, 0.25)
    for x, y, z in ((0.0, 0.0, 0.0), (0.0, 0.5, 0.5), (0.5, 0.0, 0.5), (0.5, 0.5, 0.0))
))  # fmt: skip


def seed_of(text: str) -> int:
    """The seed of a version."""
    return zlib.crc32(text.encode())


def _with(crystal: Crystal, numbers: dict[int, int], scale: float = 1.0) -> Crystal:
    """The crystal with other elements, its cell scaled."""
    a, b, c = crystal.lengths
    atoms = tuple((numbers.get(number, number), place) for number, place in crystal.atoms)
    return Crystal(crystal.name, (a * scale, b * scale, c * scale), crystal.angles, atoms)


def _sheet(crystal: Crystal, side: float, rng: np.random.Generator) -> Atoms:
    turn = turned(float(rng.uniform(0, 360)))
    origin = np.array([*rng.uniform(0, 1, 2), 1e-9])
    return cut_out(crystal, turn, side, 0.999 * crystal.lengths[2], origin)


def two_dimensional(side: float, rng: np.random.Generator) -> Atoms:
    """Two sheets of a dichalcogenide, one on the other at any angle."""
    metal, other = int(rng.choice([23, 41, 73, 74, 75])), int(rng.choice([34, 52]))
    sheet = _with(SHEETS[0], {74: metal, 34: other}, float(rng.uniform(1.0, 1.12)))
    low, high = (_sheet(sheet, side, rng) for _ in range(2))
    lifted = high.places + np.array([sheet.lengths[2], 0.0, 0.0])
    return joined(low, Atoms(high.numbers, lifted))


def perovskite(side: float, rng: np.random.Generator) -> Atoms:
    """A perovskite along [001] or [110], 12 to 30 angstrom thick."""
    a, b = int(rng.choice([20, 56, 57])), int(rng.choice([13, 25, 40]))
    crystal = _with(SRTIO3, {38: a, 22: b}, float(rng.uniform(0.97, 1.06)))
    zone = ((0, 0, 1), (1, 1, 0))[int(rng.integers(2))]
    turn = turned(float(rng.uniform(0, 90))) @ along(crystal, zone)
    return joined(cut_out(crystal, turn, side, float(rng.uniform(12, 30)), rng.uniform(0, 1, 3)))


def _glass(
    numbers: dict[int, float], density: float, side: float, thickness: float,
    rng: np.random.Generator,
) -> Atoms:  # fmt: skip
    """Atoms at random, so many to a cubic angstrom, none nearer than 1.3 angstrom to the next."""
    from scipy.spatial import cKDTree

    count = round(side * side * thickness * density * 1.3)
    places = rng.uniform(0, 1, (count, 3)) * [thickness, side, side]
    pairs = cKDTree(places).query_pairs(1.3, output_type="ndarray")
    kept = np.ones(count, np.bool_)
    for first, second in pairs:
        kept[second] &= not kept[first]
    kinds = rng.choice(list(numbers), int(kept.sum()), p=list(numbers.values()))
    return Atoms(kinds.astype(np.int64), places[kept])


def particle(side: float, rng: np.random.Generator) -> Atoms:
    """A particle of platinum or palladium, 14 angstrom thick in its middle, on carbon."""
    carbon = _glass({6: 1.0}, 0.09, side, 20.0, rng)
    metal = _with(GOLD, {79: int(rng.choice([46, 78]))}, 0.96)
    turn = turned(float(rng.uniform(0, 360))) @ along(metal, (1, 1, 0))
    block = cut_out(metal, turn, side, 14.0, rng.uniform(0, 1, 3))
    middle = side / 2 + rng.uniform(-2, 2, 2)
    radius = np.hypot(*(block.places[:, 1:] - middle).T)
    keep = (radius / 4.5) ** 2 + ((block.places[:, 0] - 7.0) / 7.0) ** 2 < 1.0
    lifted = block.places[keep] + np.array([20.5, 0.0, 0.0])
    return joined(carbon, Atoms(block.numbers[keep], lifted))


def zeolite(side: float, rng: np.random.Generator) -> Atoms:
    """The sodalite framework with aluminium and phosphorus or silicon, turned and shifted."""
    atoms = sodalite(side + 12.0)
    if rng.random() < 0.5:
        silicon = np.flatnonzero(atoms.numbers == 14)
        atoms.numbers[silicon] = rng.choice([13, 15], silicon.size)
    angle = float(rng.uniform(0, 2 * math.pi))
    at = atoms.places[:, 1:] - (side + 12.0) / 2 + rng.uniform(-3, 3, 2)
    cos, sin = math.cos(angle), math.sin(angle)
    places = np.column_stack(
        [atoms.places[:, 0], at[:, 0] * cos - at[:, 1] * sin, at[:, 0] * sin + at[:, 1] * cos]
    )
    places[:, 1:] += side / 2
    inside = ((places[:, 1:] >= 0) & (places[:, 1:] < side)).all(axis=1)
    return joined(Atoms(atoms.numbers[inside], places[inside]))


def amorphous(side: float, rng: np.random.Generator) -> Atoms:
    """Carbon, or silica, 15 to 30 angstrom thick."""
    kinds = ({6: 1.0}, {14: 1 / 3, 8: 2 / 3})[int(rng.integers(2))]
    return joined(_glass(kinds, 0.08, side, float(rng.uniform(15, 30)), rng))


def light(side: float, rng: np.random.Generator) -> Atoms:
    """One sheet of graphene or boron nitride with some atoms missing."""
    first, second = ((6, 6), (5, 7))[int(rng.integers(2))]
    atoms = _sheet(_with(SHEETS[2], {5: first, 7: second}), side, rng)
    kept = rng.random(atoms.numbers.size) > 0.02
    return joined(Atoms(atoms.numbers[kept], atoms.places[kept]))


def silicon(side: float, rng: np.random.Generator) -> Atoms:
    """Silicon along [110], 100 angstrom thick."""
    turn = turned(float(rng.uniform(0, 180))) @ along(SILICON, (1, 1, 0))
    return joined(cut_out(SILICON, turn, side, 100.0, rng.uniform(0, 1, 3)))


CLASSES: dict[str, Maker] = {
    "2D": two_dimensional,
    "perovskite": perovskite,
    "particle": particle,
    "zeolite": zeolite,
    "amorphous": amorphous,
    "light": light,
    "silicon 100 A": silicon,
}


def lenses(name: str, seed: int) -> dict[str, Aberrations]:
    """Those through which a class's draw with this seed is seen: `LENSES`, and one drawn."""
    rng = np.random.default_rng([seed, *DRAWN.encode(), *name.encode()])
    defocus = float(rng.uniform(-DRAWN_DEFOCUS, DRAWN_DEFOCUS))
    size = DRAWN_ASTIGMATISM * math.sqrt(rng.random())
    turn = float(rng.uniform(0.0, 2.0 * math.pi))
    x, y = size * math.cos(turn), size * math.sin(turn)
    return {**LENSES, DRAWN: Aberrations(defocus, astigmatism_x=x, astigmatism_y=y)}


def simulated(name: str, seed: int) -> dict[str, Scan4D]:
    """A class's draw with this seed through each of its `lenses`, free of noise."""
    rng = np.random.default_rng([seed, *name.encode()])
    beam = Beam(300e3, 20.0)
    window = simulate.FIELDS * simulate.field_of_view(beam)
    grid = Grid(SAMPLES, window)
    extent = STEP * (np.array(SHAPE) - 1)
    side = window + 2.0
    atoms = simulate.within(CLASSES[name](side, rng), np.full(2, (side - window) / 2), window)
    first = (window - extent) / 2
    y, x = (first[n] + STEP * np.arange(SHAPE[n]) for n in (0, 1))
    moved = displacements(atoms, PHONONS, RMS_ANGSTROM, rng)
    patterns = _patterns(atoms, beam, grid, y, x, moved, lenses(name, seed))
    shape = np.ceil((extent + 2 * simulate.TRUTH_MARGIN) / simulate.TRUTH_PIXEL).astype(int) + 1
    truth = simulate.true_phase(
        atoms, beam, first - simulate.TRUTH_MARGIN, (int(shape[0]), int(shape[1]))
    )
    return {
        lens: Scan4D(
            f"{name} {seed} {lens}", counts, beam, STEP, truth,
            simulate.TRUTH_PIXEL, simulate.TRUTH_MARGIN,
        )
        for lens, counts in patterns.items()
    }  # fmt: skip


def _patterns(
    atoms: Atoms, beam: Beam, grid: Grid, y: F64, x: F64, moved: F64,
    through_lenses: dict[str, Aberrations],
) -> dict[str, NDArray[np.float16]]:  # fmt: skip
    """As `simulate.patterns_by_plane_waves`, through each lens: the waves are sent through once."""
    amplitude = np.abs(beam.radial_wave(grid.radius(), 1.0 / grid.side))
    amplitude /= np.sqrt((amplitude**2).sum())
    qy, qx = np.nonzero(amplitude > 0)
    order = np.rint(grid.frequency * grid.side).astype(int)
    reach = int(np.abs(order[qy]).max())
    span = np.arange(-reach, reach + 1)
    lens_of = {
        name: _wave(lens, beam, span, grid, amplitude) for name, lens in through_lenses.items()
    }
    rows = torch.from_numpy(np.exp(-2j * math.pi * np.outer(y, span) / grid.side).astype("c8"))
    columns = torch.from_numpy(np.exp(-2j * math.pi * np.outer(span, x) / grid.side).astype("c8"))
    half = simulate.FIELDS * PATTERN // 2
    keep = torch.from_numpy(np.arange(-half - 1, half + 1) % grid.samples)
    bins = simulate.binning()
    total = {name: torch.zeros((PATTERN, PATTERN, len(y), len(x))) for name in lens_of}
    for through in simulate.transmissions(atoms, beam, grid, moved):
        scattered = torch.zeros((len(keep), len(keep), span.size, span.size), dtype=torch.complex64)
        for begin in range(0, qy.size, simulate.BATCH):
            part = slice(begin, begin + simulate.BATCH)
            wave = torch.zeros((qy[part].size, grid.samples, grid.samples), dtype=torch.complex64)
            index = torch.arange(wave.shape[0])
            wave[index, torch.from_numpy(qy[part]), torch.from_numpy(qx[part])] = 1.0
            wave = simulate.sent_through(wave, through, beam, grid)[:, keep][:, :, keep]
            at_y = torch.from_numpy(order[qy[part]] + reach)
            at_x = torch.from_numpy(order[qx[part]] + reach)
            scattered[:, :, at_y, at_x] = wave.permute(1, 2, 0)
        for name, lens in lens_of.items():
            for number, row in enumerate(scattered * lens):
                wave = rows @ row @ columns
                intensity = wave.real.square() + wave.imag.square()
                binned = torch.einsum("pk,kyx->pyx", torch.from_numpy(bins), intensity)
                for line in np.nonzero(bins[:, number])[0]:
                    total[name][line] += float(bins[line, number]) * binned
    scale = SCALE / moved.shape[0]
    return {
        name: (each.permute(2, 3, 0, 1).numpy() * scale).astype(np.float16)
        for name, each in total.items()
    }


def _wave(
    lens: Aberrations, beam: Beam, span: NDArray[np.int64], grid: Grid, amplitude: F64
) -> torch.Tensor:
    """A exp(-i chi) on the plane waves of `span`, (n, n)."""
    u = span / grid.side / beam.aperture
    y, x = u[:, None], u[None, :]
    r = np.hypot(y, x)
    c = lens.coefficients(beam)
    chi = c[0] * r**2 + c[1] * (x**2 - y**2) + c[2] * 2 * x * y + c[7] * r**4
    opened = amplitude[np.ix_(span % grid.samples, span % grid.samples)]
    return torch.from_numpy((opened * np.exp(-1j * chi)).astype(np.complex64))


def descanned(scan: Scan4D, pixels: float = 2.0) -> Scan4D:
    """Noise-free patterns that wander over the detector by so many pixels along y and x."""
    ny, nx = scan.shape
    moved = np.empty_like(scan.patterns)
    for row in range(ny):
        for column in range(nx):
            pattern = scan.patterns[row, column].astype(np.float32)
            for axis, part in ((0, row / (ny - 1) - 0.5), (1, column / (nx - 1) - 0.5)):
                whole = math.floor(part * pixels)
                rest = part * pixels - whole
                near, far = np.roll(pattern, whole, axis), np.roll(pattern, whole + 1, axis)
                pattern = (1 - rest) * near + rest * far
            moved[row, column] = pattern
    return replace(scan, name=f"{scan.name} descan", patterns=moved)


@dataclass(frozen=True)
class Case:
    """A scan, and what is told of its optics beyond energy and angle."""

    name: str
    scan: Scan4D
    told: dict[str, Any]


def cases(scans: dict[str, Scan4D], through: dict[str, Aberrations]) -> Iterator[Case]:
    """All ways in which a draw is looked at, whose scans were seen through these lenses."""
    for name, scan in scans.items():
        yield Case(f"{name}, told" if name in UNTOLD else name, scan, through[name].as_optics())
        if name in UNTOLD:
            yield Case(f"{name}, not told", scan, {})
    yield Case("descan 2 px", descanned(scans["focus"]), {"center": "auto"})


def scored(case: Case, dose: float, engine: str, **table: Any) -> dict[str, Any]:
    """Correlation, slope and ring correlations of an engine's image."""
    data = case.scan.at_dose(dose)
    made = results(data, engine, told=case.told, **table)
    result = made[engine if engine in made else f"{engine}_phase"]
    size = result.pixel_size or data.step
    y, x = (-size * n for n in result.extra.get("origin", (0, 0)))
    picture = Picture(result.image, size, (y, x))
    seen, truth = measures.on_common(picture, data)
    # what no engine can know is not asked for: detail beyond twice the semi-angle
    limit = measures.COMMON_PIXEL * 2.0 * data.beam.aperture
    truth, shown = (measures.low_pass(part, limit) for part in (truth, seen))
    row: dict[str, Any] = {
        "ncc": measures.score(picture, data),
        "common": measures.correlation(shown, truth),
        "slope": float(np.cov(shown.ravel(), truth.ravel())[0, 1] / truth.var()),
        "rings": measures.ring_correlations(picture, data)[:2],
    }
    if engine == "ssb":  # with as much noise as it has a sharp image says little
        filtered, _ = measures.on_common(measures.best_low_pass(picture, data), data)
        row["best_low_pass"] = measures.correlation(measures.low_pass(filtered, limit), truth)
    uncertainty = made.get(f"{engine}_uncertainty")
    if uncertainty is not None:
        sigma = measures.read_on_common(replace(picture, values=uncertainty.image), data)
        error = (shown - shown.mean()) - (truth - truth.mean())
        row["sigma"] = math.sqrt(float(np.square(sigma).mean()))
        row["error"] = float(error.std())
        row["within"] = float((np.abs(error) < sigma).mean())
    return row


def kept(name: str, seed: int, folder: Path) -> dict[str, Scan4D]:
    """The draw from the folder, or simulated and put there."""
    folder.mkdir(parents=True, exist_ok=True)
    paths = {
        lens: folder / f"{name}-{seed}-{lens}.npz".replace(" ", "_") for lens in lenses(name, seed)
    }
    if not all(path.exists() for path in paths.values()):
        for lens, scan in simulated(name, seed).items():
            partial = paths[lens].with_suffix(".partial")
            with partial.open("wb") as file:
                scan.save(file)
            partial.replace(paths[lens])
    return {lens: Scan4D.load(path) for lens, path in paths.items()}


def main() -> None:
    """Print a line of JSON for each case, dose and engine."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else "")
    parser.add_argument("--folder", type=Path, default=simulate.DEFAULT_FOLDER / "fresh")
    parser.add_argument("--seed", type=int, default=seed_of(version("stemd")))
    parser.add_argument("--draws", type=int, default=2)
    parser.add_argument("--half", choices=("tune", "report", "all"), default="report")
    parser.add_argument("--only", nargs="+", choices=list(CLASSES), default=list(CLASSES))
    parser.add_argument("--engines", nargs="+", default=list(ENGINES))
    parser.add_argument(
        "--model", help="network of AIRPI: a name or a path, else the one that ships"
    )
    parser.add_argument("--cases", nargs="+", help="only these ways of looking at a draw, by name")
    parser.add_argument("--doses", nargs="+", type=float, default=list(DOSES))
    parser.add_argument("--simulate", action="store_true", help="make the scans, score nothing")
    options = parser.parse_args()
    torch.set_num_threads(1)
    numbers = range(options.draws)
    if options.half != "all":
        numbers = range(options.half == "report", options.draws, 2)
    for number in numbers:
        for name in options.only:
            scans = kept(name, options.seed + number, options.folder)
            if options.simulate:
                continue
            for case in cases(scans, lenses(name, options.seed + number)):
                if options.cases and case.name not in options.cases:
                    continue
                for dose in options.doses:
                    for engine in options.engines:
                        own = engine == "airpi" and options.model
                        table = {"model": options.model} if own else {}
                        row = scored(case, dose, engine, **table)
                        about = {"class": name, "draw": number, "case": case.name, "dose": dose}
                        print(json.dumps({**about, "engine": engine, **row}), flush=True)


if __name__ == "__main__":
    main()

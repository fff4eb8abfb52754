"""Simulated 4D-STEM scans of known specimens, kept in a folder.

    python -m benchmarks.airpi.simulate --folder FOLDER --only 'mos2*'

The specimen is imaged in windows of two fields of view of a pattern, each holding a block of the
scan and what is left of the probe's tails, with frozen phonons. Patterns are binned from the
window's finer pixels as a detector would, so their pixels are 1/8 of the convergence semi-angle
and reach to four of them. They are stored free of noise; the same scan always comes out the same.
"""

from __future__ import annotations

import argparse
import fnmatch
import json
import math
import os
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray

from benchmarks.airpi import specimens
from benchmarks.airpi.scan4d import PATTERN, SCALE, Scan4D
from stemd.beam import Beam
from stemd.virtual.scattering import VOLT_ANGSTROM_SQUARED
from training.airpi.multislice import SLICE_ANGSTROM, displacements, exit_waves, probe_wave
from training.airpi.potential import Atoms, Grid, potentials, scattering_factor, slices_of
from training.airpi.samples import RMS_ANGSTROM

F32 = NDArray[np.float32]
F64 = NDArray[np.float64]

FIELDS = 2
"""A window's side in fields of view of a pattern."""
SAMPLES = 288
"""Of a window: scattering is kept to 6 semi-angles, beyond the pattern's corners."""
MARGIN_ANGSTROM = 2.9
"""Between a block of the scan and its window's border, at 300 kV and 20 mrad; it grows with the
probe."""
PHONONS = 6
TRUTH_PIXEL = 0.05
TRUTH_MARGIN = 2.0
BATCH = 32
DEFAULT_FOLDER = Path.home() / ".cache" / "stemd" / "airpi-scores"


@dataclass(frozen=True, slots=True)
class Plan:
    """One scan: `shape` positions, `step` angstrom apart, over the middle of the specimen."""

    name: str
    specimen: Callable[[float], Atoms]
    shape: tuple[int, int] = (96, 96)
    step: float = 0.1
    energy_ev: float = 300e3
    convergence_mrad: float = 20.0

    @property
    def beam(self) -> Beam:
        """Scherzer defocus for a Cs of 1 micrometre (thesis eq. 1.18)."""
        cs = 0.001
        defocus = math.sqrt(1.5 * cs * 1e7 * Beam(self.energy_ev).wavelength)
        return Beam(self.energy_ev, self.convergence_mrad, defocus, cs)


def plans() -> tuple[Plan, ...]:
    """All scans of the table."""
    main = (
        Plan("mos2", specimens.mos2_bilayer),
        Plan("srtio3", specimens.strontium_titanate),
        Plan("mgo", specimens.magnesia),
        Plan("graphene", specimens.graphene),
        Plan("gold-wedge", specimens.gold_wedge),
        Plan("sodalite", specimens.sodalite),
    )
    mos2 = specimens.mos2_bilayer
    steps = (
        Plan("mos2-step-0.2", mos2, (48, 48), 0.2),
        Plan("mos2-step-0.4", mos2, (48, 48), 0.4),
        Plan("mos2-step-0.8", mos2, (32, 32), 0.8),
        Plan("mos2-step-1.6", mos2, (24, 24), 1.6),
    )
    others = (
        Plan("srtio3-12A", lambda side: specimens.strontium_titanate(side, 3)),
        Plan("srtio3-27A", lambda side: specimens.strontium_titanate(side, 7)),
        Plan("mos2-80kV", mos2, (96, 96), 0.15, 80e3, 25.0),
        Plan("single-atoms", specimens.single_atoms, (80, 80), 0.2),
        Plan("vacuum", specimens.vacuum),
    )
    return main + steps + others


def blocks(plan: Plan) -> Iterator[tuple[slice, slice]]:
    """Parts of the scan that fit into one window each."""
    window = FIELDS * field_of_view(plan.beam)
    margin = MARGIN_ANGSTROM * plan.beam.airy_radius / Beam().airy_radius
    most = int((window - 2 * margin) / plan.step) + 1
    ny, nx = plan.shape
    rows, columns = -(-ny // most), -(-nx // most)
    for part_y in np.array_split(np.arange(ny), rows):
        for part_x in np.array_split(np.arange(nx), columns):
            yield slice(part_y[0], part_y[-1] + 1), slice(part_x[0], part_x[-1] + 1)


def field_of_view(beam: Beam) -> float:
    """Of one pattern with pixels of 1/8 semi-angle, in angstrom."""
    return 8.0 / beam.aperture


def binning() -> F32:
    """(PATTERN, kept) shares of the window's frequencies that fall into each detector pixel.

    Frequencies are in rising order about 0 and a pixel is two of them wide, so those on the
    border between two pixels count half for each.
    """
    half = FIELDS * PATTERN // 2
    place = np.arange(-half - 1, half + 1)
    middle = FIELDS * (np.arange(PATTERN) - PATTERN // 2)
    distance = np.abs(place[None, :] - middle[:, None])
    return np.clip(FIELDS / 2 + 0.5 - distance, 0.0, 1.0).astype(np.float32)


def kept() -> NDArray[np.int64]:
    """The frequencies, in the window's FFT, that `binning` takes."""
    half = FIELDS * PATTERN // 2
    return np.arange(-half - 1, half + 1) % SAMPLES


def patterns_by_plane_waves(
    atoms: Atoms, beam: Beam, grid: Grid, y: F64, x: F64, moved: F64
) -> F32:
    """Averaged patterns (len(y), len(x), PATTERN, PATTERN) at the positions of a rectangle.

    Multislice is linear in the incident wave: every plane wave of the aperture is sent through
    once, and the wave at a frequency for all positions is a Fourier sum over them (Ophus,
    Adv. Struct. Chem. Imaging 3 (2017) 13, eq. 13). Exact, and cheaper when there are more
    positions than plane waves.
    """
    start = probe_wave(beam, grid)
    qy, qx = np.nonzero(np.abs(start) > 0)
    order = np.rint(grid.frequency * grid.side).astype(int)
    reach = int(np.abs(order[qy]).max())
    span = np.arange(-reach, reach + 1)
    to_y = np.exp(-2j * math.pi * np.outer(y, span) / grid.side).astype(np.complex64)
    to_x = np.exp(-2j * math.pi * np.outer(span, x) / grid.side).astype(np.complex64)
    rows, columns = torch.from_numpy(to_y), torch.from_numpy(to_x)
    keep = torch.from_numpy(kept())
    bins = binning()
    total = torch.zeros((PATTERN, PATTERN, len(y), len(x)))
    for through in transmissions(atoms, beam, grid, moved):
        scattered = torch.zeros((len(keep), len(keep), span.size, span.size), dtype=torch.complex64)
        for first in range(0, qy.size, BATCH):
            part = slice(first, first + BATCH)
            wave = torch.zeros((qy[part].size, *start.shape), dtype=torch.complex64)
            index = torch.arange(wave.shape[0])
            wave[index, torch.from_numpy(qy[part]), torch.from_numpy(qx[part])] = torch.from_numpy(
                start[qy[part], qx[part]].astype(np.complex64)
            )
            wave = sent_through(wave, through, beam, grid)[:, keep][:, :, keep]
            at_y = torch.from_numpy(order[qy[part]] + reach)
            at_x = torch.from_numpy(order[qx[part]] + reach)
            scattered[:, :, at_y, at_x] = wave.permute(1, 2, 0)
        for number, row in enumerate(scattered):
            wave = rows @ row @ columns
            intensity = wave.real.square() + wave.imag.square()
            binned = torch.einsum("pk,kyx->pyx", torch.from_numpy(bins), intensity)
            for line in np.nonzero(bins[:, number])[0]:
                total[line] += float(bins[line, number]) * binned
    return np.asarray((total / moved.shape[0]).permute(2, 3, 0, 1).numpy())


def transmissions(
    atoms: Atoms, beam: Beam, grid: Grid, moved: F64
) -> Iterator[NDArray[np.complex64] | torch.Tensor]:
    """For each phonon configuration the slices' transmission, band-limited."""
    band = torch.from_numpy(grid.band().astype(np.float32))
    count = slices_of(atoms, SLICE_ANGSTROM)
    for configuration in moved:
        volts = potentials(atoms, grid, count, SLICE_ANGSTROM, configuration[None])[0]
        angle = volts * beam.sigma
        through = torch.polar(torch.ones_like(angle), angle)
        yield torch.fft.ifft2(torch.fft.fft2(through) * band)


def sent_through(
    wave: torch.Tensor, through: NDArray[np.complex64] | torch.Tensor, beam: Beam, grid: Grid
) -> torch.Tensor:
    """Waves (n, samples, samples) at k after the slices, as in training.airpi.multislice."""
    band = grid.band()
    phase = -math.pi * beam.wavelength * SLICE_ANGSTROM * grid.radius() ** 2
    propagator = torch.from_numpy(np.where(band, np.exp(1j * phase), 0.0).astype(np.complex64))
    last = torch.from_numpy(band.astype(np.float32))
    for number in range(len(through)):
        wave = torch.fft.fft2(torch.fft.ifft2(wave) * through[number])
        wave = wave * (propagator if number < len(through) - 1 else last)
    return wave


def patterns_by_positions(atoms: Atoms, beam: Beam, grid: Grid, y: F64, x: F64, moved: F64) -> F32:
    """The same, position by position."""
    places = np.stack(np.meshgrid(y, x, indexing="ij"), axis=-1).reshape(-1, 2)
    bins, keep = binning(), kept()
    result = np.empty((len(places), PATTERN, PATTERN), np.float32)
    for first in range(0, len(places), BATCH):
        waves = exit_waves(atoms, beam, grid, places[first : first + BATCH], moved)
        seen = waves.intensity[:, keep][:, :, keep]
        result[first : first + BATCH] = np.einsum("pk,nkl,ql->npq", bins, seen, bins, optimize=True)
    return result.reshape(len(y), len(x), PATTERN, PATTERN)


def within(atoms: Atoms, corner: F64, side: float) -> Atoms:
    """The atoms of a window, moved so that its corner (y, x) is the origin."""
    places = atoms.places - np.array([0.0, *corner])
    inside = ((places[:, 1:] >= 0.0) & (places[:, 1:] < side)).all(axis=1)
    return Atoms(atoms.numbers[inside], places[inside])


def true_phase(atoms: Atoms, beam: Beam, corner: F64, shape: tuple[int, int]) -> F32:
    """Projected potential times sigma, radian, averaged over the vibrations.

    On pixels of `TRUTH_PIXEL` from `corner` (y, x): V(k) = C f(k) exp(-2 pi^2 u^2 k^2) summed
    over the atoms, u the root-mean-square displacement an axis.
    """
    side = TRUTH_PIXEL * math.ceil(max(shape) * 1.05 + 80)
    grid = Grid(round(side / TRUTH_PIXEL), side)
    k, total = grid.frequency, np.zeros((grid.samples, grid.samples), complex)
    slack = (side - TRUTH_PIXEL * np.array(shape)) / 2
    damping = np.exp(-2 * (math.pi * RMS_ANGSTROM * grid.radius()) ** 2)
    seen = within(atoms, corner - slack, side)
    for number in np.unique(seen.numbers):
        places = seen.places[seen.numbers == number, 1:] - slack
        y = np.exp(-2j * math.pi * np.outer(k, places[:, 0]))
        x = np.exp(-2j * math.pi * np.outer(places[:, 1], k))
        total += (y @ x) * scattering_factor(int(number), grid.radius()) * damping
    volts = np.fft.ifft2(total).real * VOLT_ANGSTROM_SQUARED / TRUTH_PIXEL**2
    return (beam.sigma * volts[: shape[0], : shape[1]]).astype(np.float32)


def simulated(plan: Plan, seed: int = 7) -> Scan4D:
    """The scan, free of noise."""
    beam = plan.beam
    window = FIELDS * field_of_view(beam)
    grid = Grid(SAMPLES, window)
    extent = plan.step * (np.array(plan.shape) - 1)
    side = float(extent.max()) + 2 * window
    atoms = plan.specimen(side)
    first = (side - extent) / 2
    y = first[0] + plan.step * np.arange(plan.shape[0])
    x = first[1] + plan.step * np.arange(plan.shape[1])
    patterns = np.empty((*plan.shape, PATTERN, PATTERN), np.float16)
    rng = np.random.default_rng(seed)
    waves = int(np.count_nonzero(probe_wave(beam, grid)))
    for rows, columns in blocks(plan):
        middle = np.array([y[rows].mean(), x[columns].mean()])
        corner = middle - window / 2
        seen = within(atoms, corner, window)
        moved = displacements(seen, PHONONS if seen.numbers.size else 1, RMS_ANGSTROM, rng)
        count = y[rows].size * x[columns].size
        method = patterns_by_plane_waves if count > waves else patterns_by_positions
        block = method(seen, beam, grid, y[rows] - corner[0], x[columns] - corner[1], moved)
        patterns[rows, columns] = block * SCALE
    shape = np.ceil((extent + 2 * TRUTH_MARGIN) / TRUTH_PIXEL).astype(int) + 1
    truth = true_phase(atoms, beam, first - TRUTH_MARGIN, (int(shape[0]), int(shape[1])))
    return Scan4D(plan.name, patterns, beam, plan.step, truth, TRUTH_PIXEL, TRUTH_MARGIN)


def scan(plan: Plan, folder: Path) -> Scan4D:
    """The scan from the folder, or simulated and put there: as a whole or not at all."""
    path = folder / f"{plan.name}.npz"
    if path.exists():
        return Scan4D.load(path)
    result = simulated(plan)
    folder.mkdir(parents=True, exist_ok=True)
    partial = path.with_suffix(f".{os.getpid()}.partial")
    try:
        with partial.open("wb") as file:
            result.save(file)
        partial.replace(path)
    finally:
        partial.unlink(missing_ok=True)
    return result


def main() -> None:
    """Command line."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else "")
    parser.add_argument("--folder", type=Path, default=DEFAULT_FOLDER)
    parser.add_argument("--only", default="*", help="names, with * and ?")
    parser.add_argument("--threads", type=int, default=1)
    options = parser.parse_args()
    torch.set_num_threads(options.threads)
    for plan in plans():
        if fnmatch.fnmatch(plan.name, options.only):
            began = time.process_time()
            made = scan(plan, options.folder)
            seconds = time.process_time() - began
            print(json.dumps({"scan": plan.name, "cpu_s": round(seconds, 1),
                              "inside": float(made.fraction().sum(axis=(2, 3)).mean())}),
                  flush=True)  # fmt: skip


if __name__ == "__main__":
    main()

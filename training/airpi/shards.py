"""Shards of training samples: small files of many samples, written once and whole.

A sample's nine patterns are kept as whole numbers `LEVELS` (I / Imax)^(1/8): 0.4 % of the
intensity at worst in the bright disc, 4 % at 1e-8 of it. The wave is kept as float16 after
division by its largest modulus. Both are zlib-compressed with bytes of the same kind put side
by side, some 50 kB a sample in all.
"""

from __future__ import annotations

import argparse
import os
import time
import zlib
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import structlog
import torch
from numpy.typing import NDArray

from stemd.beam import Beam
from training.airpi.samples import DETECTOR, GROUPS, PHONONS, Conditions, Group, groups

log = structlog.get_logger()
LEVELS = 1023
ROOT = 8
SPECIMENS = 256
"""Of a shard, `GROUPS` samples each."""
NUMBERS = ("energy_ev", "convergence_mrad", "defocus_angstrom", "cs_mm", "collection_mrad", "step")


@dataclass(frozen=True, slots=True)
class Recipe:
    """What decides every sample of a series."""

    seed: int
    samples: int = 128
    phonons: int = PHONONS
    specimens: int = SPECIMENS


def packed(patterns: NDArray[np.float32]) -> tuple[NDArray[np.uint16], float]:
    """Patterns of a group as levels, and the intensity of the highest."""
    top = max(float(patterns.max()), 1e-30)
    level = np.rint(LEVELS * (np.clip(patterns, 0.0, None) / top) ** (1.0 / ROOT))
    return level.astype(np.uint16), top


def unpacked(level: NDArray[np.uint16], top: float) -> NDArray[np.float32]:
    """Intensities again, float32, of the same shape."""
    table = (top * (np.arange(LEVELS + 1) / LEVELS) ** ROOT).astype(np.float32)
    return table[level]


def _squeeze(values: NDArray[Any]) -> NDArray[np.uint8]:
    split = np.ascontiguousarray(values).view(np.uint8).reshape(-1, values.itemsize).T
    return np.frombuffer(zlib.compress(split.tobytes(), 6), np.uint8)


def _expand(data: NDArray[np.uint8], dtype: type[np.generic], shape: Sequence[int]) -> Any:
    size = np.dtype(dtype).itemsize
    split = np.frombuffer(zlib.decompress(data.tobytes()), np.uint8).reshape(size, -1)
    return np.ascontiguousarray(split.T).view(dtype).reshape(shape)


def write_shard(path: Path, contents: Sequence[Group]) -> None:
    """Write groups to `path`; it appears whole or not at all."""
    arrays: dict[str, NDArray[Any]] = {}
    numbers, kinds, tops, scales = [], [], [], []
    for index, group in enumerate(contents):
        level, top = packed(group.patterns)
        scale = max(float(np.abs(group.wave).max()), 1e-30)
        parts = (group.wave / scale).view(np.float32).astype(np.float16)
        arrays[f"patterns_{index}"] = _squeeze(level)
        arrays[f"wave_{index}"] = _squeeze(parts)
        what = group.conditions
        beam = what.beam
        numbers.append((beam.energy_ev, beam.convergence_semi_angle_mrad, beam.defocus_angstrom,
                        beam.cs_mm, what.collection_mrad, what.step))  # fmt: skip
        kinds.append(group.kind)
        tops.append(top)
        scales.append(scale)
    arrays |= {"conditions": np.array(numbers), "kinds": np.array(kinds), "tops": np.array(tops)}
    arrays["scales"] = np.array(scales)
    temporary = path.with_name(f".{path.name}.{os.getpid()}")
    with temporary.open("wb") as file:
        np.savez(file, **arrays)
        file.flush()
        os.fsync(file.fileno())
    temporary.replace(path)


def read_shard(path: Path) -> list[Group]:
    """The groups of a shard in the order in which they were written."""
    with np.load(path) as data:
        found = []
        rows = zip(data["conditions"], data["kinds"], data["tops"], data["scales"], strict=True)
        for index, (row, kind, top, scale) in enumerate(rows):
            energy, alpha, defocus, cs, collection, step = (float(value) for value in row)
            level = _expand(data[f"patterns_{index}"], np.uint16, (9, DETECTOR, DETECTOR))
            parts = _expand(data[f"wave_{index}"], np.float16, (DETECTOR, 2 * DETECTOR))
            wave = parts.astype(np.float32).view(np.complex64) * np.float32(scale)
            what = Conditions(Beam(energy, alpha, defocus, cs), collection, step)
            found.append(Group(unpacked(level, float(top)), wave, what, str(kind)))
    return found


def shard_path(folder: Path, recipe: Recipe, number: int) -> Path:
    """Where a shard is; its name holds all that decides what is in it."""
    name = (
        f"s{recipe.seed}_g{recipe.samples}_p{recipe.phonons}_n{recipe.specimens}_{number:05d}.npz"
    )
    return folder / name


def make(folder: Path, recipe: Recipe, shards: range) -> int:
    """Write those shards that are not there yet; how many samples were made."""
    folder.mkdir(parents=True, exist_ok=True)
    made = 0
    for number in shards:
        path = shard_path(folder, recipe, number)
        if path.exists():
            continue
        start = time.process_time()
        first = number * recipe.specimens
        contents: list[Group] = []
        for index in range(first, first + recipe.specimens):
            contents += groups(recipe.seed, index, recipe.samples, recipe.phonons)
        write_shard(path, contents)
        made += len(contents)
        seconds = time.process_time() - start
        log.info(
            "shard",
            file=path.name,
            samples=len(contents),
            samples_per_core_second=round(len(contents) / seconds, 1),
            kilobytes_a_sample=round(path.stat().st_size / len(contents) / 1000, 1),
        )
    return made


def main() -> None:
    """Command line: python -m training.airpi.shards --folder data --shards 50 --seed 1."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else "")
    parser.add_argument("--folder", type=Path, default=Path("state/airpi"))
    parser.add_argument("--shards", type=int, required=True, help="how many there shall be")
    parser.add_argument("--first", type=int, default=0, help="number of the first one")
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--specimens", type=int, default=SPECIMENS,
                        help=f"of a shard, {GROUPS} samples each")  # fmt: skip
    parser.add_argument("--grid", type=int, default=128, help="samples across the simulation")
    parser.add_argument("--phonons", type=int, default=PHONONS, help="configurations")
    options = parser.parse_args()
    if options.grid < 1.5 * DETECTOR:
        parser.error(f"--grid must be at least {int(1.5 * DETECTOR)}, the pattern has {DETECTOR}")
    torch.set_num_threads(1)
    torch.set_flush_denormal(True)
    recipe = Recipe(options.seed, options.grid, options.phonons, options.specimens)
    made = make(options.folder, recipe, range(options.first, options.first + options.shards))
    log.info("done", samples=made, folder=str(options.folder))


if __name__ == "__main__":
    main()

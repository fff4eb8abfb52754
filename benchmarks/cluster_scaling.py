"""What a second worker gains where patterns take more than reading them.

`python -m benchmarks.cluster_scaling packed events ssb airpi`: for each work two recordings, by
one and by two workers, and by one and by two processes of the plain command side by side, which
is what the machine can gain. Ways take turns; the figures are medians over the turns.
"""

from __future__ import annotations

import argparse
import json
import os
import shutil
import statistics
import tempfile
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor
from contextlib import contextmanager
from multiprocessing import get_context
from pathlib import Path
from time import perf_counter
from typing import Any

import numpy as np

from benchmarks.cluster import TABLES, dask, plainly, ratios
from stemd.acquisition import Optics, Scan
from stemd.adapters.merlin.encoder import Camera, encode_frame
from stemd.cli.bench.events import event_file
from stemd.cli.bench.harness import Context
from stemd.config.resolved import EngineConfig
from stemd.errors import StemdError
from stemd.offline.cluster.connect import Pool
from stemd.offline.cluster.recipe import Goal, Recipe
from stemd.offline.cluster.run import run_files
from stemd.offline.outcome import write_run
from stemd.settings import Settings

SIDE = 256
OPTICS = {"energy_ev": 300e3, "convergence_semi_angle_mrad": 20.0, "pixel_size_mrad": 0.625}
SCAN = Scan(shape=(64, 128), step_size_angstrom=0.2)


def _merlin(path: Path, *, packed: bool) -> Path:
    camera = Camera((SIDE, SIDE), depth=12, raw=packed)
    pattern = np.random.default_rng(0).poisson(20.0, (SIDE, SIDE)).astype(np.uint16)
    with path.open("wb") as file:
        for index in range(SCAN.frames):
            file.write(encode_frame(pattern, camera, index + 1))
        file.flush()
        os.fsync(file.fileno())
    return path


def packed(folder: Path) -> list[Recipe]:
    """12-bit raw frames (R64), unpacked on the way; the images of the other benchmark."""
    return [_recipe(_merlin(folder / f"{n}.mib", packed=True), SCAN, TABLES) for n in range(2)]


def ssb(folder: Path) -> list[Recipe]:
    """16-bit frames of which SSB keeps the discs."""
    tables: dict[str, dict[str, Any]] = {"ssb": {}, "sum": {}}
    return [_recipe(_merlin(folder / f"{n}.mib", packed=False), SCAN, tables) for n in range(2)]


def airpi(folder: Path) -> list[Recipe]:
    """16-bit frames through AIRPI's network, every position of one, a thread a worker."""
    chosen = {"threads": 1, "every": 1, "repetition": 1}
    tables: dict[str, dict[str, Any]] = {"airpi": chosen, "sum": {}}
    return [_recipe(_merlin(folder / f"{n}.mib", packed=False), SCAN, tables) for n in range(2)]


def events(folder: Path) -> list[Recipe]:
    """52 million hits of a Timepix3 quad a file, in one pass: a file is one worker's."""
    made = event_file(800, Context())
    found = []
    for number in range(2):
        path = folder / f"{number}.tpx3"
        shutil.copy(made, path)
        with path.open("rb") as file:
            os.fsync(file.fileno())  # or the system writes it back while something is measured
        found.append(_recipe(path, Scan(shape=(256, 256)), TABLES))
    made.unlink()
    return found


WORK: dict[str, Callable[[Path], list[Recipe]]] = {
    "packed": packed,
    "events": events,
    "ssb": ssb,
    "airpi": airpi,
}


def _recipe(path: Path, scan: Scan, tables: dict[str, dict[str, Any]]) -> Recipe:
    engines = [EngineConfig.of(name, table) for name, table in tables.items()]
    chosen = {engine.name: engine.settings for engine in engines}
    settings = Settings(Optics(**OPTICS), chosen, scan)
    return Recipe(path, scan, None, settings, tuple((e.plugin.name, e.settings) for e in engines))


@contextmanager
def processes(count: int) -> Iterator[ProcessPoolExecutor]:
    """Processes that stay: their kernels are compiled once."""
    with ProcessPoolExecutor(count, mp_context=get_context("spawn")) as pool:
        yield pool


def side_by_side(pool: ProcessPoolExecutor, recipes: Sequence[Recipe], out: Path) -> float:
    """Seconds of the plain command over all files, as many at a time as there are processes."""
    began = perf_counter()
    list(pool.map(plainly, recipes, [out / made.path.stem for made in recipes]))
    return perf_counter() - began


def spread(pool: Pool, recipes: Sequence[Recipe], out: Path) -> float:
    """The same on a cluster that runs."""
    errors: dict[Path, StemdError] = {}

    def written(goal: Goal, outcome: Any, final: Any, _: Any) -> None:
        write_run(outcome, final, goal.folder, {})

    began = perf_counter()
    folders = [out / made.path.stem for made in recipes]
    files = {folder: [Goal(made, folder)] for made, folder in zip(recipes, folders, strict=True)}
    run_files(pool, files, written, errors.__setitem__)
    if errors:
        raise next(iter(errors.values()))
    return perf_counter() - began


def main() -> None:
    """Print a JSON object of figures."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("work", nargs="+", choices=list(WORK))
    parser.add_argument("--turns", type=int, default=7)
    args = parser.parse_args()
    scratch = Path(tempfile.mkdtemp(prefix="stemd-cluster-"))
    out = scratch / "out"

    def fresh(way: Callable[[], float]) -> Callable[[], float]:
        def called() -> float:
            shutil.rmtree(out, ignore_errors=True)
            return way()

        return called

    figures: dict[str, Any] = {"cpus": len(os.sched_getaffinity(0))}
    try:
        with dask(1) as (one, _), dask(2) as (two, _), processes(1) as alone, processes(2) as pair:
            for name in args.work:
                folder = scratch / name
                folder.mkdir()
                made = WORK[name](folder)
                seconds = ratios(
                    args.turns,
                    {
                        "plain": fresh(lambda made=made: side_by_side(alone, made, out)),
                        "two processes": fresh(lambda made=made: side_by_side(pair, made, out)),
                        "one worker": fresh(lambda made=made: spread(one, made, out)),
                        "two workers": fresh(lambda made=made: spread(two, made, out)),
                    },
                )
                figures[name] = _figures(seconds)
                shutil.rmtree(folder)
        print(json.dumps(figures, indent=1))
    finally:
        shutil.rmtree(scratch, ignore_errors=True)


def _figures(seconds: dict[str, list[float]]) -> dict[str, Any]:
    found: dict[str, Any] = {
        f"{name}_s": round(statistics.median(each), 3) for name, each in seconds.items()
    }
    for name, slow, fast in (
        ("one_worker_over_plain", "one worker", "plain"),
        ("two_processes_speed_up", "plain", "two processes"),
        ("two_workers_speed_up", "one worker", "two workers"),
    ):
        pairs = zip(seconds[slow], seconds[fast], strict=True)
        found[name] = round(statistics.median(a / b for a, b in pairs), 3)
    return found


if __name__ == "__main__":
    main()

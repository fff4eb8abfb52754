"""What a cluster costs and gains on this machine: `python benchmarks/cluster.py --help`.

Every comparison takes turns (plain, one worker, two workers, and again), so that what else the
machine does meets all alike; the figures are the medians of the ratios of each turn.
"""

from __future__ import annotations

import argparse
import json
import os
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import psutil

from stemd.acquisition import Optics, Scan
from stemd.adapters.files import open_recording
from stemd.cli.bench.harness import Context
from stemd.cli.bench.limits import big_file, merlin_header
from stemd.config.resolved import EngineConfig
from stemd.errors import StemdError
from stemd.offline.cluster.connect import Pool, connect
from stemd.offline.cluster.queue import TaskQueue
from stemd.offline.cluster.recipe import Goal, Recipe
from stemd.offline.cluster.run import run_files
from stemd.offline.outcome import outcome_of, write_run
from stemd.scan.processing import process_recording
from stemd.settings import Settings

SIDE = 256
TABLES: dict[str, dict[str, Any]] = {
    "com": {},
    "ricom": {"kernel_size": 61},
    "sum": {},
    "pacbed": {},
    "virtual_detector": {"detectors_px": {"bf": [0.0, 40.0], "adf": [44.0, 120.0]}},
}


@contextmanager
def dask(workers: int, *, profiled: bool = False) -> Iterator[tuple[Pool, list[psutil.Process]]]:
    """A scheduler and workers of one thread as processes; [scheduler, worker, ...].

    `profiled`: with Dask's own profiler, which it has on unless told otherwise.
    """
    with tempfile.TemporaryDirectory() as folder:
        file = Path(folder) / "scheduler.json"
        started: list[subprocess.Popen[bytes]] = []

        def start(*arguments: str) -> None:
            command = [sys.executable, "-m", "dask", *arguments]
            started.append(
                subprocess.Popen(
                    command,
                    cwd=folder,
                    stdout=subprocess.DEVNULL,
                    stderr=subprocess.DEVNULL,
                    env={**os.environ, "DASK_DISTRIBUTED__WORKER__PROFILE__ENABLED": str(profiled)},
                )
            )

        try:
            start(
                "scheduler",
                "--host",
                "127.0.0.1",
                "--port",
                "0",
                "--no-dashboard",
                "--scheduler-file",
                str(file),
            )
            for _ in range(workers):
                start(
                    *("worker", "--scheduler-file", str(file), "--no-dashboard", "--no-nanny"),
                    *("--nthreads", "1", "--memory-limit", "0"),
                )
            while not file.exists() or not file.read_text():
                time.sleep(0.1)
            with connect(str(file)) as pool:
                while pool.threads() < workers:
                    time.sleep(0.1)
                yield pool, [psutil.Process(process.pid) for process in started]
        finally:
            for process in started:
                process.kill()
                process.wait()


def recipe(path: Path) -> Recipe:
    """All images that need one pass, with an automatic centre: its first task delays all others."""
    frames = path.stat().st_size // (384 + 2 * SIDE * SIDE)
    scan = Scan(shape=(max(1, frames // 256), 256) if frames >= 256 else (1, frames))
    engines = [EngineConfig.of(name, table) for name, table in TABLES.items()]
    settings = Settings(Optics(), {engine.name: engine.settings for engine in engines}, scan)
    return Recipe(path, scan, None, settings, tuple((e.plugin.name, e.settings) for e in engines))


def plainly(made: Recipe, out: Path, jobs: int = 1) -> float:
    """Seconds of `stemd process` without the start of Python."""
    began = time.perf_counter()
    recording = open_recording(made.path, made.scan)
    run, final = process_recording(recording, made.settings, made.choices(), jobs)
    write_run(outcome_of(run), final, out, {})
    recording.close()
    return time.perf_counter() - began


def spread(pool: Pool, made: Recipe, out: Path, part_bytes: int | None) -> float:
    """The same on a cluster that runs."""
    errors: dict[Path, StemdError] = {}

    def written(goal: Goal, outcome: Any, final: Any, _: Any) -> None:
        write_run(outcome, final, goal.folder, {})

    began = time.perf_counter()
    files = {out: [Goal(made, out)]}
    run_files(pool, files, written, errors.__setitem__, part_bytes=part_bytes)
    if errors:
        raise next(iter(errors.values()))
    return time.perf_counter() - began


def cpu_seconds(way: Callable[[], float], processes: list[psutil.Process]) -> float:
    """CPU of this process and of others while something runs; the others must be awake."""

    def spent() -> float:
        others = sum(sum(process.cpu_times()[:2]) for process in processes)
        return others + time.process_time()

    began = spent()
    way()
    return spent() - began


def nothing(number: int) -> int:
    """A task that costs nothing itself."""
    return number


def task_cost(pool: Pool, scheduler: psutil.Process, count: int) -> dict[str, float]:
    """Milliseconds that a task costs the scheduler (CPU) and the client (wall clock)."""
    queue = TaskQueue(pool)
    done: list[int] = []
    for number in range(count):
        queue.add("nothing", nothing, number, then=done.append, failed=print)
    cpu, mine, began = sum(scheduler.cpu_times()[:2]), time.process_time(), time.perf_counter()
    queue.run(lambda: None)
    assert len(done) == count
    return {
        "scheduler_cpu_ms_a_task": 1e3 * (sum(scheduler.cpu_times()[:2]) - cpu) / count,
        "client_cpu_ms_a_task": 1e3 * (time.process_time() - mine) / count,
        "wall_ms_a_task": 1e3 * (time.perf_counter() - began) / count,
    }


def part_sizes(made: Recipe, out: Path, part_bytes: int) -> dict[str, float]:
    """Bytes that come back for a byte that is read, from the parts of one run."""
    from stemd.offline.cluster import work
    from stemd.offline.cluster.store import PartStore

    about = work.describe(made)
    assert isinstance(about, work.Description)
    stop = part_bytes // about.unit_bytes

    def reduce(upto: int) -> Any:
        return work.reduce_span(
            made, about.acquisition, about.identity, 0, upto, leads=False, centre=(128.0, 128.0)
        )

    def cpu_ms(upto: int) -> float:
        reduce(upto)
        began = time.process_time()
        for _ in range(5):
            reduce(upto)
        return 200.0 * (time.process_time() - began)

    part = reduce(stop)
    assert not isinstance(part, work.Failure)
    store = PartStore(out, "size")
    began = time.perf_counter()
    store.save(part)
    saved = time.perf_counter() - began
    size = next(store.folder.iterdir()).stat().st_size
    return {
        "part_mib_read": part_bytes / 2**20,
        "part_kib_returned": size / 2**10,
        "part_cpu_ms": cpu_ms(stop),
        "part_of_one_pattern_cpu_ms": cpu_ms(1),
        "part_ms_to_save": 1e3 * saved,
    }


def ratios(turns: int, ways: dict[str, Callable[[], float]]) -> dict[str, list[float]]:
    """Seconds of each way in each turn; the order is turned round every other time."""
    for way in ways.values():
        way()  # kernels compiled and read, file in the page cache
    found: dict[str, list[float]] = {name: [] for name in ways}
    for turn in range(turns):
        names = list(ways)
        for name in names if turn % 2 == 0 else names[::-1]:
            found[name].append(ways[name]())
    return found


def main() -> None:
    """Print a JSON object of figures."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--file-mib", type=int, default=2048)
    parser.add_argument("--part-mib", type=int, help="default: as the command chooses")
    parser.add_argument("--turns", type=int, default=9)
    parser.add_argument("--tasks", type=int, default=2000)
    args = parser.parse_args()
    part_bytes = None if args.part_mib is None else args.part_mib * 2**20
    path = big_file(
        Context(file_bytes=args.file_mib * 2**20), SIDE * SIDE, 2, merlin_header("U16", SIDE)
    )
    scratch = Path(tempfile.mkdtemp(prefix="stemd-cluster-"))
    out = scratch / "out"

    def fresh(way: Callable[[], float]) -> Callable[[], float]:
        def called() -> float:
            shutil.rmtree(out, ignore_errors=True)
            return way()

        return called

    made = recipe(path)
    try:
        with dask(1) as (one, processes), dask(1, profiled=True) as (seen, _), dask(2) as (two, _):
            ways = {
                "plain": fresh(lambda: plainly(made, out)),
                "one worker": fresh(lambda: spread(one, made, out, part_bytes)),
                "one worker, profiled": fresh(lambda: spread(seen, made, out, part_bytes)),
                "two workers": fresh(lambda: spread(two, made, out, part_bytes)),
                "plain, two threads": fresh(lambda: plainly(made, out, 2)),
            }
            seconds = ratios(args.turns, ways)
            peak = processes[1].memory_info().rss
            middle = {
                name: [a / b for a, b in zip(seconds[first], seconds[second], strict=True)]
                for name, first, second in (
                    ("one_worker_over_plain", "one worker", "plain"),
                    ("one_profiled_worker_over_plain", "one worker, profiled", "plain"),
                    ("two_workers_speed_up", "one worker", "two workers"),
                    ("two_threads_speed_up", "plain", "plain, two threads"),
                )
            }
            figures = {
                "cpus": len(os.sched_getaffinity(0)),
                "file_gib": path.stat().st_size / 2**30,
                "median_s": {name: statistics.median(each) for name, each in seconds.items()},
                "median_ratio": {name: statistics.median(each) for name, each in middle.items()},
                "worker_rss_mib": peak / 2**20,
                "cpu_s": {
                    "plain": cpu_seconds(ways["plain"], []),
                    "one worker": cpu_seconds(ways["one worker"], processes),
                },
                **part_sizes(made, scratch / "part", part_bytes or 256 * 2**20),
                **task_cost(one, processes[0], args.tasks),
            }
            print(json.dumps(figures, indent=1))
    finally:
        path.unlink()
        shutil.rmtree(scratch, ignore_errors=True)


if __name__ == "__main__":
    main()

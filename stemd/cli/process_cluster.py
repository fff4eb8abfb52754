"""`stemd process --cluster`: the command's words, bars and messages."""

from __future__ import annotations

import argparse
import json
import sys
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from stemd.adapters.base import AdapterSettings
from stemd.adapters.recordings.remote import RecordingPath
from stemd.blocks import Message
from stemd.cli.process_report import report, tell_notes
from stemd.config.resolved import EngineConfig
from stemd.errors import StemdError, UsageError
from stemd.offline.cluster.connect import connect
from stemd.offline.cluster.recipe import Goal, Recipe
from stemd.offline.cluster.run import run_files
from stemd.offline.cluster.sweep import Point, parse_axis, points
from stemd.offline.outcome import Outcome, settings_json, write_run
from stemd.results import Snapshot
from stemd.settings import Settings

LINES_EVERY_S = 5.0


def process_on_cluster(
    args: argparse.Namespace,
    targets: Mapping[RecordingPath, Path],
    settings: Settings,
    engines: Sequence[EngineConfig],
    camera: AdapterSettings | None,
) -> int:
    """All files, all sweep points, on one cluster; returns the exit code.

    `targets` maps each file to its folder. Raises UsageError, ConfigError and ClusterError.
    """
    if args.jobs:
        raise UsageError("--jobs has no effect with --cluster", "workers have their own threads")
    if args.part_mib is not None and args.part_mib < 1:
        raise UsageError(
            f"--part-mib {args.part_mib} must be 1 or more", "leave it out: 64 to 1024, by workers"
        )
    part_bytes = None if args.part_mib is None else args.part_mib * 1024 * 1024
    swept = points([parse_axis(text) for text in args.sweep], settings, engines)
    files = {
        target: [
            Goal(_recipe(path, point, camera, args.correct), target / point.folder)
            for point in swept
        ]
        for path, target in targets.items()
    }
    paths = {target: path for path, target in targets.items()}
    by_folder = {goal.folder: target for target, goals in files.items() for goal in goals}
    failures: list[Path] = []

    def written(goal: Goal, outcome: Outcome, final: Snapshot, notices: Sequence[Message]) -> None:
        document = write_run(outcome, final, goal.folder, settings_json(goal.recipe.settings))
        if args.json:
            sys.stdout.write(json.dumps(document) + "\n")
            sys.stdout.flush()
        else:
            report(paths[by_folder[goal.folder]], goal.folder, document, notices)
        if tell_notes(paths[by_folder[goal.folder]], outcome.notes):
            failures.append(goal.folder)

    def failed(folder: Path, error: StemdError) -> None:
        failures.append(folder)
        sys.stderr.write(f"stemd process: {paths[folder]}: {error}\n")

    with connect(args.cluster) as pool, ClusterBar(pool.dashboard, quiet=args.json) as bar:
        try:
            run_files(pool, files, written, failed, bar.update, part_bytes)
        except KeyboardInterrupt:
            sys.stderr.write("\nfinished parts are kept: the same command goes on from there\n")
            raise
    return 1 if failures else 0


def _recipe(
    path: RecordingPath, point: Point, camera: AdapterSettings | None, correct: str | None
) -> Recipe:
    pairs = tuple((engine.plugin.name, engine.settings) for engine in point.engines)
    if isinstance(path, Path):
        path = path.absolute()  # workers have other working directories
    return Recipe(path, point.settings.scan, camera, point.settings, pairs, correct)


class ClusterBar:
    """Bytes of all files on a terminal, a line every few seconds elsewhere."""

    def __init__(self, dashboard: str, *, quiet: bool) -> None:
        self._dashboard = dashboard
        self._quiet = quiet
        self._bar: Any = None
        self._began = time.monotonic()
        self._next = self._began + LINES_EVERY_S
        self._last = (0, 0, 0)

    def __enter__(self) -> ClusterBar:
        if self._quiet:
            return self
        if self._dashboard:
            sys.stderr.write(f"Dask dashboard: {self._dashboard}\n")
        if sys.stderr.isatty():
            from rich.console import Console
            from rich.progress import (
                BarColumn,
                DownloadColumn,
                Progress,
                TextColumn,
                TimeRemainingColumn,
                TransferSpeedColumn,
            )

            self._bar = Progress(
                TextColumn("{task.description}"),
                BarColumn(),
                DownloadColumn(binary_units=True),
                TransferSpeedColumn(),
                TimeRemainingColumn(),
                console=Console(stderr=True),
                transient=True,
            )
            self._task = self._bar.add_task("waiting for workers", total=None)
            self._bar.start()
        return self

    def update(self, done: int, total: int, threads: int) -> None:
        """Bytes done and in all, threads of all workers."""
        self._last = (done, total, threads)
        text = f"{threads} threads" if threads else "waiting for workers"
        if self._bar is not None:
            self._bar.update(self._task, completed=done, total=total or None, description=text)
        elif not self._quiet and time.monotonic() >= self._next:
            self._next = time.monotonic() + LINES_EVERY_S
            sys.stderr.write(f"{text}: {done / 2**30:.1f} of {total / 2**30:.1f} GiB\n")

    def __exit__(self, *error: object) -> None:
        if self._bar is not None:
            self._bar.stop()
        done, total, threads = self._last
        if not self._quiet and total and done == total:
            seconds = time.monotonic() - self._began
            sys.stderr.write(
                f"{total / 2**30:.2f} GiB in {seconds:.1f} s on {threads} threads "
                f"({total / seconds / 1e9:.2f} GB/s)\n"
            )

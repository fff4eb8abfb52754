"""`stemd process --cluster`: the command's words, bars and messages."""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Sequence
from pathlib import Path

from stemd.blocks import Message
from stemd.cli.forms import forms_of
from stemd.cli.interrupted import Undone
from stemd.cli.process_bar import ClusterBar
from stemd.cli.process_plan import Task
from stemd.cli.process_report import report, tell_notes
from stemd.errors import StemdError, UsageError
from stemd.offline.cluster.connect import connect
from stemd.offline.cluster.recipe import Goal, Recipe
from stemd.offline.cluster.run import run_files
from stemd.offline.cluster.sweep import Point, parse_axis, points
from stemd.offline.outcome import Outcome, settings_json, write_run
from stemd.results import Snapshot
from stemd.storage.files import DiskError


def process_on_cluster(args: argparse.Namespace, tasks: Sequence[Task]) -> int:
    """All files, all sweep points, on one cluster; returns the exit code.

    Raises UsageError, ConfigError and ClusterError.
    """
    if args.jobs:
        raise UsageError("--jobs has no effect with --cluster", "workers have their own threads")
    if args.part_mib is not None and args.part_mib < 1:
        raise UsageError(
            f"--part-mib {args.part_mib} must be 1 or more", "leave it out: 64 to 1024, by workers"
        )
    for task in tasks:
        _refuse_repeats(task)
    part_bytes = None if args.part_mib is None else args.part_mib * 1024 * 1024
    axes = [parse_axis(text) for text in args.sweep]
    files = {
        task.target: [
            Goal(
                _recipe(task, point, args),
                task.target / point.folder,
            )
            for point in points(axes, task.plan.settings, task.plan.engines)
        ]
        for task in tasks
    }
    paths = {task.target: task.path for task in tasks}
    cameras = {task.target: task.plan.camera_table for task in tasks}
    by_folder = {goal.folder: target for target, goals in files.items() for goal in goals}
    failures: list[Path] = []

    def written(goal: Goal, outcome: Outcome, final: Snapshot, notices: Sequence[Message]) -> None:
        settings = settings_json(goal.recipe.settings)
        camera = cameras[by_folder[goal.folder]]
        document = write_run(outcome, final, goal.folder, settings, camera, forms_of(args.forms))
        if args.json:
            sys.stdout.write(json.dumps(document) + "\n")
            sys.stdout.flush()
        else:
            report(paths[by_folder[goal.folder]], goal.folder, document)
        if tell_notes(paths[by_folder[goal.folder]], outcome.notes):
            failures.append(goal.folder)
        undone.done(goal.folder)

    def failed(folder: Path, error: StemdError) -> None:
        failures.append(folder)
        if isinstance(error, DiskError):
            error = error.of_option("--out")
        sys.stderr.write(f"stemd process: {paths[folder]}: {error}\n")

    named = {
        goal.folder: f"{paths[target]}{f' ({goal.folder.name})' if len(goals) > 1 else ''}"
        for target, goals in files.items()
        for goal in goals
    }
    with (
        Undone("process", "not processed", named) as undone,
        connect(args.cluster) as pool,
        ClusterBar(pool.dashboard, quiet=args.json) as bar,
    ):
        try:
            run_files(pool, files, written, failed, bar.update, part_bytes, bar.tell)
        except KeyboardInterrupt:
            sys.stderr.write("\nfinished parts are kept: the same command goes on from there\n")
            raise
    return 1 if failures else 0


def _refuse_repeats(task: Task) -> None:
    """Raise UsageError for engines that read the patterns of repeated frames twice."""
    scan = task.plan.settings.scan
    twice = [
        engine.name
        for engine in task.plan.engines
        if engine.settings.needs == "patterns" and engine.settings.of_repeats == "placed"
    ]
    if scan is not None and scan.repeats > 1 and twice:
        raise UsageError(
            f"{', '.join(twice)} of {scan.repeats} frames of one place is not made on a cluster",
            "leave it out, or leave --cluster out",
        )


def _recipe(task: Task, point: Point, args: argparse.Namespace) -> Recipe:
    # workers have other working directories
    path, *joined = (
        each.absolute() if isinstance(each, Path) else each for each in (task.path, *task.joined)
    )
    return Recipe(
        path,
        point.settings.scan,
        task.plan.camera,
        point.settings,
        tuple((engine.plugin.name, engine.settings) for engine in point.engines),
        args.correct,
        args.dataset,
        tuple(joined),
        args.scan_number,
    )

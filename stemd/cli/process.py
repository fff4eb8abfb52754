"""`stemd process`: recorded files through the same engines as a live scan."""

from __future__ import annotations

import argparse
import contextlib
import errno
import json
import sys
import time
from pathlib import Path
from typing import TYPE_CHECKING

from stemd.cli.forms import forms_of
from stemd.cli.interrupted import Undone, is_of_output
from stemd.cli.scan_arguments import add_scan
from stemd.engines import DEFAULT_ENGINES
from stemd.errors import StemdError, UsageError
from stemd.garbage import uncollected
from stemd.portable import processors

if TYPE_CHECKING:
    from stemd.adapters.base import Recording
    from stemd.adapters.recordings.address import RecordingPath
    from stemd.cli.process_inputs import Input
    from stemd.cli.process_plan import Task
    from stemd.results import Snapshot
    from stemd.scan.run import ScanRun

MOST_SCANS = 100
"""Of one file that are processed unasked: a clock gone wrong must not make thousands of folders."""

EXAMPLE = (
    "stemd process scan.mib --scan 256x256 --engine ricom:kernel_size=61 "
    "--engine 'virtual_detector:detectors_px={bf=[0,40]}' --out results"
)


def configure(parser: argparse.ArgumentParser) -> None:
    """Add this command's arguments."""
    parser.add_argument(
        "files",
        nargs="+",
        type=_recording,
        metavar="FILE",
        help="a path, or an address that fsspec knows: s3://bucket/scan.mib, https://..., ...; the "
        "folder of a recorded scan, or of a day, stands for the records in it",
    )
    parser.add_argument("--out", type=Path, default=Path("results"), help="default: results")
    parser.add_argument(
        "--as", dest="forms", default="tiff", metavar="FORMS", help="beside TIFF: png, hdf5, ..."
    )
    add_scan(parser)
    _add_engines(parser)
    parser.add_argument(
        "--correct",
        nargs="?",
        const="",
        metavar="IMAGE",
        help="correct the probe positions by IMAGE and its restored one (default: the first)",
    )
    parser.add_argument(
        "--jobs", type=int, default=0, metavar="N", help="threads; default: one for each free core"
    )
    parser.add_argument(
        "--join", action="store_true", help="the files are parts of one series of frames, in order"
    )
    parser.add_argument(
        "--frames",
        choices=("each", "align"),
        default="each",
        help="align: the files, and all scans of event streams, are frames of one place: they are "
        "aligned and added up",
    )
    parser.add_argument(
        "--scan-number", type=int, metavar="N", help="which scan of a file, from 1; default: all"
    )
    _add_cluster(parser)
    parser.add_argument(
        "--dataset",
        metavar="NAME",
        help="the patterns, in files of several arrays: /group/name, or a part, '/group/name[0]'",
    )
    parser.add_argument("--json", action="store_true", help="scan documents as JSON lines")


def _add_engines(parser: argparse.ArgumentParser) -> None:
    how = parser.add_argument_group("engines")
    how.add_argument("--config", type=Path, metavar="CONFIG", help="optics and engines from here")
    how.add_argument("--pipeline", metavar="NAME", help="which pipeline of the config")
    how.add_argument(
        "--engine",
        action="append",
        metavar="NAME[:key=value,...]",
        help=f"repeatable; default: {', '.join(DEFAULT_ENGINES)}",
    )
    how.add_argument(
        "--optics",
        metavar="key=value,...",
        default="",
        help="energy_ev, convergence_semi_angle_mrad, pixel_size_mrad, rotation_deg, flip, center, "
        "acceptance_time_ns, mask, ...",
    )


def _add_cluster(parser: argparse.ArgumentParser) -> None:
    spread = parser.add_argument_group("cluster")
    spread.add_argument(
        "--cluster",
        metavar="ADDRESS",
        help="a Dask scheduler (tcp://host:8786, or its scheduler file), or local[:N] workers",
    )
    spread.add_argument(
        "--sweep",
        action="append",
        default=[],
        metavar="ENGINE.KEY=VALUE,...",
        help="make the images for each value; repeatable: all combinations",
    )
    spread.add_argument(
        "--part-mib",
        type=int,
        metavar="N",
        help="MiB of a file for each task; default: 64 to 1024, by the workers",
    )


def _recording(text: str) -> RecordingPath:
    from stemd.adapters.recordings.address import recording_path

    return recording_path(text)


def run(args: argparse.Namespace) -> int:
    """Process each file. A file that fails is reported, the others are still processed.

    An engine that fails is reported too: the images of all others are written, and the exit code
    is 1.
    """
    with uncollected():
        tasks, failures = _planned(args)
    if args.cluster is not None:
        from stemd.cli.process_cluster import process_on_cluster

        return process_on_cluster(args, tasks) or int(failures > 0)
    if args.sweep:
        raise UsageError("--sweep needs --cluster", "add --cluster local to use this machine")
    with Undone("process", "not processed", {task.path: task.path for task in tasks}) as undone:
        failures += sum(_process(args, task, undone) for task in tasks)
    return 1 if failures else 0


def _planned(args: argparse.Namespace) -> tuple[list[Task], int]:
    """What is to be done, and how many files cannot be: that is told."""
    # what each scan needs is read here, too
    import stemd.offline.outcome
    import stemd.scan.processing  # noqa: F401
    from stemd.cli.process_inputs import inputs_of, of_scan, targets_of
    from stemd.cli.process_plan import Planner, Task
    from stemd.logs import warnings_to_stderr

    warnings_to_stderr()
    forms_of(args.forms)  # what is wrong with it is told before anything is read
    planner = Planner(args)
    inputs = inputs_of(args.files)
    joined: tuple[RecordingPath, ...] = ()
    if args.join:
        joined, inputs = tuple(each.path for each in inputs[1:]), inputs[:1]
    frames: tuple[RecordingPath, ...] = ()
    if args.frames == "align":
        frames, inputs = _frames_of(args, inputs)
    targets = targets_of(inputs, args.out)
    if not any(each.known for each in targets.values()):
        planner.plan(None)  # what is wrong with the command line is no file's fault
    tasks: list[Task] = []
    failures = 0
    for target, each in targets.items():
        try:
            if each.problem is not None:
                raise each.problem
            if args.cluster is not None:
                target = of_scan(target, args.scan_number or 1)
            tasks.append(Task(each.path, target, planner.plan(each.known), joined, frames))
        except StemdError as error:
            failures += 1
            sys.stderr.write(f"stemd process: {each.path}: {error}\n")
            continue
        for key in each.known.left_out if each.known else ():
            sys.stderr.write(f"stemd process: {each.path}: its scan.json's {key} is not known\n")
    return tasks, failures


def _frames_of(
    args: argparse.Namespace, inputs: list[Input]
) -> tuple[tuple[RecordingPath, ...], list[Input]]:
    """The recordings that show the place of the first one again, and the first one."""
    other = "--join" if args.join else "--cluster" if args.cluster is not None else None
    if other is not None:
        raise UsageError(f"--frames align and {other} do not go together", "leave one of them out")
    return tuple(each.path for each in inputs[1:]), inputs[:1]


def _process(args: argparse.Namespace, task: Task, undone: Undone) -> int:
    """Process one file, all scans in it or the one that is asked for; how much has failed."""
    from stemd.adapters.scan_choice import numbered_scans
    from stemd.cli.unforeseen import unforeseen
    from stemd.storage.files import DiskError

    failures = made = 0
    asked = args.scan_number if args.frames == "each" else None
    try:
        with contextlib.closing(_opened(args, task)) as recording:
            for number, scan in numbered_scans(recording, task.path, asked):
                if number > MOST_SCANS and asked is None:
                    text = f"{task.path} holds more than {MOST_SCANS} scans: the others are left"
                    sys.stderr.write(f"stemd process: {text} out; --scan-number chooses one\n")
                    break
                failed = _process_scan(args, task, scan, number)
                failures += failed or 0
                made += failed is not None
            failures += made == 0
    except StemdError as error:
        if isinstance(error, DiskError):
            error = error.of_option("--out")
        sys.stderr.write(f"stemd process: {error}\n")
        return failures + 1
    except Exception as error:  # a file that no reader has foreseen must not stop the others
        if is_of_output(error) and getattr(error, "errno", 0) != errno.EIO:  # the file's, too
            raise
        sys.stderr.write(f"stemd process: {unforeseen(task.path, error)}\n")
        return failures + 1
    undone.done(task.path)
    return failures


def _opened(args: argparse.Namespace, task: Task) -> Recording:
    from stemd.adapters.files import open_joined, open_recording

    if args.frames == "align":
        return _opened_frames(task, args.dataset, args.scan_number)
    if task.joined:
        return open_joined((task.path, *task.joined), task.plan.settings.scan)
    return open_recording(task.path, task.plan.settings.scan, task.plan.camera, args.dataset)


def _opened_frames(task: Task, dataset: str | None, number: int | None) -> Recording:
    from stemd.adapters.files import open_recording
    from stemd.adapters.repeated import RepeatedRecording
    from stemd.adapters.scan_choice import chosen_scan

    settings, camera = task.plan.settings, task.plan.camera
    with contextlib.ExitStack() as opened:
        parts = []
        for path in (task.path, *task.frames):
            part = open_recording(path, settings.scan, camera, dataset)
            opened.callback(part.close)
            parts.append(chosen_scan(part, path, number))
        recording = RepeatedRecording(parts, every=number is None)
        opened.pop_all()
    return recording


def _process_scan(args: argparse.Namespace, task: Task, scan: Recording, number: int) -> int | None:
    """Make the images of one scan of a file; how many engines have failed.

    None: the scan is empty, which is told, and nothing was written.
    """
    from stemd.cli.process_bar import FileBar
    from stemd.cli.process_inputs import of_scan
    from stemd.cli.process_report import report, tell_empty, tell_notes
    from stemd.offline.outcome import (
        begin_folder,
        finish_folder,
        outcome_of,
        settings_json,
        write_images,
    )
    from stemd.scan.processing import process_recording, with_correction

    path, plan = task.path, task.plan
    forms = forms_of(args.forms)
    target = of_scan(task.target, number)
    folder = None
    writing_s = 0.0

    def write(run: ScanRun, images: Snapshot) -> None:
        nonlocal folder, writing_s
        began = time.perf_counter()
        folder = folder or begin_folder(run.acquisition, target)
        write_images(folder, images, settings_json(run.settings), forms)
        writing_s += time.perf_counter() - began

    # a file of all images is written once, and a correction needs what it corrects
    at_once = args.correct is not None or not set(forms) <= {"tiff", "png"}
    began = time.perf_counter()
    with FileBar(path.name, quiet=args.json) as bar:
        done, final = process_recording(
            scan,
            plan.settings,
            plan.engines,
            _jobs(args.jobs),
            bar.update,
            take=None if at_once else write,
        )
    if done.is_empty:
        tell_empty(path, number, done.notices)
        return None
    if args.correct is not None:
        final = with_correction(done, final, args.correct or None)
    seconds = time.perf_counter() - began - writing_s
    if final.results or folder is None:
        write(done, final)
    assert folder is not None
    table = settings_json(done.settings)
    document = finish_folder(folder, outcome_of(done), table, plan.camera_table)
    if args.json:
        sys.stdout.write(json.dumps(document) + "\n")
    else:
        rate = done.positions_done / max(seconds, 1e-9)
        report(path, target, document, f", {rate:,.0f} positions/s")
    return tell_notes(path, document["notes"])


def _jobs(asked: int) -> int:
    if asked < 0:
        raise UsageError(f"--jobs {asked} must be 0 or more", "0 takes every core that is free")
    return asked or processors()

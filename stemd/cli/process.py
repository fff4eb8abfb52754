"""`stemd process`: recorded files through the same engines as a live scan."""

from __future__ import annotations

import argparse
import sys
from pathlib import Path
from typing import TYPE_CHECKING

from stemd.cli.forms import forms_of
from stemd.cli.interrupted import Undone
from stemd.cli.scan_arguments import add_scan
from stemd.engines import DEFAULT_ENGINES
from stemd.errors import StemdError, UsageError
from stemd.garbage import uncollected

if TYPE_CHECKING:
    from stemd.adapters.recordings.address import RecordingPath
    from stemd.cli.process_inputs import Input
    from stemd.cli.process_plan import Task

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
    from stemd.cli.process_file import process_file

    with Undone("process", "not processed", {task.path: task.path for task in tasks}) as undone:
        failures += sum(process_file(args, task, undone) for task in tasks)
    return 1 if failures else 0


def _planned(args: argparse.Namespace) -> tuple[list[Task], int]:
    """What is to be done, and how many files cannot be: that is told."""
    # what each file needs is read here, too
    import stemd.cli.process_file  # noqa: F401
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
            plan = planner.plan(each.known, each.path)
            tasks.append(Task(each.path, target, plan, joined, frames))
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

"""One file of `stemd process`: its scans opened, made into images, written and told of."""

from __future__ import annotations

import argparse
import contextlib
import errno
import json
import sys
import time

from stemd.adapters.base import Recording
from stemd.adapters.files import open_joined, open_recording
from stemd.adapters.repeated import RepeatedRecording
from stemd.adapters.scan_choice import chosen_scan, numbered_scans
from stemd.cli.forms import forms_of
from stemd.cli.interrupted import Undone, is_of_output
from stemd.cli.process_bar import FileBar
from stemd.cli.process_inputs import of_scan
from stemd.cli.process_plan import Task
from stemd.cli.process_report import report, tell_empty, tell_notes
from stemd.cli.unforeseen import unforeseen
from stemd.errors import StemdError, UsageError
from stemd.offline.outcome import (
    begin_folder,
    finish_folder,
    outcome_of,
    settings_json,
    write_images,
)
from stemd.portable import processors
from stemd.results import Snapshot
from stemd.scan.processing import process_recording, with_correction
from stemd.scan.run import ScanRun
from stemd.storage.files import DiskError

MOST_SCANS = 100
"""Of one file that are processed unasked: a clock gone wrong must not make thousands of folders."""


def process_file(args: argparse.Namespace, task: Task, undone: Undone) -> int:
    """Process one file, all scans in it or the one that is asked for; how much has failed."""
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
    if args.frames == "align":
        return _opened_frames(task, args.dataset, args.scan_number)
    if task.joined:
        return open_joined((task.path, *task.joined), task.plan.settings.scan)
    return open_recording(task.path, task.plan.settings.scan, task.plan.camera, args.dataset)


def _opened_frames(task: Task, dataset: str | None, number: int | None) -> Recording:
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

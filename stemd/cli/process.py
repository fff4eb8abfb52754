"""`stemd process`: recorded files through the same engines as a live scan."""

from __future__ import annotations

import argparse
import json
import os
import sys
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from stemd.cli.interrupted import Undone
from stemd.config.pairs import parse_pairs
from stemd.engines import DEFAULT_ENGINES
from stemd.errors import StemdError, UsageError

if TYPE_CHECKING:
    from stemd.acquisition import Optics, Scan
    from stemd.adapters.base import AdapterSettings
    from stemd.adapters.recordings.address import RecordingPath
    from stemd.config.resolved import EngineConfig
    from stemd.settings import Settings

EXAMPLE = (
    "stemd process scan.mib --scan 256x256 --engine ricom:kernel_size=61 "
    "--engine virtual_detector:detectors_px={bf=[0,40]} --out results"
)


def configure(parser: argparse.ArgumentParser) -> None:
    """Add this command's arguments."""
    parser.add_argument(
        "files",
        nargs="+",
        type=_recording,
        metavar="FILE",
        help="a path, or an address that fsspec knows: s3://bucket/scan.mib, https://..., ...",
    )
    parser.add_argument("--out", type=Path, default=Path("results"), help="default: results")
    _add_scan(parser)
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
    _add_cluster(parser)
    parser.add_argument("--json", action="store_true", help="scan documents as JSON lines")


def _add_scan(parser: argparse.ArgumentParser) -> None:
    scan = parser.add_argument_group("scan")
    scan.add_argument("--scan", metavar="YxX", help="lines x columns; default: from the file")
    scan.add_argument("--flyback", type=int, metavar="N", help="frames after each line")
    scan.add_argument("--leading", type=int, metavar="N", help="frames before the first position")
    scan.add_argument("--serpentine", action="store_true", help="odd lines run backwards")
    scan.add_argument("--step-size-angstrom", type=float, metavar="A")
    scan.add_argument("--dwell-time-us", type=float, metavar="US")


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
        "acceptance_time_ns",
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
    from stemd.logs import warnings_to_stderr

    warnings_to_stderr()
    settings, engines, camera = _plan(args)
    targets = _targets(args.files, args.out)
    if args.cluster is not None:
        from stemd.cli.process_cluster import process_on_cluster

        return process_on_cluster(args, targets, settings, engines, camera)
    if args.sweep:
        raise UsageError("--sweep needs --cluster", "add --cluster local to use this machine")
    with Undone("process", "not processed", {path: path for path in targets}) as undone:
        return _process_each(args, targets, settings, engines, camera, undone)


def _process_each(
    args: argparse.Namespace,
    targets: Mapping[RecordingPath, Path],
    settings: Settings,
    engines: Sequence[EngineConfig],
    camera: AdapterSettings | None,
    undone: Undone,
) -> int:
    from stemd.adapters.files import open_recording
    from stemd.cli.process_bar import FileBar
    from stemd.cli.process_report import report, tell_notes
    from stemd.offline.outcome import outcome_of, settings_json, write_run
    from stemd.scan.processing import process_recording, with_correction
    from stemd.storage.files import DiskError

    failures = 0
    for path, target in targets.items():
        try:
            recording = open_recording(path, settings.scan, camera)
            try:
                began = time.perf_counter()
                with FileBar(path.name, quiet=args.json) as bar:
                    done, final = process_recording(
                        recording, settings, engines, _jobs(args.jobs), bar.update
                    )
                if args.correct is not None:
                    final = with_correction(done, final, args.correct or None)
                seconds = time.perf_counter() - began
                document = write_run(outcome_of(done), final, target, settings_json(settings))
            finally:
                recording.close()
        except StemdError as error:
            failures += 1
            if isinstance(error, DiskError):
                error = error.of_option("--out")
            sys.stderr.write(f"stemd process: {error}\n")
            continue
        undone.done(path)
        if args.json:
            sys.stdout.write(json.dumps(document) + "\n")
        else:
            rate = done.positions_done / max(seconds, 1e-9)
            report(path, target, document, f", {rate:,.0f} positions/s")
        failures += tell_notes(path, document["notes"])
    return 1 if failures else 0


def _targets(files: Sequence[RecordingPath], out: Path) -> dict[RecordingPath, Path]:
    targets: dict[RecordingPath, Path] = {}
    for path in files:
        target = out / path.stem
        clash = next((p for p, t in targets.items() if t == target), None)
        if clash is not None:
            raise UsageError(
                f"{clash} and {path} would both be written to {target}",
                "process them in two calls with different --out",
            )
        targets[path] = target
    return targets


def _jobs(asked: int) -> int:
    if asked < 0:
        raise UsageError(f"--jobs {asked} must be 0 or more", "0 takes every core that is free")
    return asked or len(os.sched_getaffinity(0))


def _plan(
    args: argparse.Namespace,
) -> tuple[Settings, list[EngineConfig], AdapterSettings | None]:
    from stemd.config.file import load
    from stemd.config.image_names import check_names
    from stemd.config.resolved import EngineConfig
    from stemd.settings import Settings

    optics_table = parse_pairs(args.optics, "--optics")
    engines: list[EngineConfig] = []
    scan, camera = None, None
    if args.config is not None:
        config = load(args.config)
        names = [pipeline.name for pipeline in config.pipelines]
        wanted = args.pipeline or (names[0] if len(names) == 1 else None)
        if wanted not in names:
            raise UsageError(
                f"--pipeline {args.pipeline or ''} does not name a pipeline of {args.config}",
                f"one of: {', '.join(names)}",
            )
        pipeline = config.pipelines[names.index(wanted)]
        engines, scan = list(pipeline.engines), pipeline.adapter.scan
        camera = pipeline.adapter
        optics_table = pipeline.optics.model_dump(exclude_unset=True) | optics_table
    specs = args.engine or ([] if engines else list(DEFAULT_ENGINES))
    for spec in specs:
        name, _, pairs = spec.partition(":")
        engines.append(EngineConfig.of(name, parse_pairs(pairs, f"--engine {name}")))
    settings_by_name = {engine.name: engine.settings for engine in engines}
    if len(settings_by_name) != len(engines):
        raise UsageError("two engines have the same name", "give one of them name=...")
    settings = Settings(
        optics=_optics(optics_table),
        engines=settings_by_name,
        scan=_scan(args, scan),
    )
    settings.masks()
    check_names(settings.engines, settings.optics, "--engine")
    return settings, engines, camera


def _optics(table: dict[str, Any]) -> Optics:
    from pydantic import ValidationError

    from stemd.acquisition import Optics
    from stemd.config.problems import ConfigProblemsError, problems_of

    try:
        return Optics.model_validate(table)
    except ValidationError as error:
        raise ConfigProblemsError("--optics", problems_of(error, Optics, ())) from error


def _scan(args: argparse.Namespace, from_config: Scan | None) -> Scan | None:
    from stemd.config.scan_size import parse_scan

    more = {
        "flyback": args.flyback,
        "leading": args.leading,
        "serpentine": args.serpentine or None,
        "step_size_angstrom": args.step_size_angstrom,
        "dwell_time_us": args.dwell_time_us,
    }
    given = {key: value for key, value in more.items() if value is not None}
    if args.scan is not None:
        return parse_scan(args.scan, **given)
    if from_config is not None:
        from stemd.acquisition import Scan

        return Scan.model_validate(from_config.model_dump() | given)
    if given:
        raise UsageError(
            f"{', '.join(given)} given without the scan's size", "add --scan LINESxCOLUMNS"
        )
    return None

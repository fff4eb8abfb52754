"""`stemd bench`: what this machine can do, and how near each path comes to it."""

from __future__ import annotations

import argparse
import fnmatch
import json
import sys
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

from stemd.errors import UsageError

if TYPE_CHECKING:
    from stemd.cli.bench.harness import Case, Row
    from stemd.documents import Json

EXAMPLE = "stemd bench --only 'moments/*' --seconds 0.5"


def configure(parser: argparse.ArgumentParser) -> None:
    """Add this command's arguments."""
    parser.add_argument("--json", action="store_true", help="a list of objects instead of a table")
    parser.add_argument(
        "--only", action="append", metavar="PATTERN", help="names that match; repeatable"
    )
    parser.add_argument("--seconds", type=float, default=1.0, help="for each figure (default: 1)")
    parser.add_argument(
        "--file-mib", type=int, default=2048, metavar="N", help="size of the test file, MiB"
    )
    parser.add_argument(
        "--compare",
        type=Path,
        metavar="FILE",
        help="an earlier run's --json: the ratio of each figure, and whether it is more than noise",
    )
    parser.add_argument("--list", action="store_true", help="the names, and nothing else")
    parser.add_argument(
        "--warm", action="store_true", help="compile every kernel into the cache and end"
    )


def all_cases() -> dict[str, Case]:
    """Everything that can be measured, by name, in the order in which it is."""
    from stemd.cli.bench import (
        airpi,
        dectris,
        direct,
        events,
        kernels,
        latency,
        limits,
        pipelines,
        restoration,
        ssb,
    )

    rooms = (
        limits,
        kernels,
        events,
        pipelines,
        dectris,
        latency,
        airpi,
        ssb,
        direct,
        restoration,
    )
    return {name: case for room in rooms for name, case in room.cases().items()}


def run(args: argparse.Namespace) -> int:
    """Measure and print."""
    from stemd.cli.bench.comparing import read_rows
    from stemd.cli.environment import processor
    from stemd.compilation import with_numba
    from stemd.logs import warnings_to_stderr
    from stemd.portable import processors

    warnings_to_stderr()
    if args.warm:
        return _warm()
    cases = all_cases()
    patterns = args.only or ["*"]
    chosen = [n for n in cases if any(fnmatch.fnmatch(n, pattern) for pattern in patterns)]
    if not chosen:
        raise UsageError(f"--only {' '.join(patterns)} matches nothing", "see stemd bench --list")
    if args.list:
        sys.stdout.write("\n".join(chosen) + "\n")
        return 0
    with_numba()
    before = read_rows(args.compare) if args.compare else {}
    machine = f"{processor()}, {processors()} processors"
    for name in {row.get("machine", machine) for row in before.values()} - {machine}:
        sys.stderr.write(f"stemd bench: {args.compare} is of another machine: {name}\n")
    rows = _measure(args, {name: cases[name] for name in chosen}, machine)
    if args.json:
        sys.stdout.write(json.dumps([row.as_json() for row in rows], indent=1) + "\n")
    return _compare(args, rows, before)


def _measure(args: argparse.Namespace, cases: Mapping[str, Case], machine: str) -> list[Row]:
    """The rows of the cases, printed as they come unless JSON is wanted."""
    from stemd.cli.bench.harness import Context
    from stemd.cli.interrupted import Undone

    context = Context(args.seconds, args.file_mib * 1024**2)
    rows: list[Row] = []
    try:
        with Undone("bench", "not measured", {name: name for name in cases}) as undone:
            for name, case in cases.items():
                for row in case(context):
                    row = replace(row, machine=machine)
                    rows.append(row)
                    if not args.json:
                        _print(row)
                undone.done(name)
    finally:
        for key, value in context.cache.items():
            if key.startswith("file-"):
                value.unlink(missing_ok=True)
    return rows


def _compare(args: argparse.Namespace, rows: Sequence[Row], before: Mapping[str, Json]) -> int:
    """Print the figures beside those of an earlier run; 1 if any is slower."""
    from stemd.cli.bench.comparing import compared

    found = [each for row in rows if (each := compared(row, before))]
    for each in found:
        (sys.stderr if args.json else sys.stdout).write(each.line() + "\n")
    return 1 if any(each.verdict == "slower" for each in found) else 0


def _warm() -> int:
    from stemd import plugins
    from stemd.acquisition import Optics
    from stemd.config.resolved import EngineConfig
    from stemd.scan.warm import warm_adapter, warm_up

    engines = [
        EngineConfig.of(plugin.name, {})
        for plugin in plugins.catalogue("engines")
        if plugin.why_not() is None
        # one that has to be told its input works on images, which kernels have made
        and not any(field.is_required() for field in plugin.settings.model_fields.values())
    ]
    warm_up(engines, Optics(), ("u1", "u2", "u4", "u8"))
    for plugin in plugins.catalogue("adapters"):
        if not any(field.is_required() for field in plugin.settings.model_fields.values()):
            warm_adapter(plugin, plugin.settings(), engines, Optics())
    return 0


def _print(row: Row) -> None:
    value = f"{row.value:,.1f}" if row.value < 100 else f"{row.value:,.0f}"
    fraction = f"{row.fraction:6.1%} of {row.limit_name}" if row.fraction is not None else ""
    noise = ""
    if row.lowest is not None and row.highest is not None:
        noise = f"{row.lowest / row.value - 1:+.0%} {row.highest / row.value - 1:+.0%}"
    cpu = f"{row.cpu_us_per_frame:8.2f} us" if row.cpu_us_per_frame is not None else ""
    sys.stdout.write(
        f"{row.name:<46} {value:>12} {row.unit:<12} {noise:<10} {cpu:>12}  {fraction}  {row.note}\n"
    )
    sys.stdout.flush()

"""`stemd models`: the networks that are installed, tried on a backend, imported."""

from __future__ import annotations

import argparse
import contextlib
import json
import os
import statistics
import sys
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any

from stemd.cli.interrupted import Undone
from stemd.errors import ModelError, StemdError, UsageError

if TYPE_CHECKING:
    from stemd.inference.base import Network
    from stemd.inference.model_file import ModelFile

EXAMPLE = "stemd models check restoration --backend openvino"
SHIPPED_LICENSE = "BSD-3-Clause"
"""Of the networks in stemd/models, as stemd's own."""
Rows = list[dict[str, Any]]
CHECK_SIDE, CHECK_BATCH, CHECK_REPEATS = 512, 64, 5


def configure(parser: argparse.ArgumentParser) -> None:
    """Add this command's arguments."""
    commands = parser.add_subparsers(dest="models", metavar="list|check|import")
    listed = commands.add_parser("list", help="what is installed, and the backends")
    check = commands.add_parser(
        "check", help="compare a model with ONNX Runtime in float32 and measure its speed"
    )
    check.add_argument("model", metavar="MODEL", help="a name of `stemd models list`, or a path")
    check.add_argument(
        "--backend",
        metavar="NAME",
        default="auto",
        help="a backend of stemd plugins; default: auto",
    )
    check.add_argument("--threads", type=int, default=1, metavar="N", help="default: 1")
    check.add_argument(
        "--size", type=int, default=CHECK_SIDE, metavar="N", help=f"pixels; default: {CHECK_SIDE}"
    )
    check.add_argument(
        "--device", type=int, default=0, metavar="N", help="number of the GPU; default: 0"
    )
    fetch = commands.add_parser(
        "import", help="published weights that you have downloaded, as a model for stemd"
    )
    fetch.add_argument("what", choices=("r-em",), help="r-em: the package tk_r_em (GPL-3)")
    fetch.add_argument(
        "source", type=Path, metavar="FILE", help="its .tar.gz, wheel or unpacked folder"
    )
    fetch.add_argument(
        "--only", action="append", metavar="NAME", help="hrstem, lrstem, ...; default: all"
    )
    fetch.add_argument("--to", type=Path, metavar="DIR", help="default: the user's model folder")
    for each in (parser, listed, check, fetch):
        each.add_argument("--json", action="store_true", help="JSON instead of text")


def run(args: argparse.Namespace) -> int:
    """List (the default), check or import."""
    from stemd.logs import warnings_to_stderr

    warnings_to_stderr()
    if args.models == "check":
        return _check(args)
    return _import(args) if args.models == "import" else _list(args)


def _list(args: argparse.Namespace) -> int:
    from stemd.inference.catalogue import installed, user_folder
    from stemd.inference.choice import best_first
    from stemd.inference.model_file import read_model

    models: Rows = []
    for each in installed():
        row: dict[str, Any] = {"name": each.name, "path": str(each.path), "shipped": each.shipped}
        try:
            model = read_model(each.path)
        except ModelError as error:
            row |= {"error": error.message}
        else:
            row |= {"bytes": len(model.data), "sha256": model.sha256, **_about(model)}
            if each.shipped:
                row["license"] = SHIPPED_LICENSE
        models.append(row)
    backends: Rows = [
        {"name": b.name, "summary": b.summary, "unavailable": b.why_not()} for b in best_first()
    ]
    folder = str(user_folder())
    if args.json:
        document = {"models": models, "backends": backends, "folder": folder}
        sys.stdout.write(json.dumps(document, indent=1) + "\n")
    else:
        _print_tables(models, backends, folder)
    return 0


def _print_tables(models: Rows, backends: Rows, folder: str) -> None:
    from rich.console import Console
    from rich.table import Table

    console = Console(highlight=False)
    table = Table(box=None, header_style="bold")
    for column in ("model", "for", "size", "from", "about"):
        table.add_column(column)
    for row in models:
        size = f"{row['bytes'] / 1e6:.1f} MB" if "bytes" in row else "?"
        origin = "stemd" if row["shipped"] else row["path"]
        table.add_row(
            row["name"], row.get("task", "?"), size, origin, row.get("error") or row.get("about")
        )
    console.print(table if models else "no models are installed")
    table = Table(box=None, header_style="bold")
    for column in ("backend", "what it is", "available"):
        table.add_column(column)
    for entry in backends:
        why = entry["unavailable"]
        table.add_row(entry["name"], entry["summary"], f"no: {why}" if why else "yes")
    console.print(table)
    console.print(f"imported models are kept in {folder}")


def _about(model: ModelFile) -> dict[str, str]:
    keys = ("task", "about", "license", "citation", "steps")
    return {key: model.metadata[f"stemd.{key}"] for key in keys if f"stemd.{key}" in model.metadata}


def _check(args: argparse.Namespace) -> int:
    from stemd.cli.environment import environment, now_and_then
    from stemd.inference import activity, choice
    from stemd.inference.base import TOLERANCE, Options
    from stemd.inference.catalogue import find
    from stemd.inference.model_file import read_model

    if args.threads < 1 or args.size < 1 or args.device < 0:
        raise UsageError(
            "--threads and --size must be 1 or more, --device 0 or more", "leave them out"
        )
    model = read_model(find(args.model))
    began = time.perf_counter()
    with activity.watched(now_and_then(sys.stderr.write)):
        options = Options(threads=args.threads, device=args.device)
        network = choice.load(model, args.backend, options)
    loading_s = time.perf_counter() - began
    reference = choice.load(model, "onnxruntime", Options(threads=args.threads, exact=True))
    batch = _test_batch(model, network, args.size)
    rms, most = _differences(network.run(batch), reference.run(batch))
    seconds, processor_s = _speed(network, batch)
    info = network.info
    tolerance = TOLERANCE[info.precision]
    document = {
        "model": model.name,
        "sha256": model.sha256,
        "backend": info.backend,
        "version": info.version,
        "device": info.device,
        "precision": info.precision,
        "why": info.why,
        "threads": args.threads,
        "batch": list(batch.shape),
        "rms_difference": rms,
        "largest_difference": most,
        "tolerance": tolerance,
        "loading_s": round(loading_s, 3),
        "seconds": round(seconds, 4),
        "processor_seconds": round(processor_s, 4),
        "ok": rms <= tolerance,
        "environment": environment(),
    }
    if args.json:
        sys.stdout.write(json.dumps(document, indent=1) + "\n")
    else:
        sys.stdout.write(f"{model.name} on {info}\n{_told(document)}")
    if not document["ok"]:
        raise StemdError(
            f"{model.name} on {info.backend} differs too much: {rms:.1e}, allowed {tolerance:g}",
            "use another backend, and send the lines above with a report",
        )
    return 0


def _told(check: dict[str, Any]) -> str:
    """The lines of a check for a reader."""
    verdict = "all is well" if check["ok"] else "the difference is too large"
    machine = ", ".join(f"{key} {value}" for key, value in check["environment"].items())
    return (
        (f"  why: {check['why']}\n" if check["why"] else "")
        + "  differs from ONNX Runtime in float32 by "
        f"{check['rms_difference']:.1e} of the deviation (rms), "
        f"{check['largest_difference']:.1e} at most; allowed: {check['tolerance']:g} (rms)\n"
        f"  {'x'.join(map(str, check['batch']))}: {check['seconds'] * 1e3:.1f} ms, "
        f"{check['processor_seconds'] * 1e3:.1f} ms of processor time, "
        f"{check['threads']} thread(s); loaded in {check['loading_s']:.2f} s\n"
        f"  {verdict}; with a report of a problem send these lines:\n  {machine}\n"
    )


def _differences(found: Any, expected: Any) -> tuple[float, float]:
    """Root mean square and largest difference, in deviations of what is expected."""
    import numpy as np

    deviation = float(expected.std()) or 1.0
    difference = found - expected
    rms = float(np.sqrt(np.mean(difference**2))) / deviation
    return rms, float(np.abs(difference).max()) / deviation


def _test_batch(model: ModelFile, network: Network, size: int) -> Any:
    """What the network is tried on: an image, or its channels for a network that wants those."""
    from stemd.engines.restoration.estimate.channels import channels
    from stemd.engines.restoration.tiling import ESTIMATE

    shape = _batch_shape(network, size)
    if model.metadata.get("stemd.inputs") == ESTIMATE:
        return channels(_test_image(shape[-2:]))[None]
    return _test_image(shape)


def _batch_shape(network: Network, size: int) -> tuple[int, ...]:
    step = network.info.multiple
    side = max(step, size - size % step)
    shape = network.info.input_shape
    many = CHECK_BATCH if len(shape) == 2 else 1  # one row of numbers says nothing about speed
    return tuple(n if n is not None else many if i == 0 else side for i, n in enumerate(shape))


def _test_image(shape: tuple[int, ...]) -> Any:
    """Lattice and noise, mean 0 and deviation about 1, the same every time."""
    import numpy as np

    rng = np.random.default_rng(0)
    axes = np.meshgrid(*(np.arange(n) for n in shape[-2:]), indexing="ij")
    lattice = np.cos(0.7 * axes[0] + 0.2 * axes[-1]) * np.cos(0.8 * axes[-1] - 0.1 * axes[0])
    noise = rng.standard_normal(shape)
    return (lattice + 0.8 * noise).astype(np.float32)


def _speed(network: Network, batch: Any) -> tuple[float, float]:
    """Median seconds, and processor seconds, of a run."""
    wall, processor = [], []
    for _ in range(CHECK_REPEATS):
        began, worked = time.perf_counter(), time.process_time()
        network.run(batch)
        wall.append(time.perf_counter() - began)
        processor.append(time.process_time() - worked)
    return statistics.median(wall), statistics.median(processor)


def _import(args: argparse.Namespace) -> int:
    import importlib.util

    from stemd.inference.catalogue import SUFFIX, user_folder
    from stemd.inference.choice import load
    from stemd.inference.model_file import model_of
    from stemd.inference.r_em import package

    if importlib.util.find_spec("onnx") is None:
        raise StemdError("importing needs the package onnx", "pip install 'stemd[models]'")
    wanted = args.only or list(package.NETWORKS)
    for name in wanted:
        if name not in package.NETWORKS:
            raise UsageError(
                f"--only {name}: there is no such network", f"one of: {', '.join(package.NETWORKS)}"
            )
    fetch = package.open_package(args.source)
    folder: Path = args.to or user_folder()
    rows = []
    with Undone("models", "not imported", {name: name for name in wanted}) as undone:
        for name in wanted:
            data = package.convert(fetch, name).SerializeToString()
            network = load(model_of(data, f"r-em-{name}"), "onnxruntime")
            difference = package.verify(name, network.run)
            path = folder / f"r-em-{name}{SUFFIX}"
            _write(path, data)
            rows.append({"name": path.stem, "path": str(path), "largest_difference": difference})
            if not args.json:
                sys.stdout.write(
                    f"{path.stem}: {package.NETWORKS[name]}; differs from the original by "
                    f"{difference:.1e} deviations -> {path}\n"
                )
            undone.done(name)
    if args.json:
        sys.stdout.write(json.dumps(rows, indent=1) + "\n")
    else:
        sys.stdout.write("These weights are under the GPL, version 3: mind it when passing on.\n")
    return 0


def _write(path: Path, data: bytes) -> None:
    part = path.with_name(f"{path.name}.{os.getpid()}.part")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        part.write_bytes(data)
        part.replace(path)
    except OSError as error:
        with contextlib.suppress(OSError):
            part.unlink()
        raise StemdError(
            f"{path} cannot be written: {error.strerror or error}", "name a folder with --to"
        ) from error

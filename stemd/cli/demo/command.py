"""`stemd demo`: the whole of stemd on a virtual microscope, with nothing else to install."""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import importlib
import os
import signal
import socket
import sys
from pathlib import Path
from typing import TYPE_CHECKING

from stemd.cli.demo.ending import all_done, end_in_time
from stemd.cli.demo.microscope import microscope
from stemd.cli.demo.progress import (
    Watcher,
    end_status_line,
    say,
    starting_line,
    status_line,
)
from stemd.cli.demo.scanning import ended, operate
from stemd.cli.demo.setting import camera_command, config_text
from stemd.errors import StemdError, UsageError
from stemd.virtual.argument_types import number, port, positive, rate

if TYPE_CHECKING:
    from stemd.config.resolved import Config
    from stemd.daemon.supervisor import Daemon

EXAMPLE = "stemd demo --scans 2 --no-page"
MQTT_PORT = 1883
PAGE_PORT = 8440
FIRST_IMAGES_S = 30.0


def configure(parser: argparse.ArgumentParser) -> None:
    """Add this command's arguments."""
    parser.add_argument("--scans", type=int, metavar="N", help="stop after N scans")
    parser.add_argument(
        "--keep",
        type=int,
        default=5,
        metavar="N",
        help="keep the last N scans, 0: all (default: 5); one takes some 140 MB",
    )
    parser.add_argument("--no-page", action="store_true", help="no live page")
    parser.add_argument(
        "--data-dir", type=Path, default=Path("stemd-data"), help="default: stemd-data"
    )
    parser.add_argument(
        "--mqtt-port",
        type=port,
        help=f"0: any free; default: {MQTT_PORT}, or any if in use",
    )
    parser.add_argument(
        "--page-port",
        type=port,
        help=f"0: any free; default: {PAGE_PORT}, or any if in use",
    )
    parser.add_argument("--specimen", default="nanoparticle", help="default: nanoparticle")
    parser.add_argument("--scan", default="128x128", metavar="YxX", help="default: 128x128")
    parser.add_argument(
        "--rate",
        type=rate,
        default=4000.0,
        metavar="F",
        help="frames/s (default: 4000)",
    )
    parser.add_argument(
        "--defocus-nm", type=number, default=0.0, metavar="NM", help="begin out of focus"
    )
    parser.add_argument(
        "--dose", type=positive, default=2000.0, metavar="E", help="electrons a pattern"
    )


def run(args: argparse.Namespace) -> int:
    """Run until Ctrl-C or until N scans are done."""
    from stemd.cli.demo.plain_logs import plain_logs
    from stemd.config.scan_size import parse_scan
    from stemd.logs import set_up_logs

    if args.scans is not None and args.scans < 1:
        raise UsageError(f"--scans {args.scans} must be 1 or more", "leave it out to run on")
    if args.keep < 0:
        raise UsageError(f"--keep {args.keep} must be 0 or more", "0 keeps all scans")
    shape = parse_scan(args.scan).shape
    set_up_logs("warning")
    plain_logs()
    data_dir: Path = args.data_dir.absolute()
    try:
        data_dir.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise StemdError(
            f"--data-dir {data_dir} cannot be created: {error.strerror}",
            "name a folder that you may write to",
        ) from error
    say("stemd demo: starting. A first start compiles for up to a minute, later ones do not.")
    # read here: on an event loop Ctrl-C would wait for the end of the import
    importlib.import_module("stemd.daemon.supervisor")
    try:
        code = asyncio.Runner().run(_demo(args, shape, data_dir))
    except (KeyboardInterrupt, asyncio.CancelledError):
        end_status_line()
        code = 0
    # as `stemd run` does: no thread that still compiles, and no slow disk, is waited for
    sys.stdout.flush()
    sys.stderr.flush()
    os._exit(code)


async def _demo(args: argparse.Namespace, shape: tuple[int, int], data_dir: Path) -> int:
    from stemd.config.file import parse

    this = asyncio.current_task()
    assert this is not None
    # until the daemon obeys it: the microscope must not be left behind
    asyncio.get_running_loop().add_signal_handler(signal.SIGTERM, this.cancel)
    broker_port = _port(args.mqtt_port, MQTT_PORT) or _free_port()
    command = camera_command(args, data_dir, broker_port)
    line = asyncio.create_task(starting_line(lambda: "starting the virtual microscope"))
    try:
        async with microscope([*command, "--wait-for-start"]) as (camera, ports):
            page_port = None if args.no_page else _port(args.page_port, PAGE_PORT)
            keep = max(args.keep, args.scans or 0) if args.keep else 0
            text = config_text(command, ports, shape, data_dir, page_port, keep)
            path = data_dir / "demo.toml"
            path.write_text(text, encoding="utf-8")
            line.cancel()
            config = parse(text, str(path))
            return await _serve(args, config, data_dir, broker_port, camera.pid)
    finally:
        line.cancel()


async def _serve(
    args: argparse.Namespace, config: Config, data_dir: Path, broker_port: int, camera: int
) -> int:
    from stemd.daemon.supervisor import Daemon

    daemon = Daemon(config, broker_port=broker_port)
    watcher = Watcher(args.scans)
    daemon.hub.add(watcher, "demo")
    serving = asyncio.create_task(daemon.run())
    ending = asyncio.create_task(end_in_time(daemon, camera))
    line = asyncio.create_task(starting_line(lambda: _starting(daemon)))
    ready = asyncio.create_task(_first_images(daemon, watcher))
    scanning = asyncio.create_task(operate(daemon, watcher, args.scans))
    await asyncio.wait({serving, ready}, return_when=asyncio.FIRST_COMPLETED)
    line.cancel()
    ready.cancel()
    end_status_line()
    if serving.done():  # Ctrl-C, or it could not start
        ending.cancel()
        await serving
        await ended(scanning)
        return 0
    broker = daemon.outlets.broker
    say(f"live page  {daemon.outlets.page_url or '(off)'}")
    say(f"broker     {broker.url if broker else '(off)'}  topics stemd/demo/#")
    say(f"data       {data_dir}" + (f"  the last {args.keep} scans" if args.keep else ""))
    say("Ctrl-C ends." if args.scans is None else f"Ends after {args.scans} scans.")
    status = asyncio.create_task(status_line(watcher))
    done = asyncio.create_task(all_done(watcher, daemon))
    await asyncio.wait({serving, done}, return_when=asyncio.FIRST_COMPLETED)
    status.cancel()
    if done.done():
        ending.cancel()
    done.cancel()
    daemon.stop()
    await serving
    await ended(scanning)
    ending.cancel()
    end_status_line()
    bad = [document for document in watcher.documents if document["status"] != "complete"]
    how = f"{len(bad)} of them not complete" if bad else "all complete"
    say(f"{len(watcher.documents)} scans, {how}. List them with:")
    say(f"  stemd scans --data-dir {data_dir}")
    if watcher.incomplete:
        say(f"{len(watcher.incomplete)} of them have images that could not be completed.")
    return 1 if args.scans is not None and (bad or watcher.incomplete) else 0


def _starting(daemon: Daemon) -> str:
    if daemon.ready.is_set():
        return "waiting for the first images"
    now = daemon.pipelines.getting_ready
    return f"getting ready: {now}" if now else "starting the broker and the page"


async def _first_images(daemon: Daemon, watcher: Watcher) -> None:
    """Return when the page has something to show: an empty image is no way to begin."""
    await daemon.ready.wait()
    with contextlib.suppress(TimeoutError):
        await asyncio.wait_for(watcher.shown.wait(), FIRST_IMAGES_S)


def _port(asked: int | None, usual: int) -> int:
    if asked is not None:
        return asked
    with socket.socket() as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind(("127.0.0.1", usual))
        except OSError:
            return 0
    return usual


def _free_port() -> int:
    """A port that is free now: the microscope's drives must know the broker's."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])

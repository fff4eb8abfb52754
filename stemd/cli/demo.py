"""`stemd demo`: the whole of stemd on a virtual microscope, with nothing else to install."""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import json
import socket
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

from stemd.errors import StemdError
from stemd.events import Json
from stemd.results import Snapshot
from stemd.storage.completions import DONE, OUTSTANDING

if TYPE_CHECKING:
    from stemd.daemon.supervisor import Daemon

EXAMPLE = "stemd demo --scans 2 --no-page"
MQTT_PORT = 1883
PAGE_PORT = 8440

CONFIG = """\
# The configuration of `stemd demo`. With the virtual camera started by hand,
#     {camera}
# `stemd run` of this file does the same as the demo.

[daemon]
instrument = "demo"
data_dir = {data_dir}
log_level = "warning"

[mqtt]
url = "embedded"                    # a laboratory names its mosquitto: "mqtt://broker:1883"
{page}
[[pipeline]]
name = "virtual"

[pipeline.adapter]
type = "merlin"
host = "127.0.0.1"
data_port = {port}
scan = {{ shape = [{ny}, {nx}], flyback = {flyback}, step_size_angstrom = {step} }}

[pipeline.optics]
energy_ev = 300e3
convergence_semi_angle_mrad = 20.0
pixel_size_mrad = {pixel}

[[pipeline.engine]]
type = "ricom"
kernel_size = 61

[[pipeline.engine]]
type = "virtual_detector"
detectors = {{ bf = [0.0, 20.0], adf = [22.0, 60.0] }}

{restoration}{airpi}[[pipeline.engine]]
type = "com"

[[pipeline.engine]]
type = "icom"

[[pipeline.engine]]
type = "sum"

[[pipeline.engine]]
type = "pacbed"

[[pipeline.engine]]
type = "pattern"

[pipeline.record]
raw = true
"""

RESTORATION = """\
[[pipeline.engine]]
type = "restoration"
input = "bf"

"""

AIRPI = """\
[[pipeline.engine]]
type = "airpi"
every = 2                           # enough at this step, for a quarter of the work

"""

STEP_ANGSTROM = 0.2
PIXEL_MRAD = 1.5
FLYBACK = 2


def configure(parser: argparse.ArgumentParser) -> None:
    """Add this command's arguments."""
    parser.add_argument("--scans", type=int, metavar="N", help="stop after N scans")
    parser.add_argument("--no-page", action="store_true", help="no live page")
    parser.add_argument(
        "--data-dir", type=Path, default=Path("stemd-data"), help="default: stemd-data"
    )
    parser.add_argument(
        "--mqtt-port", type=int, help=f"0: any free; default: {MQTT_PORT}, or any if in use"
    )
    parser.add_argument(
        "--page-port", type=int, help=f"0: any free; default: {PAGE_PORT}, or any if in use"
    )
    parser.add_argument("--specimen", default="nanoparticle", help="default: nanoparticle")
    parser.add_argument("--scan", default="128x128", metavar="YxX", help="default: 128x128")
    parser.add_argument(
        "--rate", type=float, default=4000.0, metavar="F", help="frames/s (default: 4000)"
    )
    parser.add_argument(
        "--dose", type=float, default=2000.0, metavar="E", help="electrons a pattern"
    )


def run(args: argparse.Namespace) -> int:
    """Run until Ctrl-C or until N scans are done."""
    from stemd.logs import set_up_logs

    set_up_logs("warning")
    data_dir: Path = args.data_dir.absolute()
    try:
        data_dir.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise StemdError(
            f"--data-dir {data_dir} cannot be made: {error.strerror}", "name a folder of yours"
        ) from error
    return asyncio.run(_demo(args, data_dir))


class _Watcher:
    """Counts scans and remembers the newest state, for the status line.

    `finished` is set when the scans wanted are over, `whole` while none of their images waits
    to be completed from its record.
    """

    def __init__(self, wanted: int | None) -> None:
        self.state: Json = {}
        self.documents: list[Json] = []
        self.incomplete: set[str] = set()
        self.outstanding: set[str] = set()
        self.finished = asyncio.Event()
        self.whole = asyncio.Event()
        self.whole.set()
        self._wanted = wanted

    def on_state(self, pipeline: str, state: Json) -> None:
        """The pipeline's state."""
        self.state = state

    def on_document(self, pipeline: str, document: Json) -> None:
        """A scan has begun or ended, or has had its images completed."""
        event, status = document["event"], (document.get("completion") or {}).get("status")
        if event in ("finished", "aborted"):
            self.documents.append(document)
            if status == OUTSTANDING:
                self.outstanding.add(document["id"])
                self.whole.clear()
            if self._wanted is not None and len(self.documents) >= self._wanted:
                self.finished.set()
        elif event == "completion":
            if status != DONE:
                self.incomplete.add(document["id"])
            self.outstanding.discard(document["id"])
            if not self.outstanding:
                self.whole.set()

    def on_daemon_state(self, state: Json) -> None:
        """Not shown."""

    def on_health(self, health: Json) -> None:
        """Not shown."""

    def on_settings(self, pipeline: str, settings: Json) -> None:
        """Not shown."""

    def on_snapshot(self, pipeline: str, snapshot: Snapshot) -> None:
        """Not shown."""

    def on_log(self, pipeline: str, entry: Json) -> None:
        """Logged already."""


async def _demo(args: argparse.Namespace, data_dir: Path) -> int:
    from stemd.config.file import parse
    from stemd.config.scan_size import parse_scan

    if args.scans is not None and args.scans < 1:
        raise StemdError(f"--scans {args.scans} must be 1 or more", "leave it out to run on")
    scan = parse_scan(args.scan)
    say("stemd demo: starting the virtual microscope (a first start compiles for some seconds)")
    command = _camera_command(args, data_dir)
    camera = await asyncio.create_subprocess_exec(
        sys.executable,
        *("-m", "stemd", *command, "--port", "0", "--control-port", "0", "--json"),
        stdout=asyncio.subprocess.PIPE,
        stdin=asyncio.subprocess.DEVNULL,
        start_new_session=True,
    )
    try:
        page = "" if args.no_page else _page_table(args.page_port)
        text = CONFIG.format(
            camera="stemd " + " ".join(command) + " --port {port}",
            data_dir=json.dumps(str(data_dir)),
            page=page,
            **_networks(),
            port=0,
            ny=scan.shape[0],
            nx=scan.shape[1],
            flyback=FLYBACK,
            step=STEP_ANGSTROM,
            pixel=PIXEL_MRAD,
        )
        ports = await _ready_line(camera)
        port = int(ports["data_port"])
        text = text.replace("data_port = 0", f"data_port = {port}").replace(
            "--port {port}", f"--port {port}"
        )
        config_path = data_dir / "demo.toml"
        config_path.write_text(text, encoding="utf-8")
        config = parse(text, str(config_path))
        return await _serve(args, config, data_dir)
    finally:
        with contextlib.suppress(ProcessLookupError):
            camera.terminate()
        with contextlib.suppress(TimeoutError):
            await asyncio.wait_for(camera.wait(), 2.0)
        if camera.returncode is None:
            camera.kill()
            await camera.wait()


async def _serve(args: argparse.Namespace, config: Any, data_dir: Path) -> int:
    from stemd.daemon.supervisor import Daemon

    daemon = Daemon(config, broker_port=_port(args.mqtt_port, MQTT_PORT))
    watcher = _Watcher(args.scans)
    daemon.hub.add(watcher)
    serving = asyncio.create_task(daemon.run())
    ready = asyncio.create_task(daemon.ready.wait())
    await asyncio.wait({serving, ready}, return_when=asyncio.FIRST_COMPLETED)
    if serving.done():
        ready.cancel()
        await serving
    broker = daemon.outlets.broker
    say(f"live page  {daemon.outlets.page_url or '(off)'}")
    say(f"broker     {broker.url if broker else '(off)'}  topics stemd/demo/#")
    say(f"data       {data_dir}")
    say("Ctrl-C ends." if args.scans is None else f"Ends after {args.scans} scans.")
    status = asyncio.create_task(_status_line(watcher))
    done = asyncio.create_task(_all_done(watcher, daemon))
    await asyncio.wait({serving, done}, return_when=asyncio.FIRST_COMPLETED)
    status.cancel()
    done.cancel()
    daemon.stop()
    await serving
    if sys.stdout.isatty():
        sys.stdout.write("\n")
    bad = [document for document in watcher.documents if document["status"] != "complete"]
    say(f"{len(watcher.documents)} scans, {len(bad)} of them not complete. List them with:")
    say(f"  stemd scans --data-dir {data_dir}")
    if watcher.incomplete:
        say(f"{len(watcher.incomplete)} of them have images that could not be completed.")
    return 1 if args.scans is not None and (bad or watcher.incomplete) else 0


async def _all_done(watcher: _Watcher, daemon: Daemon) -> None:
    """Return when all scans that were asked for are over and their images whole."""
    await watcher.finished.wait()
    if watcher.outstanding:
        if sys.stdout.isatty():
            sys.stdout.write("\n")
        say(
            "The network was slower than the camera: the images of "
            f"{len(watcher.outstanding)} scans are completed from their records."
        )
        daemon.hurry()
    await watcher.whole.wait()


def _camera_command(args: argparse.Namespace, data_dir: Path) -> list[str]:
    command = ["virtual", "merlin", "--specimen", args.specimen, "--scan", args.scan]
    command += ["--detector", "64x64", "--rate", f"{args.rate:g}", "--dose", f"{args.dose:g}"]
    command += ["--step", f"{STEP_ANGSTROM:g}", "--pixel-size-mrad", f"{PIXEL_MRAD:g}"]
    command += ["--energy", "300e3", "--convergence", "20", "--flyback", str(FLYBACK)]
    command += ["--gap", "1.0", "--truth", str(data_dir / "truth"), "--truth-kernel", "61"]
    command += ["--stay"]
    if args.scans is not None:
        command += ["--scans", str(args.scans)]
    return command


def _networks() -> dict[str, str]:
    """The tables of the engines that need a network, where it is installed."""
    from stemd.inference.catalogue import installed

    names = {each.name for each in installed()}
    tables = {"restoration": RESTORATION, "airpi": AIRPI}
    return {name: table if name in names else "" for name, table in tables.items()}


def _page_table(asked: int | None) -> str:
    return f'\n[page]\nlisten = "127.0.0.1:{_port(asked, PAGE_PORT)}"\n'


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


async def _ready_line(camera: asyncio.subprocess.Process) -> dict[str, Any]:
    assert camera.stdout is not None
    while line := await camera.stdout.readline():
        with contextlib.suppress(ValueError):
            document = json.loads(line)
            if isinstance(document, dict) and document.get("event") == "ready":
                return document
    raise StemdError("the virtual microscope did not start", "see the lines above for its reason")


async def _status_line(watcher: _Watcher) -> None:
    terminal = sys.stdout.isatty()
    while True:
        await asyncio.sleep(0.5 if terminal else 5.0)
        state = watcher.state
        if state.get("state") == "waiting" and state.get("completing"):
            part = state.get("completing_part") or 0.0
            text = f"completing {state['completing']} {part:>5.0%}"
            _show_status(text, terminal=terminal)
            continue
        text = (
            f"{state.get('state', 'starting'):<10} {state.get('positions_done', 0):>7,}/"
            f"{state.get('positions_total', 0):,} positions  "
            f"{state.get('positions_per_second', 0.0):>8,.0f}/s  "
            f"scans {len(watcher.documents)}"
        )
        _show_status(text, terminal=terminal)


def _show_status(text: str, *, terminal: bool) -> None:
    sys.stdout.write(f"\r\x1b[K{text}" if terminal else text + "\n")
    sys.stdout.flush()


def say(text: str) -> None:
    """A line for the user."""
    sys.stdout.write(text + "\n")
    sys.stdout.flush()

"""The demo's experiment: the config of its daemon, and the camera that goes with it."""

from __future__ import annotations

import argparse
import json
from pathlib import Path
from typing import NamedTuple

CONFIG = """\
# The configuration of `stemd demo`. With the virtual camera started by hand,
#     {camera}
# `stemd run` of this file does the same as the demo.

[daemon]
instrument = "demo"
data_dir = {data_dir}
log_level = "warning"
{retention}
[mqtt]
url = "embedded"                    # a laboratory names its mosquitto: "mqtt://broker:1883"
{page}
[[pipeline]]
name = "{pipeline}"

[pipeline.adapter]
type = "merlin"
host = "127.0.0.1"
data_port = {ports.data}
control_port = {ports.control}
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
type = "direct"                     # measures focus and astigmatism, and shows the phase with them

[[pipeline.engine]]
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

RETENTION = """
[daemon.retention]
max_scans = {keep}                       # the demo's older scans are deleted
delete = "scan"
"""

PIPELINE = "virtual"
STEP_ANGSTROM = 0.2
PIXEL_MRAD = 1.5
FLYBACK = 2


class Ports(NamedTuple):
    """Where the virtual camera serves frames, and takes commands."""

    data: int
    control: int


def camera_command(args: argparse.Namespace, data_dir: Path, broker_port: int) -> list[str]:
    """The virtual camera as arguments of `stemd`, but for its ports."""
    command = ["virtual", "merlin", "--specimen", args.specimen, "--scan", args.scan]
    command += ["--detector", "64x64", "--rate", f"{args.rate:g}", "--dose", f"{args.dose:g}"]
    command += ["--step", f"{STEP_ANGSTROM:g}", "--pixel-size-mrad", f"{PIXEL_MRAD:g}"]
    command += ["--energy", "300e3", "--convergence", "20", "--flyback", str(FLYBACK)]
    command += ["--gap", "1.0", "--truth", str(data_dir / "truth"), "--truth-kernel", "61"]
    command += ["--stay", "--drives", f"mqtt://127.0.0.1:{broker_port}"]
    command += ["--defocus", f"{10 * args.defocus_nm:g}"]
    if args.scans is not None:
        command += ["--scans", str(args.scans)]
    return command


def config_text(
    camera: list[str],
    ports: Ports,
    shape: tuple[int, int],
    data_dir: Path,
    page_port: int | None,
    keep: int,
) -> str:
    """The config of a daemon for this camera at these ports.

    `page_port` None: no page; `keep`: how many scans stay on the disk, 0: all.
    """
    page = "" if page_port is None else f'\n[page]\nlisten = "127.0.0.1:{page_port}"\n'
    return CONFIG.format(
        camera=" ".join(["stemd", *camera, f"--port {ports.data} --control-port {ports.control}"]),
        pipeline=PIPELINE,
        data_dir=json.dumps(str(data_dir)),
        retention=RETENTION.format(keep=keep) if keep else "",
        page=page,
        ports=ports,
        ny=shape[0],
        nx=shape[1],
        flyback=FLYBACK,
        step=STEP_ANGSTROM,
        pixel=PIXEL_MRAD,
        **_networks(),
    )


def _networks() -> dict[str, str]:
    """The tables of the engines that need a network, where it is installed."""
    from stemd.inference.catalogue import installed

    names = {each.name for each in installed()}
    tables = {"restoration": RESTORATION, "airpi": AIRPI}
    return {name: table if name in names else "" for name, table in tables.items()}

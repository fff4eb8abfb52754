"""AIRPI at the camera's rate: a scan at 4,000 positions/s beside riCOM and the recorder.

    python -m benchmarks.airpi.sustained --scan 256x256 --rate 4000 --busy 1

A virtual camera sends frames over loopback to a daemon of its own; both and the `--busy` processes
beside them share whatever processors there are. The frames are those of a specimen, rendered before
and kept for the next time (`--specimen none`: 64 frames over and over, in which there is nothing to
see, so that the search for the lens is the longest there is). Prints a line of JSON: whether every
electron is in the image, how coarse it became, how long after the camera's last frame it was
written, what was told, processor time and resident memory of the daemon. Give it a quiet computer:
a scan of 256 x 256 takes 17 s, all of it some 35 s.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import psutil

from benchmarks.running import Daemon, free_port
from stemd.acquisition import Scan
from stemd.adapters.merlin.encoder import Camera, encode_frame
from stemd.storage.archive import read_tiff
from stemd.virtual import diffraction, microscope

CONFIG = """
[daemon]
instrument = "sustained"
data_dir = "{data}"

[[pipeline]]
name = "merlin"

[pipeline.adapter]
type = "merlin"
data_port = {port}
scan = {{ shape = [{ny}, {nx}], step_size_angstrom = {step} }}

[pipeline.optics]
energy_ev = 300e3
convergence_semi_angle_mrad = 20.0
pixel_size_mrad = {pixel}

[[pipeline.engine]]
type = "ricom"
kernel_size = 61

[[pipeline.engine]]
type = "airpi"

[pipeline.record]
raw = true
"""
PIXELS_MRAD = 160.0
"""Across the detector."""
STEP_ANGSTROM, ELECTRONS = 0.3, 1000.0
FRAMES = Path.home() / ".cache" / "stemd" / "sustained"
"""Where rendered frames are kept."""
BUSY = "while True: pass"


def main() -> None:
    """Run it once."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else "")
    parser.add_argument("--scan", default="256x256")
    parser.add_argument("--detector", type=int, default=128)
    parser.add_argument("--specimen", default="mos2_twisted")
    parser.add_argument("--frames", type=Path, default=FRAMES, help="folder of rendered frames")
    parser.add_argument("--rate", type=float, default=4000.0)
    parser.add_argument("--busy", type=int, default=0, help="processes that only take time")
    parser.add_argument("--wait", type=float, default=60.0, help="seconds for the image")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="sustained-") as folder:
        print(json.dumps(measured(Path(folder), options)))


def measured(folder: Path, options: argparse.Namespace) -> dict[str, Any]:
    """What became of one scan."""
    ny, nx = (int(n) for n in options.scan.split("x"))
    port = free_port()
    camera = [
        sys.executable, "-m", "stemd", "virtual", "merlin", "--rate", str(options.rate),
        "--port", str(port), "--control-port", "0", "--scans", "1", "--stay",
    ]  # fmt: skip
    if options.specimen == "none":
        camera += [
            "--scan", options.scan, "--detector", f"{options.detector}x{options.detector}",
            "--pool", "64", "--dose", str(ELECTRONS),
            "--pixel-size-mrad", str(PIXELS_MRAD / options.detector),
        ]  # fmt: skip
    else:
        record = rendered(options.frames, options.specimen, (ny, nx), options.detector)
        camera += ["--file", str(record)]
    config = CONFIG.format(
        data=folder / "data",
        port=port,
        ny=ny,
        nx=nx,
        step=STEP_ANGSTROM,
        pixel=PIXELS_MRAD / options.detector,
    )
    daemon = Daemon(folder, config)
    started: list[subprocess.Popen[bytes]] = []
    try:
        daemon.wait_ready()
        started += [subprocess.Popen([sys.executable, "-c", BUSY]) for _ in range(options.busy)]
        started.append(subprocess.Popen(camera, stdout=subprocess.DEVNULL))
        return _watched(daemon, folder, options.wait + ny * nx / options.rate)
    finally:
        daemon.stop()
        for process in started:
            process.kill()
            process.wait()


def rendered(folder: Path, specimen: str, scan: tuple[int, int], side: int) -> Path:
    """A .mib file of a scan of this specimen; made, in some minutes, if it is not there yet."""
    folder.mkdir(parents=True, exist_ok=True)
    path = folder / f"{specimen}-{scan[0]}x{scan[1]}-{side}.mib"
    if path.exists():
        return path
    setup = microscope.Setup(
        scan=Scan(shape=scan, step_size_angstrom=STEP_ANGSTROM),
        specimen=specimen,
        camera=diffraction.Camera((side, side), PIXELS_MRAD / side),
        dose=ELECTRONS,
    )
    camera, number = Camera((side, side), depth=12), 0
    partial = path.with_suffix(".partial")
    with partial.open("wb") as file:
        for part in microscope.Microscope(setup).counts(0, 0, scan[0] * scan[1], limit=4095):
            for pattern in part:
                number += 1
                file.write(encode_frame(pattern, camera, number))
    partial.replace(path)
    return path


def _watched(daemon: Daemon, folder: Path, seconds: float) -> dict[str, Any]:
    process = psutil.Process(daemon.process.pid)
    most, until, record, began = 0, time.monotonic() + seconds, (0, 0.0), 0.0
    while time.monotonic() < until:
        most = max(most, process.memory_info().rss)
        for part in folder.glob("data/*/*/raw.mib*"):
            size = part.stat().st_size
            record = record if size == record[0] else (size, time.time())
            began = began or record[1]
        if found := list(folder.glob("data/*/*/airpi_phase.tif")):
            break
        time.sleep(0.05)
    else:
        log = (folder / "log.txt").read_text()
        raise RuntimeError(
            f"no image came; {record[0]} bytes in {record[1] - began:.1f} s:\n{log[-2000:]}"
        )
    image, document = found[0], found[0].parent / "scan.json"
    while not document.exists():
        time.sleep(0.05)
    scan = json.loads(document.read_text())
    _, about = read_tiff(image)
    told = (folder / "log.txt").read_text().splitlines()
    return {
        "status": scan["status"],
        "completion": scan["completion"],
        "image_after_last_byte_s": round(image.stat().st_mtime - record[1], 2),
        "record_bytes": record[0],
        "record_s": round(record[1] - began, 2),
        **{key: about.get(key) for key in ("left_out", "groups", "every", "repetition", "backend")},
        "held_to": about.get("held_to"),
        "cpu_s": round(sum(process.cpu_times()[:2]), 1),
        "rss_most_mb": round(most / 1e6, 1),
        "told": [line[:300] for line in told if "airpi_" in line or "warning" in line],
    }


if __name__ == "__main__":
    main()

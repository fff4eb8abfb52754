"""A virtual camera, `stemd run` and its page, each as in a laboratory, for a browser to look at."""

from __future__ import annotations

import json
import subprocess
import sys
import time
import urllib.request
from pathlib import Path
from typing import Any

from tests import ordinary_priority
from tests.conftest import free_port, wait_until
from tests.daemon.running import RunningDaemon

CONFIG = """
[daemon]
instrument = "lab"
data_dir = @DATA@

[page]
listen = "127.0.0.1:{page}"

[[pipeline]]
name = "merlin"

[pipeline.adapter]
type = "merlin"
host = "127.0.0.1"
data_port = {camera}
control_port = {control}
scan = {{ shape = [{ny}, {nx}], step_size_angstrom = 0.3 }}

[pipeline.optics]
pixel_size_mrad = 1.25
energy_ev = 300e3

[[pipeline.engine]]
type = "ricom"
kernel_size = 21

[[pipeline.engine]]
type = "com"

[[pipeline.engine]]
type = "virtual_detector"
detectors = {{ bf = [0.0, 15.0] }}

[[pipeline.engine]]
type = "pacbed"

[pipeline.publish]
rate_hz = {publish}

[pipeline.record]
raw = {raw}
"""


class Laboratory:
    """A camera that waits for the command to start, and a daemon; `url` is the page's."""

    def __init__(
        self,
        folder: Path,
        shape: tuple[int, int] = (96, 96),
        camera: tuple[str, ...] = (),
        *,
        publish: float = 10.0,
        raw: bool = False,
    ) -> None:
        ports = {"page": free_port(), "camera": free_port(), "control": free_port()}
        ny, nx = shape
        self.camera = subprocess.Popen(
            [
                *(sys.executable, "-m", "stemd", "virtual", "merlin", "--scan", f"{ny}x{nx}"),
                *("--port", str(ports["camera"]), "--control-port", str(ports["control"])),
                *camera,
            ],
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
        )
        text = CONFIG.format(ny=ny, nx=nx, publish=publish, raw=str(raw).lower(), **ports)
        self.daemon = RunningDaemon(folder, text, ordinary_priority.environment(folder))
        self.url = f"http://127.0.0.1:{ports['page']}/"
        try:
            wait_until(self._connected, "the daemon has found the camera", 60.0)
        except BaseException:
            self.close()
            raise

    def health(self) -> dict[str, Any]:
        """The document of /healthz."""
        with urllib.request.urlopen(self.url + "healthz", timeout=5) as reply:
            document: dict[str, Any] = json.load(reply)
        return document

    def _connected(self) -> bool:
        try:
            pipelines = self.health().get("pipelines", {})
            return bool(pipelines.get("merlin", {}).get("camera_connected"))
        except OSError:
            time.sleep(0.1)
            return False

    def close(self) -> None:
        """End both."""
        self.daemon.close()
        self.camera.kill()
        self.camera.wait()

"""From the last byte of a block to the image at an outside MQTT client, and the time to start."""

from __future__ import annotations

import io
import json
import os
import shutil
import socket
import subprocess
import tempfile
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from statistics import quantiles

import paho.mqtt.client as paho
import tifffile
from paho.mqtt.enums import CallbackAPIVersion

from stemd.cli.bench.harness import Case, Context, Row
from stemd.cli.bench.held import held
from stemd.cli.bench.pipelines import camera
from stemd.errors import StemdError
from stemd.portable import module_command

CONFIG = """
[daemon]
instrument = "bench"
data_dir = {data}
log_level = "error"

[mqtt]
url = "mqtt://127.0.0.1:{broker}"
version = "3.1.1"

[[pipeline]]
name = "bench"

[pipeline.adapter]
type = "merlin"
host = "127.0.0.1"
data_port = {camera}
scan = {{ shape = [256, 256] }}

[[pipeline.engine]]
type = "ricom"
kernel_size = 61

[[pipeline.engine]]
type = "virtual_detector"
detectors_px = {{ adf = [11.0, 30.0] }}

[pipeline.record]
raw = true
"""


@contextmanager
def broker() -> Iterator[int]:
    """mosquitto on a free port, or the embedded broker where it is not installed."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = int(probe.getsockname()[1])
    nowhere = subprocess.DEVNULL
    if shutil.which("mosquitto"):
        process = held(["mosquitto", "-p", str(port)], stdout=nowhere, stderr=nowhere)
    else:  # it ends with its input by itself
        command = module_command("stemd.mqtt.broker", str(port))
        process = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=nowhere, stderr=nowhere)
    try:
        _until(lambda: _listens(port), 15.0, "the broker did not start")
        yield port
    finally:
        process.terminate()
        process.wait(5)


def _listens(port: int) -> bool:
    with socket.socket() as probe:
        return probe.connect_ex(("127.0.0.1", port)) == 0


def _until(condition: Callable[[], bool], seconds: float, text: str) -> None:
    end = time.monotonic() + seconds
    while not condition():
        if time.monotonic() > end:
            raise StemdError(text, "run the bench again")
        time.sleep(0.005)


def latency(context: Context) -> Iterator[Row]:
    """A daemon in a process of its own at the camera's full rate, recording, riCOM at 10 Hz."""
    delays: list[float] = []
    arrived = threading.Event()

    def on_message(client: paho.Client, userdata: object, message: paho.MQTTMessage) -> None:
        now = time.time_ns()
        with tifffile.TiffFile(io.BytesIO(message.payload)) as tiff:
            about = json.loads(tiff.pages.first.description)
        delays.append((now - about["time_ns"]) / 1e9)
        arrived.set()

    with ExitStack() as stack:
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="stemd-bench-")))
        port = stack.enter_context(broker())
        camera_port = stack.enter_context(camera(64, "U16"))
        client = paho.Client(CallbackAPIVersion.VERSION2)
        client.on_message = on_message
        client.on_connect = lambda client, *rest: client.subscribe("stemd/bench/bench/image/ricom")
        client.connect("127.0.0.1", port)
        client.loop_start()
        stack.callback(client.loop_stop)
        config = folder / "bench.toml"
        data = json.dumps(str(folder / "data"))
        config.write_text(CONFIG.format(data=data, broker=port, camera=camera_port))
        began = time.monotonic()
        daemon = held(module_command("stemd", "run", str(config)), stdout=subprocess.DEVNULL)
        try:
            if not arrived.wait(60.0):
                raise StemdError("no image came from the broker", "run the bench again")
            yield Row("start/first-image", time.monotonic() - began, "s", note="kernels cached")
            delays.clear()
            time.sleep(max(5.0, context.seconds))
        finally:
            daemon.terminate()
            daemon.wait(20)
    cuts = quantiles(delays, n=100)
    note = f"{len(delays)} images, recording, load {os.getloadavg()[0]:.1f}"
    yield Row("latency/block-to-mqtt-p50", cuts[49] * 1e3, "ms", note=note)
    yield Row("latency/block-to-mqtt-p99", cuts[98] * 1e3, "ms", note=note)


def cases() -> dict[str, Case]:
    """One case, three rows."""
    return {"latency/block-to-mqtt": latency}

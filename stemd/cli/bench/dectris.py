"""The path of a DECTRIS camera: compressed images over loopback ZeroMQ to riCOM."""

from __future__ import annotations

import importlib
import json
import socket
import subprocess
import time
from collections.abc import Iterator
from contextlib import contextmanager
from functools import partial
from itertools import count

import numpy as np
from numpy.typing import NDArray

from stemd import plugins
from stemd.adapters.dectris import zmtp
from stemd.adapters.dectris.compression import scratch
from stemd.adapters.dectris.kernels import scanning, table
from stemd.adapters.dectris.kernels.expanding import expand_images
from stemd.cli.bench.harness import Case, Context, Row
from stemd.cli.bench.pipelines import LiveOwner, bare_receive, engines_of, wait_for
from stemd.daemon.pipeline.reader import Reader
from stemd.errors import StemdError
from stemd.portable import module_command

CASES = (("u8", 96), ("u16", 96), ("u16", 192), ("u16", 512))
_ITEM = {"u8": 1, "u16": 2}
_SAMPLE_BYTES = 2 * 1024 * 1024
_POOL = {96: 256, 192: 128, 512: 32}


@contextmanager
def camera(kind: str, size: int) -> Iterator[int]:
    """A virtual DECTRIS camera in another process, as fast as it can; gives its data port."""
    command = module_command("stemd", "virtual", "dectris", "--pool", str(_POOL[size]))
    command += ["--rate", "0", "--detector", f"{size}x{size}", "--dtype", kind, "--dose", "1000"]
    command += ["--scan", "256x256", "--port", "0", "--gap", "0", "--json", "--end-with-input"]
    process = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
    try:
        assert process.stdout is not None
        for line in process.stdout:
            if line.startswith("{") and json.loads(line).get("event") == "ready":
                yield int(json.loads(line)["data_port"])
                return
        raise StemdError("the virtual camera did not start", "run `stemd virtual dectris` by hand")
    finally:
        process.terminate()
        try:
            process.wait(5)
        except subprocess.TimeoutExpired:  # on a busy machine
            process.kill()
            process.wait()


def sample(port: int) -> tuple[NDArray[np.uint8], scanning.Rows]:
    """Bytes that the camera sends, and the rows of the images in them."""
    data = bytearray()
    with socket.create_connection(("127.0.0.1", port)) as link:
        while len(data) < _SAMPLE_BYTES:
            data += link.recv(1 << 20)
    received = np.frombuffer(data, np.uint8)
    rows = np.zeros((4096, table.COLUMNS), np.int64)
    parts = np.zeros((scanning.MAX_PARTS, 2), np.int64)
    channel = np.zeros(0, np.uint8)
    begin = zmtp.GREETING_BYTES
    found, _, _ = scanning.find_messages(received, begin, received.size, channel, rows, parts)
    images = rows[:found]
    return received, images[images[:, table.KIND] == table.IMAGE]


def expanding_us(kind: str, size: int, data: NDArray[np.uint8], rows: scanning.Rows) -> float:
    """CPU microseconds that one image takes to be expanded, into memory that is in cache."""
    item = _ITEM[kind]
    image = size * size * item
    each = max(1, (512 << 10) // image)
    planes = scratch(image)
    out, good = np.zeros(each * image, np.uint8), np.zeros(each, np.uint8)
    parts = [rows[i : i + each] for i in range(0, len(rows) - each + 1, each)]
    best = float("inf")
    for _ in range(20):
        began = time.thread_time()
        for part in parts:
            expand_images(data, part, item, image, True, planes, out, good)
        best = min(best, (time.thread_time() - began) / (each * len(parts)))
    return best * 1e6


def library_us(kind: str, data: NDArray[np.uint8], rows: scanning.Rows) -> float | None:
    """The same of the vendor's dectris-compression, None where it is not installed."""
    try:
        decompress = importlib.import_module("dectris.compression").decompress
    except ImportError:
        return None
    packed = [data[row[table.DATA] : row[table.DATA_END]].tobytes() for row in rows]
    best = float("inf")
    for _ in range(5):
        began = time.thread_time()
        for each in packed:
            decompress(each, "bslz4", elem_size=_ITEM[kind])
        best = min(best, (time.thread_time() - began) / len(packed))
    return best * 1e6


def live(kind: str, size: int, context: Context) -> Iterator[Row]:
    """Receive, expand, reduce, riCOM and snapshots, against a bare receive and the expansion.

    In frames that one core could take, from the CPU time of each: sender and receiver share the
    machine, so their rates wander. The note has the limit with the vendor's library, too, where
    dectris-compression is installed.
    """
    plugin = plugins.load("adapters", "dectris")
    seconds = max(1.0, context.seconds)
    with camera(kind, size) as port:
        data, rows = sample(port)
        wire = float(np.mean(rows[:, table.END] - rows[:, table.BEGIN]))
        cpus, limits, rates = [], [], []
        for turn in count():
            _, byte_s = bare_receive(port, seconds)
            limits.append(byte_s * wire * 1e6 + expanding_us(kind, size, data, rows))
            owner = LiveOwner(engines_of(61, 1))
            settings = {"host": "127.0.0.1", "data_port": port, "scan": {"shape": [256, 256]}}
            reader = Reader(
                "bench", partial(plugin.build, plugin.settings.model_validate(settings)), owner
            )
            reader.start()
            wait_for(owner, 4096)
            done, cpu, began = owner.done, time.process_time(), time.perf_counter()
            time.sleep(seconds)
            frames = owner.done - done
            wall, cpu = time.perf_counter() - began, time.process_time() - cpu
            reader.close()
            reader.join(5.0)
            cpus.append(cpu / max(1, frames) * 1e6)
            rates.append(frames / wall)
            if turn == 2:
                break
    middle, limit = sorted(cpus)[1], sorted(limits)[1]
    library = library_us(kind, data, rows)
    beside = ""
    if library is not None:
        vendor = limit - expanding_us(kind, size, data, rows) + library
        beside = f", {100 * vendor / middle:.0f} % of receive and dectris-compression"
    yield Row(
        f"live/dectris-{kind}/{size}/ricom61+annulus",
        1e6 / middle,
        "frames/s a core",
        1e6 / limit,
        "bare receive and expansion",
        middle,
        f"{limit:.1f} CPU us for receive and expansion, {sorted(rates)[1]:.0f} frames/s came, "
        f"{wire:.0f} bytes a frame{beside}",
        1e6 / max(cpus),
        1e6 / min(cpus),
    )


def cases() -> dict[str, Case]:
    """All cases by name."""
    return {
        f"live/dectris-{kind}/{size}/ricom61+annulus": partial(live, kind, size)
        for kind, size in CASES
    }

"""Memory, processor and images/s of a scan of 4096 x 4096 with five engines, live and offline.

    python -m benchmarks.large_scan live                    # a daemon, a camera, the page's viewer
    python -m benchmarks.large_scan live --scans 2 --mqtt   # and a broker whose clients want images
    python -m benchmarks.large_scan process                 # `stemd process` of a file

Live: `stemd run` in a process of its own receives patterns of 16 x 16 pixels of 8 bits over TCP at
`--rate` a second, from another process. A viewer watches riCOM at 1024 pixels and the other images
at 256, as the page does; with `--mqtt` a client takes the growing images that `--images` names.

Prints JSON lines: resident memory of the whole process (and what of it is anonymous) every second,
with its peak so far, then the sums: peak, processor time while the scan ran less that of the
reader's thread, images/s by name, and seconds from the last frame to the last file.
"""

from __future__ import annotations

import argparse
import contextlib
import json
import multiprocessing
import os
import select
import shutil
import socket
import subprocess
import sys
import tempfile
import time
from collections import Counter
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks.page.light_viewers import LightViewer, _frame
from benchmarks.running import Broker, Daemon, free_port
from stemd.adapters.merlin.encoder import Camera, encode_frame, encode_hdr, message
from stemd.image_frames import HEADER

KIND = Camera((16, 16), 6)
CONFIG = """
[daemon]
instrument = "trial"
data_dir = "{data}"
{mqtt}
[page]
listen = "127.0.0.1:{page}"
[[pipeline]]
name = "cam"
[pipeline.adapter]
type = "merlin"
data_port = {port}
scan = {{ shape = [{side}, {side}] }}
[pipeline.optics]
center = {center}
[[pipeline.engine]]
type = "ricom"
kernel_size = {kernel}
[[pipeline.engine]]
type = "virtual_detector"
detectors_px = {{ ring = [2.0, 6.0] }}
[[pipeline.engine]]
type = "com"
[[pipeline.engine]]
type = "icom"
[[pipeline.engine]]
type = "sum"
[pipeline.publish]
rate_hz = {hz}
{images}
[pipeline.record]
raw = false
"""
THUMBNAILS = ("sum", "ring", "com_y", "com_x", "field_magnitude", "field_direction", "icom")
ENGINES = ("ricom:kernel_size=61", "com", "sum", "icom", "virtual_detector")


def patterns(count: int, side: int) -> np.ndarray:
    """Discs that wander, with noise: uint8 (count, side, side)."""
    rng = np.random.default_rng(5)
    y, x = np.mgrid[:side, :side] - (side - 1) / 2
    at = rng.normal(0.0, 0.4, (count, 2, 1, 1))
    disc = np.hypot(y - at[:, 0], x - at[:, 1]) < side / 3
    return rng.poisson(4.0 * disc).astype(np.uint8)


class _Lines:
    """The frames of a line, again and again with other numbers."""

    def __init__(self, side: int) -> None:
        self._side, self._patterns = side, patterns(side, 16)
        self._frames: dict[int, np.ndarray] = {}

    def of(self, first: int) -> list[memoryview]:
        """The messages of the frames from this number on."""
        numbers = first + np.arange(self._side)
        digits = np.maximum(6, np.char.str_len(numbers.astype("U9")))
        parts = []
        for many in np.unique(digits):
            part = np.flatnonzero(digits == many)
            line = self._with_digits(int(many))[part[0] : part[-1] + 1]
            at = bytes(line[0]).index(b"MQ1,") + 4
            for digit in range(int(many)):
                line[:, at + int(many) - 1 - digit] = 48 + numbers[part] // 10**digit % 10
            parts.append(line.data)
        return parts

    def _with_digits(self, many: int) -> np.ndarray:
        if many not in self._frames:
            frames = [message(encode_frame(p, KIND, 10 ** (many - 1))) for p in self._patterns]
            line = np.frombuffer(b"".join(frames), np.uint8)
            self._frames[many] = line.reshape(self._side, -1).copy()
        return self._frames[many]


def send(port: int, side: int, rate: float, scans: int, gap: float, done: Any) -> None:
    """Be the camera of some scans; `done` gets the time of each scan's first and last frame."""
    lines = _Lines(side)
    with socket.create_server(("127.0.0.1", port)) as server:
        client, _ = server.accept()
        done.put(("connected", time.time()))
        for _ in range(scans):
            time.sleep(gap)
            began = time.time()
            client.sendall(message(encode_hdr(KIND, side * side)))
            for row in range(side):
                for part in lines.of(row * side + 1):
                    client.sendall(part)
                ahead = began + (row + 1) * side / rate - time.time()
                if ahead > 0.0:
                    time.sleep(ahead)
            done.put(("scan", began, time.time()))
        time.sleep(3600)


class PageViewer(LightViewer):
    """Asks for what the page asks for, and counts which images come."""

    def __init__(self, port: int) -> None:
        super().__init__(port, pipeline="cam")
        self.counts: Counter[str] = Counter()
        small = dict.fromkeys(THUMBNAILS, 256)
        images = {"cam": {"ricom": 1024, **small}}
        self.say({"type": "watch", "images": images, "bundle": True, "short": True})
        self._data = bytearray()

    def take(self) -> None:
        """Take what has come, and say that it is drawn."""
        while select.select([self.socket], [], [], 0.0)[0]:
            data = self.socket.recv(1 << 20)
            if not data:
                raise ConnectionError
            self._data += data
        while (size := self._whole()) is not None:
            head, length = size
            if self._data[0] & 15 == 2:
                self._images(bytes(self._data[head : head + length]))
            elif self._data[0] & 15 == 9:
                self.socket.sendall(b"\x8a\x80\0\0\0\0")
            del self._data[: head + length]

    def _whole(self) -> tuple[int, int] | None:
        data = self._data
        if len(data) < 10:
            short = len(data) >= 2 and data[1] < 126 and len(data) >= 2 + data[1]
            return (2, data[1]) if short else None
        length, head = data[1] & 127, 2
        if length >= 126:
            head = 4 if length == 126 else 10
            length = int.from_bytes(data[2:head], "big")
        return (head, length) if len(data) >= head + length else None

    def _images(self, body: bytes) -> None:
        names, at = [], 0
        while at < len(body):
            _, _, _, _, text, pixels = HEADER.unpack_from(body, at)
            names.append(json.loads(body[at + HEADER.size : at + HEADER.size + text])["name"])
            at += HEADER.size + text + pixels
        self.counts.update(names)
        told = {"type": "drawn", "pipeline": "cam", "name": names}
        self.socket.sendall(_frame(json.dumps(told).encode()))


def view(port: int, orders: Any, answers: Any) -> None:
    """A viewer in a process of its own; any order is answered by the counts since the last."""
    viewer = PageViewer(port)
    while True:
        viewer.take()
        time.sleep(0.01)
        if orders.poll():
            orders.recv()
            answers.send(dict(viewer.counts))
            viewer.counts.clear()


def listen(port: int, names: list[str], orders: Any, answers: Any) -> None:
    """An MQTT client that counts images."""
    import paho.mqtt.client as paho

    counts: Counter[str] = Counter()
    client = paho.Client(paho.CallbackAPIVersion.VERSION2)
    client.on_message = lambda _c, _u, each: counts.update([each.topic.split("/image/")[1]])
    client.connect("127.0.0.1", port)
    for name in names:
        client.subscribe(f"stemd/trial/cam/image/{name}")
    client.loop_start()
    while True:
        orders.recv()
        answers.send(dict(counts))
        counts.clear()


def memory(pid: int) -> dict[str, float]:
    """Resident memory in MB: now, of that anonymous, and the peak."""
    lines = Path(f"/proc/{pid}/status").read_text().splitlines()
    kib = {line.split(":")[0]: int(line.split()[1]) for line in lines if line.endswith(" kB")}
    names = {"rss": "VmRSS", "anonymous": "RssAnon", "peak": "VmHWM"}
    return {name: round(kib[key] * 1024 / 1e6, 1) for name, key in names.items()}


def threads(pid: int) -> dict[str, float]:
    """Processor seconds of each thread."""
    used = {}
    for task in Path(f"/proc/{pid}/task").iterdir():
        fields = (task / "stat").read_text().rsplit(")", 1)[1].split()
        used[task.name] = (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")
    return used


def tell(**what: Any) -> None:
    """Print a line."""
    print(json.dumps(what), flush=True)


def live(args: argparse.Namespace) -> None:
    """A daemon and all around it."""
    folder = Path(tempfile.mkdtemp(prefix="large-scan-"))
    port, page = free_port(), free_port()
    context = multiprocessing.get_context("spawn")
    done = context.Queue()
    helpers = [
        context.Process(
            target=send, args=(port, args.side, args.rate, args.scans, args.gap, done), daemon=True
        )
    ]
    broker = Broker(folder)
    if args.mqtt:
        broker.start()
    images = "" if args.images is None else f"images = {json.dumps(args.images.split(','))}"
    config = CONFIG.format(
        data=folder / "data", port=port, page=page, side=args.side, hz=args.hz, images=images,
        center=args.center, kernel=args.kernel, mqtt=broker.table if args.mqtt else "",
    )  # fmt: skip
    helpers[0].start()
    daemon = Daemon(folder, config)
    pid = daemon.process.pid
    try:
        daemon.wait_ready()
        asked, told = [], []
        watchers: list[tuple[Any, tuple[Any, ...]]] = []
        if not args.no_viewer:
            watchers.append((view, (page,)))
        if args.mqtt:
            names = args.images.split(",") if args.images else ["ricom", *THUMBNAILS]
            watchers.append((listen, (broker.port, names)))
        for target, about in watchers:
            (one, orders), (answers, other) = context.Pipe(), context.Pipe()
            process = context.Process(target=target, args=(*about, orders, other), daemon=True)
            process.start()
            helpers.append(process)
            asked.append(one)
            told.append(answers)
        done.get(timeout=100.0)
        tell(event="ready", **memory(pid))
        for number in range(args.scans):
            _one_scan(args, folder, pid, number, done, asked, told)
        time.sleep(2.0)
        tell(event="rest", **memory(pid))
    finally:
        for helper in helpers:
            helper.kill()
        status = daemon.stop()
        broker.stop()
        tell(event="end", ended=status)
        if not args.keep:
            shutil.rmtree(folder, ignore_errors=True)
        else:
            tell(folder=str(folder))


def _one_scan(
    args: argparse.Namespace, folder: Path, pid: int, number: int, done: Any, asked: Any, told: Any
) -> None:
    while not len(list((folder / "data").glob("*/*/scan.json"))) > number:
        time.sleep(0.05)
    if args.seconds:
        time.sleep(2.0)  # until the first images have been drawn
    for one, answers in zip(asked, told, strict=True):
        one.send("count")
        answers.recv()
    before, began = threads(pid), time.time()
    while done.empty() and not (args.seconds and time.time() - began > args.seconds):
        time.sleep(1.0)
        if not args.seconds:
            tell(event="runs", t=round(time.time() - began, 1), **memory(pid))
    last = time.time() if args.seconds else done.get()[2]
    after, seconds = threads(pid), time.time() - began
    counts = []
    for one, answers in zip(asked, told, strict=True):
        one.send("count")
        counts.append({name: round(n / seconds, 2) for name, n in answers.recv().items()})
    used = sorted((after[t] - before.get(t, 0.0) for t in after), reverse=True)
    tell(
        event="scan", seconds=round(seconds, 1),
        reader=round(used[0] / seconds, 3), others=round(sum(used[1:]) / seconds, 3),
        threads=[round(u / seconds, 3) for u in used[:6]], per_second=counts, **memory(pid),
    )  # fmt: skip
    if args.seconds:
        return
    before_finals = sum(threads(pid).values())
    while True:
        time.sleep(0.1)
        documents = sorted((folder / "data").glob("*/*/scan.json"))
        if json.loads(documents[number].read_text())["status"] not in ("acquiring",):
            break
        if time.time() - last > 300:
            raise TimeoutError("the scan does not end")
    tell(
        event="finished", after_last_frame_s=round(time.time() - last, 2),
        cpu_s=round(sum(threads(pid).values()) - before_finals, 2), **memory(pid),
    )  # fmt: skip


def process(args: argparse.Namespace) -> None:
    """`stemd process` of a file of 8 x 8 pixels."""
    folder = Path(args.folder or tempfile.mkdtemp(prefix="large-scan-"))
    path = folder / f"large-{args.side}.npy"
    if not path.exists():
        data = np.lib.format.open_memmap(
            path, "w+", np.uint8, (args.side, args.side, 8, 8)
        )  # fmt: skip
        for row in range(args.side):
            data[row] = np.roll(patterns(args.side, 8) if row == 0 else data[row - 1], 7, axis=0)
        del data
    engines = [part for name in ENGINES for part in ("--engine", name)]
    engines[-1] = "virtual_detector:detectors_px={ring=[1.0,3.0]}"
    out = folder / "out"
    began = time.time()
    command = [
        sys.executable, "-m", "stemd", "process", str(path), "--out", str(out), "--jobs",
        str(args.jobs), *engines,
    ]  # fmt: skip
    child = subprocess.Popen(command)
    top: dict[str, float] = {}
    told = 0.0
    while True:
        ended, status, usage = os.wait4(child.pid, os.WNOHANG)
        if ended:
            break
        with contextlib.suppress(OSError, KeyError):  # it is just ending
            now = memory(child.pid)
            if time.time() - told > 1.0:
                told = time.time()
                tell(event="runs", t=round(told - began, 1), **now)
            top |= now
            top["most_anonymous"] = max(top.get("most_anonymous", 0.0), now["anonymous"])
        time.sleep(0.02)
    child.returncode = os.waitstatus_to_exitcode(status)
    tell(
        event="processed", s=round(time.time() - began, 2),
        cpu_s=round(usage.ru_utime + usage.ru_stime, 2), status=child.returncode, **top,
    )  # fmt: skip
    if args.folder is None and not args.keep:
        shutil.rmtree(folder)


def main() -> None:
    """See above."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawTextHelpFormatter
    )
    parser.add_argument("what", choices=["live", "process"])
    parser.add_argument("--side", type=int, default=4096)
    parser.add_argument("--rate", type=float, default=200_000.0, help="frames/s (200000)")
    parser.add_argument("--scans", type=int, default=1)
    parser.add_argument("--seconds", type=float, help="look at so much of the scan, then stop")
    parser.add_argument("--gap", type=float, default=2.0, help="s before each scan (2)")
    parser.add_argument("--hz", type=float, default=5.0, help="publish.rate_hz (5)")
    parser.add_argument("--center", default='"auto"', help="optics.center")
    parser.add_argument("--kernel", type=int, default=61)
    parser.add_argument("--mqtt", action="store_true", help="with mosquitto and a client")
    parser.add_argument("--images", help="publish.images, by comma")
    parser.add_argument("--no-viewer", action="store_true")
    parser.add_argument("--jobs", type=int, default=1)
    parser.add_argument("--folder", help="where the file of `process` is kept")
    parser.add_argument("--keep", action="store_true", help="keep the folder")
    args = parser.parse_args()
    (live if args.what == "live" else process)(args)


if __name__ == "__main__":
    main()

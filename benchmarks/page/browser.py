"""What the live page costs the scan, how fast a browser draws, and how soon a scan obeys.

    python benchmarks/page.py viewers [--viewers 20] [--turns 9] [--rate 0] [--thumbnails]
    python benchmarks/page.py browser [--side 1024] [--rate 20] [--seconds 10]

`viewers`: `stemd run` reads a virtual camera that sends as fast as it can, or `--rate` frames a
second, as a real one does. Turns without and with
viewers alternate; the ratio of a pair of neighbours is what counts, the median of all pairs is
told. The viewers live in one other process, ask for what a browser asks for and say `drawn` for
every image. Their process has the lowest priority (nice 19): on a real bench they are other
computers. The camera still shares the processors, so without `--rate` any work of the daemon shows
in the speed. The event loop's thread does all of the page's work; `us a position` is told without
it, too: that is what viewers cost the scan's own threads (hand-overs of the interpreter's lock,
caches).

`browser`: headless Chromium draws images that come at a fixed rate. Lag is from the moment an
image is handed to the page until its pixels are drawn.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import os
import selectors
import socket
import statistics
import subprocess
import sys
import tempfile
import time
import urllib.request
from collections import deque
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

CONFIG = """
[daemon]
data_dir = {data}
[page]
listen = "127.0.0.1:{page}"
[[pipeline]]
name = "bench"
[pipeline.adapter]
type = "merlin"
host = "127.0.0.1"
data_port = {camera}
control_port = {control}
scan = {{ shape = [{scan}, {scan}], step_size_angstrom = 0.2 }}
[pipeline.optics]
pixel_size_mrad = 0.5
[[pipeline.engine]]
type = "ricom"
kernel_size = 21
[[pipeline.engine]]
type = "com"
[[pipeline.engine]]
type = "virtual_detector"
detectors = {{ bf = [0.0, 10.0], adf = [20.0, 50.0] }}
[[pipeline.engine]]
type = "pacbed"
[pipeline.publish]
rate_hz = 10.0
[pipeline.record]
results = []
"""
THUMBNAILS = ("com_y", "com_x", "field_magnitude", "field_direction", "bf", "adf", "pacbed")
"""What the page asks for beside the large image, at 128 pixels."""
WARM_POSITIONS = 20_000
"""Before the first turn: everything is compiled, and images have been published."""
CHROMIUM = "/usr/bin/chromium"


def say(text: str) -> None:
    """One line for the reader."""
    sys.stdout.write(text + "\n")
    sys.stdout.flush()


def free_port() -> int:
    """A TCP port of 127.0.0.1 that nobody listens on."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


# Viewers


class LightViewer:
    """A WebSocket client of few instructions: reads images, says `drawn`, looks at no pixel."""

    def __init__(self, port: int, *, thumbnails: bool) -> None:
        self.images = 0
        self.messages = 0
        self._buffer = bytearray(1 << 20)
        self._filled = 0
        self.socket = socket.create_connection(("127.0.0.1", port))
        self.socket.sendall(
            b"GET /ws HTTP/1.1\r\nHost: 127.0.0.1:%d\r\nUpgrade: websocket\r\n"
            b"Connection: Upgrade\r\nSec-WebSocket-Key: AAAAAAAAAAAAAAAAAAAAAA==\r\n"
            b"Sec-WebSocket-Version: 13\r\n\r\n" % port
        )
        answer = b""
        while not answer.endswith(b"\r\n\r\n"):
            answer += self.socket.recv(1)
        small = dict.fromkeys(THUMBNAILS if thumbnails else (), 128)
        images = {"bench": {"ricom": 2048, **small}}
        self._say({"type": "watch", "images": images, "bundle": True})

    def _say(self, message: dict[str, Any]) -> None:
        self.socket.sendall(_frame(json.dumps(message).encode()))

    def read(self) -> None:
        """Take what has come."""
        view = memoryview(self._buffer)
        count = self.socket.recv_into(view[self._filled :])
        if count == 0:
            raise ConnectionError("the page has closed the socket")
        self._filled += count
        start = 0
        while (end := self._message(start)) is not None:
            start = end
        if start:
            rest = self._filled - start
            view[:rest] = bytes(view[start : self._filled])
            self._filled = rest
        elif self._filled > len(view) // 2:
            view.release()
            self._buffer += bytes(len(self._buffer))

    def _message(self, start: int) -> int | None:
        """Where the message that begins here ends, None while it is not all there."""
        buffer = self._buffer
        if self._filled - start < 10:
            return None
        length, body = buffer[start + 1] & 0x7F, start + 2
        if length == 126:
            length, body = int.from_bytes(buffer[start + 2 : start + 4], "big"), start + 4
        elif length == 127:
            length, body = int.from_bytes(buffer[start + 2 : start + 10], "big"), start + 10
        if self._filled < body + length:
            return None
        if buffer[start] & 0x0F == 2:
            self.messages += 1
            names, frame = [], body
            while frame < body + length:
                size = int.from_bytes(buffer[frame + 8 : frame + 12], "little")
                pixels = int.from_bytes(buffer[frame + 12 : frame + 16], "little")
                names.append(json.loads(buffer[frame + 16 : frame + 16 + size])["name"])
                frame += 16 + size + pixels
            self.images += len(names)
            self._say({"type": "drawn", "pipeline": "bench", "name": names})
        return body + length


def _frame(text: bytes) -> bytes:
    """A client's text frame; a mask of zeros leaves the text as it is."""
    if len(text) < 126:
        head = bytes((0x81, 0x80 | len(text)))
    else:
        head = bytes((0x81, 0x80 | 126)) + len(text).to_bytes(2, "big")
    return head + bytes(4) + text


def look(port: int, viewers: int, *, thumbnails: bool) -> None:
    """Be so many viewers until the standard input is closed; tell how many images came."""
    os.nice(19)
    with selectors.DefaultSelector() as selector:
        all_viewers = [LightViewer(port, thumbnails=thumbnails) for _ in range(viewers)]
        for viewer in all_viewers:
            selector.register(viewer.socket, selectors.EVENT_READ, viewer)
        selector.register(sys.stdin, selectors.EVENT_READ, None)
        say("ready")
        while True:
            for key, _ in selector.select():
                if key.data is not None:
                    key.data.read()
                elif sys.stdin.readline() == "":
                    return
                else:
                    images = sum(viewer.images for viewer in all_viewers)
                    messages = sum(viewer.messages for viewer in all_viewers)
                    say(f"{images} {messages} {time.process_time()}")


# The cost of viewers


class Daemon:
    """A camera that never rests and `stemd run` on it."""

    def __init__(self, folder: Path, scan: int, detector: int, rate: int) -> None:
        self.page = free_port()
        ports = {"page": self.page, "camera": free_port(), "control": free_port()}
        config = folder / "bench.toml"
        config.write_text(CONFIG.format(data=json.dumps(str(folder)), scan=scan, **ports))
        stemd = (sys.executable, "-m", "stemd")
        self.camera = subprocess.Popen(
            [
                *stemd,
                *("virtual", "merlin", "--rate", str(rate), "--pool", "64", "--scans", "0"),
                *("--scan", f"{scan}x{scan}", "--detector", f"{detector}x{detector}"),
                *("--port", str(ports["camera"]), "--control-port", str(ports["control"])),
            ],
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
        )
        self.process = subprocess.Popen(
            [*stemd, "run", str(config)], stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL
        )

    def positions(self) -> int:
        """Positions since the start, 0 while the page does not answer."""
        try:
            url = f"http://127.0.0.1:{self.page}/healthz"
            with urllib.request.urlopen(url, timeout=5) as reply:
                health = json.load(reply)
        except OSError:
            return 0
        return int(health.get("pipelines", {}).get("bench", {}).get("positions", 0))

    def cpu_s(self) -> tuple[float, float]:
        """Processor seconds of the daemon so far: all threads, and the event loop's alone."""
        pid = self.process.pid
        # schedstat counts in nanoseconds, stat in ticks of 10 ms
        fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
        loop = int(Path(f"/proc/{pid}/task/{pid}/schedstat").read_text().split()[0]) / 1e9
        return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK"), loop

    def forced_switches(self) -> int:
        """Times so far that a thread of the daemon lost its processor without asking to."""
        total = 0
        for task in Path(f"/proc/{self.process.pid}/task").iterdir():
            try:
                status = (task / "status").read_text()
            except OSError:  # the thread has ended meanwhile
                continue
            total += int(status.rpartition("nonvoluntary_ctxt_switches:")[2])
        return total

    def close(self) -> None:
        """End both."""
        for process in (self.process, self.camera):
            process.terminate()
            process.wait(20)


@dataclass(frozen=True, slots=True)
class Turn:
    """One turn: scan speed, the daemon's processor time, and what the viewers got and used."""

    positions_per_s: float
    cpu_us_per_position: float
    scan_us_per_position: float
    loop_processors: float
    forced_switches_per_s: float
    images_per_s: float = 0.0
    messages_per_s: float = 0.0
    viewers_processors: float = 0.0


def measure(daemon: Daemon, seconds: float) -> Turn:
    """A turn without viewers, or with those that are there."""
    time.sleep(0.5)
    switches, (cpu, loop) = daemon.forced_switches(), daemon.cpu_s()
    first, began = daemon.positions(), time.monotonic()
    time.sleep(seconds)
    last, spent = daemon.positions(), time.monotonic() - began
    (cpu_end, loop_end), switches_end = daemon.cpu_s(), daemon.forced_switches()
    positions = max(1, last - first)
    used, loop_used = cpu_end - cpu, loop_end - loop
    return Turn(
        positions_per_s=positions / spent,
        cpu_us_per_position=used / positions * 1e6,
        scan_us_per_position=(used - loop_used) / positions * 1e6,
        loop_processors=loop_used / spent,
        forced_switches_per_s=(switches_end - switches) / spent,
    )


def measure_viewed(daemon: Daemon, seconds: float, viewers: int, *, thumbnails: bool) -> Turn:
    """A turn with viewers in a process of their own."""
    more = ["--thumbnails"] if thumbnails else []
    looking = subprocess.Popen(
        [sys.executable, __file__, "look", str(daemon.page), str(viewers), *more],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    )
    assert looking.stdin is not None
    assert looking.stdout is not None

    def heard() -> tuple[int, int, float]:
        assert looking.stdin is not None
        assert looking.stdout is not None
        looking.stdin.write("\n")
        looking.stdin.flush()
        images, messages, cpu = looking.stdout.readline().split()
        return int(images), int(messages), float(cpu)

    looking.stdout.readline()
    (images, messages, cpu), began = heard(), time.monotonic()
    turn = measure(daemon, seconds)
    (images_end, messages_end, cpu_end), spent = heard(), time.monotonic() - began
    looking.stdin.close()
    looking.wait(20)
    return replace(
        turn,
        images_per_s=(images_end - images) / spent / viewers,
        messages_per_s=(messages_end - messages) / spent / viewers,
        viewers_processors=(cpu_end - cpu) / spent,
    )


def viewers_cost(args: argparse.Namespace) -> None:
    """Print what so many viewers cost the scan."""
    viewers, turns, seconds = args.viewers, args.turns, args.seconds
    scan, detector = args.scan, args.detector
    with tempfile.TemporaryDirectory() as folder:
        daemon = Daemon(Path(folder), scan, detector, args.rate)
        try:
            while daemon.positions() < WARM_POSITIONS:
                time.sleep(0.5)
            alone, viewed = [measure(daemon, seconds)], []
            ratios, dearer = [], []
            for turn in range(turns):
                viewed.append(measure_viewed(daemon, seconds, viewers, thumbnails=args.thumbnails))
                alone.append(measure(daemon, seconds))
                around = (alone[-2].positions_per_s + alone[-1].positions_per_s) / 2
                ratios.append(viewed[-1].positions_per_s / around)
                before, after = alone[-2].scan_us_per_position, alone[-1].scan_us_per_position
                dearer.append(viewed[-1].scan_us_per_position * 2 / (before + after))
                speeds = f"{around:8.0f}/s alone, {viewed[-1].positions_per_s:8.0f}/s viewed"
                say(f"turn {turn}: {speeds}: {ratios[-1]:.3f}")
        finally:
            daemon.close()

    def middle(turns: list[Turn], name: str) -> float:
        return float(statistics.median(getattr(turn, name) for turn in turns))

    spread = f"{min(ratios):.2f} to {max(ratios):.2f}"
    say(f"{viewers} viewers, {scan} x {scan} of {detector} x {detector}, medians of {turns} turns:")
    say(f"  speed alone            {middle(alone, 'positions_per_s'):10.0f} positions/s")
    say(f"  speed with viewers     {statistics.median(ratios):10.3f} of that ({spread})")
    ratio, worst = statistics.median(dearer), f"{min(dearer):.2f} to {max(dearer):.2f}"
    say(f"  scan's us a position   {ratio:10.3f} of alone ({worst}), the loop not counted")
    for name, text in (
        ("cpu_us_per_position", "us a position     "),
        ("scan_us_per_position", "  without the loop"),
        ("loop_processors", "processors, loop  "),
        ("forced_switches_per_s", "forced switches/s "),
    ):
        say(f"  {text}     {middle(alone, name):10.4f} alone, {middle(viewed, name):.4f} viewed")
    got, messages = middle(viewed, "images_per_s"), middle(viewed, "messages_per_s")
    say(f"  each viewer got        {got:10.1f} images/s in {messages:.1f} messages/s")
    say(f"  the viewers used       {middle(viewed, 'viewers_processors'):10.3f} processors")


# A browser


async def browser_speed(side: int, rate: float, seconds: float) -> None:
    """Print how many images of side x side a second Chromium draws, and how late.

    Chromium runs by itself: a program that drives it would be told every byte of every image.
    """
    import numpy as np

    from stemd.acquisition import Acquisition, Detector, Scan
    from stemd.daemon.hub import Hub
    from stemd.daemon.logs import set_up_logs
    from stemd.daemon.page import viewer
    from stemd.daemon.page.protocol import Drawn
    from stemd.daemon.page.server import Page
    from stemd.daemon.page.settings import PageSettings
    from stemd.results import Result, Snapshot

    sent_ns: deque[int] = deque()
    lags_ms: list[float] = []

    class Encoder(viewer.Encoder):
        async def frame(self, pipeline: str, waiting: viewer.Waiting) -> bytes:
            if waiting.result.name == "ricom":
                sent_ns.append(waiting.snapshot.time_ns)
            return await super().frame(pipeline, waiting)

    def drawn(self: viewer.Viewer, message: Drawn) -> None:
        if message.name == "ricom":
            lags_ms.append((time.time_ns() - sent_ns.popleft()) / 1e6)
        heard(self, message)

    heard = viewer.Viewer.drawn
    viewer.Viewer.drawn = drawn  # type: ignore[method-assign]
    set_up_logs("error")
    hub = Hub()
    settings = PageSettings(listen="127.0.0.1:0")
    page = Page(settings, hub, "bench", Path("/nonexistent"), lambda: (True, {}), lambda: b"")
    page._audience._encoder = Encoder()
    url = await page.start()
    acquisition = Acquisition(Scan(shape=(side, side)), Detector("none", (8, 8), "u2", 12))
    rng = np.random.default_rng(1)
    images = [rng.normal(size=(side, side)).astype(np.float32) for _ in range(4)]
    total = side * side
    hub.state("bench", {"state": "acquiring", "scan": acquisition.id, "positions_total": total})

    async def show(duration_s: float) -> None:
        began, sequence = time.monotonic(), 0
        while time.monotonic() < began + duration_s:
            sequence += 1
            image = images[sequence % 4]
            results = [Result(name, image.view(), "px*px") for name in ("ricom", "bf", "adf")]
            now = time.time_ns()
            hub.snapshot(
                "bench", Snapshot(acquisition, results, total, total, False, sequence, now, 1)
            )
            await asyncio.sleep(max(0.0, began + sequence / rate - time.monotonic()))

    with tempfile.TemporaryDirectory(ignore_cleanup_errors=True) as profile:
        flags = ["--headless", "--no-sandbox", "--disable-gpu", "--no-first-run"]
        flags += ["--window-size=1280,800", f"--user-data-dir={profile}"]
        flags += ["--disable-background-networking", "--disable-component-update"]
        browser = await asyncio.create_subprocess_exec(
            *(CHROMIUM, *flags, "--remote-debugging-port=0", url),
            stdout=asyncio.subprocess.DEVNULL,
            stderr=asyncio.subprocess.DEVNULL,
        )
        try:
            while not lags_ms:
                await show(1.0)
            await show(2.0)
            lags_ms.clear()
            cpu, began = time.process_time(), time.monotonic()
            await show(seconds)
            spent, cpu = time.monotonic() - began, time.process_time() - cpu
        finally:
            browser.terminate()
            await browser.wait()
    await page.stop()
    lags_ms.sort()
    middle, late = lags_ms[len(lags_ms) // 2], lags_ms[int(len(lags_ms) * 0.99)]
    say(f"{side} x {side} at {rate:g}/s in headless Chromium for {spent:.0f} s:")
    say(f"  drawn      {len(lags_ms) / spent:6.1f} images/s")
    say(f"  lag        {middle:6.0f} ms median, {late:.0f} ms for 99 %")
    say(f"  daemon     {cpu / len(lags_ms) * 1e3:6.1f} ms of processor an image")


def main() -> None:
    """Run the measurement that is asked for."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    commands = parser.add_subparsers(dest="command", required=True)
    viewers = commands.add_parser("viewers")
    viewers.add_argument("--viewers", type=int, default=20)
    viewers.add_argument("--turns", type=int, default=9)
    viewers.add_argument("--seconds", type=float, default=4.0)
    viewers.add_argument("--scan", type=int, default=256)
    viewers.add_argument("--detector", type=int, default=256)
    viewers.add_argument("--rate", type=int, default=0, help="frames a second; 0: no pause")
    viewers.add_argument("--thumbnails", action="store_true", help="all images, as a browser does")
    browser = commands.add_parser("browser")
    browser.add_argument("--side", type=int, default=1024)
    browser.add_argument("--rate", type=float, default=20.0)
    browser.add_argument("--seconds", type=float, default=10.0)
    looking = commands.add_parser("look")
    looking.add_argument("port", type=int)
    looking.add_argument("viewers", type=int)
    looking.add_argument("--thumbnails", action="store_true")
    args = parser.parse_args()
    if args.command == "viewers":
        viewers_cost(args)
    elif args.command == "browser":
        asyncio.run(browser_speed(args.side, args.rate, args.seconds))
    else:
        look(args.port, args.viewers, thumbnails=args.thumbnails)


if __name__ == "__main__":
    main()

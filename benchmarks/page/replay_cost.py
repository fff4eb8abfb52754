"""What a replay from the record costs a running scan: turns without and with one, A B B A."""

from __future__ import annotations

import argparse
import json
import os
import tempfile
import threading
import time
import urllib.request
from contextlib import closing
from pathlib import Path

from benchmarks.page.bench_daemon import BenchDaemon, Load
from benchmarks.page.cost import median_and_interval, say
from benchmarks.page.light_viewers import LightViewer

PATTERN = "ABBA"
RECORDED = Load(scan=96, detector=256, rate=3000, raw=True)
"""The scan that is replayed: 1.2 GB."""


class Replayer:
    """A viewer that replays a scan again and again while `on`."""

    def __init__(self, port: int, scan: str, seconds: float) -> None:
        self._viewer = LightViewer(port, pipeline="@replay")
        self._scan, self._seconds = scan, seconds
        self.images = 0
        self._thread = threading.Thread(target=self._read, daemon=True)
        self._thread.start()
        self._say("start")

    def _say(self, action: str, **more: object) -> None:
        order = {"type": "replay", "action": action, "scan": self._scan}
        self._viewer.say({**order, "seconds": self._seconds, **more})

    def _read(self) -> None:
        again = time.monotonic() + self._seconds + 1.0
        while True:
            try:
                self._viewer.read()
                if 0.0 < self._viewer.due < time.monotonic():
                    self._viewer.tell()
                if time.monotonic() > again:
                    self._say("pace", again=True)
                    again = time.monotonic() + self._seconds + 1.0
            except OSError:
                return
            self.images = self._viewer.images

    def close(self) -> None:
        """End the replay."""
        self._say("stop")
        self._viewer.socket.shutdown(2)
        self._thread.join(5)
        self._viewer.socket.close()


def record(folder: Path) -> str:
    """Record one scan; its id."""
    with closing(BenchDaemon(folder, RECORDED, memory=False)) as daemon:
        while True:
            time.sleep(0.5)
            try:
                with urllib.request.urlopen(
                    f"http://127.0.0.1:{daemon.page}/api/scans", timeout=5
                ) as reply:
                    scans = json.load(reply)["scans"]
            except OSError:
                continue
            for scan in scans:
                if scan["status"] == "complete":
                    return str(scan["id"])


def replay_cost(args: argparse.Namespace) -> None:
    """Print it."""
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        scan = record(folder)
        load = Load(rate=args.rate)
        with closing(BenchDaemon(folder, load, memory=args.memory)) as daemon:
            if args.memory:
                os.sched_setaffinity(0, {1})
            daemon.warm()
            speeds: dict[str, list[float]] = {"A": [], "B": []}
            images = 0
            for letter in PATTERN * args.rounds:
                replayer = Replayer(daemon.page, scan, args.replay) if letter == "B" else None
                time.sleep(4.0 if replayer else 0.5)  # until the replay's process plays
                before = replayer.images if replayer else 0
                first, began = daemon.positions(), time.monotonic()
                time.sleep(args.seconds)
                last = daemon.positions()
                speeds[letter].append((last - first) / (time.monotonic() - began))
                if replayer:
                    images += replayer.images - before
                    replayer.close()
    a, b = speeds["A"], speeds["B"]
    ratios = [(b[i] + b[i + 1]) / (a[i] + a[i + 1]) for i in range(0, len(a), 2)]
    middle, low, high = median_and_interval(ratios)
    camera = "memory" if args.memory else f"TCP, {args.rate or 'no limit'}"
    say(f"a replay in {args.replay:g} s, camera: {camera}; {args.rounds} rounds")
    say(f"  positions/s {middle:.4f} of alone, 95 % interval {low:.4f} to {high:.4f}")
    say(f"  {sum(a) / len(a):.0f} positions/s alone, {sum(b) / len(b):.0f} replayed")
    say(f"  the replay showed {images / len(b) / args.seconds:.1f} images/s")

"""Whether 20 viewers make a frame late or lose one, at the rate of a real camera over TCP."""

from __future__ import annotations

import argparse
import tempfile
import time
from contextlib import closing
from pathlib import Path

import numpy as np

from benchmarks.page.bench_daemon import BenchDaemon, Load
from benchmarks.page.cost import say
from benchmarks.page.light_viewers import Viewers

LOOK_S = 0.004


def backlog(daemon: BenchDaemon, seconds: float) -> list[int]:
    """Bytes that wait in the kernel for the reader, looked at some hundred times a second."""
    seen = []
    end = time.monotonic() + seconds
    while time.monotonic() < end:
        seen.append(daemon.backlog_bytes())
        time.sleep(LOOK_S)
    return seen


def paced(args: argparse.Namespace) -> None:
    """Print backlog, speed and losses without and with viewers, in turns."""
    load = Load(args.scan, args.detector, args.rate)
    frame_bytes = args.detector**2 * 2 + 384 + 15
    waiting: dict[bool, list[int]] = {False: [], True: []}
    rates: dict[bool, list[float]] = {False: [], True: []}
    with (
        tempfile.TemporaryDirectory() as folder,
        closing(BenchDaemon(Path(folder), load, memory=False)) as daemon,
    ):
        daemon.warm()
        before = daemon.health()
        with closing(Viewers(daemon.page, args.viewers, thumbnails=args.thumbnails)) as viewers:
            for viewed in (False, True, True, False) * args.rounds:
                viewers.order("on" if viewed else "off")
                time.sleep(0.3)
                first, began = daemon.positions(), time.monotonic()
                waiting[viewed] += backlog(daemon, args.seconds)
                last = daemon.positions()
                rates[viewed].append((last - first) / (time.monotonic() - began))
            images, _, _ = viewers.order("off")
        time.sleep(1.0)
        after = daemon.health()
    looked = 2 * args.rounds * args.seconds * args.viewers
    say(f"{args.viewers} viewers, {args.rate} frames/s of {args.detector} x {args.detector}:")
    for viewed, name in ((False, "alone"), (True, "viewed")):
        ms = np.array(waiting[viewed]) / frame_bytes / args.rate * 1e3
        middle, late, worst = np.percentile(ms, [50, 99, 100])
        text = f"frames wait {middle:.1f} ms (median), {late:.1f} ms (99 %), {worst:.1f} ms at most"
        say(f"  {name:7} {np.mean(rates[viewed]):7.0f} positions/s, {text}")
    scans = int(str(after["scans_finished"])) - int(str(before["scans_finished"]))
    cut = int(str(after["scans_not_complete"])) - int(str(before["scans_not_complete"]))
    say(f"  {scans} scans, {cut} of them not complete")
    say(f"  each viewer got about {images / looked:.1f} images/s")

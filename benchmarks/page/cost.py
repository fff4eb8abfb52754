"""What viewers cost a scan: turns without and with them, A B B A, and how sure the ratio is."""

from __future__ import annotations

import argparse
import os
import sys
import tempfile
import time
from collections.abc import Sequence
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from benchmarks.page.bench_daemon import BenchDaemon, Load
from benchmarks.page.light_viewers import Viewers

SETTLE_S = 0.15
"""Between opening or closing the sockets and the beginning of a turn."""
PATTERN = "ABBA"
CROWDED = 0.02
"""Part of a turn that other programs may take from the reader's own processor."""


def say(text: str) -> None:
    """One line for the reader."""
    sys.stdout.write(text + "\n")
    sys.stdout.flush()


@dataclass(frozen=True, slots=True)
class Turn:
    """Rates of one turn: positions, processors used, and what each viewer got."""

    positions_per_s: float
    loop: float
    reader: float
    crowded: float
    others_us_per_position: float
    images_per_s: float
    messages_per_s: float
    viewers: float


def turn(daemon: BenchDaemon, viewers: Viewers, seconds: float, *, viewed: bool) -> Turn:
    """One turn, with the viewers looking or away."""
    viewers.order("on" if viewed else "off")
    time.sleep(SETTLE_S)
    seen, (cpu, loop, reader) = viewers.order("count"), daemon.cpu_s()
    crowded = daemon.crowded_s()
    first, began = daemon.positions(), time.monotonic()
    time.sleep(seconds)
    last, spent = daemon.positions(), time.monotonic() - began
    (cpu_end, loop_end, reader_end), seen_end = daemon.cpu_s(), viewers.order("count")
    each = viewers.viewers * spent
    return Turn(
        positions_per_s=(last - first) / spent,
        loop=(loop_end - loop) / spent,
        reader=(reader_end - reader) / spent,
        crowded=(daemon.crowded_s() - crowded) / spent,
        others_us_per_position=(cpu_end - cpu - loop_end + loop) / max(1, last - first) * 1e6,
        images_per_s=(seen_end[0] - seen[0]) / each,
        messages_per_s=(seen_end[1] - seen[1]) / each,
        viewers=(seen_end[2] - seen[2]) / spent,
    )


def median_and_interval(ratios: Sequence[float]) -> tuple[float, float, float]:
    """The median, and the 95 % interval of it from 10,000 bootstrap samples."""
    values = np.array(ratios)
    rng = np.random.default_rng(1)
    medians = np.median(rng.choice(values, (10_000, values.size)), axis=1)
    low, high = np.percentile(medians, [2.5, 97.5])
    return float(np.median(values)), float(low), float(high)


def viewers_cost(args: argparse.Namespace) -> None:
    """Print what so many viewers cost the scan."""
    load = Load(args.scan, args.detector, args.rate)
    turns: dict[bool, list[Turn]] = {False: [], True: []}
    with (
        tempfile.TemporaryDirectory() as folder,
        closing(BenchDaemon(Path(folder), load, memory=args.memory)) as daemon,
    ):
        if args.memory:
            os.sched_setaffinity(0, {1})
        daemon.warm()
        with closing(Viewers(daemon.page, args.viewers, thumbnails=args.thumbnails)) as viewers:
            for _ in range(args.rounds):
                for letter in PATTERN:
                    viewed = letter == "B"
                    turns[viewed].append(turn(daemon, viewers, args.seconds, viewed=viewed))
    _report(args, turns)


def _report(args: argparse.Namespace, turns: dict[bool, list[Turn]]) -> None:
    crowded = [each.crowded for each in turns[False]], [each.crowded for each in turns[True]]
    alone = [
        max(a, b, c, d) < CROWDED or not args.memory
        for a, b, c, d in zip(*(each[at::2] for each in crowded for at in (0, 1)), strict=True)
    ]

    def rounds(viewed: bool, name: str) -> list[float]:
        values = [float(getattr(each, name)) for each in turns[viewed]]
        pairs = zip(values[::2], values[1::2], alone, strict=True)
        return [(a + b) / 2 for a, b, good in pairs if good]

    def ratio(name: str) -> str:
        pairs = zip(rounds(True, name), rounds(False, name), strict=True)
        ratios = [b / a for b, a in pairs]
        middle, low, high = median_and_interval(ratios)
        scatter = f"rounds {min(ratios):.3f} to {max(ratios):.3f}"
        return f"{middle:.4f} of alone, 95 % interval {low:.4f} to {high:.4f} ({scatter})"

    def middle(viewed: bool, name: str) -> float:
        return float(np.median(rounds(viewed, name)))

    camera = "memory" if args.memory else f"TCP, {args.rate or 'no limit'}"
    say(
        f"{args.viewers} viewers, {args.scan} x {args.scan} of {args.detector} x {args.detector}, "
        f"camera: {camera}; {args.rounds} rounds of 4 x {args.seconds:g} s"
    )
    if not all(alone):
        say(f"  {alone.count(False)} rounds left out: other programs ran on the reader's processor")
    say(f"  positions/s        {ratio('positions_per_s')}")
    for name, text in (
        ("positions_per_s", "positions/s"),
        ("loop", "loop, processors"),
        ("reader", "reader, processors"),
        ("others_us_per_position", "us a position, loop apart"),
    ):
        say(f"  {text:26} {middle(False, name):10.4f} alone {middle(True, name):10.4f} viewed")
    got, messages = middle(True, "images_per_s"), middle(True, "messages_per_s")
    say(f"  each viewer got {got:.1f} images/s in {messages:.1f} messages/s")
    say(f"  the viewers used {middle(True, 'viewers'):.3f} processors")

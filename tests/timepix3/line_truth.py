"""A scan generator and a Timepix3 camera that know the truth, written apart from stemd's own.

They make line pulses with faults and a few hits in each line, write SERVAL's bytes by themselves,
and tell where each hit belongs.
"""

from __future__ import annotations

import random
import struct
from dataclasses import dataclass, field

FAULTS = (
    "lost",  # counted by the camera, never sent
    "unseen",  # the input never saw it
    "late",
    "early",
    "far",  # a time stamp far ahead
    "behind",  # a time stamp far behind
    "counter",  # one flipped bit
    "stray",  # one more pulse behind it, counted
)
_TIMELESS = {"lost", "unseen", "late", "early", "far", "behind"}


@dataclass
class Plan:
    """What to make. Times in ticks of 1.5625 ns; `wobble`: part by which line times vary."""

    ny: int = 60
    nx: int = 16
    flyback: int = 4
    dwell: int = 640
    scans: int = 1
    pause: int = 0
    pauses: tuple[int, ...] = ()  # before each scan but the first, where they differ
    wobble: float = 0.0
    chips: int = 1
    start: int = 700_000
    counter: int = 1
    hits: int = 6
    one_chip: bool = False  # a fault concerns one chip's copy of the pulse alone
    faults: dict[int, str] = field(default_factory=dict)  # by line, scan * ny + row

    @property
    def lines(self) -> int:
        """Of all scans."""
        return self.ny * self.scans


@dataclass
class Made:
    """The stream and the truth."""

    stream: bytes
    truth: list[tuple[int, int]]  # (line, column) of hit number y * 256 + x
    good: set[int]  # lines of which at least one chip sent a pulse with its true time


@dataclass
class _Edge:
    at: int
    stamp: int
    flip: int = 0
    sent: bool = True


def spoil(plan: Plan, share: float, rng: random.Random, kinds: tuple[str, ...] = FAULTS) -> None:
    """Faults on that share of the lines."""
    for line in rng.sample(range(plan.lines), int(share * plan.lines)):
        plan.faults[line] = rng.choice(kinds)


def _pulse_word(stamp: int, counter: int) -> int:
    coarse, fine = stamp // 2, 1 + 6 * (stamp % 2)
    return 0x6F << 56 | (counter & 0xFFF) << 44 | (coarse & (1 << 35) - 1) << 9 | fine << 5


def _hit_word(time: int, y: int, x: int) -> int:
    fine = -time % 16
    coarse = time + fine >> 4
    address = x >> 1 << 9 | y >> 2 << 3 | (x & 1) << 2 | y & 3
    low = 5 << 20 | fine << 16 | coarse >> 14 & 0xFFFF
    return 0xB << 60 | address << 44 | (coarse & 0x3FFF) << 30 | low


def _edges_of(kind: str, time: int, period: int, rng: random.Random) -> list[_Edge]:
    """What one chip sees of a line's pulse with this fault."""
    late = round(period * rng.uniform(0.05, 0.4))
    if kind == "unseen":
        return []
    if kind == "lost":
        return [_Edge(time, time, sent=False)]
    if kind in ("late", "early"):
        moved = time + late if kind == "late" else time - late
        return [_Edge(moved, moved)]
    if kind == "far":
        return [_Edge(time, time + round(period * rng.uniform(3.0, 40.0)))]
    if kind == "behind":
        return [_Edge(time, time - round(period * rng.choice([rng.uniform(1.2, 40.0), 5, 2])))]
    if kind == "counter":
        return [_Edge(time, time, flip=1 << rng.randrange(12))]
    good = _Edge(time, time)
    if kind == "stray":
        at = time + round(period * rng.uniform(0.1, 0.55))
        return [good, _Edge(at, at)]
    return [good]


def make(plan: Plan, rng: random.Random) -> Made:
    """Every word in the order in which it comes, one chunk a word."""
    period = (plan.nx + plan.flyback) * plan.dwell
    edges: list[list[_Edge]] = [[] for _ in range(plan.chips)]
    words: list[tuple[int, int, int, int]] = []  # arrival, order, chip, word
    truth: list[tuple[int, int]] = []
    good: set[int] = set()
    time = plan.start
    for line in range(plan.lines):
        if line and line % plan.ny == 0:
            time += plan.pauses[line // plan.ny - 1] if plan.pauses else plan.pause
        kind = plan.faults.get(line, "")
        only, seed = rng.randrange(plan.chips), rng.random()
        for chip in range(plan.chips):
            mine = "" if plan.one_chip and chip != only else kind
            edges[chip] += _edges_of(mine, time, period, random.Random(seed))
            if mine not in _TIMELESS:
                good.add(line)
        for _ in range(plan.hits):
            column = rng.randrange(plan.nx)
            when = time + column * plan.dwell + rng.randrange(plan.dwell)
            word = _hit_word(when, *divmod(len(truth), 256))
            words.append((when, 1, 3 if plan.chips > 1 else 0, word))
            truth.append((line, column))
        time += round(period * (1 + rng.uniform(-plan.wobble, plan.wobble)))
    for chip, mine_edges in enumerate(edges):
        for number, edge in enumerate(sorted(mine_edges, key=lambda edge: edge.at)):
            counter = plan.counter + 700 * chip + number
            if edge.sent:
                words.append((edge.at, 0, chip, _pulse_word(edge.stamp, counter ^ edge.flip)))
    words.sort()
    stream = b"".join(
        b"TPX3" + bytes([chip, 0, 8, 0]) + struct.pack("<Q", word) for _, _, chip, word in words
    )
    return Made(stream, truth, good)

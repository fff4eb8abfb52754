"""Cases, rows, and timing of a repeated call."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from itertools import pairwise
from statistics import median
from typing import Any

ROUNDS = 5
"""A figure's noise is told by the medians of so many stretches of its time."""


@dataclass(frozen=True, slots=True)
class Timing:
    """Medians over repeated calls: seconds of wall clock and of this thread's CPU.

    `rounds_s` are medians of the wall clock over consecutive stretches of the time.
    """

    wall_s: float
    cpu_s: float
    calls: int
    rounds_s: tuple[float, ...]

    @classmethod
    def of(cls, walls: Sequence[float], cpus: Sequence[float]) -> Timing:
        """From the seconds of each call, in the order of the calls."""
        rounds = min(ROUNDS, len(walls))
        edges = [index * len(walls) // rounds for index in range(rounds + 1)]
        parts = tuple(median(walls[first:stop]) for first, stop in pairwise(edges))
        return cls(median(walls), median(cpus), len(walls), parts)


@dataclass(frozen=True, slots=True)
class Row:
    """One measured figure. `limit` is in the same unit; `fraction` is value over limit.

    `lowest` and `highest` are the figure in the worst and the best stretch of its time.
    """

    name: str
    value: float
    unit: str
    limit: float | None = None
    limit_name: str = ""
    cpu_us_per_frame: float | None = None
    note: str = ""
    lowest: float | None = None
    highest: float | None = None
    machine: str = ""

    @classmethod
    def timed(
        cls,
        name: str,
        amount: float,
        unit: str,
        timing: Timing,
        limit: float | None = None,
        limit_name: str = "",
        note: str = "",
        *,
        cpu: bool = True,
    ) -> Row:
        """`amount` a call, as a rate; `cpu_us_per_frame` is for each of the amount."""
        return cls(
            name,
            amount / timing.wall_s,
            unit,
            limit,
            limit_name,
            timing.cpu_s / amount * 1e6 if cpu else None,
            note,
            amount / max(timing.rounds_s),
            amount / min(timing.rounds_s),
        )

    @property
    def fraction(self) -> float | None:
        """Value over limit, None where nothing limits."""
        return self.value / self.limit if self.limit else None

    def as_json(self) -> dict[str, Any]:
        """The form of `stemd bench --json`."""
        return {
            "name": self.name,
            "value": self.value,
            "lowest": self.lowest,
            "highest": self.highest,
            "unit": self.unit,
            "limit": self.limit,
            "limit_name": self.limit_name,
            "fraction": self.fraction,
            "cpu_us_per_frame": self.cpu_us_per_frame,
            "note": self.note,
            "machine": self.machine,
        }


@dataclass(slots=True)
class Context:
    """What cases share: how long one may take, and limits already measured in this run."""

    seconds: float = 1.0
    file_bytes: int = 2 * 1024**3
    cache: dict[str, Any] = field(default_factory=dict)

    def once(self, name: str, make: Callable[[], Any]) -> Any:
        """Measure or build something once a run."""
        if name not in self.cache:
            self.cache[name] = make()
        return self.cache[name]


Case = Callable[[Context], Iterator[Row]]


def repeat(call: Callable[[int], object], seconds: float, parts: int = 1) -> Timing:
    """Call with 0, 1 .. parts-1, 0, 1 .. for about `seconds`; medians of all calls.

    Cut work on much memory into parts of a few milliseconds: then most calls are not
    interrupted, and yet each part has long left the caches when its turn comes again.
    """
    (timing,) = in_turn([call], seconds, parts)
    return timing


def in_turn(
    calls: Sequence[Callable[[int], object]], seconds: float, parts: int = 1
) -> list[Timing]:
    """As `repeat`, of several in turn: what else the machine does meets all of them alike.

    Each has another part: where they share memory, none finds in a cache what the one before read.
    """
    for call in calls:
        call(0)
    apart = max(1, parts // len(calls))
    walls: list[list[float]] = [[] for _ in calls]
    cpus: list[list[float]] = [[] for _ in calls]
    end = time.perf_counter() + seconds * len(calls)
    while len(walls[-1]) < 3 or time.perf_counter() < end:
        turn = len(walls[-1])
        for index, call in enumerate(calls):
            part = (turn + index * apart) % parts
            wall, cpu = time.perf_counter(), time.thread_time()
            call(part)
            walls[index].append(time.perf_counter() - wall)
            cpus[index].append(time.thread_time() - cpu)
    return [Timing.of(*times) for times in zip(walls, cpus, strict=True)]

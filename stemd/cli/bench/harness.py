"""Cases, rows, and timing of a repeated call."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from statistics import median
from typing import Any


@dataclass(frozen=True, slots=True)
class Row:
    """One measured figure. `limit` is in the same unit; `fraction` is value over limit."""

    name: str
    value: float
    unit: str
    limit: float | None = None
    limit_name: str = ""
    cpu_us_per_frame: float | None = None
    note: str = ""

    @property
    def fraction(self) -> float | None:
        """Value over limit, None where nothing limits."""
        return self.value / self.limit if self.limit else None

    def as_json(self) -> dict[str, Any]:
        """The form of `stemd bench --json`."""
        return {
            "name": self.name,
            "value": self.value,
            "unit": self.unit,
            "limit": self.limit,
            "limit_name": self.limit_name,
            "fraction": self.fraction,
            "cpu_us_per_frame": self.cpu_us_per_frame,
            "note": self.note,
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


@dataclass(frozen=True, slots=True)
class Timing:
    """Medians over repeated calls: seconds of wall clock and of this thread's CPU."""

    wall_s: float
    cpu_s: float
    calls: int


def repeat(call: Callable[[int], object], seconds: float, parts: int = 1) -> Timing:
    """Call with 0, 1 .. parts-1, 0, 1 .. for about `seconds`; medians of all calls.

    Cut work on much memory into parts of a few milliseconds: then most calls are not
    interrupted, and yet each part has long left the caches when its turn comes again.
    """
    call(0)
    walls: list[float] = []
    cpus: list[float] = []
    end = time.perf_counter() + seconds
    while len(walls) < 3 or time.perf_counter() < end:
        wall, cpu = time.perf_counter(), time.thread_time()
        call(len(walls) % parts)
        walls.append(time.perf_counter() - wall)
        cpus.append(time.thread_time() - cpu)
    return Timing(median(walls), median(cpus), len(walls))

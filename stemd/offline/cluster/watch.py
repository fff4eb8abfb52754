"""What is to be said of a cluster that does not work: nobody there, stopped, paused, stuck."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any, Protocol

PATIENCE_S = 3.0
"""Workers take a moment to come, and an adaptive cluster has none in between."""
SILENT_S = 4.0
"""Dask's workers give a sign of life twice a second, in clusters of some hundred every few
seconds; see `_silent_after`."""
STUCK_S = 60.0
"""A part may take its time; after so long without any the reader may want to look."""
AGAIN_S = 10.0


class Tell(Protocol):
    """Takes a sentence; `over`: what was wrong is so no more."""

    def __call__(self, text: str, *, over: bool = False) -> None:
        """Say it, at once."""


@dataclass(frozen=True, slots=True)
class Workers:
    """The workers at one time: threads, last sign of life (scheduler's clock, s) and status.

    `answered` False: the scheduler did not say.
    """

    threads: int = 0
    signs: Mapping[str, float] = field(default_factory=dict)
    paused: frozenset[str] = frozenset()
    answered: bool = True

    @classmethod
    def of(cls, told: Mapping[str, Mapping[str, Any]]) -> Workers:
        """From the `workers` of a scheduler's identity."""
        return cls(
            sum(int(about.get("nthreads", 0)) for about in told.values()),
            {name: float(about.get("last_seen", 0.0)) for name, about in told.items()},
            frozenset(name for name, about in told.items() if about.get("status") == "paused"),
        )


class WorkerWatch:
    """Looks at the workers and says what is wrong, within ten seconds, and again every ten."""

    def __init__(self, tell: Tell, clock: Callable[[], float] = time.monotonic) -> None:
        self._tell, self._clock = tell, clock
        self._came = False
        self._signs: dict[str, tuple[float, float]] = {}
        self._since: float | None = None
        self._told: float | None = None
        self._ended, self._ended_at = 0, clock()

    def look(self, workers: Workers, ended: int) -> None:
        """Called every second or so; `ended` counts the tasks that have come to an end."""
        now = self._clock()
        if ended != self._ended:
            # whoever did it was there, though it came and went between two looks
            self._ended, self._ended_at, self._came = ended, now, True
        wrong = self._wrong(workers, now)
        if not wrong:
            if self._told is not None:
                self._tell(f"the cluster works again, on {workers.threads} threads", over=True)
            self._since = self._told = None
            return
        if self._since is None:
            self._since = now
        waited = now - self._since
        if waited >= PATIENCE_S and (self._told is None or now - self._told >= AGAIN_S):
            self._told = now
            self._tell(wrong)

    def over(self) -> None:
        """All tasks have ended: what was wrong was over before it could be seen to be."""
        if self._told is not None:
            self._tell("the cluster works again: nothing is left to do", over=True)

    def _wrong(self, workers: Workers, now: float) -> str:
        if not workers.answered:
            return "the scheduler does not answer: its process is stopped or its machine is gone"
        if not workers.signs:
            if self._came:
                return "all workers are gone: start some, or see why the batch system ended them"
            return "no worker has come yet: start some (dask worker ADDRESS), or see the queue"
        self._came = True
        silent = self._silent(workers, now)
        count = len(workers.signs)
        if len(silent) == count:
            return (
                f"none of {count} workers gives a sign of life: they are stopped, or the network "
                f"between is cut ({', '.join(sorted(silent)[:3])})"
            )
        if len(silent | workers.paused) == count:
            return (
                f"all {count - len(silent)} workers that answer are paused: they are short of "
                "memory; give them more, or smaller parts (--part-mib)"
            )
        if now - self._ended_at >= STUCK_S:
            return (
                f"no part has ended for {now - self._ended_at:.0f} s though {count} workers are "
                "there: parts are large (--part-mib), or a file system hangs"
            )
        return ""

    def _silent(self, workers: Workers, now: float) -> frozenset[str]:
        """Workers whose sign of life has not changed for a while: clocks differ, changes do not."""
        self._signs = {
            name: self._signs[name]
            if name in self._signs and self._signs[name][0] == sign
            else (sign, now)
            for name, sign in workers.signs.items()
        }
        longest = _silent_after(len(self._signs))
        return frozenset(name for name, (_, at) in self._signs.items() if now - at >= longest)


def _silent_after(workers: int) -> float:
    """Dask's workers speak less often the more of them there are (distributed.scheduler)."""
    return max(SILENT_S, 3.0 * (workers / 200 + 1))

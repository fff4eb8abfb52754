"""What a reduction asks of the file that it reduces."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any, Protocol

from stemd.offline.cluster.queue import TaskQueue
from stemd.offline.cluster.recipe import Goal
from stemd.offline.cluster.work import Next
from stemd.offline.outcome import Outcome
from stemd.results import Snapshot


class Following:
    """The part behind the lead, which a worker goes on with while the description is on its way.

    Without it the workers had nothing to do until all parts are given out. `threads`: for so
    many its size was chosen.
    """

    def __init__(self, threads: int) -> None:
        self.threads = threads
        self._found: list[Next] = []
        self._taker: Callable[[Next], None] | None = None

    def come(self, found: Next) -> None:
        """It is there, or there is none."""
        self._found = [found]
        if self._taker is not None:
            self._taker(found)

    def give(self, taker: Callable[[Next], None]) -> None:
        """Call this with it, as soon as it is there."""
        self._taker = taker
        for found in self._found:
            taker(found)


class ReducedFile(Protocol):
    """What a reduction asks of the file that it reduces."""

    queue: TaskQueue
    folder: Path
    part_bytes: int | None
    urgency: float
    bytes_done: int
    following: Following | None

    @property
    def threads(self) -> int:
        """Threads of the cluster that the file is cut for."""
        ...

    def add(
        self,
        name: str,
        called: Callable[..., Any],
        *args: Any,
        then: Callable[[Any], None],
        urgency: float | None = None,
        **more: Any,
    ) -> None:
        """A task of the file; when the file has failed its tasks come to nothing."""
        ...

    def finished(
        self,
        goal: Goal,
        made: tuple[Outcome, Snapshot],
        also: Callable[[], None] = lambda: None,
    ) -> None:
        """A set of images is there."""
        ...

    def next_reduction(self) -> None:
        """Begin with the next way to reduce the file, if there is one."""
        ...

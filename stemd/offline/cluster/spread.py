"""One recorded file on a cluster: look at it, reduce its parts, make every set of images."""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from stemd import __version__
from stemd.blocks import Message
from stemd.errors import ClusterError, StemdError
from stemd.offline.cluster import work
from stemd.offline.cluster.description import Description
from stemd.offline.cluster.queue import TaskQueue
from stemd.offline.cluster.recipe import Goal
from stemd.offline.cluster.reduced_file import Following
from stemd.offline.cluster.reduction import Reduction
from stemd.offline.outcome import Outcome
from stemd.results import Snapshot

PARTS_FOLDER = "parts"

Written = Callable[["Goal", Outcome, Snapshot, Sequence[Message]], None]
"""(goal, outcome, final images, what was noticed on opening the file)"""


def share_of(number: int, files: int, threads: int) -> int:
    """For how many of `threads` file `number` of so many is cut.

    One, as long as there is a file for each of them; the last files, fewer than that, share all,
    so that no thread is left without work for long.
    """
    threads = max(1, threads)
    last = files % threads
    return 1 if number < files - last else -(-threads // last)


class SpreadFile:
    """Everything that is done with one file; its errors end its own work only.

    `goals` are all of the same file; those that reduce it alike share the reduction. Parts go
    to `folder`/parts; `part_bytes` None: of a size that suits the workers. The file is `number`,
    0 and up, of so many `files` that share them; the first ones are the most urgent.
    """

    def __init__(
        self,
        queue: TaskQueue,
        goals: Sequence[Goal],
        folder: Path,
        *,
        part_bytes: int | None,
        number: int,
        files: int,
        written: Written,
        failed: Callable[[StemdError], None],
    ) -> None:
        self.queue = queue
        self.folder = folder / PARTS_FOLDER
        self.part_bytes = part_bytes
        self._number, self._files = number, files
        self.urgency = -float(number)
        self.written = written
        self.bytes_done = 0
        self.bytes_total = 0
        self.over = False
        self._tell = failed
        self._groups: dict[str, list[Goal]] = {}
        for goal in goals:
            key = json.dumps(goal.recipe.reduction(), sort_keys=True)
            self._groups.setdefault(key, []).append(goal)
        self._waiting: list[Reduction] = []
        self._open = len(goals)
        self._notices: Sequence[Message] = ()
        self.following: Following | None = None
        firsts = [goals[0] for goals in self._groups.values()]
        self._lead = next((goal for goal in firsts if goal.recipe.needs_lead), firsts[0])

    def begin(self) -> None:
        """Have a worker look at the file, and where nothing is known of it begin at once."""
        self.add("describe", work.describe, self._lead.recipe, then=self._described)
        if not self.folder.exists():
            self.queue.give_out()  # a worker is at it while workers are counted
            self.following = Following(self.threads)
            self.add(
                *("reduce", work.reduce_next, self._lead.recipe),
                *(self.part_bytes, self.following.threads),
                then=self.following.come,
            )

    @property
    def threads(self) -> int:
        """Threads of the cluster that this file is cut for."""
        return share_of(self._number, self._files, self.queue.count())

    def add(
        self,
        name: str,
        called: Callable[..., Any],
        *args: Any,
        then: Callable[[Any], None],
        urgency: float | None = None,
        **more: Any,
    ) -> None:
        """A task of this file; when the file has failed its tasks come to nothing."""

        def go_on(value: Any) -> None:
            if not self.over:
                try:
                    then(value)
                except StemdError as error:
                    self.fail(error)

        more["urgency"] = self.urgency if urgency is None else urgency
        self.queue.add(name, called, *args, then=go_on, failed=self.fail, owner=self, **more)

    def fail(self, error: StemdError) -> None:
        """Nothing more is done with this file."""
        if not self.over:
            self.over = True
            self.bytes_done = self.bytes_total
            self.queue.drop(self)
            self._tell(error)

    def finished(
        self,
        goal: Goal,
        made: tuple[Outcome, Snapshot],
        also: Callable[[], None] = lambda: None,
    ) -> None:
        """A set of images is there; the file is done with when `also` returns, too."""
        self.written(goal, *made, self._notices)
        also()
        self._open -= 1
        if not self._open:
            self.over = True

    def _described(self, about: Description) -> None:
        if about.version != __version__:
            raise ClusterError(
                f"the workers run stemd {about.version}, this is {__version__}",
                "install the same version on both sides",
            )
        self._notices = about.notices
        self.bytes_total = about.extent * about.unit_bytes * len(self._groups)
        for goals in self._groups.values():
            if self._lead in goals:  # what goes on with the lead begins first
                self._waiting.insert(0, Reduction(self, about, goals, about.lead))
            else:
                self._waiting.append(Reduction(self, about, goals))
        if about.sequential:
            self.next_reduction()  # the first one leaves checkpoints for those after it
        else:
            while self._waiting:
                self.next_reduction()

    def next_reduction(self) -> None:
        """Begin with the next way to reduce the file, if there is one."""
        if self._waiting:
            self._waiting.pop(0).begin()

"""One recorded file on a cluster: look at it, reduce its parts, make every set of images."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from functools import partial
from itertools import pairwise
from pathlib import Path
from typing import Any

from stemd import __version__
from stemd.adapters.base import Checkpoint
from stemd.blocks import Message
from stemd.daemon.cluster import work
from stemd.daemon.cluster.parts import Centre, Part, Recipe, merge
from stemd.daemon.cluster.queue import TaskQueue
from stemd.daemon.cluster.store import CheckpointStore, PartStore, Span, cut, gaps, key_of
from stemd.daemon.cluster.work import Description
from stemd.daemon.processing import FIRST_FRAMES, Outcome
from stemd.errors import ClusterError, StemdError
from stemd.results import Snapshot

PART_BYTES = 256 * 1024 * 1024
"""Bytes of the file that one task reads: what a lost worker costs. Far more than a task's own
cost, far less than a worker's memory; the bytes are mapped and let go, not held."""
IMAGES_FIRST = 1e9
"""Urgency of making images: results come early and what they are made of is let go."""
FRESH_PARTS = 32
"""Parts of a file that are kept in memory until it is merged; the others are read again."""
PARTS_FOLDER = "parts"

Written = Callable[["Goal", Outcome, Snapshot, Sequence[Message]], None]
"""(goal, outcome, final images, what was noticed on opening the file)"""


@dataclass(frozen=True, slots=True)
class Goal:
    """One set of images of a file: how they are made and the folder they go to."""

    recipe: Recipe
    folder: Path


class SpreadFile:
    """Everything that is done with one file; its errors end its own work only.

    `goals` are all of the same file; those that reduce it alike share the reduction. Parts go
    to `folder`/parts.
    """

    def __init__(
        self,
        queue: TaskQueue,
        goals: Sequence[Goal],
        folder: Path,
        *,
        part_bytes: int,
        urgency: float,
        written: Written,
        failed: Callable[[StemdError], None],
    ) -> None:
        self.queue = queue
        self.folder = folder / PARTS_FOLDER
        self.part_bytes = part_bytes
        self.urgency = urgency
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

    def begin(self) -> None:
        """Have a worker look at the file."""
        recipe = next(iter(self._groups.values()))[0].recipe
        self.add("describe", work.describe, recipe, then=self._described)

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

    def finished(self, goal: Goal, made: tuple[Outcome, Snapshot]) -> None:
        """A set of images is there."""
        self.written(goal, *made, self._notices)
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
        self._waiting = [Reduction(self, about, goals) for goals in self._groups.values()]
        if about.sequential:
            self.next_reduction()  # the first one leaves checkpoints for those after it
        else:
            while self._waiting:
                self.next_reduction()

    def next_reduction(self) -> None:
        """Begin with the next way to reduce the file, if there is one."""
        if self._waiting:
            self._waiting.pop(0).begin()


class Reduction:
    """One way to reduce a file, and the sets of images that are made from it."""

    def __init__(self, file: SpreadFile, about: Description, goals: Sequence[Goal]) -> None:
        self._file, self._about, self._goals = file, about, goals
        self._recipe = goals[0].recipe
        settings = self._recipe.reduction()
        self._store = PartStore(file.folder, key_of(about.identity, settings))
        decoding = {"scan": settings["scan"], "camera": settings["camera"]}
        self._points = CheckpointStore(file.folder, key_of(about.identity, decoding))
        line = about.acquisition.scan.line_frames
        size = max(1, file.part_bytes // about.unit_bytes)
        if not about.sequential and size > line:
            size -= size % line
        self._size = size
        self._known: list[Span] = []
        self._begun: set[int] = set()
        self._fresh: dict[Span, Part] = {}
        self._open = 0
        self._centre: Centre = None

    def begin(self) -> None:
        """Take up the parts that are there, and begin with those that are not."""
        self._known, _ = gaps(self._store.spans(), self._about.extent)
        if self._known:
            part = self._store.load(*self._known[-1])
            self._centre = part.centre if part is not None else None
        for first, stop in self._known:
            self._count(first, stop)
        self._go_on()

    def _go_on(self) -> None:
        missing = gaps(self._known, self._about.extent)[1]
        if not missing:
            self._complete()
        elif self._recipe.needs_centre and missing[0][0] == 0:
            # all others need the centre that it finds
            least = self._file.part_bytes if self._about.sequential else FIRST_FRAMES
            self._submit(0, min(least, self._size), leads=True)
        elif self._about.sequential:
            self._stream(missing)
        else:
            for first, stop in cut(missing, self._size):
                self._submit(first, stop)

    def _stream(self, missing: Sequence[Span]) -> None:
        """Events: every section that begins at a known checkpoint, at once."""
        for first, stop in missing:
            points = {at: self._points.load(at) for at in self._points.positions()}
            edges = [at for at, found in points.items() if first < at < stop and found is not None]
            if first and points.get(first) is None:
                # parts behind a checkpoint that is gone: all that is sure is the beginning
                for span in self._known:
                    self._file.bytes_done -= span[1] - span[0]
                self._known = []
                self._store.keep_only([])
                self._submit(0, self._size, leads=self._recipe.needs_centre)
                return
            for low, high in pairwise([first, *edges, stop]):
                if high == stop and high - low > self._size:
                    high = low + self._size
                self._submit(low, high, checkpoint=points.get(low))

    def _submit(
        self,
        first: int,
        stop: int,
        *,
        leads: bool = False,
        checkpoint: Checkpoint | None = None,
    ) -> None:
        about = self._about
        self._begun.add(first)
        self._open += 1
        self._file.add(
            "reduce",
            work.reduce_span,
            self._recipe,
            about.acquisition,
            about.identity,
            first,
            min(stop, about.extent),
            leads=leads,
            centre=self._centre,
            checkpoint=checkpoint,
            then=self._reduced,
        )

    def _reduced(self, part: Part) -> None:
        self._open -= 1
        if part.checkpoint is not None:
            self._points.save(part.checkpoint)  # before the part: a part promises its checkpoint
        self._store.save(part)
        if len(self._fresh) < FRESH_PARTS:
            self._fresh[part.first, part.stop] = replace(part, checkpoint=None)
        self._known.append((part.first, part.stop))
        self._count(part.first, part.stop)
        leads = self._centre is None and part.first == 0
        if leads:
            self._centre = part.centre
        if leads and self._recipe.needs_centre:
            self._go_on()
        elif part.checkpoint is not None and self._is_free(part.stop):
            self._submit(part.stop, part.stop + self._size, checkpoint=part.checkpoint)
        elif not self._open:
            self._go_on()

    def _is_free(self, at: int) -> bool:
        """Whether nobody has begun with the section that begins here."""
        return at not in self._begun and all(span[0] != at for span in self._known)

    def _count(self, first: int, stop: int) -> None:
        self._file.bytes_done += (stop - first) * self._about.unit_bytes

    def _complete(self) -> None:
        spans = gaps(self._known, self._about.extent)[0]
        merged = self._merged(spans)
        if merged is None:
            self._go_on()
            return
        if self._about.sequential:
            self._file.next_reduction()
        shared: Any = merged
        if len(self._goals) > 1:
            shared = self._file.queue.pool.hold(merged)
        for goal in self._goals:
            self._file.add(
                "images",
                work.finish,
                goal.recipe,
                self._about.acquisition,
                shared,
                self._about.notices,
                then=partial(self._file.finished, goal),
                urgency=IMAGES_FIRST + self._file.urgency,
            )
        self._file.queue.give_out()  # the images are made while the folder is tidied
        if len(spans) > 1:
            self._store.save(merged)
            self._store.keep_only([(merged.first, merged.stop)])

    def _merged(self, spans: Sequence[Span]) -> Part | None:
        """All parts as one; None where one is lost."""

        def parts() -> Iterator[Part]:
            for span in spans:
                part = self._fresh.pop(span, None) or self._store.load(*span)
                if part is None:
                    self._known.remove(span)
                    raise _PartLostError
                yield part

        try:
            merged = merge(self._recipe, self._about.acquisition, parts())
        except _PartLostError:
            return None
        return merged


class _PartLostError(Exception):
    pass

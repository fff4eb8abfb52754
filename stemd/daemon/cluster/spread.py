"""One recorded file on a cluster: look at it, reduce its parts, make every set of images."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator, Mapping, Sequence
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
from stemd.engines.base import Gathered
from stemd.errors import ClusterError, FormatError, StemdError
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
        self.first: FirstPart | None = None

    def begin(self) -> None:
        """Have a worker look at the file, and where nothing is known of it begin at once."""
        recipes = [goals[0].recipe for goals in self._groups.values()]
        found = next((recipe for recipe in recipes if recipe.needs_centre), recipes[0])
        self.add("describe", work.describe, found, then=self._described)
        if not self.folder.exists():
            self.first = FirstPart()
            self.add("reduce", work.reduce_first, recipes[0], self.part_bytes, then=self.first.come)

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


class FirstPart:
    """The first part of a file, which is made while the file is being described.

    Without it the workers had nothing to do until then.
    """

    def __init__(self) -> None:
        self._found: tuple[dict[str, Any], Part] | None = None
        self._came = False
        self._taker: Callable[[tuple[dict[str, Any], Part] | None], None] | None = None

    def come(self, found: tuple[dict[str, Any], Part] | None) -> None:
        """It is there, or there is none."""
        self._found, self._came = found, True
        if self._taker is not None:
            self._taker(found)

    def give(self, taker: Callable[[tuple[dict[str, Any], Part] | None], None]) -> None:
        """Call this with it, as soon as it is there."""
        self._taker = taker
        if self._came:
            taker(self._found)


class Reduction:
    """One way to reduce a file, and the sets of images that are made from it."""

    def __init__(self, file: SpreadFile, about: Description, goals: Sequence[Goal]) -> None:
        self._file, self._about, self._goals = file, about, goals
        self._recipe = goals[0].recipe
        settings = self._recipe.reduction()
        self._store = PartStore(file.folder, key_of(about.identity, settings))
        decoding = {"scan": settings["scan"], "camera": settings["camera"]}
        self._points = CheckpointStore(file.folder, key_of(about.identity, decoding))
        self._size = about.units(file.part_bytes)
        self._first = about.first_units(file.part_bytes, leads=self._recipe.needs_lead)
        self._known: list[Span] = []
        self._begun: set[int] = set()
        self._fresh: dict[Span, Part] = {}
        self._open = 0
        self._centre: Centre = about.centre if self._recipe.needs_centre else None
        self._found: Mapping[str, Gathered] | None = None

    def begin(self) -> None:
        """Take up the parts that are there, and begin with those that are not."""
        self._known, _ = gaps(self._store.spans(), self._about.extent)
        if self._known:
            part = self._store.load(*self._known[-1])
            if part is not None:
                self._centre, self._found = part.centre, part.found
        for first, stop in self._known:
            self._count(first, stop)
        first_part, self._file.first = self._file.first, None
        if first_part is None or self._about.sequential:
            self._go_on()
            return
        self._open += 1
        self._begun.add(0)
        if self._ready:
            for first, stop in cut([(self._first, self._about.extent)], self._size):
                self._submit(first, stop)
        first_part.give(self._first_came)

    def _first_came(self, found: tuple[dict[str, Any], Part] | None) -> None:
        if found is None or found[0] != self._about.identity:
            raise FormatError(
                f"{self._recipe.path} has changed since it was first looked at",
                "wait until it is written, then process it again",
            )
        self._reduced(found[1])

    @property
    def _ready(self) -> bool:
        """Whether what the first patterns decide is known, so that any part may be made."""
        recipe = self._recipe
        return (
            not recipe.needs_lead
            or self._found is not None
            or (not recipe.has_finders and self._centre is not None)
        )

    def _go_on(self) -> None:
        missing = gaps(self._known, self._about.extent)[1]
        if not missing:
            self._complete()
        elif (
            self._recipe.needs_lead
            and missing[0][0] == 0
            and (self._about.sequential or not self._ready)
        ):
            # all others need what it finds
            least = self._file.part_bytes if self._about.sequential else FIRST_FRAMES
            self._submit(0, min(least, self._size), leads=True)
        elif self._about.sequential:
            self._stream(missing)
        else:
            if missing[0][0] == 0 and self._recipe.needs_lead:
                edge = min(self._first, missing[0][1])
                self._submit(0, edge, leads=True)
                missing[0] = edge, missing[0][1]
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
                self._submit(0, self._size, leads=self._recipe.needs_lead)
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
            found=self._found,
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
        waited = not self._ready
        leads = self._found is None and part.first == 0
        if leads:
            self._centre, self._found = part.centre, part.found
        if waited and part.first == 0:
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

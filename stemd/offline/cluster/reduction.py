"""One way to reduce a file: its parts are given out, merged, and made into images."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from itertools import pairwise
from typing import Any

from stemd.adapters.base import Checkpoint
from stemd.engines.base import Gathered
from stemd.offline.cluster import work
from stemd.offline.cluster.description import Description
from stemd.offline.cluster.merging import Merging
from stemd.offline.cluster.parts import Centre, Part
from stemd.offline.cluster.recipe import Goal
from stemd.offline.cluster.reduced_file import ReducedFile
from stemd.offline.cluster.store import CheckpointStore, PartStore, Span, cut, gaps, key_of
from stemd.offline.cluster.work import Next

IMAGES_FIRST = 1e9
"""Urgency of making images: results come early and what they are made of is let go."""


class Reduction:
    """One way to reduce a file, and the sets of images that are made from it.

    `lead`: its first patterns, where they have been reduced.
    """

    def __init__(
        self, file: ReducedFile, about: Description, goals: Sequence[Goal], lead: Part | None = None
    ) -> None:
        self._file, self._about, self._goals, self._lead = file, about, goals, lead
        self._recipe = goals[0].recipe
        settings = self._recipe.reduction()
        self._store = PartStore(file.folder, key_of(about.identity, settings))
        decoding = {key: settings[key] for key in ("scan", "camera", *self._recipe.part)}
        self._points = CheckpointStore(file.folder, key_of(about.identity, decoding))
        self._whole = about.sequential and self._recipe.needs_whole_positions
        self._size = about.units(file.part_bytes, file.threads)
        if self._whole:  # where lines end is known only to whoever has read all before
            self._size = about.extent
        self._known: list[Span] = []
        self._begun: set[int] = set()
        self._made_here = len(goals) == 1 and self._recipe.is_quick
        self._merging = Merging(self._recipe, about.acquisition, images=self._made_here)
        self._open = 0
        self._unsaved: Part | None = None
        self._centre: Centre = None
        self._found: Mapping[str, Gathered] | None = None
        if about.lead is not None and about.lead.fixed and self._recipe.needs_centre:
            self._centre = about.lead.centre

    def begin(self) -> None:
        """Take up the parts that are there, and begin with those that are not."""
        self._known, missing = gaps(self._store.spans(), self._about.extent)
        if self._whole and missing:
            self._known, missing = [], [(0, self._about.extent)]
        if self._known:
            part = self._store.load(*self._known[-1])
            if part is not None:
                self._centre, self._found = part.centre, part.found
        for first, stop in self._known:
            self._count(first, stop)
        lead, self._lead = self._lead, None
        if lead is not None and missing and missing[0][0] == 0 and lead.stop <= missing[0][1]:
            self._take(lead)
        about, following = self._about, self._file.following
        self._file.following = None
        if following is None or about.sequential:
            self._go_on()
            return
        first, stop = about.next_span(self._file.part_bytes, following.threads)
        self._open += 1
        self._begun.add(first)
        for span in cut([(stop, about.extent)], self._size):
            self._submit(*span)
        following.give(self._following_came)

    def _following_came(self, found: Next) -> None:
        if found.identity != self._about.identity:
            raise work.changed(self._recipe)
        if found.part is not None:
            self._reduced(found.part)
            return
        self._open -= 1
        if not self._open:
            self._go_on()

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
            least = self._size if self._about.sequential else work.LEAD_FRAMES
            self._submit(0, min(least, self._size), leads=True)
        elif self._about.sequential:
            self._stream(missing)
        else:
            if missing[0][0] == 0 and self._recipe.needs_lead:
                edge = min(self._size, missing[0][1])
                self._submit(0, edge, leads=True)
                missing[0] = edge, missing[0][1]
            for first, stop in cut(missing, self._size):
                self._submit(first, stop)

    def _stream(self, missing: Sequence[Span]) -> None:
        """Events: every section that begins at a known checkpoint, at once."""
        for first, stop in missing:
            points = {at: self._points.load(at) for at in self._points.positions()}
            edges = [at for at, found in points.items() if first < at < stop and found is not None]
            if self._whole:
                edges = []
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
        waited = not self._ready
        self._take(part)
        if waited and part.first == 0:
            self._go_on()
        elif part.checkpoint is not None and self._is_free(part.stop):
            self._submit(part.stop, part.stop + self._size, checkpoint=part.checkpoint)
        elif not self._open:
            self._go_on()

    def _take(self, part: Part) -> None:
        if part.checkpoint is not None:
            self._points.save(part.checkpoint)  # before the part: a part promises its checkpoint
        self._known.append((part.first, part.stop))
        self._unsaved = part
        if gaps(self._known, self._about.extent)[1]:
            self._save()
        self._merging.offer(part)
        self._count(part.first, part.stop)
        if self._found is None and part.first == 0:
            self._centre, self._found = part.centre, part.found

    def _is_free(self, at: int) -> bool:
        """Whether nobody has begun with the section that begins here."""
        return at not in self._begun and all(span[0] != at for span in self._known)

    def _count(self, first: int, stop: int) -> None:
        self._file.bytes_done += (stop - first) * self._about.unit_bytes

    def _complete(self) -> None:
        spans = gaps(self._known, self._about.extent)[0]
        lost = self._merging.complete(spans, self._store.load)
        if lost is not None:
            self._save()
            self._known.remove(lost)
            self._go_on()
            return
        if self._about.sequential:
            self._file.next_reduction()
        merged = self._merging.part()
        if self._made_here:
            with ThreadPoolExecutor(1) as beside:  # the disk has both to do
                tidied = beside.submit(self._tidy, spans, merged)
                made = self._merging.images(self._about.notices)
                self._file.finished(self._goals[0], made, tidied.result)
            return
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
        self._tidy(spans, merged)

    def _save(self) -> None:
        """Write the part that came last."""
        if self._unsaved is not None:
            self._store.save(self._unsaved)
            self._unsaved = None

    def _tidy(self, spans: Sequence[Span], merged: Part) -> None:
        """One part in the folder instead of all; the last one never lay there by itself."""
        if len(spans) > 1 or self._unsaved is not None:
            self._unsaved = None
            self._store.save(merged)
            self._store.keep_only([(merged.first, merged.stop)])

"""Parts of a scan become the whole: added as they come, in the order of the file."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace

from stemd.acquisition import Acquisition
from stemd.blocks import Message, Notice
from stemd.offline.cluster.parts import Part
from stemd.offline.cluster.recipe import Recipe
from stemd.offline.cluster.store import Span
from stemd.offline.cluster.work import images_of
from stemd.offline.outcome import Outcome
from stemd.results import Snapshot
from stemd.scan.run import ScanRun

FRESH_PARTS = 32
"""Parts that wait in memory for one before them; the others are read again."""

Load = Callable[[int, int], Part | None]


class Merging:
    """One reduction of a scan on its way.

    A part is added as soon as all before it are: when the last one comes little is left to do,
    and only parts that came early are held. With `images` the final images can be made here.
    """

    def __init__(self, recipe: Recipe, acquisition: Acquisition, *, images: bool) -> None:
        self._recipe, self._acquisition = recipe, acquisition
        self._gatherers = recipe.gatherers()
        self._choices = recipe.choices() if images else self._gatherers
        self._early: dict[Span, Part] = {}
        self._forget()

    def _forget(self) -> None:
        self._run: ScanRun | None = None
        self._last: Part | None = None
        self._noticed: list[Notice] = []
        self._added: list[Span] = []

    def offer(self, part: Part) -> None:
        """A part is there; it may be asked for again."""
        if len(self._early) < FRESH_PARTS:
            self._early[part.first, part.stop] = replace(part, checkpoint=None)
        while following := [span for span in self._early if span[0] == self._end]:
            self._add(self._early.pop(following[0]))

    @property
    def _end(self) -> int:
        return self._added[-1][1] if self._added else 0

    def _add(self, part: Part) -> None:
        if self._run is None:
            settings = self._recipe.settings
            self._run = ScanRun(self._acquisition, settings, self._choices, part.centre)
            self._run.sums.follow_mask(part.found)
        part.add_to(self._run)
        self._last = part
        self._noticed.extend(part.notices)
        self._added.append((part.first, part.stop))

    def complete(self, spans: Sequence[Span], load: Load) -> Span | None:
        """Add the rest of all parts; the span of one that cannot be loaded, None where all could.

        `spans` are disjoint and in the order of the file.
        """
        if list(spans[: len(self._added)]) != self._added:
            self._forget()
        for span in spans[len(self._added) :]:
            part = self._early.pop(span, None) or load(*span)
            if part is None:
                return span
            self._add(part)
        return None

    def part(self) -> Part:
        """All that was added, as one part; before `images`, with which engines let go of it."""
        assert self._run is not None
        assert self._last is not None
        merged = Part.of(self._run, self._added[0][0], self._last.stop)
        gatherers = {choice.settings.name or choice.plugin.name for choice in self._gatherers}
        return replace(
            merged,
            centre=self._last.centre,
            fixed=self._last.fixed,
            over=self._last.over,
            notices=tuple(self._noticed),
            failed={name: why for name, why in merged.failed.items() if name in gatherers},
        )

    def images(self, notices: Sequence[Message]) -> tuple[Outcome, Snapshot]:
        """The final images, and what is to be said about them; nothing can be added any more."""
        assert self._run is not None
        return images_of(self._run, notices, self._recipe.correct)

"""What a worker does: look at a file, reduce a span of it, make the images of a scan.

Plain functions of plain values, so that they run in any process; nothing here knows of Dask.
"""

from __future__ import annotations

import os
import socket
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import wraps
from pathlib import Path
from typing import Any, ParamSpec, TypeVar

from stemd.acquisition import Acquisition
from stemd.adapters.base import Checkpoint, Recording, SequentialRecording
from stemd.adapters.recordings.address import RemoteFile
from stemd.blocks import Block, Message, Notice
from stemd.engines.base import Gathered
from stemd.errors import FormatError, StemdError
from stemd.offline.cluster.description import Description
from stemd.offline.cluster.opened import OpenRecordings, has_changed, identity_of_all
from stemd.offline.cluster.parts import Centre, Part
from stemd.offline.cluster.recipe import Recipe
from stemd.offline.outcome import Outcome, outcome_of
from stemd.results import Snapshot
from stemd.scan.processing import no_hits, with_correction
from stemd.scan.run import ScanRun

LEAD_FRAMES = 64
"""Frames that are read at a time until all is known that the first ones decide."""
_opened = OpenRecordings()
_just_described: list[tuple[Recipe, Description]] = []
"""What this process looked at last, for the task that goes on with it; one at most."""

P = ParamSpec("P")
T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class Failure:
    """An error that another attempt would only repeat, as a value: nobody tries again."""

    message: str
    remedy: str
    worker: str

    def error(self) -> StemdError:
        """The error, to be raised where somebody reads it."""
        return StemdError(f"{self.message} (on {self.worker})", self.remedy)


def _plain(work: Callable[P, T]) -> Callable[P, T | Failure]:
    """The same function, with errors that are about the file or the settings as a value."""

    @wraps(work)
    def called(*args: P.args, **kwargs: P.kwargs) -> T | Failure:
        try:
            return work(*args, **kwargs)
        except StemdError as error:
            return Failure(error.message, error.remedy, f"{socket.gethostname()}:{os.getpid()}")

    return called


@dataclass(frozen=True, slots=True)
class Next:
    """The part behind the lead, None where there is none, of a file with this `identity`."""

    identity: dict[str, Any]
    part: Part | None


@_plain
def describe(recipe: Recipe) -> Description:
    """Open a file and say what is in it; reduce so many patterns as decide something."""
    about = _described(recipe)
    _just_described[:] = [(recipe, about)]
    return about


def _described(recipe: Recipe) -> Description:
    recipe.reduction()  # raises for an engine that is missing here or cannot be spread
    for path in recipe.paths:
        if isinstance(path, Path) and not path.exists():
            raise FormatError(
                f"{path} does not exist",
                "every worker must see the file under the same path: use storage that all share",
            )
    is_file = isinstance(recipe.path, RemoteFile) or recipe.path.is_file()
    identity = identity_of_all(recipe.paths) if is_file else {}
    with _opened.open(recipe, identity) as recording:
        acquisition = recording.acquisition
        lead = None
        if isinstance(recording, SequentialRecording):
            extent, unit, sequential = recording.extent, 1, True
        else:
            extent, sequential = recording.frames, False
            unit = max(1, identity["bytes"] // max(1, extent))
            if recipe.needs_lead:
                run = ScanRun(acquisition, recipe.settings, recipe.gatherers())
                lead = Part.of(run, 0, _reduce_frames(recording, run, 0, 0, leads=True))
        notices = tuple(recording.notices)
        return Description(acquisition, extent, sequential, unit, identity, notices, lead)


@_plain
def reduce_next(recipe: Recipe, part_bytes: int | None, threads: int) -> Next:
    """The part that follows the lead of a file that is just being described.

    It does not wait for the description: a worker that has not made it itself looks at the file
    anew, which takes less than a message there and back. None for an event stream, whose parts
    need more to be known.
    """
    just = _just_described.pop() if _just_described else None
    about = just[1] if just is not None and just[0] == recipe else _described(recipe)
    if about.sequential:
        return Next(about.identity, None)
    first, stop = about.next_span(part_bytes, threads)
    if first == stop:
        return Next(about.identity, None)
    part = _reduce(
        recipe,
        about.acquisition,
        about.identity,
        first,
        stop,
        leads=False,
        centre=about.lead.centre if about.lead else None,
        found=about.lead.found if about.lead else None,
    )
    return Next(about.identity, part)


@_plain
def reduce_span(
    recipe: Recipe,
    acquisition: Acquisition,
    identity: dict[str, Any],
    first: int,
    stop: int,
    *,
    leads: bool,
    centre: Centre = None,
    found: Mapping[str, Gathered] | None = None,
    checkpoint: Checkpoint | None = None,
) -> Part:
    """Reduce frames first..stop-1 of a file, or the events from byte `first` to about `stop`.

    `leads`: this span begins the scan and goes on until the virtual detectors' centre is fixed
    and engines have found out what they must know; all others are given it, if they need it.
    Raises FormatError when the file is not what it was.
    """
    return _reduce(
        recipe,
        acquisition,
        identity,
        first,
        stop,
        leads=leads,
        centre=centre,
        found=found,
        checkpoint=checkpoint,
    )


def changed(recipe: Recipe) -> FormatError:
    """The error for a file that is written to while it is processed."""
    return FormatError(
        f"{recipe.path} has changed since it was first looked at",
        "wait until it is written, then process it again",
    )


def _reduce(
    recipe: Recipe,
    acquisition: Acquisition,
    identity: dict[str, Any],
    first: int,
    stop: int,
    *,
    leads: bool,
    centre: Centre = None,
    found: Mapping[str, Gathered] | None = None,
    checkpoint: Checkpoint | None = None,
) -> Part:
    if has_changed(recipe.paths, identity):
        raise changed(recipe)
    run = ScanRun(acquisition, recipe.settings, recipe.gatherers(), None if leads else centre)
    if first:
        run.follow(found or {})
    with _opened.open(recipe, identity) as recording:
        if isinstance(recording, SequentialRecording):
            noticed: list[Notice] = []
            stop, after = _reduce_stream(recording, run, checkpoint, stop, noticed, leads=leads)
            part = Part.of(run, first, stop)
            return replace(part, over=after is None, checkpoint=after, notices=tuple(noticed))
        return Part.of(run, first, _reduce_frames(recording, run, first, stop, leads=leads))


def _reduce_frames(
    recording: Recording, run: ScanRun, first: int, stop: int, *, leads: bool
) -> int:
    """Returns the frame behind the last one."""
    while leads and first < recording.frames and not run.first_found:
        upto = min(recording.frames, first + LEAD_FRAMES)
        drain(recording.blocks(first, upto), run)
        first = upto
    stop = max(first, min(stop, recording.frames))
    if first < stop:
        drain(recording.blocks(first, stop), run)
    return stop


def _reduce_stream(
    recording: SequentialRecording,
    run: ScanRun,
    checkpoint: Checkpoint | None,
    stop: int,
    noticed: list[Notice],
    *,
    leads: bool,
) -> tuple[int, Checkpoint | None]:
    """Returns the byte behind the last one, and the checkpoint there."""
    while True:
        checkpoint = drain(recording.resume(run.acquisition, checkpoint, stop, noticed), run)
        if checkpoint is None:
            return recording.extent, None
        stop = int(checkpoint["position"][0])
        if not leads or run.first_found:
            return stop, checkpoint
        stop += 1


def drain(blocks: Iterator[Block], run: ScanRun) -> Any:
    """Reduce every block; what the generator returns."""
    while True:
        try:
            block = next(blocks)
        except StopIteration as end:
            return end.value
        run.reduce(block)
        block.release()


@_plain
def finish(
    recipe: Recipe, acquisition: Acquisition, reduced: Part, notices: Sequence[Message]
) -> tuple[Outcome, Snapshot]:
    """The final images of a reduced scan, and what is to be said about it."""
    run = ScanRun(acquisition, recipe.settings, recipe.choices(), reduced.centre)
    run.sums.follow_mask(reduced.found)
    reduced.add_to(run)
    return images_of(run, notices, recipe.correct)


def images_of(
    run: ScanRun, notices: Sequence[Message], correct: str | None
) -> tuple[Outcome, Snapshot]:
    """The same from a run to which everything was added; `correct` as in a Recipe."""
    run.count(notices)
    run.end("complete")
    if run.is_empty:
        why = no_hits()
        raise FormatError(f"{run.acquisition.source}: {why.text}", why.remedy)
    final = run.snapshot(final=True)
    if correct is not None:
        final = with_correction(run, final, correct or None)
    return outcome_of(run), final

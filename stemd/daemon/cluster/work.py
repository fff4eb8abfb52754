"""What a worker does: look at a file, reduce a span of it, make the images of a scan.

Plain functions of plain values, so that they run in any process; nothing here knows of Dask.
"""

from __future__ import annotations

import contextlib
import hashlib
import json
import os
import socket
import threading
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import wraps
from pathlib import Path
from typing import Any, ParamSpec, TypeVar

from stemd import __version__
from stemd.acquisition import Acquisition
from stemd.adapters.base import Checkpoint, Recording, SequentialRecording
from stemd.adapters.files import open_recording
from stemd.adapters.remote import RecordingPath, RemoteBytes, RemoteFile
from stemd.blocks import Block, Message
from stemd.daemon.cluster.parts import Centre, Part, Recipe
from stemd.daemon.processing import FIRST_FRAMES, Outcome, outcome_of, with_correction
from stemd.daemon.scan_run import ScanRun
from stemd.engines.base import Gathered
from stemd.errors import FormatError, StemdError
from stemd.results import Snapshot

EDGE_BYTES = 64 * 1024
"""Bytes at either end of a file that tell it from another of the same size."""

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


@dataclass(frozen=True, slots=True)
class Description:
    """A file as a worker sees it. `extent` counts units: frames, or the bytes of a `sequential`
    stream. `centre` of the virtual detectors, where it was asked for and could be found at once.
    """

    acquisition: Acquisition
    extent: int
    sequential: bool
    unit_bytes: int
    identity: dict[str, Any]
    notices: tuple[Message, ...]
    centre: Centre = None
    version: str = __version__

    def units(self, part_bytes: int) -> int:
        """Units of a part of about so many bytes: whole lines of frames, where one fits."""
        line = self.acquisition.scan.line_frames
        size = max(1, part_bytes // self.unit_bytes)
        return size - size % line if not self.sequential and size > line else size

    def first_units(self, part_bytes: int, *, leads: bool) -> int:
        """Units of the first part: where it leads, at least what can fix the centre."""
        least = FIRST_FRAMES if leads and not self.sequential else 0
        return min(self.extent, max(self.units(part_bytes), least))


def _plain(work: Callable[P, T]) -> Callable[P, T | Failure]:
    """The same function, with errors that are about the file or the settings as a value."""

    @wraps(work)
    def called(*args: P.args, **kwargs: P.kwargs) -> T | Failure:
        try:
            return work(*args, **kwargs)
        except StemdError as error:
            return Failure(error.message, error.remedy, f"{socket.gethostname()}:{os.getpid()}")

    return called


def identity_of(path: RecordingPath) -> dict[str, Any]:
    """What tells a file from another, or from itself after a change, at the cost of two reads."""
    if isinstance(path, RemoteFile):
        source = RemoteBytes(path)
        edges = source.read(0, min(EDGE_BYTES, source.size))
        edges += source.read(max(0, source.size - EDGE_BYTES), source.size)
        tags = {"bytes": source.size, **source.tags}
        return {**tags, "edges": hashlib.sha256(edges).hexdigest()}
    status = path.stat()
    digest = hashlib.sha256()
    with path.open("rb") as file:
        digest.update(file.read(EDGE_BYTES))
        file.seek(max(0, status.st_size - EDGE_BYTES))
        digest.update(file.read(EDGE_BYTES))
    return {"bytes": status.st_size, "mtime_ns": status.st_mtime_ns, "edges": digest.hexdigest()}


def _changed(path: RecordingPath, identity: dict[str, Any]) -> bool:
    if isinstance(path, RemoteFile):
        source = RemoteBytes(path)
        if source.tags:  # the ends cost two requests for each part, and tell no more
            known = {key: value for key, value in identity.items() if key != "edges"}
            return {"bytes": source.size, **source.tags} != known
    return identity_of(path) != identity


class _Opened:
    """The last recording of this process whose opening read all over the file, or from afar.

    A file with holes would else be read through for each of its parts, and a remote one be
    waited for. All others are opened for each part anew, and what was mapped of them is let go.
    """

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._kept: tuple[str, Recording] | None = None

    @contextlib.contextmanager
    def open(self, recipe: Recipe, identity: dict[str, Any]) -> Iterator[Recording]:
        said = [each.model_dump_json() if each else "" for each in (recipe.scan, recipe.camera)]
        key = json.dumps([repr(recipe.path), identity, said])
        with self._lock:
            kept = self._kept
        if kept is not None and kept[0] == key:
            yield kept[1]
            return
        recording = open_recording(recipe.path, recipe.scan, recipe.camera)
        try:
            yield recording
        finally:
            if isinstance(recipe.path, RemoteFile) or getattr(recording, "has_table", False):
                with self._lock:
                    self._kept = key, recording  # the one before is closed with its last user
            else:
                recording.close()


_opened = _Opened()


@_plain
def describe(recipe: Recipe) -> Description:
    """Open a file and say what is in it, and where its first patterns put the detectors."""
    return _look(recipe, find_centre=recipe.needs_centre)


def _look(recipe: Recipe, *, find_centre: bool) -> Description:
    recipe.reduction()  # raises for an engine that is missing here or cannot be spread
    path = recipe.path
    if isinstance(path, Path) and not path.exists():
        raise FormatError(
            f"{path} does not exist",
            "every worker must see the file under the same path: use storage that all share",
        )
    identity = identity_of(path) if isinstance(path, RemoteFile) or path.is_file() else {}
    with _opened.open(recipe, identity) as recording:
        acquisition = recording.acquisition
        if isinstance(recording, SequentialRecording):
            extent, unit, sequential = recording.extent, 1, True
        else:
            extent, sequential = recording.frames, False
            unit = max(1, identity["bytes"] // max(1, extent))
        centre = _first_centre(recipe, recording) if find_centre and not sequential else None
        notices = tuple(recording.notices)
        return Description(acquisition, extent, sequential, unit, identity, notices, centre)


def _first_centre(recipe: Recipe, recording: Recording) -> Centre:
    """None where the scan is too short to fix it."""
    run = ScanRun(recording.acquisition, recipe.settings, [])
    for block in recording.blocks(0, min(recording.frames, FIRST_FRAMES)):
        run.reduce(block)
        block.release()
        if run.reducer.centre_fixed:
            return run.reducer.centre
    return None


@_plain
def reduce_first(recipe: Recipe, part_bytes: int) -> tuple[dict[str, Any], Part] | None:
    """The first part of a file that nobody has described yet, and the file's identity.

    None for an event stream: its parts need more to be known.
    """
    about = _look(recipe, find_centre=False)
    if about.sequential:
        return None
    stop = about.first_units(part_bytes, leads=recipe.needs_lead)
    part = _reduce(recipe, about.acquisition, about.identity, 0, stop, leads=recipe.needs_lead)
    return about.identity, part


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
    if _changed(recipe.path, identity):
        raise FormatError(
            f"{recipe.path} has changed since it was first looked at",
            "wait until it is written, then process it again",
        )
    run = ScanRun(acquisition, recipe.settings, recipe.gatherers(), None if leads else centre)
    if first:
        run.follow(found or {})
    with _opened.open(recipe, identity) as recording:
        if isinstance(recording, SequentialRecording):
            stop, after = _reduce_stream(recording, run, checkpoint, stop, leads=leads)
            part = Part.of(run, first, stop)
            return replace(part, over=after is None, checkpoint=after)
        return Part.of(run, first, _reduce_frames(recording, run, first, stop, leads=leads))


def _reduce_frames(
    recording: Recording, run: ScanRun, first: int, stop: int, *, leads: bool
) -> int:
    """Returns the frame behind the last one."""
    while leads and first < recording.frames and not run.first_found:
        upto = min(recording.frames, first + FIRST_FRAMES)
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
    *,
    leads: bool,
) -> tuple[int, Checkpoint | None]:
    """Returns the byte behind the last one, and the checkpoint there."""
    while True:
        checkpoint = drain(recording.resume(run.acquisition, checkpoint, stop), run)
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
    run.count(notices)
    reduced.add_to(run)
    run.end("complete")
    final = run.snapshot(final=True)
    if recipe.correct is not None:
        final = with_correction(run, final, recipe.correct or None)
    return outcome_of(run), final

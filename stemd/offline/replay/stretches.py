"""A recording in short stretches, each with how many steps of the pace it takes.

Frames are counted where they can be read by number. A stream of events is cut by its bytes,
which go with time only as far as the dose is even: nothing cheaper is known before it is read.
"""

from __future__ import annotations

from collections.abc import Callable, Generator, Iterable, Iterator
from dataclasses import dataclass

from stemd.adapters.base import Checkpoint, Recording, SequentialRecording
from stemd.blocks import Block


@dataclass(slots=True)
class Stretch:
    """`blocks` are to be taken to their end; `steps` is right from then on."""

    blocks: Iterable[Block]
    steps: int
    after: Checkpoint | None = None


def steps_of(recording: Recording) -> int:
    """Steps of the whole recording: frames, or bytes of events."""
    if isinstance(recording, SequentialRecording):
        return recording.extent
    return recording.frames


def stretches(recording: Recording, size: Callable[[], float]) -> Iterator[Stretch]:
    """All of a recording; `size()` is about how many steps the next stretch is to have."""
    if isinstance(recording, SequentialRecording):
        yield from _sections(recording, size)
        return
    start = 0
    while start < recording.frames:
        stop = min(recording.frames, start + max(1, int(size())))
        yield Stretch(recording.blocks(start, stop), stop - start)
        start = stop


def _sections(recording: SequentialRecording, size: Callable[[], float]) -> Iterator[Stretch]:
    acquisition = recording.acquisition
    checkpoint: Checkpoint | None = None
    start = 0
    while True:
        stretch = Stretch((), max(1, int(size())))
        stretch.blocks = _section(
            recording.resume(acquisition, checkpoint, start + stretch.steps, []), stretch, start
        )
        yield stretch
        checkpoint = stretch.after
        if checkpoint is None:
            return
        start += stretch.steps


def _section(
    blocks: Generator[Block, None, Checkpoint | None], stretch: Stretch, start: int
) -> Iterator[Block]:
    stretch.after = yield from blocks
    if stretch.after is not None:
        stretch.steps = int(stretch.after["position"][0]) - start

"""A recording in small parts, each with how many steps of the pace it takes.

Frames are counted where they can be read by number. A stream of events is cut by its bytes,
which go with time only as far as the dose is even: nothing cheaper is known before it is read.
"""

from __future__ import annotations

from collections.abc import Callable, Generator, Iterable, Iterator
from dataclasses import dataclass

from stemd.adapters.base import Checkpoint, Recording, SequentialRecording
from stemd.blocks import Block


@dataclass(slots=True)
class Part:
    """`blocks` are to be taken to their end; `steps` is right from then on."""

    blocks: Iterable[Block]
    steps: int
    after: Checkpoint | None = None


def steps_of(recording: Recording) -> int:
    """Steps of the whole recording: frames, or bytes of events."""
    if isinstance(recording, SequentialRecording):
        return recording.extent
    return recording.frames


def parts(recording: Recording, size: Callable[[], float]) -> Iterator[Part]:
    """All of a recording; `size()` is about how many steps the next part is to have."""
    if isinstance(recording, SequentialRecording):
        yield from _sections(recording, size)
        return
    start = 0
    while start < recording.frames:
        stop = min(recording.frames, start + max(1, int(size())))
        yield Part(recording.blocks(start, stop), stop - start)
        start = stop


def _sections(recording: SequentialRecording, size: Callable[[], float]) -> Iterator[Part]:
    acquisition = recording.acquisition
    checkpoint: Checkpoint | None = None
    start = 0
    while True:
        part = Part((), max(1, int(size())))
        part.blocks = _section(
            recording.resume(acquisition, checkpoint, start + part.steps), part, start
        )
        yield part
        checkpoint = part.after
        if checkpoint is None:
            return
        start += part.steps


def _section(
    blocks: Generator[Block, None, Checkpoint | None], part: Part, start: int
) -> Iterator[Block]:
    part.after = yield from blocks
    if part.after is not None:
        part.steps = int(part.after["position"][0]) - start

"""Several recordings of one place, read as one scan with repeats."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import replace

import numpy as np
from pydantic import ValidationError

from stemd.acquisition import Scan
from stemd.adapters.base import Recording, ScansByNumber, SeveralScans
from stemd.blocks import Block, EventBlock, FrameBlock, Message
from stemd.errors import UsageError


class RepeatedRecording:
    """Implements adapters.base.Recording for recordings of one place, in the order of their scans.

    Of a stream all scans are frames; with `every` false each recording is one. Raises UsageError
    where their scans or detectors differ, or there is one frame only.
    """

    def __init__(self, recordings: Sequence[Recording], *, every: bool = True) -> None:
        self._parts = list(recordings)
        self._streams = [every and isinstance(part, ScansByNumber) for part in self._parts]
        self._noticed: list[Message] = []
        first = self._parts[0].acquisition
        for part in self._parts[1:]:
            other = part.acquisition
            alike = other.scan.shape == first.scan.shape and other.scan.repeats == 1
            if not alike or other.detector.shape != first.detector.shape:
                raise UsageError(
                    f"{other.source}: {other.scan.size} patterns of {other.detector.shape} are not "
                    f"the place of {first.source}, {first.scan.size} of {first.detector.shape}",
                    "--frames align takes recordings of one place with one scan and camera",
                )
        self._count = 0
        for part, stream in zip(self._parts, self._streams, strict=True):
            held = _scans_in(part) if every else 1
            if held > 1 and not stream:
                raise UsageError(
                    f"{part.acquisition.source} holds {held} scans",
                    "--scan-number chooses one; --repeats N where they are frames of one place",
                )
            self._count += held
        if self._count < 2:
            raise UsageError(
                "--frames align: there is one frame only",
                "name all recordings; --repeats N where one file holds all frames",
            )
        table = first.scan.model_dump() | {"repeats": self._count}
        try:
            scan = Scan.model_validate(table)
        except ValidationError as error:
            raise UsageError(
                f"{self._count} frames of {first.scan.size}: {error.errors()[0]['msg']}",
                "align fewer frames at once",
            ) from error
        self.acquisition = replace(first, scan=scan)
        self._positions = first.scan.positions

    @property
    def frames(self) -> int:
        """Frames in all recordings."""
        return self._count * self._parts[0].frames

    @property
    def splits(self) -> bool:
        """Whether all of them do."""
        return all(part.splits for part in self._parts)

    @property
    def notices(self) -> Sequence[Message]:
        """Of all of them; of the scans of streams once they are read."""
        whole = zip(self._parts, self._streams, strict=True)
        told = [notice for part, stream in whole if not stream for notice in part.notices]
        return [*told, *self._noticed]

    def blocks(self, start: int, stop: int) -> Iterator[Block]:
        """Blocks of frames start..stop-1, counted on from recording to recording."""
        first = 0
        noticed: list[Message] = []
        for number, (part, stream) in enumerate(self._each_frame()):
            low, high = max(start - first, 0), min(stop - first, part.frames)
            if low < high:
                for block in part.blocks(low, high):
                    yield self._moved(block, number * self._positions, first)
                noticed += part.notices if stream else []
            first += part.frames
        self._noticed = noticed

    def _each_frame(self) -> Iterator[tuple[Recording, bool]]:
        for part, stream in zip(self._parts, self._streams, strict=True):
            if stream and isinstance(part, SeveralScans):
                yield from ((scan, True) for scan in part.each_scan())
            else:
                yield part, False

    def close(self) -> None:
        """Close all of them."""
        for part in self._parts:
            part.close()

    def _moved(self, block: Block, positions: int, frames: int) -> Block:
        if isinstance(block, EventBlock):
            complete = [(first + positions, stop + positions) for first, stop in block.complete]
            hits = np.where(block.probe >= 0, block.probe + np.int32(positions), np.int32(-1))
            return replace(block, acquisition=self.acquisition, probe=hits, complete=complete)
        assert isinstance(block, FrameBlock)
        probe = np.where(block.probe >= 0, block.probe + positions, -1)
        sequence = block.sequence + frames
        return replace(block, acquisition=self.acquisition, probe=probe, sequence=sequence)


def _scans_in(recording: Recording) -> int:
    """How many scans a recording holds; a stream is read for it."""
    if not isinstance(recording, SeveralScans):
        return 1
    return sum(1 for _ in recording.each_scan())

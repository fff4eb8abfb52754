"""Several recordings of one place, read as one scan with repeats."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import replace

import numpy as np
from pydantic import ValidationError

from stemd.acquisition import Scan
from stemd.adapters.base import Recording
from stemd.blocks import Block, EventBlock, FrameBlock, Message
from stemd.errors import UsageError


class RepeatedRecording:
    """Implements adapters.base.Recording for recordings of one place, in the order of their scans.

    Raises UsageError where their scans or detectors differ.
    """

    def __init__(self, recordings: Sequence[Recording]) -> None:
        self._parts = list(recordings)
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
        table = first.scan.model_dump() | {"repeats": len(self._parts)}
        try:
            scan = Scan.model_validate(table)
        except ValidationError as error:
            raise UsageError(
                f"{len(self._parts)} recordings of {first.scan.size}: {error.errors()[0]['msg']}",
                "align fewer recordings at once",
            ) from error
        self.acquisition = replace(first, scan=scan)
        self._positions = first.scan.positions

    @property
    def frames(self) -> int:
        """Frames in all recordings."""
        return sum(part.frames for part in self._parts)

    @property
    def splits(self) -> bool:
        """Whether all of them do."""
        return all(part.splits for part in self._parts)

    @property
    def notices(self) -> Sequence[Message]:
        """Of all of them."""
        return [notice for part in self._parts for notice in part.notices]

    def blocks(self, start: int, stop: int) -> Iterator[Block]:
        """Blocks of frames start..stop-1, counted on from recording to recording."""
        first = 0
        for number, part in enumerate(self._parts):
            low, high = max(start - first, 0), min(stop - first, part.frames)
            if low < high:
                for block in part.blocks(low, high):
                    yield self._moved(block, number * self._positions, first)
            first += part.frames

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

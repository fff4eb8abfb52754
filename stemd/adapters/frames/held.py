"""A frame with a doubtful number, held until the next frame tells how it is to be taken."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from stemd.acquisition import Acquisition
from stemd.adapters.frames.format import FrameLayout
from stemd.blocks import Buffer, FrameBlock


class HeldFrame:
    """Implements `placer.FramesAtHand` for one frame, with a copy of its bytes.

    A camera's buffer is not kept meanwhile: the next frame may need it. `known_as` is the block of
    the frame, with any acquisition.
    """

    def __init__(
        self, known_as: FrameBlock, layout: FrameLayout, number: int, mark: np.uint16
    ) -> None:
        self.layout = layout
        self.prefixes: NDArray[np.uint8] = np.zeros((1, 0), np.uint8)
        self.numbers: NDArray[np.int64] = np.array([number], np.int64)
        self.marks: NDArray[np.uint16] = np.array([mark], np.uint16)
        self.buffer: Buffer | None = Buffer(None, 0, 1, 0)
        self.done, self.capacity = 0, 1
        self._wire = known_as.wire.copy()
        packed = known_as.pixels is not known_as.wire
        self._pixels = known_as.pixels.copy() if packed else self._wire
        self._like = known_as

    def read_numbers(self, stop: int, reference: NDArray[np.uint8]) -> None:
        """See `placer.FramesAtHand`: the number is known."""

    def block(self, start: int, stop: int, acquisition: Acquisition, now_ns: int) -> FrameBlock:
        """See `placer.FramesAtHand`; the time is that at which the frame came."""
        like, buffer = self._like, self.buffer
        assert buffer is not None
        self.buffer = None
        return FrameBlock(
            acquisition=acquisition,
            pixels=self._pixels,
            pixel_offset=like.pixel_offset,
            stride=like.stride,
            count=1,
            shape=like.shape,
            dtype=like.dtype,
            big_endian=like.big_endian,
            sequence=buffer.sequence,
            probe=buffer.probe,
            wire=self._wire,
            received_ns=like.received_ns,
        )

    def drop(self) -> None:
        """See `placer.FramesAtHand`."""
        self.buffer = None

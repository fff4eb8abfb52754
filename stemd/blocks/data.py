"""What a camera's data come in: blocks of patterns or of hits, and finished images."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from stemd.acquisition import Acquisition
from stemd.blocks.memory import Buffer


class InBuffer:
    """A block whose memory goes back to its camera's pool with the last reader.

    Who keeps it beyond the call it was given in says `retain`, and `release` when done; who needs
    no more than `wire` says so to both.
    """

    __slots__ = ()
    buffer: Buffer | None

    def retain(self, *, wire_only: bool = False) -> None:
        """One more reader of this block's memory, or of `wire` alone."""
        if self.buffer is not None:
            self.buffer.retain(wire_only=wire_only)

    def release(self, *, wire_only: bool = False) -> None:
        """One reader less."""
        if self.buffer is not None:
            self.buffer.release(wire_only=wire_only)


@dataclass(slots=True)
class FrameBlock(InBuffer):
    """`count` whole patterns, one after the other, in the bytes in which they came.

    Frame i's pixels start at byte `pixel_offset + i * stride` of `pixels` and are
    `shape[0] * shape[1]` values of `dtype` ("u1", "u2", "u4", "u8"; "i4" of recorded real numbers),
    swapped if `big_endian`.
    `wire` is what the camera sent for these frames (header and pixels), contiguous: what a
    recorder writes. For packed formats `pixels` is the unpacked copy, else it is `wire`.
    `sequence` counts frames of the acquisition from 0, holes included; `probe` is the probe
    position of each frame, -1 for a frame that belongs to none (flyback, leading, repeated).
    `reduced`: its patterns are in the scan's sums already, see `adapters.base.ReadsApart`.
    """

    acquisition: Acquisition
    pixels: NDArray[np.uint8]
    pixel_offset: int
    stride: int
    count: int
    shape: tuple[int, int]
    dtype: Literal["u1", "u2", "u4", "u8", "i4"]
    big_endian: bool
    sequence: NDArray[np.int64]
    probe: NDArray[np.int64]
    wire: NDArray[np.uint8]
    received_ns: int
    buffer: Buffer | None = None
    reduced: bool = False

    def patterns(self) -> NDArray[np.integer]:
        """The patterns as a strided (count, height, width) view in wire byte order, no copy."""
        dtype = np.dtype(("<" if not self.big_endian else ">") + self.dtype)
        height, width = self.shape
        return np.ndarray(
            (self.count, height, width),
            dtype,
            buffer=self.pixels,
            offset=self.pixel_offset,
            strides=(self.stride, width * dtype.itemsize, dtype.itemsize),
        )


@dataclass(slots=True)
class EventBlock(InBuffer):
    """`count` electron hits of one acquisition, in compact arrays of at least `count` elements.

    `probe` is the probe position (flat index y*nx + x), `yx` the detector pixel as
    y << 16 | x, `dwell_ns` the time in nanoseconds since the beam came to the position (what an
    acceptance time cuts on). `wire` is what the camera sent, for the recorder: it may hold more
    than these hits, and a block of no hits may only carry bytes or runs. `complete` are runs
    (first, stop) of probe positions for which no further event is expected.
    """

    acquisition: Acquisition
    probe: NDArray[np.int32]
    yx: NDArray[np.uint32]
    dwell_ns: NDArray[np.float32]
    count: int
    wire: NDArray[np.uint8]
    received_ns: int
    complete: Sequence[tuple[int, int]] = ()
    buffer: Buffer | None = None

    @property
    def y(self) -> NDArray[np.uint16]:
        """Detector row of each hit."""
        return (self.yx[: self.count] >> np.uint32(16)).astype(np.uint16)

    @property
    def x(self) -> NDArray[np.uint16]:
        """Detector column of each hit."""
        return (self.yx[: self.count] & np.uint32(0xFFFF)).astype(np.uint16)


@dataclass(slots=True)
class ImageBlock:
    """A finished image, from a source that has no patterns: all positions of its acquisition.

    `image` is float32 (ny, nx), not written to again; `name` is what engines know it by; `wire`
    is the file that it came in.
    """

    acquisition: Acquisition
    name: str
    image: NDArray[np.float32]
    wire: NDArray[np.uint8]
    received_ns: int

    def retain(self, *, wire_only: bool = False) -> None:
        """Nothing: the memory is not recycled."""

    def release(self, *, wire_only: bool = False) -> None:
        """Nothing: the memory is not recycled."""

"""What a frame camera's bytes mean: the part of an adapter that is not shared.

A stream is messages: an optional prefix, a header, pixels; between them there may be messages that
announce an acquisition. A recorded file is the same frames one behind the other, without the
prefixes. Only whoever implements `FrameFormat` knows more.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import Literal, Protocol

import numpy as np
from numpy.typing import NDArray

from stemd.errors import FormatError
from stemd.pixels import Mask

PixelType = Literal["u1", "u2", "u4", "u8"]
Bytes = NDArray[np.uint8]

MAX_SIDE_PIXELS = 16_384
MAX_FRAME_BYTES = 64 * 1024 * 1024
"""Of one frame; a size from the wire beyond this is a mistake and must not become memory."""


@dataclass(frozen=True, slots=True, kw_only=True)
class FrameLayout:
    """One frame in bytes and its pattern in pixels.

    `shape` is (height, width), `depth` the bits of the camera's counter. The pixels are values of
    `dtype`, row after row; frames that are `packed` are unpacked to such values (little-endian) by
    `FrameFormat.unpack`.
    """

    header_bytes: int
    pixel_bytes: int
    shape: tuple[int, int]
    dtype: PixelType
    depth: int
    big_endian: bool = False
    packed: bool = False

    @property
    def frame_bytes(self) -> int:
        """Header and pixels of one frame as sent."""
        return self.header_bytes + self.pixel_bytes

    @property
    def unpacked_bytes(self) -> int:
        """Bytes of one unpacked pattern, 0 where the wire bytes are the pixels."""
        return self.shape[0] * self.shape[1] * int(self.dtype[1]) if self.packed else 0


def plain_layout(
    header_bytes: int, shape: tuple[int, int], dtype: PixelType, *, depth: int, big_endian: bool
) -> FrameLayout:
    """The layout of pixels that are sent as they are, as fields of a header or plain numbers.

    `shape` is (height, width), `depth` the bits of the camera's counter.
    Raises FormatError for a type or a size that no frame has.
    """
    # a header's field is a NumPy number: its products would overflow
    height, width = int(shape[0]), int(shape[1])
    if dtype not in ("u1", "u2", "u4", "u8"):
        raise FormatError(f"pixels of type {dtype!r}", "known are u1, u2, u4 and u8")
    size = height * width * int(dtype[1])
    if not (0 < height <= MAX_SIDE_PIXELS and 0 < width <= MAX_SIDE_PIXELS) or (
        size > MAX_FRAME_BYTES
    ):
        raise FormatError(
            f"frames of {height} x {width} pixels of type {dtype}",
            f"at most {MAX_SIDE_PIXELS} pixels a side and {MAX_FRAME_BYTES} bytes",
        )
    return FrameLayout(
        header_bytes=header_bytes,
        pixel_bytes=size,
        shape=(height, width),
        dtype=dtype,
        depth=int(depth),
        big_endian=big_endian,
    )


@dataclass(frozen=True, slots=True)
class Announcement:
    """What a camera says of an acquisition before its first frame, as far as it does.

    `frames`: how many it will take, 0: endless, None: not told; `frames_per_trigger` likewise, of
    which a line is made where each line is triggered. `both_counters`: two images come of each
    position. `sidecars`: see `Acquisition`,
    `mask`: see `Detector`.
    """

    frames: int | None = None
    scan_shape: tuple[int, int] | None = None
    text: str = ""
    sidecars: tuple[tuple[str, bytes], ...] = ()
    frames_per_trigger: int | None = None
    both_counters: bool = False
    mask: Mask | None = field(default=None, compare=False, repr=False)


@dataclass(frozen=True, slots=True)
class Need:
    """`total` bytes are needed to go on."""

    total: int


@dataclass(frozen=True, slots=True)
class Garbage:
    """`size` bytes begin no message; `error` says why, where they looked like one."""

    size: int
    error: FormatError | None = None


@dataclass(frozen=True, slots=True)
class Begin:
    """A message of `size` bytes: an acquisition begins, frames count from the first again.

    `bad_length`: what to tell of a length that lied.
    """

    size: int
    announcement: Announcement
    bad_length: str = ""


@dataclass(frozen=True, slots=True)
class FrameStart:
    """The start of a frame's message: its header is whole, its pixels need not be here yet.

    `opening`: the first bytes of every such message, the whole prefix where there is one.
    `reference`: what `FrameFormat.read_numbers` wants to know of these frames. `forgives`: so many
    bytes before it belong to the message before, they are not garbage.
    """

    layout: FrameLayout
    opening: bytes
    reference: Bytes = field(compare=False)
    bad_length: str = ""
    forgives: int = 0


Step = Need | Garbage | Begin | FrameStart


class FrameFormat(Protocol):
    """Pure: what the bytes of one camera mean. One object for each connection or file.

    `name` of the detector; `raw_name` of the record. `prefix_bytes` stand before each frame in the
    stream and are not recorded. Frames are numbered from `first_number`, modulo `turn` (0: they
    never wrap; a number of `turn` or more has not been wrapped).
    """

    name: str
    raw_name: str
    prefix_bytes: int
    first_number: int
    turn: int
    head_bytes: int
    """Most bytes at the start of a file that `file_frame` looks at."""
    file_opening: bytes
    """The first bytes of every frame in a file."""

    def next_message(self, data: bytes | bytearray) -> Step:
        """What stands at the start of `data`: depends on the bytes, not on how many have come."""
        ...

    def begins(self, data: bytes | bytearray) -> bool:
        """Whether `data` may be the beginning of a message, as far as it goes."""
        ...

    def file_frame(self, data: bytes) -> FrameStart:
        """The frame at the start of a file. Raises FormatError where there is none."""
        ...

    def number_bytes(self, start: FrameStart) -> int:
        """Bytes of each frame that `read_numbers` looks at."""
        ...

    def read_numbers(
        self,
        data: Bytes,
        stride: int,
        indices: NDArray[np.int64],
        reference: Bytes,
        out: NDArray[np.int64],
    ) -> None:
        """Number of each frame i as sent, -1 where its header is not one like the first.

        Frame i begins at data[indices[i] * stride]. A compiled kernel: it sees every frame.
        """
        ...

    def unpack(self, wire: Bytes, layout: FrameLayout, count: int, out: Bytes) -> None:
        """Unpack `count` packed frames, one behind the other in `wire`, into `out`."""
        ...

    def samples(self) -> Iterable[bytes]:
        """Streams of one frame each: they compile the kernels before a camera needs them."""
        ...

    def reset(self) -> None:
        """The next byte is the first of a new connection."""
        ...

"""What the bytes of a Merlin camera mean to the machinery of frame cameras."""

from __future__ import annotations

from collections.abc import Iterable

import numpy as np
from numpy.typing import NDArray

from stemd.adapters.frames.format import (
    Announcement,
    Begin,
    FrameLayout,
    FrameStart,
    Garbage,
    Need,
    Step,
)
from stemd.adapters.merlin.encoder import PREFIX_BYTES, Camera, encode_hdr, message
from stemd.adapters.merlin.framing import (
    MAX_HDR_BYTES,
    HdrMessage,
    invariant_part,
    next_message,
)
from stemd.adapters.merlin.geometry import Geometry, geometry_of
from stemd.adapters.merlin.hdr import Hdr, hdr_file, parse_hdr
from stemd.adapters.merlin.header import (
    MAX_HEADER_BYTES,
    encode_frame_header,
    parse_frame_header,
)
from stemd.adapters.merlin.packing import unpack_frames
from stemd.compilation import njit

RAW_NAME = "raw.mib"
HDR_NAME = "raw.hdr"
_NUMBER_BYTES = 16  # "MQ1," and the longest sequence number; what follows is the same in all frames


class MerlinFormat:
    """Implements adapters.frames.format.FrameFormat.

    A sequence number has six digits and wraps, or takes a seventh one.
    """

    name = "merlin"
    raw_name = RAW_NAME
    prefix_bytes = PREFIX_BYTES
    first_number = 1
    turn = 1_000_000
    head_bytes = MAX_HEADER_BYTES
    file_opening = b"MQ1,"

    def __init__(self) -> None:
        self._counts_comma = True
        self._after_hdr = False

    def reset(self) -> None:
        """See `FrameFormat`: how this camera counts lengths is learnt again."""
        self._counts_comma = True
        self._after_hdr = False

    def next_message(self, data: bytes | bytearray) -> Step:
        """See `FrameFormat`."""
        step = next_message(data, counts_comma=self._counts_comma)
        if isinstance(step, Need | Garbage):
            return step
        if isinstance(step, HdrMessage):
            self._after_hdr = True
            size = len(step.payload)
            lies = size != step.declared - self._counts_comma
            return Begin(
                step.size,
                announcement(parse_hdr(step.payload)),
                _bad_length(step.declared, size) if lies else "",
            )
        size, wrong = step.geometry.frame_bytes, ""
        if step.declared in (size, size + 1):
            self._counts_comma = step.declared == size + 1
        else:
            wrong = _bad_length(step.declared, size)
        # the last byte of a HDR whose length did not count the comma
        forgives = int(self._after_hdr and not wrong and not self._counts_comma)
        self._after_hdr = False
        return FrameStart(
            step.geometry, bytes(data[:PREFIX_BYTES]), _reference(step.invariant), wrong, forgives
        )

    def begins(self, data: bytes | bytearray) -> bool:
        """See `FrameFormat`."""
        return b"MPX,".startswith(data[:4])

    def file_frame(self, data: bytes) -> FrameStart:
        """See `FrameFormat`."""
        geometry = geometry_of(parse_frame_header(data))
        return FrameStart(geometry, b"", _reference(invariant_part(data)))

    def number_bytes(self, start: FrameStart) -> int:
        """See `FrameFormat`."""
        return min(start.layout.header_bytes, _NUMBER_BYTES + start.reference.size)

    def read_numbers(
        self,
        data: NDArray[np.uint8],
        stride: int,
        indices: NDArray[np.int64],
        reference: NDArray[np.uint8],
        out: NDArray[np.int64],
    ) -> None:
        """See `FrameFormat`."""
        read_sequences(data, stride, indices, reference, out)

    def unpack(
        self, wire: NDArray[np.uint8], layout: FrameLayout, count: int, out: NDArray[np.uint8]
    ) -> None:
        """See `FrameFormat`."""
        assert isinstance(layout, Geometry)
        unpack_frames(wire, layout, count, out)

    def samples(self) -> Iterable[bytes]:
        """See `FrameFormat`: plain and packed."""
        for camera in (Camera((2, 2), 12), Camera((1, 256), 1, raw=True)):
            dark = bytes(camera.geometry().pixel_bytes)  # whatever the depth, and nothing to pack
            header = encode_frame_header(camera.header(1))
            yield message(encode_hdr(camera, 1)) + message(header + dark)


def _bad_length(declared: int, size: int) -> str:
    return (
        f"a message declares {declared} bytes where it has {size + 1} (limit of a HDR: "
        f"{MAX_HDR_BYTES}): its length was ignored"
    )


def _reference(invariant: bytes) -> NDArray[np.uint8]:
    return np.frombuffer(bytearray(invariant), np.uint8)


def announcement(hdr: Hdr) -> Announcement:
    """What a HDR text says of its acquisition."""
    sidecars = ((HDR_NAME, hdr_file(hdr.raw)),)
    return Announcement(
        hdr.frames, hdr.scan_shape, hdr.text, sidecars, hdr.frames_per_trigger, hdr.both_counters
    )


@njit(inline="always")
def _sequence(data: NDArray[np.uint8], at: int, invariant: NDArray[np.uint8]) -> int:
    """Sequence number, -1 where the header is not the expected one.

    `invariant` is what must follow the number: ",header length,chips,...,chip mask,".
    """
    if (
        data[at] != 77  # "MQ1,"
        or data[at + 1] != 81
        or data[at + 2] != 49
        or data[at + 3] != 44
    ):
        return -1
    value, digits = 0, 0
    while digits < 12:
        d = int(np.int64(data[at + 4 + digits])) - 48
        if d < 0 or d > 9:
            break
        value = value * 10 + d
        digits += 1
    if digits == 0:
        return -1
    start = at + 4 + digits
    for k in range(invariant.size):
        if data[start + k] != invariant[k]:
            return -1
    return value


@njit(nogil=True, cache=True)
def read_sequences(
    frames: NDArray[np.uint8],
    stride: int,
    indices: NDArray[np.int64],
    invariant: NDArray[np.uint8],
    out: NDArray[np.int64],
) -> None:
    """Sequence number of each frame i, which begins at frames[indices[i] * stride]; -1 where its
    header is not the expected one. Some tens of nanoseconds a frame.
    """
    for i in range(indices.size):
        out[i] = _sequence(frames, indices[i] * stride, invariant)

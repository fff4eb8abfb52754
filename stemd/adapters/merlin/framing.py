"""Messages of the data port in a run of bytes: the careful parser, used where the fast one stops.

Pure: what it finds depends on the bytes alone, never on how many have arrived; where more bytes
could change the answer it asks for them.
"""

from __future__ import annotations

import re
from dataclasses import dataclass

from stemd.adapters.frames.format import Garbage, Need
from stemd.adapters.merlin.encoder import PREFIX_BYTES
from stemd.adapters.merlin.geometry import Geometry, geometry_of
from stemd.adapters.merlin.header import declared_header_length, parse_frame_header
from stemd.errors import FormatError

MAX_HDR_BYTES = 65_536
_START = re.compile(rb"MPX,(\d{10}),(?=HDR,|MQ1,)")
_INVARIANT = re.compile(rb"MQ1,\d{1,12}(,(?:[^,]*,){7})")
_START_BYTES = PREFIX_BYTES + 4
_HEADER_START = PREFIX_BYTES + 40


@dataclass(frozen=True, slots=True)
class HdrMessage:
    """A HDR text; the message is `size` bytes long and declared `declared`."""

    size: int
    payload: bytes
    declared: int


@dataclass(frozen=True, slots=True)
class FrameMessage:
    """The start of a frame's message: its header is whole, its pixels need not be here yet.

    `invariant` is what follows the sequence number up to the chip mask, the same in every frame.
    """

    geometry: Geometry
    invariant: bytes
    declared: int


def next_message(
    data: bytes | bytearray, *, counts_comma: bool = True
) -> Need | Garbage | HdrMessage | FrameMessage:
    """What stands at the start of `data`.

    `counts_comma`: lengths count the comma before the payload. A HDR ends where its length says
    or where another message begins before that, so a length that lies costs no frame. A frame's
    size follows from its header, never from its length.
    """
    if len(data) < _START_BYTES:
        return Need(_START_BYTES)
    match = _START.match(data)
    if match is None:
        return Garbage(_next_start(data))
    declared = int(match[1])
    if data[PREFIX_BYTES : PREFIX_BYTES + 3] == b"HDR":
        return _hdr(data, declared, declared - counts_comma)
    return _frame(data, declared)


def _next_start(data: bytes | bytearray) -> int:
    """Bytes to skip to the next message start, or to what may turn out to be one."""
    match = _START.search(data, 1)
    return match.start() if match else max(1, len(data) - _START_BYTES + 1)


def _hdr(data: bytes | bytearray, declared: int, length: int) -> Need | HdrMessage:
    end = PREFIX_BYTES + min(max(length, 4), MAX_HDR_BYTES)
    inner = _START.search(data, _START_BYTES)
    if inner is not None and inner.start() < end:
        end = inner.start()
    elif len(data) < end:
        return Need(end)
    else:
        maybe = data.find(b"M", max(_START_BYTES, end - _START_BYTES + 1), end)
        if maybe >= 0 and len(data) < maybe + _START_BYTES:
            return Need(maybe + _START_BYTES)
    return HdrMessage(end, bytes(data[PREFIX_BYTES:end]), declared)


def _frame(data: bytes | bytearray, declared: int) -> Need | Garbage | FrameMessage:
    if len(data) < _HEADER_START:
        return Need(_HEADER_START)
    try:
        end = PREFIX_BYTES + declared_header_length(bytes(data[PREFIX_BYTES:_HEADER_START]))
        if len(data) < end:
            return Need(end)
        header = bytes(data[PREFIX_BYTES:end])
        return FrameMessage(
            geometry_of(parse_frame_header(header)), invariant_part(header), declared
        )
    except FormatError as error:
        return Garbage(_next_start(data), error)


def invariant_part(header: bytes) -> bytes:
    """The header from behind the sequence number up to and with the chip mask.

    Raises FormatError when the header does not have these fields.
    """
    match = _INVARIANT.match(header)
    if match is None:
        raise FormatError(
            f"Merlin frame header: {header[:48]!r} does not have the fields up to the chip mask",
            "check that this is the camera's data port, or a .mib file",
        )
    return match[1]

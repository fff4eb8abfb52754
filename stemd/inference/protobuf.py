"""The wire format of protocol buffers: enough for a few fields, without their library."""

from __future__ import annotations

from collections.abc import Iterator
from typing import BinaryIO

LONGEST_VARINT = 10
MOST_FIELDS = 100_000
"""Of a message that is skimmed: a graph has one for each node and weight."""
_VARINT, _FIXED64, _BYTES, _FIXED32 = 0, 1, 2, 5


def fields(message: bytes | memoryview) -> Iterator[tuple[int, int | memoryview]]:
    """(field number, whole number or contents) of a message; fixed-size fields are left out.

    Raises ValueError or IndexError where the bytes are no message.
    """
    view = memoryview(message)
    at = 0
    while at < len(view):
        tag, at = varint(view, at)
        kind = tag & 7
        if tag < 8:
            raise ValueError("there is no field 0")  # a file of zeros would be read to its end
        if kind == _VARINT:
            value, at = varint(view, at)
            yield tag >> 3, value
        elif kind == _BYTES:
            size, at = varint(view, at)
            if at + size > len(view):
                raise ValueError("a field ends beyond its message")
            yield tag >> 3, view[at : at + size]
            at += size
        elif kind in (_FIXED64, _FIXED32):
            at += 8 if kind == _FIXED64 else 4
        else:
            raise ValueError(f"there is no wire type {kind}")
    if at != len(view):
        raise ValueError("the last field is cut off")


def skim(file: BinaryIO, begin: int, size: int) -> list[tuple[int, int, int]] | None:
    """(field number, where its contents begin, their bytes) of a message in a file.

    What the fields hold is not read; None where the bytes are no message, or one of too many
    fields.
    """
    found: list[tuple[int, int, int]] = []
    at, stop = begin, begin + size
    while at < stop and len(found) < MOST_FIELDS:
        file.seek(at)
        head = file.read(2 * LONGEST_VARINT)
        try:
            tag, past = varint(head, 0)
            kind = tag & 7
            if tag < 8 or kind not in (_VARINT, _FIXED64, _BYTES, _FIXED32):
                return None
            more = {_FIXED64: 8, _FIXED32: 4}.get(kind, 0)
            if kind in (_VARINT, _BYTES):
                value, past = varint(head, past)
                more = value if kind == _BYTES else 0
        except (ValueError, IndexError):
            return None
        found.append((tag >> 3, at + past, more))
        at += past + more
    return found if at == stop else None


def varint(view: bytes | memoryview, at: int) -> tuple[int, int]:
    """A number of variable length at `at`, and where it ends."""
    value = shift = 0
    while True:
        byte = view[at]
        value |= (byte & 0x7F) << shift
        at, shift = at + 1, shift + 7
        if byte < 0x80:
            return value, at
        if shift >= 70:
            raise ValueError("a number of more than 64 bits")


def field(number: int, value: int | bytes | memoryview) -> bytes:
    """A field of a message: a whole number, or contents with their length."""
    if isinstance(value, int):
        return _varint_bytes(number << 3 | _VARINT) + _varint_bytes(value)
    return _varint_bytes(number << 3 | _BYTES) + _varint_bytes(len(value)) + bytes(value)


def _varint_bytes(value: int) -> bytes:
    value &= 2**64 - 1  # as a negative number is stored
    written = bytearray()
    while value >= 0x80:
        written.append(value & 0x7F | 0x80)
        value >>= 7
    written.append(value)
    return bytes(written)

"""CBOR (RFC 8949) as stream2 uses it: items of a known length, tags kept as tags.

For the few messages that are not images; images are read by compiled code. Nothing is allocated
by a length that is more than what is there.
"""

from __future__ import annotations

import struct
from dataclasses import dataclass
from typing import Any

from stemd.errors import FormatError

SELF_DESCRIBED = b"\xd9\xd9\xf7"
_MAX_DEPTH = 32
_SIMPLE = {20: False, 21: True, 22: None, 23: None}
_FLOATS = {25: ">e", 26: ">f", 27: ">d"}


@dataclass(frozen=True, slots=True)
class Tag:
    """A tagged item."""

    number: int
    value: Any


def _damaged(why: str) -> FormatError:
    return FormatError(f"a damaged message: {why}", "check that the port is the camera's stream")


class _Reader:
    def __init__(self, data: bytes) -> None:
        self.data, self.at = data, 0

    def take(self, size: int) -> bytes:
        if size > len(self.data) - self.at:
            raise _damaged(f"{size} bytes are said to follow byte {self.at}")
        found = self.data[self.at : self.at + size]
        self.at += size
        return found

    def head(self) -> tuple[int, int, int]:
        first = self.take(1)[0]
        major, low = first >> 5, first & 31
        if low < 24:
            return major, low, low
        if low > 27:
            raise _damaged(f"an item of the kind {first:#x}")
        return major, low, int.from_bytes(self.take(1 << (low - 24)), "big")

    def item(self, depth: int = 0) -> Any:
        if depth > _MAX_DEPTH:
            raise _damaged(f"items inside each other more than {_MAX_DEPTH} deep")
        major, low, value = self.head()
        if major == 0:
            return value
        if major == 1:
            return -1 - value
        if major == 2:
            return self.take(value)
        if major == 3:
            return self.take(value).decode("utf-8", "replace")
        if major == 6:
            return Tag(value, self.item(depth + 1))
        if major == 7:
            return self.simple(low, value)
        if value * (major - 3) > len(self.data) - self.at:
            raise _damaged(f"{value} items are said to follow byte {self.at}")
        if major == 4:
            return [self.item(depth + 1) for _ in range(value)]
        return {self.key(depth): self.item(depth + 1) for _ in range(value)}

    def key(self, depth: int) -> str | int:
        key = self.item(depth + 1)
        if not isinstance(key, str | int):
            raise _damaged("a key that is no text")
        return key

    def simple(self, low: int, value: int) -> Any:
        if low in _FLOATS:
            size = 1 << (low - 24)
            return struct.unpack(_FLOATS[low], value.to_bytes(size, "big"))[0]
        if low not in _SIMPLE:
            raise _damaged(f"a simple value {value}")
        return _SIMPLE[low]


def decode(data: bytes) -> Any:
    """The item that `data` is. Raises FormatError where it is none, or not alone."""
    reader = _Reader(data)
    found = reader.item()
    while isinstance(found, Tag) and found.number == 55799:
        found = found.value
    if reader.at != len(data):
        raise _damaged(f"{len(data) - reader.at} bytes behind its end")
    return found


def _head(major: int, value: int) -> bytes:
    if value < 24:
        return bytes([major << 5 | value])
    for power, limit in enumerate((1 << 8, 1 << 16, 1 << 32, 1 << 64)):
        if value < limit:
            return bytes([major << 5 | 24 + power]) + value.to_bytes(1 << power, "big")
    raise ValueError(f"{value} has more than 64 bits")


def encode(item: Any) -> bytes:
    """The bytes of an item: None, numbers, text, bytes, lists, dicts, `Tag`."""
    if item is None or isinstance(item, bool):
        return bytes([0xF6 if item is None else 0xF5 if item else 0xF4])
    if isinstance(item, int):
        return _head(0, item) if item >= 0 else _head(1, -1 - item)
    if isinstance(item, float):
        return b"\xfb" + struct.pack(">d", item)
    if isinstance(item, str):
        text = item.encode()
        return _head(3, len(text)) + text
    if isinstance(item, bytes):
        return _head(2, len(item)) + item
    if isinstance(item, Tag):
        return _head(6, item.number) + encode(item.value)
    if isinstance(item, list | tuple):
        return _head(4, len(item)) + b"".join(encode(i) for i in item)
    return _head(5, len(item)) + b"".join(encode(k) + encode(v) for k, v in item.items())

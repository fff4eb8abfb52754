"""Images of stream2 read in compiled code: a CBOR map, an array for each channel."""

from __future__ import annotations

import numpy as np

from stemd.adapters.dectris.kernels.table import (
    ALGORITHM,
    BAD,
    BSLZ4,
    DATA,
    DATA_END,
    HEIGHT,
    IMAGE,
    ITEM,
    LZ4,
    NO_CHANNEL,
    NONE,
    NUMBER,
    OTHER,
    SERIES,
    WIDTH,
)
from stemd.adapters.dectris.kernels.words import MAX_SIDE, same, word
from stemd.compilation import njit

_MAX_NUMBER = 1 << 40
_TYPE, _IMAGE, _SERIES_ID, _IMAGE_ID = (word(t) for t in ("type", "image", "series_id", "image_id"))
_DATA, _BSLZ4, _LZ4 = (word(t) for t in ("data", "bslz4", "lz4"))


@njit(nogil=True)
def _head(data, at, end):
    """(kind, value, where what follows begins) of a CBOR item; kind -1: damaged."""
    if at >= end:
        return -1, 0, end
    first = np.int64(data[at])
    major, value = first >> 5, first & 31
    at += 1
    if value < 24:
        return major, value, at
    if value > 27:
        return -1, 0, end
    size = 1 << (value - 24)
    if size > end - at or (size == 8 and data[at] > 127):
        return -1, 0, end
    value = np.int64(0)
    for k in range(size):
        value = value << 8 | np.int64(data[at + k])
    return major, value, at + size


@njit(nogil=True)
def _skip(data, at, end):
    """Where the item at `at` ends; -1: damaged."""
    left = 1
    while left > 0:
        left -= 1
        if at < end and data[at] >> 5 == 7:  # a float's bytes are no length
            low = data[at] & 31
            at += 1 if low < 24 else 1 + (1 << (low - 24))
            if low > 27 or at > end:
                return -1
            continue
        major, value, at = _head(data, at, end)
        if major < 0:
            return -1
        if major == 2 or major == 3:
            if value > end - at:
                return -1
            at += value
        elif major == 4 or major == 5:
            if value > end - at:
                return -1
            left += value * (major - 3)
        elif major == 6:
            left += 1
    return at


@njit(nogil=True)
def _channel(data, at, end, row):
    """Read the array of a channel at `at` into `row`."""
    major, value, at = _head(data, at, end)
    if major != 6 or value != 40:
        return False
    major, value, at = _head(data, at, end)
    if major != 4 or value != 2:
        return False
    major, value, at = _head(data, at, end)
    if major != 4 or value != 2:
        return False
    major, height, at = _head(data, at, end)
    if major != 0 or not 0 < height <= MAX_SIDE:
        return False
    major, width, at = _head(data, at, end)
    if major != 0 or not 0 < width <= MAX_SIDE:
        return False
    major, tag, at = _head(data, at, end)
    if major != 6 or (tag != 64 and tag != 69 and tag != 70):
        return False
    row[HEIGHT], row[WIDTH] = height, width
    row[ITEM] = 1 if tag == 64 else 2 if tag == 69 else 4
    row[ALGORITHM] = NONE
    major, value, at = _head(data, at, end)
    if major == 6 and value == 56500:
        major, value, at = _head(data, at, end)
        if major != 4 or value != 3:
            return False
        major, value, at = _head(data, at, end)
        if major != 3 or value > end - at:
            return False
        if same(data, at, value, _BSLZ4):
            row[ALGORITHM] = BSLZ4
        elif same(data, at, value, _LZ4):
            row[ALGORITHM] = LZ4
        else:
            return False
        major, value, at = _head(data, at + value, end)
        if major != 0 or (row[ALGORITHM] == BSLZ4 and value != row[ITEM]):
            return False
        major, value, at = _head(data, at, end)
    if major != 2 or value > end - at:
        return False
    row[DATA], row[DATA_END] = at, at + value
    return True


@njit(nogil=True)
def _channels(data, at, end, channel, row):
    """Find the channel in the map at `at`: (IMAGE, NO_CHANNEL or BAD, where the map ends)."""
    major, count, at = _head(data, at, end)
    if major != 5 or count > end - at:
        return BAD, end
    found = NO_CHANNEL
    for _ in range(count):
        major, size, at = _head(data, at, end)
        if major != 3 or size > end - at:
            return BAD, end
        if found == NO_CHANNEL and (channel.size == 0 or same(data, at, size, channel)):
            if not _channel(data, at + size, end, row):
                return BAD, end
            found = IMAGE
            at = row[DATA_END]
        else:
            at = _skip(data, at + size, end)
        if at < 0:
            return BAD, end
    return found, at


@njit(nogil=True)
def read_cbor_image(data, at, end, channel, row):
    """Kind of the message data[at:end] of stream2; an image's columns are written to `row`."""
    if end - at >= 3 and data[at] == 0xD9 and data[at + 1] == 0xD9 and data[at + 2] == 0xF7:
        at += 3
    major, count, at = _head(data, at, end)
    if major != 5:
        return OTHER
    kind = BAD
    row[SERIES], row[NUMBER] = -1, -1
    for i in range(count):
        major, size, at = _head(data, at, end)
        if major != 3 or size > end - at:
            return BAD
        key = at
        at += size
        if i == 0:
            major, value, at = _head(data, at, end)
            if not same(data, key, size, _TYPE) or major != 3 or value > end - at:
                return OTHER
            if not same(data, at, value, _IMAGE):
                return OTHER
            at += value
        elif same(data, key, size, _SERIES_ID):
            major, row[SERIES], at = _head(data, at, end)
            if major != 0:
                return BAD
        elif same(data, key, size, _IMAGE_ID):
            major, row[NUMBER], at = _head(data, at, end)
            if major != 0:
                return BAD
        elif same(data, key, size, _DATA):
            kind, at = _channels(data, at, end, channel, row)
            if kind == BAD:
                return BAD
        else:
            at = _skip(data, at, end)
            if at < 0:
                return BAD
    if not (0 <= row[SERIES] < _MAX_NUMBER and 0 <= row[NUMBER] < _MAX_NUMBER):
        return BAD
    return kind

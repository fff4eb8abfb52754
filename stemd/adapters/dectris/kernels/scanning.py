"""A stream's bytes to a table of its messages, in compiled code: one row a message."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from stemd.adapters.dectris.kernels.table import (
    ALGORITHM,
    BAD,
    BEGIN,
    BODY,
    BODY_END,
    BSLZ4,
    COMMAND,
    DATA,
    DATA_END,
    END,
    HEIGHT,
    IMAGE,
    ITEM,
    KIND,
    LZ4,
    NO_CHANNEL,
    NONE,
    NUMBER,
    OTHER,
    SERIES,
    WIDTH,
)
from stemd.compilation import njit

Bytes = NDArray[np.uint8]
Rows = NDArray[np.int64]

MAX_MESSAGE_BYTES = 512 * 1024 * 1024
"""A header with all tables of the largest detector is smaller."""
MAX_PARTS = 64
_MAX_NUMBER = 1 << 40
_MAX_SIDE = 1 << 16


def _word(text: str) -> Bytes:
    return np.frombuffer(text.encode(), np.uint8)


_TYPE, _IMAGE, _SERIES_ID, _IMAGE_ID = (
    _word(t) for t in ("type", "image", "series_id", "image_id")
)
_DATA, _BSLZ4, _LZ4 = (_word(t) for t in ("data", "bslz4", "lz4"))
_HTYPE_IMAGE, _FRAME, _SERIES = (_word(t) for t in ("dimage-", '"frame"', '"series"'))
_SHAPE, _UINT, _ENCODING = (_word(t) for t in ('"shape"', "uint", '"encoding"'))


@njit(nogil=True)
def _is(data, at, size, word):
    if size != word.size:
        return False
    for k in range(size):  # noqa: SIM110 numba knows no generators
        if data[at + k] != word[k]:
            return False
    return True


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
    if major != 0 or not 0 < height <= _MAX_SIDE:
        return False
    major, width, at = _head(data, at, end)
    if major != 0 or not 0 < width <= _MAX_SIDE:
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
        if _is(data, at, value, _BSLZ4):
            row[ALGORITHM] = BSLZ4
        elif _is(data, at, value, _LZ4):
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
        if found == NO_CHANNEL and (channel.size == 0 or _is(data, at, size, channel)):
            if not _channel(data, at + size, end, row):
                return BAD, end
            found = IMAGE
        at = _skip(data, at + size, end)
        if at < 0:
            return BAD, end
    return found, at


@njit(nogil=True)
def _cbor_image(data, at, end, channel, row):
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
            if not _is(data, key, size, _TYPE) or major != 3 or value > end - at:
                return OTHER
            if not _is(data, at, value, _IMAGE):
                return OTHER
            at += value
        elif _is(data, key, size, _SERIES_ID):
            major, row[SERIES], at = _head(data, at, end)
            if major != 0:
                return BAD
        elif _is(data, key, size, _IMAGE_ID):
            major, row[NUMBER], at = _head(data, at, end)
            if major != 0:
                return BAD
        elif _is(data, key, size, _DATA):
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


@njit(nogil=True)
def _find(data, at, end, word):
    """Where what follows `word` begins, -1: it does not occur."""
    for start in range(at, end - word.size + 1):
        if data[start] == word[0] and _is(data, start, word.size, word):
            return start + word.size
    return -1


@njit(nogil=True)
def _number(data, at, end):
    """The next whole number from `at` on and where it ends; -1: there is none."""
    while at < end and not 48 <= data[at] <= 57:
        if data[at] == 44 or data[at] == 125 or data[at] == 45:  # , } -
            return -1, at
        at += 1
    value, digits = np.int64(-1), 0
    while at < end and 48 <= data[at] <= 57 and digits < 15:
        value = max(np.int64(0), value) * 10 + np.int64(data[at]) - 48
        digits += 1
        at += 1
    return value, at


@njit(nogil=True)
def _legacy_image(data, parts, count, row):
    """Kind of a message of the legacy stream whose parts are data[parts[i, 0]:parts[i, 1]]."""
    at, end = parts[0, 0], parts[0, 1]
    if _find(data, at, end, _HTYPE_IMAGE) < 0:
        return OTHER
    if count < 3:
        return BAD
    frame, series = _find(data, at, end, _FRAME), _find(data, at, end, _SERIES)
    at, described = parts[1, 0], parts[1, 1]
    shape = _find(data, at, described, _SHAPE)
    bits = _find(data, at, described, _UINT)
    encoding = _find(data, at, described, _ENCODING)
    if min(frame, series, shape, bits, encoding) < 0:
        return BAD
    row[NUMBER], _ = _number(data, frame, end)
    row[SERIES], _ = _number(data, series, end)
    row[WIDTH], after = _number(data, shape, described)
    row[HEIGHT], _ = _number(data, after + 1, described)
    size, _ = _number(data, bits, described)
    row[ITEM] = size >> 3
    while encoding < described and (data[encoding] == 58 or data[encoding] <= 32):  # :
        encoding += 1
    encoding += 1  # "
    if encoding + 4 >= described:
        return BAD
    first = data[encoding]
    row[ALGORITHM] = BSLZ4 if first == 98 else LZ4 if first == 108 else NONE  # b, l
    if row[ALGORITHM] == NONE and first != 60:  # <
        return BAD
    if row[ALGORITHM] == BSLZ4:
        value, _ = _number(data, encoding + 2, described)
        if value != size:
            return BAD
    row[DATA], row[DATA_END] = parts[2, 0], parts[2, 1]
    sides = 0 < row[HEIGHT] <= _MAX_SIDE and 0 < row[WIDTH] <= _MAX_SIDE
    if not sides or (size != 8 and size != 16 and size != 32):
        return BAD
    return IMAGE if row[NUMBER] >= 0 and row[SERIES] >= 0 else BAD


@njit(nogil=True, cache=True)
def find_messages(data, at, stop, channel, rows, parts):
    """The messages that are whole in data[at:stop], no more than `rows` has rows.

    Returns how many there are, where the next begins, and how many bytes it has, as far as that
    is known (0: not; -1: what stands there is no message). `channel` is the name of stream2's
    channel to look for (empty: the first), `parts` (MAX_PARTS, 2) scratch memory. Cost: about
    0.2 us a message.
    """
    found = 0
    while found < rows.shape[0]:
        here, count, more = at, 0, True
        command = False
        while more:
            if stop - here < 2:
                return found, at, 0
            flags = data[here]
            if flags > 7 or (flags & 4 != 0 and flags & 1 != 0) or count == MAX_PARTS:
                return found, at, -1
            if flags & 2 == 0:
                size = np.int64(data[here + 1])
                body = here + 2
            else:
                if stop - here < 9:
                    return found, at, 0
                size = np.int64(0)
                for k in range(8):
                    if size > MAX_MESSAGE_BYTES:
                        return found, at, -1
                    size = size << 8 | np.int64(data[here + 1 + k])
                body = here + 9
            if body - at + size > MAX_MESSAGE_BYTES:
                return found, at, -1
            here = body + size
            if here > stop:
                return found, at, here - at
            parts[count, 0], parts[count, 1] = body, here
            count += 1
            command = flags & 4 != 0
            if command and count > 1:
                return found, at, -1
            more = flags & 1 != 0
        row = rows[found]
        row[:] = 0
        row[BEGIN], row[END] = at, here
        row[BODY], row[BODY_END] = parts[0, 0], parts[0, 1]
        if command:
            row[KIND] = COMMAND
        elif parts[0, 1] > parts[0, 0] and data[parts[0, 0]] == 123:  # {
            row[KIND] = _legacy_image(data, parts, count, row)
        else:
            row[KIND] = _cbor_image(data, parts[0, 0], parts[0, 1], channel, row)
        found += 1
        at = here
    return found, at, 0


def parts_of(message: bytes) -> list[bytes]:
    """The parts of a whole message."""
    found, at = [], 0
    while at < len(message):
        long = message[at] & 2
        size = int.from_bytes(message[at + 1 : at + 9], "big") if long else message[at + 1]
        at += 9 if long else 2
        found.append(message[at : at + size])
        at += size
    return found

"""Images of the legacy stream read in compiled code: JSON in parts, looked through for words."""

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
    NONE,
    NUMBER,
    OTHER,
    SERIES,
    WIDTH,
)
from stemd.adapters.dectris.kernels.words import MAX_SIDE, same, word
from stemd.compilation import njit

_HTYPE_IMAGE, _FRAME, _SERIES = (word(t) for t in ("dimage-", '"frame"', '"series"'))
_SHAPE, _UINT, _ENCODING = (word(t) for t in ('"shape"', "uint", '"encoding"'))
_LZ4 = word("lz4")


@njit(nogil=True)
def _find(data, at, end, word):
    """Where what follows `word` begins, -1: it does not occur."""
    for start in range(at, end - word.size + 1):
        if data[start] == word[0] and same(data, start, word.size, word):
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
def _algorithm(data, at, end, bits):
    """The algorithm of the encoding behind `at`, such as "bs16-lz4<"; -1: none that is known."""
    while at < end and (data[at] == 58 or data[at] <= 32):  # :
        at += 1
    at += 1  # "
    found = NONE
    if at + 2 < end and data[at] == 98 and data[at + 1] == 115:  # bs
        value, at = _number(data, at + 2, end)
        if value != bits or at >= end or data[at] != 45:  # -
            return -1
        at += 1
        found = BSLZ4
    if at + 3 < end and same(data, at, 3, _LZ4):
        at += 3
        found = BSLZ4 if found == BSLZ4 else LZ4
    elif found == BSLZ4:
        return -1
    swapped = at < end and data[at] == 62 and bits > 8  # >
    known = at + 1 < end and (data[at] == 60 or data[at] == 62) and data[at + 1] == 34  # < > "
    return found if known and not swapped else -1


@njit(nogil=True)
def read_legacy_image(data, parts, count, row):
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
    row[ALGORITHM] = _algorithm(data, encoding, described, size)
    if row[ALGORITHM] < 0:
        return BAD
    row[DATA], row[DATA_END] = parts[2, 0], parts[2, 1]
    sides = 0 < row[HEIGHT] <= MAX_SIDE and 0 < row[WIDTH] <= MAX_SIDE
    if not sides or (size != 8 and size != 16 and size != 32):
        return BAD
    return IMAGE if row[NUMBER] >= 0 and row[SERIES] >= 0 else BAD

"""Compressed images expanded, whole blocks of them; `compression` says what the bytes are."""

from __future__ import annotations

import numpy as np

from stemd.adapters.dectris.kernels import lz4
from stemd.adapters.dectris.kernels.bitshuffle import unshuffle
from stemd.adapters.dectris.kernels.table import ALGORITHM, BSLZ4, DATA, DATA_END, LZ4
from stemd.compilation import njit

HEAD_BYTES = 12
BLOCK_BYTES = 8192
"""Of bitshuffle where nothing else is said."""
_MAX_BLOCK_BYTES = 64 * 1024 * 1024


@njit(nogil=True)
def _big(data, at, size):
    value = np.int64(0)
    for k in range(size):
        value = value << 8 | np.int64(data[at + k])
    return value


@njit(nogil=True)
def _zero_most(values):
    most = values.dtype.type(-1)
    zero = values.dtype.type(0)
    for i in range(values.size):
        value = values[i]
        values[i] = zero if value == most else value


@njit(nogil=True)
def _clean(out, item):
    """Zero where there is no value, which the type's maximum says."""
    if item == 1:
        _zero_most(out)
    elif item == 2:
        _zero_most(out.view(np.uint16))
    else:
        _zero_most(out.view(np.uint32))


@njit(nogil=True)
def _expand_bslz4(
    data,
    at,
    end,
    item,
    planes,
    out,
    clean,
):
    """One image; `planes` is scratch memory as large as it, and SLACK_BYTES."""
    total = out.size
    if end - at < HEAD_BYTES:
        return False
    told = _big(data, at, 8)
    if told != total and told != 0:  # simulators leave the head empty
        return False
    block = _big(data, at + 8, 4)
    if block == 0:
        block = BLOCK_BYTES
    if block % (8 * item) != 0 or block > _MAX_BLOCK_BYTES:
        return False
    at += HEAD_BYTES
    done = 0
    whole = total - total % (8 * item)
    while done < whole:
        size = min(block, whole - done)
        if end - at < 4:
            return False
        length = _big(data, at, 4)
        at += 4
        if length > end - at or lz4.expand(data, at, at + length, planes, 0, size) != size:
            return False
        at += length
        unshuffle(planes, size // item, item, out, done, clean)
        done += size
    if total - done != end - at:
        return False
    for k in range(total - done):
        out[done + k] = data[at + k]
    if clean:
        _clean(out[done:], item)
    return True


@njit(nogil=True)
def _expand_lz4(data, at, end, room, out):
    """One image, with or without the head; no LZ4 block begins with the head's zeros."""
    total = out.size
    if end - at < HEAD_BYTES or _big(data, at, 8) != total:
        if lz4.expand(data, at, end, room, 0, total) != total:
            return False
        out[:] = room[:total]
        return True
    block = _big(data, at + 8, 4)
    at += HEAD_BYTES
    done = 0
    while done < total:
        size = min(block, total - done)
        if size <= 0 or end - at < 4:
            return False
        length = _big(data, at, 4)
        at += 4
        if length > end - at:
            return False
        if length == size:
            for k in range(size):
                room[done + k] = data[at + k]
        elif lz4.expand(data, at, at + length, room, done, size) != size:
            return False
        at += length
        done += size
    out[:] = room[:total]
    return at == end


@njit(nogil=True)
def _expand(
    data,
    at,
    end,
    algorithm,
    item,
    planes,
    out,
    clean,
):
    if algorithm == BSLZ4:
        return _expand_bslz4(data, at, end, item, planes, out, clean)
    if algorithm == LZ4:
        if not _expand_lz4(data, at, end, planes, out):
            return False
    elif end - at != out.size:
        return False
    else:
        out[:] = data[at:end]
    if clean:
        _clean(out, item)
    return True


@njit(nogil=True, cache=True)
def expand_images(
    data,
    rows,
    item,
    image,
    clean,
    planes,
    out,
    good,
):
    """Expand the images of `rows` (see `table`) one behind the other into `out`.

    Damaged ones are left out: `good[i]` becomes 0, and the number of good ones is returned.
    `item`: bytes of a value, `image`: of an image. `clean`: pixels at the type's maximum have no
    value and become 0. `planes` is scratch memory of an image's size, and SLACK_BYTES.
    """
    count = 0
    for i in range(rows.shape[0]):
        target = out[count * image : (count + 1) * image]
        at, end = rows[i, DATA], rows[i, DATA_END]
        well = _expand(data, at, end, rows[i, ALGORITHM], item, planes, target, clean)
        good[i] = well
        count += well
    return count

"""LZ4 blocks, compressed and expanded in compiled code.

Block format: https://github.com/lz4/lz4/blob/dev/doc/lz4_Block_format.md. The expander checks every
length and distance that it reads before it follows it.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from stemd.adapters.dectris.kernels.memory import SLACK_BYTES, move_16, move_32
from stemd.compilation import njit

Bytes = NDArray[np.uint8]

_LAST_LITERALS = 5  # a block ends in literals, so many at least
_MATCH_MARGIN = 12  # and its last match begins so many bytes before its end
_HASH_BITS = 12


@njit(inline="always")  # a third faster so
def _copy(target, to, distance, size):
    """Copy `size` bytes from `distance` bytes before; where they overlap the pattern repeats.

    What has been copied doubles the pattern: no move waits for the bytes of the one before. Moves
    that go too far are mended by those that follow, or end in the slack.
    """
    while size > 0:
        part = min(distance, size)
        if part <= 16:
            move_16(target, to, target, to - distance)
        else:
            for k in range(0, part, 32):
                move_32(target, to + k, target, to + k - distance)
        to += part
        size -= part
        distance += part


@njit(nogil=True, cache=True)
def expand(source, at, end, target, start, size):
    """Expand the block source[at:end] into target[start:start+size]; bytes written, -1: damaged.

    `target` has SLACK_BYTES behind that, whose content is lost. Cost: about 0.1 ns a byte.
    """
    out = start
    limit = start + size
    wide = source.size - SLACK_BYTES
    while at < end:
        token = np.int64(source[at])
        at += 1
        literals = token >> 4
        if literals == 15:
            more = 255
            while more == 255:
                if at >= end:
                    return -1
                more = np.int64(source[at])
                at += 1
                literals += more
        if literals > end - at or literals > limit - out:
            return -1
        if at + literals <= wide:
            move_16(target, out, source, at)  # mostly all of them, so nothing is to be guessed
            if literals > 16:
                for k in range(16, literals, 16):
                    move_16(target, out + k, source, at + k)
        else:
            for k in range(literals):
                target[out + k] = source[at + k]
        at += literals
        out += literals
        if at == end:
            return out - start
        if end - at < 2:
            return -1
        distance = np.int64(source[at]) | np.int64(source[at + 1]) << 8
        at += 2
        if distance == 0 or distance > out - start:
            return -1
        length = token & 15
        if length == 15:
            more = 255
            while more == 255:
                if at >= end:
                    return -1
                more = np.int64(source[at])
                at += 1
                length += more
        length += 4
        if length > limit - out:
            return -1
        _copy(target, out, distance, length)
        out += length
    return -1


@njit(nogil=True)
def _four(data, at):
    return (
        np.int64(data[at])
        | np.int64(data[at + 1]) << 8
        | np.int64(data[at + 2]) << 16
        | np.int64(data[at + 3]) << 24
    )


@njit(nogil=True)
def _put_length(target, out, length):
    while length >= 255:
        target[out] = 255
        out += 1
        length -= 255
    target[out] = length
    return out + 1


def most_bytes(size: int) -> int:
    """Bytes that a block of `size` bytes takes at most."""
    return size + size // 255 + 16


@njit(nogil=True, cache=True)
def compress(source, at, size, target, start):
    """Compress source[at:at+size] to target[start:]; bytes written, at most `most_bytes(size)`."""
    table = np.full(1 << _HASH_BITS, -1, np.int64)
    end = at + size
    out, anchor, here = start, at, at
    while here + _MATCH_MARGIN < end:
        four = _four(source, here)
        key = ((four * 2654435761) & 0xFFFFFFFF) >> (32 - _HASH_BITS)
        before = table[key]
        table[key] = here
        if before < 0 or here - before > 65535 or _four(source, before) != four:
            here += 1
            continue
        length = 4
        while here + length < end - _LAST_LITERALS and (
            source[before + length] == source[here + length]
        ):
            length += 1
        literals = here - anchor
        token = out
        out += 1
        target[token] = min(literals, 15) << 4 | min(length - 4, 15)
        if literals >= 15:
            out = _put_length(target, out, literals - 15)
        for k in range(literals):
            target[out + k] = source[anchor + k]
        out += literals
        target[out] = (here - before) & 0xFF
        target[out + 1] = (here - before) >> 8
        out += 2
        if length - 4 >= 15:
            out = _put_length(target, out, length - 19)
        here += length
        anchor = here
    literals = end - anchor
    target[out] = min(literals, 15) << 4
    out += 1
    if literals >= 15:
        out = _put_length(target, out, literals - 15)
    for k in range(literals):
        target[out + k] = source[anchor + k]
    return out + literals - start

"""Packed Merlin pixels to plain values and back, a word of eight bytes at a time.

The layout is described in geometry.py. Words are moved with shifts and masks only, which the
compiler turns into vector instructions: the cost is that of writing the pattern.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from stemd.adapters.merlin.geometry import Geometry
from stemd.compilation import njit

_B1 = np.uint64(0x00FF00FF00FF00FF)
_B2 = np.uint64(0x0000FFFF0000FFFF)
_U12 = np.uint64(0xFFF)
_U16 = np.uint64(0xFFFF)
_LOW = np.uint64(0x0101010101010101)
_SEVEN = np.uint64(0x7F7F7F7F7F7F7F7F)
_UPWARD = np.uint64(0x8040201008040201)
_DOWNWARD = np.uint64(0x0102040810204080)
_BYTE = np.uint64(0xFF)
_0, _1, _2, _7, _8, _12 = (np.uint64(n) for n in (0, 1, 2, 7, 8, 12))
_16, _20, _31, _32 = (np.uint64(n) for n in (16, 20, 31, 32))


@njit(nogil=True, cache=True)
def _swap2(x: np.uint64) -> np.uint64:
    """Swap the bytes of each of four 16-bit values."""
    return ((x & _B1) << _8) | ((x >> _8) & _B1)


@njit(nogil=True, cache=True)
def _swap8(x: np.uint64) -> np.uint64:
    """Reverse eight bytes."""
    x = _swap2(x)
    x = ((x & _B2) << _16) | ((x >> _16) & _B2)
    return (x << _32) | (x >> _32)


@njit(nogil=True, cache=True)
def _join(high: np.uint64, low: np.uint64) -> np.uint64:
    """Two 32-bit counts from the lower two 16-bit halves of each, 12 bits in every half."""
    first = ((high & _U16) << _12) + (low & _U16)
    second = (((high >> _16) & _U16) << _12) + ((low >> _16) & _U16)
    return first | (second << _32)


@njit(nogil=True, cache=True)
def _unpack_chip(
    wire: NDArray[np.uint64],
    w0: int,
    plane: int,
    out: NDArray[np.uint64],
    o0: int,
    depth: int,
    turned: bool,
) -> None:
    """256 pixels of one chip: wire words from `w0` to output words from `o0`."""
    # unsigned, so that no index can count from the end: that keeps loops from being vectorised
    w, o, last = np.uint64(w0), np.uint64(o0), np.uint64(w0 + 63)
    if depth == 1:
        for word in range(4):
            x = wire[w0 + (3 - word if turned else word)]
            base = o0 + 8 * word
            for b in range(8):
                # little-endian load: byte 7 of the word is its lowest byte as sent big-endian
                byte = (x >> np.uint64(8 * (b if turned else 7 - b))) & _BYTE
                bits = (byte * _LOW) & (_DOWNWARD if turned else _UPWARD)
                out[base + b] = ((bits + _SEVEN) >> _7) & _LOW
    elif depth == 6 and turned:
        for i in range(32):
            j = np.uint64(i)
            out[o + j] = wire[w + _31 - j]
    elif depth == 6:
        for i in range(32):
            j = np.uint64(i)
            out[o + j] = _swap8(wire[w + j])
    elif depth == 12 and turned:
        for i in range(64):
            j = np.uint64(i)
            out[o + j] = _swap2(wire[last - j])
    elif depth == 12:
        for i in range(64):
            j = np.uint64(i)
            out[o + j] = _swap8(wire[w + j])
    elif turned:
        for i in range(64):
            j = np.uint64(i)
            high, low = _swap2(wire[last - j]), _swap2(wire[last + np.uint64(plane) - j])
            out[o + _2 * j] = _join(high, low)
            out[o + _2 * j + _1] = _join(high >> _32, low >> _32)
    else:
        for i in range(64):
            j = np.uint64(i)
            high, low = _swap8(wire[w + j]), _swap8(wire[w + np.uint64(plane) + j])
            out[o + _2 * j] = _join(high, low)
            out[o + _2 * j + _1] = _join(high >> _32, low >> _32)


@njit(nogil=True, cache=True)
def unpack_words(
    wire: NDArray[np.uint64],
    offset: int,
    stride: int,
    count: int,
    rows: int,
    chips: int,
    depth: int,
    out: NDArray[np.uint64],
) -> None:
    """Unpack `count` raw frames.

    `wire` are the bytes as 8-byte words, the pixels of frame i from word `offset + i * stride`;
    `rows` wire rows of `chips` (1 or 4) chips at `depth` 1, 6, 12 or 24 bit. `out` takes the
    patterns one after the other as words of 8 bytes, little-endian u1, u1, u2 or u4.
    The caller guarantees the sizes. Cost: about one write of the pattern.
    """
    words = 4 if depth == 1 else (32 if depth == 6 else 64)  # of a chip's wire row
    out_words = 32 if depth <= 6 else (64 if depth == 12 else 128)  # of a chip's row
    plane = rows * chips * words
    across = 2 if chips == 4 else 1
    height = 2 * rows if chips == 4 else rows
    row_out = across * out_words
    for i in range(count):
        base = offset + i * stride
        o0 = i * height * row_out
        for r in range(rows):
            w = base + r * chips * words
            if chips == 1:
                _unpack_chip(wire, w, plane, out, o0 + r * row_out, depth, False)
            else:
                top = o0 + r * row_out
                bottom = o0 + (height - 1 - r) * row_out
                _unpack_chip(wire, w, plane, out, bottom + out_words, depth, True)
                _unpack_chip(wire, w + words, plane, out, bottom, depth, True)
                _unpack_chip(wire, w + 2 * words, plane, out, top + out_words, depth, False)
                _unpack_chip(wire, w + 3 * words, plane, out, top, depth, False)


@njit(nogil=True, cache=True)
def _put_chip(
    pattern: NDArray[np.uint32],
    y: int,
    x0: int,
    wire: NDArray[np.uint8],
    at: int,
    plane: int,
    depth: int,
    turned: bool,
) -> None:
    """Pack 256 pixels of row `y` from column `x0` into wire bytes from `at`."""
    per_word = 64 if depth == 1 else (8 if depth == 6 else 4)
    for j in range(256 // per_word):
        for k in range(per_word):
            c = j * per_word + k
            v = pattern[y, x0 + (255 - c if turned else c)]
            if depth == 1:
                if k % 8 == 0:
                    wire[at + 8 * j + 7 - k // 8] = 0
                if v != 0:
                    wire[at + 8 * j + 7 - k // 8] |= np.uint8(1 << (k % 8))
            elif depth == 6:
                wire[at + 8 * j + 7 - k] = v
            else:
                o = at + 8 * j + 2 * (3 - k)
                if depth == 24:
                    low = v & np.uint32(0xFFF)
                    wire[o + plane] = low >> np.uint32(8)
                    wire[o + plane + 1] = low & np.uint32(0xFF)
                    v = v >> np.uint32(12)
                wire[o] = v >> np.uint32(8)
                wire[o + 1] = v & np.uint32(0xFF)


@njit(nogil=True, cache=True)
def pack_frame(
    pattern: NDArray[np.uint32], rows: int, chips: int, depth: int, wire: NDArray[np.uint8]
) -> None:
    """The inverse of `unpack_words` for one pattern (height, width): writes its wire bytes."""
    words = 4 if depth == 1 else (32 if depth == 6 else 64)
    plane = rows * chips * words * 8
    for r in range(rows):
        at = r * chips * words * 8
        if chips == 1:
            _put_chip(pattern, r, 0, wire, at, plane, depth, False)
        else:
            bottom = 2 * rows - 1 - r
            _put_chip(pattern, bottom, 256, wire, at, plane, depth, True)
            _put_chip(pattern, bottom, 0, wire, at + words * 8, plane, depth, True)
            _put_chip(pattern, r, 256, wire, at + 2 * words * 8, plane, depth, False)
            _put_chip(pattern, r, 0, wire, at + 3 * words * 8, plane, depth, False)


def unpack_frames(
    frames: NDArray[np.uint8], geometry: Geometry, count: int, out: NDArray[np.uint8]
) -> None:
    """Unpack `count` frames (header and pixels, contiguous in `frames`) into `out`.

    Both are flat byte arrays that hold at least `count` frames; headers are skipped.
    """
    size = geometry.frame_bytes
    unpack_words(
        frames[: count * size].view(np.uint64),
        geometry.header_bytes // 8,
        size // 8,
        count,
        geometry.wire_rows,
        geometry.chips,
        geometry.depth,
        out[: count * geometry.unpacked_bytes].view(np.uint64),
    )

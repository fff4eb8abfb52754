"""Bits of many values sorted by their weight (https://github.com/kiyo-masui/bitshuffle), and back.

A block of n values (n a multiple of 8) of `size` bytes becomes 8 * size planes of n / 8 bytes:
bit j of byte g of plane k is bit k of value 8 g + j. Values are little-endian.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from stemd.compilation import njit

Bytes = NDArray[np.uint8]
Words = NDArray[np.uint64]


@njit(nogil=True)
def _turn(x):
    """An 8 x 8 matrix of bits, rows as bytes, transposed (Warren, Hacker's Delight, 7-3)."""
    t = (x ^ (x >> np.uint64(7))) & np.uint64(0x00AA00AA00AA00AA)
    x = x ^ t ^ (t << np.uint64(7))
    t = (x ^ (x >> np.uint64(14))) & np.uint64(0x0000CCCC0000CCCC)
    x = x ^ t ^ (t << np.uint64(14))
    t = (x ^ (x >> np.uint64(28))) & np.uint64(0x00000000F0F0F0F0)
    return x ^ t ^ (t << np.uint64(28))


@njit(nogil=True)
def _spread_8(x):
    """The low four bytes of x with a zero byte behind each."""
    x = (x | (x << np.uint64(16))) & np.uint64(0x0000FFFF0000FFFF)
    return (x | (x << np.uint64(8))) & np.uint64(0x00FF00FF00FF00FF)


@njit(nogil=True)
def _spread_16(x):
    """The low two pairs of bytes of x with a zero pair behind each."""
    return (x | (x << np.uint64(16))) & np.uint64(0x0000FFFF0000FFFF)


@njit(nogil=True)
def _planes_of_byte(planes, first, count, out):
    """Byte `first // 8` of all values: eight values a word."""
    p0 = planes[first * count : (first + 1) * count]
    p1 = planes[(first + 1) * count : (first + 2) * count]
    p2 = planes[(first + 2) * count : (first + 3) * count]
    p3 = planes[(first + 3) * count : (first + 4) * count]
    p4 = planes[(first + 4) * count : (first + 5) * count]
    p5 = planes[(first + 5) * count : (first + 6) * count]
    p6 = planes[(first + 6) * count : (first + 7) * count]
    p7 = planes[(first + 7) * count : (first + 8) * count]
    for g in range(count):
        out[g] = _turn(
            np.uint64(p0[g])
            | np.uint64(p1[g]) << np.uint64(8)
            | np.uint64(p2[g]) << np.uint64(16)
            | np.uint64(p3[g]) << np.uint64(24)
            | np.uint64(p4[g]) << np.uint64(32)
            | np.uint64(p5[g]) << np.uint64(40)
            | np.uint64(p6[g]) << np.uint64(48)
            | np.uint64(p7[g]) << np.uint64(56)
        )


@njit(nogil=True, cache=True)
def unshuffle(planes, values, size, words, out):
    """The values of a block of `planes`; `values` is a multiple of 8, `size` 1, 2 or 4 bytes.

    `out` takes them, `words` is scratch memory of `values` / 8 * `size` words. Cost: about 0.1 ns
    a byte.
    """
    count = values // 8
    target = out if size == 1 else words
    for b in range(size):
        _planes_of_byte(planes, 8 * b, count, target[b * count : (b + 1) * count])
    if size == 1:
        return
    low, high = words[:count], words[count : 2 * count]
    half = np.uint64(32)
    byte = np.uint64(8)
    if size == 2:
        for g in range(count):
            a, b = low[g], high[g]
            out[2 * g] = _spread_8(a & np.uint64(0xFFFFFFFF)) | (
                _spread_8(b & np.uint64(0xFFFFFFFF)) << byte
            )
            out[2 * g + 1] = _spread_8(a >> half) | (_spread_8(b >> half) << byte)
        return
    third, fourth = words[2 * count : 3 * count], words[3 * count : 4 * count]
    for g in range(count):
        for q in range(4):
            shift = np.uint64(16 * q)
            two = np.uint64(0xFFFF)
            under = _spread_8((low[g] >> shift) & two) | (
                _spread_8((high[g] >> shift) & two) << byte
            )
            above = _spread_8((third[g] >> shift) & two) | (
                _spread_8((fourth[g] >> shift) & two) << byte
            )
            out[4 * g + q] = _spread_16(under) | (_spread_16(above) << np.uint64(16))


@njit(nogil=True, cache=True)
def shuffle(values, count, size, out):
    """Planes of the `count` values of `size` bytes in `values`; `count` is a multiple of 8."""
    groups = count // 8
    for g in range(groups):
        for b in range(size):
            x = np.uint64(0)
            for j in range(8):
                x |= np.uint64(values[(8 * g + j) * size + b]) << np.uint64(8 * j)
            x = _turn(x)
            for k in range(8):
                out[(8 * b + k) * groups + g] = (x >> np.uint64(8 * k)) & np.uint64(0xFF)

"""Bits of many values sorted by their weight (https://github.com/kiyo-masui/bitshuffle), and back.

A block of n values (n a multiple of 8) of `size` bytes becomes 8 * size planes of n / 8 bytes:
bit j of byte g of plane k is bit k of value 8 g + j. Values are little-endian.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from stemd.adapters.dectris.kernels.turning import turn_1, turn_2, turn_4
from stemd.compilation import njit

Bytes = NDArray[np.uint8]


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
def _eight(planes, g, count, size, out, to, clean):
    """Values 8 g to 8 g + 7 of a block, one by one."""
    for j in range(8):
        value = np.int64(0)
        for k in range(8 * size):
            value |= (np.int64(planes[k * count + g]) >> j & 1) << k
        if clean and value == (1 << 8 * size) - 1:
            value = np.int64(0)
        for b in range(size):
            out[to + j * size + b] = value >> 8 * b & 0xFF


@njit(nogil=True, cache=True)
def unshuffle(planes, values, size, out, to, clean):
    """The values of a block of `planes`; `values` is a multiple of 8, `size` 1, 2 or 4 bytes.

    They are written from out[to] on; `clean`: the type's maximum becomes 0. Cost: about 0.03 ns a
    byte.
    """
    count = values // 8
    whole = count // 8 * 8
    for g in range(0, whole, 8):
        if size == 1:
            turn_1(planes, g, count, out, to + 8 * g, clean)
        elif size == 2:
            turn_2(planes, g, count, out, to + 16 * g, clean)
        else:
            turn_4(planes, g, count, out, to + 32 * g, clean)
    for g in range(whole, count):
        _eight(planes, g, count, size, out, to + 8 * size * g, clean)


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

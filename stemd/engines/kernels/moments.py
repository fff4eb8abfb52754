"""Sum, first moments and virtual detectors of whole patterns in one pass over their bytes.

Rows are taken in pairs, in the order in which they lie in memory, and each pixel is read once.
A running sum is kept for every detector column, C_x(y) = sum of I(y', x) for y' <= y, and each
pair of rows gives two more sums: of both rows and of the second one. From them follow, exactly
in integers and without a multiplication a pixel,

    sum I   = sum_x C_x(H-1)
    sum x I = sum_x x C_x(H-1)
    sum y I = sum over pairs of y (sum of both rows) + (sum of the second row)

and a virtual detector costs only its rim: the part of column x inside a disc is one interval of
rows y0..y1, whose sum is C_x(y1) - C_x(y0 - 1). An annulus is the difference of two discs.
"""

from __future__ import annotations

import numba
import numpy as np

from stemd.engines.kernels.intrinsics import byte_swap, prefetch

MAX_WIDTH = 32767
"""Detector columns up to which a pair of rows of 16-bit pixels cannot overflow 32 bits."""
MAX_HEIGHT = 65536
"""Detector rows up to which a column of 16-bit pixels cannot."""
AHEAD_BYTES = 3072
"""How far ahead memory is asked for: two rows side by side are two streams, which the
processor's own prefetcher does not follow well (measured: 15 microseconds a pattern without,
6 with)."""
_LINE_BYTES = 64


@numba.njit(nogil=True, cache=True, inline="always")
def _load(pixel, swap, like):
    """A pixel in native byte order, widened to the accumulator's type."""
    if swap:
        return like + byte_swap(pixel)
    return like + pixel


@numba.njit(nogil=True, cache=True)
def _two_rows(pixels, start, width, column, swap):
    """Add the rows at pixels[start], pixels[start + width] to the column sums.

    Returns the sums of (both rows, the second row). Takes no slices: a slice is counted as one
    more user of the memory, which costs as much as adding half a row.
    """
    zero = column.dtype.type(0)
    both = zero
    second = zero
    upper = np.uint64(start)
    lower = np.uint64(start + width)
    if swap:
        for i in range(width):
            x = np.uint64(i)
            b = zero + byte_swap(pixels[lower + x])
            pair = zero + byte_swap(pixels[upper + x]) + b
            column[x] += pair
            both += pair
            second += b
    else:
        for i in range(width):
            x = np.uint64(i)
            b = zero + pixels[lower + x]
            pair = zero + pixels[upper + x] + b
            column[x] += pair
            both += pair
            second += b
    return both, second


@numba.njit(nogil=True, cache=True)
def reduce_frames(
    wire,
    like,
    swap,
    offset,
    stride,
    count,
    height,
    width,
    probe,
    edge_start,
    edge_column,
    edge_disc,
    edge_sign,
    outer,
    inner,
    column,
    disc,
    total,
    moment_y,
    moment_x,
    detectors,
):
    """Reduce `count` patterns to a few integers each, written at their probe positions.

    wire: uint8 (bytes,), pixels of frame i from byte offset + i*stride, height*width values of
    the type of `like` (an empty array), byte order reversed if `swap`. probe: int64 (count,),
    -1 = belongs to no position. edge_*: the rims of the discs (kernels/discs.py). outer, inner:
    for each detector the disc it is made of, and the one taken out of it or -1.
    column: scratch (width,), uint32 for 8 and 16-bit pixels, else uint64; disc: scratch int64
    (number of discs,).
    total, moment_y, moment_x: int64 (positions,), detectors: int64 (n, positions): added to.
    The caller guarantees probe < positions, pixels inside `wire`, and the largest shape.
    """
    bytes_frame = height * width * like.itemsize
    bytes_pair = 2 * width * like.itemsize
    zero = column.dtype.type(0)
    for frame in range(count):
        position = probe[frame]
        if position < 0:
            continue
        first = offset + frame * stride
        pixels = wire[first : first + bytes_frame].view(like.dtype)
        frame_sum = np.int64(0)
        frame_y = np.int64(0)
        frame_x = np.int64(0)
        column[:] = 0
        disc[:] = 0
        for y in range(0, height - 1, 2):
            for edge in range(edge_start[y], edge_start[y + 1]):
                disc[edge_disc[edge]] += edge_sign[edge] * np.int64(column[edge_column[edge]])
            for edge in range(edge_start[y + 1], edge_start[y + 2]):
                x = edge_column[edge]
                value = np.int64(column[x]) + np.int64(_load(pixels[y * width + x], swap, zero))
                disc[edge_disc[edge]] += edge_sign[edge] * value
            ahead = first + (y // 2) * bytes_pair + AHEAD_BYTES
            for line in range(0, bytes_pair, _LINE_BYTES):
                prefetch(wire, ahead + line)
            both, second = _two_rows(pixels, y * width, width, column, swap)
            frame_y += y * np.int64(both) + np.int64(second)
        if height % 2:
            y = height - 1
            for edge in range(edge_start[y], edge_start[height]):
                disc[edge_disc[edge]] += edge_sign[edge] * np.int64(column[edge_column[edge]])
            last = zero
            for x in range(width):
                pixel = _load(pixels[y * width + x], swap, zero)
                column[x] += pixel
                last += pixel
            frame_y += y * np.int64(last)
        for edge in range(edge_start[height], edge_start[height + 1]):
            disc[edge_disc[edge]] += np.int64(column[edge_column[edge]])
        for x in range(width):
            value = np.int64(column[x])
            frame_sum += value
            frame_x += x * value
        total[position] += frame_sum
        moment_y[position] += frame_y
        moment_x[position] += frame_x
        for detector in range(outer.size):
            value = disc[outer[detector]]
            if inner[detector] >= 0:
                value -= disc[inner[detector]]
            detectors[detector, position] += value

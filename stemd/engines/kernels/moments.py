"""Sum, first moments and virtual detectors of whole patterns in one pass over their bytes.

Two running sums a detector column are kept while the rows go by: `column` C_x(y) = sum of
I(y', x) for y' <= y, and `running` = sum of C_x(y) over y. From them follow, exactly in
integers and without a multiplication a pixel,

    sum I     = sum_x C_x(H-1)
    sum x I   = sum_x x C_x(H-1)
    sum y I   = H sum I - sum_x running_x

and a virtual detector costs only its rim: the part of column x inside a disc is one interval of
rows y0..y1, whose sum is C_x(y1) - C_x(y0 - 1). An annulus is the difference of two discs.
"""

from __future__ import annotations

import numba
import numpy as np
from numpy.typing import NDArray

from stemd.engines.kernels.intrinsics import byte_swap

U32 = NDArray[np.uint32]
I64 = NDArray[np.int64]

TILE_ROWS = 256
"""Rows after which the running sums are folded into int64: 65535 * 256 * 257 / 2 < 2**32."""


@numba.njit(nogil=True, cache=True, inline="always")
def _load(pixel, swap, like):
    """A pixel in native byte order, widened to the accumulator's type."""
    if swap:
        return like + byte_swap(pixel)
    return like + pixel


@numba.njit(nogil=True, cache=True)
def _four_rows(pixels, width, column, running, swap):
    """Add four consecutive rows (4 * width contiguous pixels) to both running sums."""
    zero = column.dtype.type(0)
    w = np.uint64(width)
    if swap:
        for i in range(width):
            x = np.uint64(i)
            c = column[x]
            r = running[x]
            c += zero + byte_swap(pixels[x])
            r += c
            c += zero + byte_swap(pixels[w + x])
            r += c
            c += zero + byte_swap(pixels[w + w + x])
            r += c
            c += zero + byte_swap(pixels[w + w + w + x])
            r += c
            column[x] = c
            running[x] = r
    else:
        for i in range(width):
            x = np.uint64(i)
            c = column[x]
            r = running[x]
            c += zero + pixels[x]
            r += c
            c += zero + pixels[w + x]
            r += c
            c += zero + pixels[w + w + x]
            r += c
            c += zero + pixels[w + w + w + x]
            r += c
            column[x] = c
            running[x] = r


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
    outer,
    inner,
    column,
    running,
    base,
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
    column, running: scratch (width,), uint32 for 8 and 16-bit pixels, else uint64;
    base: scratch int64 (width,); disc: scratch int64 (number of discs,).
    total, moment_y, moment_x: int64 (positions,), detectors: int64 (n, positions): added to.
    Reads each pixel once. The caller guarantees probe < positions and pixels inside `wire`.
    """
    bytes_frame = height * width * like.itemsize
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
        base[:] = 0
        disc[:] = 0
        for tile in range(0, height, TILE_ROWS):
            tile_end = min(height, tile + TILE_ROWS)
            column[:] = 0
            running[:] = 0
            y = tile
            while y < tile_end:
                rows = 4 if y + 4 <= tile_end else 1
                if edge_start[y] != edge_start[y + rows]:
                    for step in range(rows):
                        for edge in range(edge_start[y + step], edge_start[y + step + 1]):
                            x = edge_column[edge]
                            value = base[x] + np.int64(column[x])
                            for row in range(step):
                                value += np.int64(_load(pixels[(y + row) * width + x], swap, zero))
                            if edge_disc[edge] >= 0:
                                disc[edge_disc[edge]] += value
                            else:
                                disc[-1 - edge_disc[edge]] -= value
                if rows == 4:
                    _four_rows(pixels[y * width : (y + 4) * width], width, column, running, swap)
                else:
                    row_pixels = pixels[y * width : (y + 1) * width]
                    for x in range(width):
                        column[x] += _load(row_pixels[x], swap, zero)
                        running[x] += column[x]
                y += rows
            tile_sum = np.int64(0)
            tile_running = np.int64(0)
            for x in range(width):
                value = np.int64(column[x])
                tile_sum += value
                frame_x += x * value
                tile_running += np.int64(running[x])
                base[x] += value
            frame_sum += tile_sum
            frame_y += tile_end * tile_sum - tile_running
        for edge in range(edge_start[height], edge_start[height + 1]):
            disc[edge_disc[edge]] += base[edge_column[edge]]
        total[position] += frame_sum
        moment_y[position] += frame_y
        moment_x[position] += frame_x
        for detector in range(outer.size):
            value = disc[outer[detector]]
            if inner[detector] >= 0:
                value -= disc[inner[detector]]
            detectors[detector, position] += value

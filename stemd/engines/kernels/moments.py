"""Sum, first moments and virtual detectors of whole patterns in one pass over their bytes.

Every sum over pixels is one over bytes with their place values, so pixels of all types and byte
orders take the same way. The y moment needs no multiplication: with R(y) = sum of rows 0..y-1 of a
band, the sum of R over H rows counts row y (H - 1 - y) times. Exact in integers for every detector
size and pixel value.
"""

from __future__ import annotations

from stemd.compilation import njit
from stemd.engines.kernels.column_sums import add_tile
from stemd.engines.kernels.intrinsics import dot_pixels
from stemd.engines.kernels.vectors import PHASES, TILE, TILE_SUMS

_Y, _X = TILE.index("y"), TILE.index("x")


@njit(nogil=True, cache=True)
def reduce_frames(
    wire,
    nearness,
    swap,
    offset,
    stride,
    count,
    height,
    width,
    probe,
    discs,
    total,
    moment_y,
    moment_x,
    detectors,
    scratch,
    sums,
    tiles,
    table,
    sizes,
    read,
    runs,
    rest,
):
    """Reduce `count` patterns to a few integers each, written at their probe positions.

    wire: uint8 (bytes,), pixels of frame i from byte offset + i*stride, height*width values of
    the plan's type, byte order reversed if `swap`; `nearness` as for `add_tile`. probe: int64
    (count,), -1 = belongs to no position. discs: int64 (detectors, 2), the numbers of the
    channels that are a detector's outer and inner disc, the number of channels for none. total,
    moment_y, moment_x: int64 (positions,), detectors: int64 (n, positions): added to. scratch:
    uint8 (scratch_bytes(channels),), sums: int64 (sums_count(channels),).
    tiles, table, sizes, read, runs, rest: a `PatternPlan`, which has the pixels that do not count.
    Runs are taken off while they are in cache: 5 ns each.
    The caller guarantees probe < positions and pixels inside `wire`.
    """
    row_bytes, folded, rest_first, channels = sizes[0], sizes[1], sizes[2], sizes[3]
    size, signed = sizes[4], sizes[5] != 0
    in_channel = sums[TILE_SUMS + PHASES * channels :]
    for frame in range(count):
        position = probe[frame]
        if position < 0:
            continue
        first = offset + frame * stride
        frame_sum, frame_y, frame_x = read[0], read[1], read[2]
        for channel in range(channels):
            in_channel[channel] = read[3 + channel]
        in_channel[channels] = 0
        for tile in range(tiles.shape[0]):
            add_tile(wire, first, row_bytes, nearness, tiles, tile, table, channels, scratch, sums)
            for phase in range(PHASES):
                byte = phase % size
                place = 8 * (size - 1 - byte if swap else byte)
                part = sums[phase] << place
                frame_sum += part
                frame_x += tiles[tile, _X] * part + (sums[2 * PHASES + phase] << place)
                frame_y += tiles[tile, _Y] * part + folded * (sums[PHASES + phase] << place)
                frame_y += sums[3 * PHASES + phase] << place
                for channel in range(channels):
                    in_channel[channel] += sums[TILE_SUMS + PHASES * channel + phase] << place
        for y in range(rest_first, height):
            at = first + y * width * size
            value = dot_pixels(wire, at, width, size, swap, signed, rest, 0)
            frame_sum += value
            frame_y += y * value
            frame_x += dot_pixels(wire, at, width, size, swap, signed, rest, width)
            for channel in range(channels):
                mask = (2 + (y - rest_first) * channels + channel) * width
                in_channel[channel] += dot_pixels(wire, at, width, size, swap, signed, rest, mask)
        for run in range(runs.shape[0]):
            y, x, pixels = runs[run, 0], runs[run, 1], runs[run, 2] - runs[run, 1]
            at = first + (y * width + x) * size
            value = dot_pixels(wire, at, pixels, size, swap, signed, rest, 0)
            frame_sum -= value
            frame_y -= y * value
            frame_x -= dot_pixels(wire, at, pixels, size, swap, signed, rest, width + x)
        total[position] += frame_sum
        moment_y[position] += frame_y
        moment_x[position] += frame_x
        for detector in range(discs.shape[0]):
            outer, inner = discs[detector, 0], discs[detector, 1]
            detectors[detector, position] += in_channel[outer] - in_channel[inner]

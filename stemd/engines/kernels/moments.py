"""Sum, first moments and virtual detectors of whole patterns in one pass over their bytes.

Everything is a weighted sum of the pixels with small integer weights: 1 for the sum, the column
for the x moment, 0 or 1 for a virtual detector. The y moment needs no multiplication: with
R(y) = sum of rows 0..y, the sum of R over H rows counts row y (H - y) times. Exact in integers
for every detector size and pixel value.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from stemd.compilation import njit
from stemd.engines.kernels.dots import (
    BIAS_16,
    CHUNK_COLUMNS,
    LANES,
    MASK_COUNTS,
    MAX_BITS,
    add_rows,
    rows_at_once,
)
from stemd.engines.kernels.intrinsics import byte_swap

WEIGHTS = np.arange(-CHUNK_COLUMNS // 2, CHUNK_COLUMNS // 2, dtype=np.int16)
_HALF = CHUNK_COLUMNS // 2
_ROWS = np.array([rows_at_once(columns) for columns in range(CHUNK_COLUMNS + 1)])


MASKS_AT_ONCE = MASK_COUNTS[-1]
"""Two or more virtual detectors are summed in groups of so many, the last filled with zeros."""


@njit(nogil=True, cache=True)
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
    weights,
    masks,
    mask_sums,
    sums,
    total,
    moment_y,
    moment_x,
    detectors,
    tiles,
    bands,
    band_weights,
    read,
    runs,
):
    """Reduce `count` patterns to a few integers each, written at their probe positions.

    wire: uint8 (bytes,), pixels of frame i from byte offset + i*stride, height*width values of
    the type of `like` (an empty array of uint8 to uint64), byte order reversed if
    `swap`. probe: int64 (count,), -1 = belongs to no position. weights: WEIGHTS. masks: int8
    (padded detectors * height * width,), 1 where a pixel belongs to the virtual detector, from
    `padded_masks`; mask_sums: int64 (detectors,). sums: scratch int64 (3 + MASKS_AT_ONCE,).
    total, moment_y, moment_x: int64 (positions,), detectors: int64 (n, positions): added to.
    tiles, bands, band_weights, read, runs: from `tiles_of`, with the pixels that do not count;
    `masks` must not hold them. Runs are taken off while they are in cache: 5 ns each.
    The caller guarantees probe < positions and pixels inside `wire`.
    """
    size = like.itemsize
    bytes_row = width * size
    bias = np.int64(BIAS_16 if size == 2 else 0)
    vector_columns = width // LANES * LANES if 8 * size <= MAX_BITS else 0
    pixels_mask = height * width
    detector_count = detectors.shape[0]
    at_once = detector_count if detector_count < 2 else MASKS_AT_ONCE
    for frame in range(count):
        position = probe[frame]
        if position < 0:
            continue
        first = offset + frame * stride
        frame_sum = np.int64(0)
        frame_y = np.int64(0)
        frame_x = np.int64(0)
        for tile in range(tiles.shape[0]):
            x, columns = tiles[tile, 0], tiles[tile, 1]
            y_first, y_stop = tiles[tile, 2], tiles[tile, 3]
            step = _ROWS[columns]
            half = columns // 2
            for y in range(y_first, y_stop, step):
                rows = min(step, y_stop - y)
                at = first + y * bytes_row + x * size
                group = 0
                while True:
                    mask_at = group * pixels_mask + y * width + x
                    add_rows(
                        wire, like, swap, at, bytes_row, rows, columns,
                        weights, _HALF - half, at_once, masks, mask_at, width, pixels_mask,
                        bands, band_weights, tiles[tile, 4], tiles[tile, 5], sums,
                    )  # fmt: skip
                    for detector in range(group, min(group + at_once, detector_count)):
                        detectors[detector, position] += sums[3 + detector - group]
                    group += MASKS_AT_ONCE
                    if group >= detector_count:
                        break
                frame_sum += sums[0]
                frame_y += (y + rows) * sums[0] - sums[1]
                frame_x += (x + half) * sums[0] + sums[2]
        if vector_columns < width:
            pixels = wire[first : first + height * bytes_row].view(like.dtype)
            for y in range(height):
                for x in range(vector_columns, width):
                    pixel = pixels[y * width + x]
                    value = np.int64(byte_swap(pixel) if swap else pixel) - bias
                    frame_sum += value
                    frame_y += y * value
                    frame_x += x * value
                    for detector in range(detector_count):
                        mask = masks[detector * pixels_mask + y * width + x]
                        detectors[detector, position] += value * mask
        frame_sum += bias * read[0]
        frame_y += bias * read[1]
        frame_x += bias * read[2]
        if runs.shape[0]:
            pixels = wire[first : first + height * bytes_row].view(like.dtype)
            for run in range(runs.shape[0]):
                y = runs[run, 0]
                run_sum = np.int64(0)
                for x in range(runs[run, 1], runs[run, 2]):
                    pixel = pixels[y * width + x]
                    value = np.int64(byte_swap(pixel) if swap else pixel)
                    run_sum += value
                    frame_x -= x * value
                frame_sum -= run_sum
                frame_y -= y * run_sum
        total[position] += frame_sum
        moment_y[position] += frame_y
        moment_x[position] += frame_x
        for detector in range(detector_count):
            detectors[detector, position] += bias * mask_sums[detector]


def padded_masks(masks: Sequence[NDArray[np.bool_]], pixels: int) -> NDArray[np.int8]:
    """Masks of `pixels` pixels each, one after another, filled up to what the kernel reads."""
    count = len(masks)
    padded = count if count < 2 else -(-count // MASKS_AT_ONCE) * MASKS_AT_ONCE
    flat = np.zeros(max(1, padded) * pixels, np.int8)
    for index, mask in enumerate(masks):
        flat[index * pixels : (index + 1) * pixels] = mask.ravel()
    return flat

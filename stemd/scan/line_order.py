"""Whether neighbouring lines match each other as neighbouring positions do.

Where the steps are finer than the probe, the position below is as much like a position as the one
beside it. If it is not, lines have another length than was told, or every second one runs the
other way: the image is scrambled, and a lens measured in it is wrong without looking so.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import numpy as np
from numpy.typing import NDArray

from stemd.blocks import Notice
from stemd.engines.base import PositionMaps
from stemd.engines.vectors import centre_of_mass

F64 = NDArray[np.float64]

LOOKED_AT = 1 << 16
"""Positions at the beginning of a scan that are looked at."""
LEAST_SIDE = 16
BROAD = 33
"""Positions over which the centre of mass is averaged and taken out: what changes slowly matches
at any length of the lines."""
SURE = 12.0
"""Times its chance by which a match must stand out."""
NONE, AS_GOOD = 0.25, 0.7
"""Parts of the match of positions side by side: lines match as little as this, and would match as
well as this if they were others."""
FINE = 0.5
"""Steps are fine enough for this where positions two apart still match so well."""
ALIKE = 0.95
"""Part of the best match that is as good as the best."""
FLYBACK = 8
"""Lines are so much longer or shorter than was told, or the scan has other lines altogether, which
its frames fill: other lengths are chance, or a lattice."""
NARROW = 3
"""Positions on either side of a length at which it must match clearly less well."""


def line_order(maps: PositionMaps) -> list[Notice]:
    """What is to be said of the lines of a finished scan."""
    ny, nx = maps.shape
    lines = min(ny, LOOKED_AT // nx)
    some = slice(0, lines * nx)
    if min(lines, nx) < LEAST_SIDE or not maps.done[some].all() or not maps.total[some].any():
        return []
    series = [_flattened(part) for part in centre_of_mass(maps, 0, lines * nx)]
    return list(_said(series, lines, nx, ny * nx))


def _said(series: list[F64], lines: int, nx: int, positions: int) -> Iterator[Notice]:
    size = lines * nx
    itself, beside, two_apart, below = (_match_at(series, apart) for apart in (0, 1, 2, nx))
    chance = itself / np.sqrt(2.0 * size)
    # nearly every scan is done with here, without a Fourier transform
    if beside < SURE * chance or below > NONE * beside or two_apart <= FINE * beside:
        return
    back = sum(_line_by_line(part.reshape(lines, nx)) for part in series) * lines / (lines - 1)
    if back > max(AS_GOOD * beside, SURE * chance):
        yield Notice(
            "lines_run_back",
            "neighbouring lines match where every second one is turned round: odd lines seem to "
            "run the other way than was told",
            remedy="set serpentine of the scan to true if it is false, to false if it is true; "
            "stemd process --serpentine makes the images of the record again",
        )
        return
    match = _matches(series)
    low, high = max(LEAST_SIDE, nx // 4), min(4 * nx, size // LEAST_SIDE)
    lengths = np.arange(low, high + 1)
    lengths = lengths[(positions % lengths == 0) | (np.abs(lengths - nx) <= FLYBACK)]
    around = np.maximum(match[lengths - NARROW], match[lengths + NARROW])
    clear = np.where(match[lengths] - around > (AS_GOOD / 2) * beside, match[lengths], -np.inf)
    if clear.max(initial=-np.inf) > AS_GOOD * beside:
        # of several that match alike, as lattices have them, the one nearest to what was told
        fits = lengths[clear > ALIKE * clear.max()]
        length = int(fits[np.abs(np.log(fits / nx)).argmin()])
        yield Notice(
            "line_length",
            f"neighbouring lines of {nx:,} positions do not match, those of {length:,} would: is "
            "the scan's size right?",
            remedy="set the size that was scanned (--scan for a file), or the flyback frames "
            "after each line; an image that is scrambled shows no lens either",
        )


def _flattened(series: F64) -> F64:
    """Without what changes slowly, and without outliers."""
    series = np.nan_to_num(series - np.nanmean(series))
    sums = np.concatenate([[0.0], np.cumsum(series)])
    at = np.arange(series.size)
    low, high = np.maximum(at - BROAD // 2, 0), np.minimum(at + BROAD // 2 + 1, series.size)
    series = series - (sums[high] - sums[low]) / (high - low)
    most = 5.0 * float(np.median(np.abs(series))) + 1e-12
    return np.asarray(np.clip(series, -most, most))


def _match_at(series: Sequence[F64], apart: int) -> float:
    """How well positions match those so far behind them, in all of the series."""
    size = series[0].size
    return (
        sum(float(each[apart:] @ each[: size - apart]) for each in series) * size / (size - apart)
    )


def _matches(series: Sequence[F64]) -> F64:
    """The same at every distance, (n,)."""
    size = series[0].size
    spectrum = sum(np.abs(np.fft.rfft(each, 2 * size)) ** 2 for each in series)
    match = np.fft.irfft(spectrum)[:size]
    return np.asarray(match * (size / (size - np.arange(size))))


def _line_by_line(image: F64) -> float:
    """How well each line matches the one before, turned round."""
    return float((image[1:] * image[:-1, ::-1]).sum())

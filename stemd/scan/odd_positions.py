"""Positions that no specimen makes: patterns that came twice, one that is far too bright, and
lines from which on the beam is another.

By the sums of a finished scan alone. What a specimen may make after all is asked, not claimed.
"""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
from numpy.typing import NDArray

from stemd.blocks import Notice
from stemd.engines.base import PositionMaps
from stemd.engines.vectors import centre_of_mass, stretches

F64 = NDArray[np.float64]

ENOUGH = 30
"""Electrons of a pattern from which on two patterns do not have the same three sums by chance."""
RUN, SOME, SHARE = 8, 4, 0.002
"""Patterns in a row that are the same, or patterns and part of all that are as the one before."""
TIMES, RARE = 8.0, 1e-3
"""A pattern is too bright with so many times the median, if at most so many are."""
SAMPLED, LEAST = 1 << 20, 64
"""Positions that the median is of, at most and at least."""
WIDE = 4
"""Lines before and after a step over which it is looked at."""
SIGMAS, SHARPLY, ACROSS, ALONE = 8.0, 0.7, 0.9, 0.5
"""A step is told where it is so many times the scatter from line to line, has this part of it
between two lines, this part of the columns has it, and none elsewhere has more than this part."""
DIMMER, MOVED = 0.1, 0.5
"""Smallest steps that are told: part of the counts, and pixels of the detector."""
AT_A_TIME = 16
"""Lines that are looked at together."""


def odd_positions(maps: PositionMaps) -> list[Notice]:
    """What is to be said of the positions of a finished scan."""
    return [*_came_twice(maps), *_too_bright(maps), *_steps(maps)]


def _came_twice(maps: PositionMaps) -> Iterator[Notice]:
    count, pairs, longest, where, run = 0, 0, 0, 0, 0
    for first, stop in stretches(1, maps.total.size):
        now, before = slice(first, stop), slice(first - 1, stop - 1)
        same = maps.done[now] & maps.done[before]
        pairs += int(np.count_nonzero(same))
        same &= maps.total[now] >= ENOUGH
        for sums in (maps.total, maps.moment_y, maps.moment_x):
            same &= sums[now] == sums[before]
        count += int(np.count_nonzero(same))
        # how long each run of them is, that of the stretch before going on
        breaks = np.flatnonzero(~same)
        edges = np.concatenate([[-1 - run], breaks, [same.size]])
        lengths = np.diff(edges) - 1
        at = int(lengths.argmax())
        if lengths[at] > longest:
            longest, where = int(lengths[at]), first + int(edges[at])
        run = int(lengths[-1])
    done = int(np.count_nonzero(maps.done))
    # of patterns that are all the same is said so elsewhere
    if count == pairs or (longest < RUN and count < SOME + SHARE * done):
        return
    text = f"{count:,} of {done:,} patterns are the same to the count as the one before them"
    if longest >= RUN:
        text += f", {longest + 1:,} in a row from position {_place(maps, where)} (y, x) on"
    yield Notice(
        "repeated_patterns", text, count=count,
        remedy="the camera or its software has sent patterns again: their positions show what is "
        "not there",
    )  # fmt: skip


def _too_bright(maps: PositionMaps) -> Iterator[Notice]:
    some = slice(None, None, maps.total.size // SAMPLED | 1)
    lit = maps.total[some][maps.done[some] & (maps.total[some] > 0)]
    median = float(np.median(lit)) if lit.size >= LEAST else 0.0
    if median < 1.0:
        return
    bright = sum(
        int(np.count_nonzero(maps.total[first:stop] > TIMES * median))
        for first, stop in stretches(0, maps.total.size)
    )
    done = int(np.count_nonzero(maps.done))
    if not 0 < bright <= max(1.0, RARE * done):
        return
    at = int(maps.total.argmax())
    yield Notice(
        "bright_patterns",
        f"patterns with more than {TIMES:.0f} times the counts of the others: {bright:,} of "
        f"{done:,}, the brightest at position {_place(maps, at)} (y, x), with "
        f"{int(maps.total[at]):,} where the median is {median:,.0f}",
        count=bright,
        remedy="damaged frames, or a discharge? Dose, centre and lens were measured with them",
    )


def _steps(maps: PositionMaps) -> Iterator[Notice]:
    ny, nx = maps.shape
    if min(ny, nx) < 4 * WIDE or not maps.done.all() or not maps.total.all():
        return
    means = np.concatenate(
        [
            _images(maps, first, min(first + AT_A_TIME, ny)).mean(axis=2)
            for first in range(0, ny, AT_A_TIME)
        ],
        axis=1,
    )
    count = max(1e-9, float(means[0].mean()))
    for number, least in enumerate((DIMMER * count, MOVED, MOVED)):
        line = _step(means[number], least)
        if line is None:
            continue
        before = _images(maps, line - WIDE, line)[number].mean(axis=0)
        after = _images(maps, line, line + WIDE)[number].mean(axis=0)
        by = float(after.mean() - before.mean())
        if ((after - before) / by > 0.5).mean() < ACROSS:
            continue
        if number == 0:
            yield Notice(
                "counts_step",
                f"from line {line} on patterns have {after.mean() / before.mean():.0%} of the "
                "counts of those before, all along the line",
                remedy="did the beam, or the camera's settings, change? If not, it is an edge of "
                "the specimen",
            )
        else:
            yield Notice(
                "pattern_jumps",
                f"at line {line} the pattern jumps {('down', 'right')[number - 1]} by {by:.1f} "
                "pixels of the detector, all along the line",
                remedy="did somebody touch the beam or the projector? Scan again: the centre of "
                "mass and the phases have that step",
            )


def _images(maps: PositionMaps, first: int, stop: int) -> F64:
    """Counts and centre of mass (y, x) of lines, (3, lines, nx)."""
    nx = maps.shape[1]
    part = first * nx, stop * nx
    counts = maps.total[part[0] : part[1]].astype(np.float64)
    return np.stack([counts, *centre_of_mass(maps, *part)]).reshape(3, -1, nx)


def _step(lines: F64, least: float) -> int | None:
    """The line from which on the means of lines stay others, None where there is no such one."""
    apart = np.diff(lines)
    scatter = 1.48 * float(np.median(np.abs(apart - np.median(apart)))) + 1e-12
    sums = np.concatenate([[0.0], np.cumsum(lines)])
    at = np.arange(WIDE, lines.size - WIDE + 1)
    steps = (sums[at + WIDE] + sums[at - WIDE] - 2.0 * sums[at]) / WIDE
    best = int(np.abs(steps).argmax())
    line, step = int(at[best]), float(steps[best])
    if abs(step) < max(least, SIGMAS * scatter) or apart[line - 1] / step < SHARPLY:
        return None
    elsewhere = np.abs(steps[np.abs(at - line) > 2 * WIDE]).max(initial=0.0)
    return None if elsewhere > ALONE * abs(step) else line


def _place(maps: PositionMaps, at: int) -> str:
    return str(divmod(at, maps.shape[1]))

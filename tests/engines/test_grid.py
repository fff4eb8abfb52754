"""Patterns and hits on the small grid, and boxes of them, against plain NumPy."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from stemd.engines.airpi.neighbourhoods import Neighbourhood
from stemd.engines.airpi.scan_lines import NO_ROOM, TOO_LATE, Reach, ScanLines
from stemd.engines.diffraction_grid import DiffractionGrid, grid_table
from stemd.engines.kernels.grid import SHARES, bin_hits
from tests.engines.scenes import acquisition_of, blocks_of

GRID = DiffractionGrid(half=5, per_angle=3.0)
CASES = [
    ((40, 33), (19.2, 16.4), 9.0, 0.0, False),
    ((40, 33), (19.2, 16.4), 10.0, 24.0, True),
    ((9, 14), (4.0, 6.0), 2.2, -70.0, False),
    ((3, 5), (1.0, 2.0), 1.5, 10.0, False),
]


@pytest.mark.parametrize("case", CASES)
@pytest.mark.parametrize("dtype", ["u1", "<u2", ">u2", ">u4", "<u8"])
def test_runs_and_hits_give_the_integers_of_the_entries(case: Any, dtype: str) -> None:
    shape = case[0]
    table = grid_table(GRID, *case)
    patterns = np.random.default_rng(0).integers(0, 200, (5, *shape)).astype(dtype)
    acquisition = acquisition_of(patterns, (1, 5))
    (block,) = blocks_of(acquisition, patterns, [5], header=7)
    frames, places = np.array([0, 3, 4]), np.array([2, 0, 1])
    got = np.full((3, GRID.members.size), -1, np.int32)
    assert table.add_frames(block, frames, got, places) == 0
    flat = patterns.reshape(5, -1).astype(np.int64)
    expected = np.zeros((5, GRID.members.size), np.int64)
    np.add.at(expected, (slice(None), table.target), flat[:, table.source] * table.share)
    np.testing.assert_array_equal(got[places], expected[frames])
    frame, y, x = np.nonzero(patterns)
    times = patterns[frame, y, x].astype(np.int64)
    frame, y, x = (np.repeat(a, times) for a in (frame, y, x))
    hits = np.zeros((5, GRID.members.size), np.int32)
    n = bin_hits(
        frame.astype(np.int32), (y << 16 | x).astype(np.uint32), np.zeros(0, np.float32),
        frame.size, 0.0, shape[1], 0, table.first, table.target, table.share, hits,
    )  # fmt: skip
    assert n == frame.size
    np.testing.assert_array_equal(hits, expected)


@pytest.mark.parametrize("case", CASES[:3])
def test_shares_are_areas(case: Any) -> None:
    shape, (cy, cx), ppa, rotation, flip = case
    table = grid_table(GRID, *case)
    fine = 40
    step = (np.arange(fine) + 0.5) / fine - 0.5
    y = (np.arange(shape[0])[:, None] + step - cy).reshape(-1)
    x = (np.arange(shape[1])[:, None] + step - cx).reshape(-1)
    v, u = np.meshgrid(y, x, indexing="ij")
    v, u = (u, v) if flip else (v, u)
    turn = np.radians(rotation)
    scale = GRID.per_angle / ppa
    row = np.rint((v * np.cos(turn) - u * np.sin(turn)) * scale).astype(int) + GRID.half
    column = np.rint((v * np.sin(turn) + u * np.cos(turn)) * scale).astype(int) + GRID.half
    pixel = np.add.outer(
        np.repeat(np.arange(shape[0]), fine) * shape[1], np.repeat(np.arange(shape[1]), fine)
    )
    inside = (row >= 0) & (row < GRID.side) & (column >= 0) & (column < GRID.side)
    area = np.zeros((shape[0] * shape[1], GRID.side**2))
    np.add.at(area, (pixel[inside], (row * GRID.side + column)[inside]), SHARES / fine**2)
    got = np.zeros_like(area)
    got[table.source, GRID.members[table.target]] = table.share
    area[:, np.setdiff1d(np.arange(GRID.side**2), GRID.members)] = 0
    assert np.abs(got - area).max() < 2.5, "in 64ths of a pixel, rounding and sampling included"
    assert got.sum() == pytest.approx(area.sum(), rel=2e-3)
    assert got.sum(axis=1).max() <= SHARES


def test_sums_that_are_too_large_are_cut_off_and_counted() -> None:
    table = grid_table(GRID, (40, 33), (19.2, 16.4), 9.0)
    patterns = np.full((1, 40, 33), 2**31, ">u4")
    (block,) = blocks_of(acquisition_of(patterns, (1, 1)), patterns, [1])
    out = np.zeros((1, GRID.members.size), np.int32)
    cut = table.add_frames(block, np.array([0]), out, np.array([0]))
    assert cut == np.count_nonzero(out == 2**31 - 1) == np.count_nonzero(out)


@pytest.mark.parametrize(("m", "every"), [(1, 1), (1, 3), (2, 1), (3, 3), (4, 2)])
def test_groups_are_boxes_of_the_scan_with_its_border_repeated(m: int, every: int) -> None:
    ny, nx, pixels = 9, 8, 5
    rng = np.random.default_rng(m)
    scan = rng.integers(0, 50, (ny, nx, pixels))
    missing = rng.random((ny, nx)) < 0.2
    lines = ScanLines((ny, nx), pixels, ny, grows=False)
    near = Neighbourhood(nx, m, every)
    for y in range(ny):
        slot = lines.open(y, near.reach)
        lines.counts[slot], lines.done[slot] = scan[y], ~missing[y]
    for y in range(ny):
        out = np.zeros((near.most_patterns, pixels), np.float32)
        groups, kept = near.patterns(lines, y, 0.5, out)
        got = out[groups]
        n = 0
        for index, x in enumerate(near.columns):
            boxes = []
            for dy in (-m, 0, m):
                for dx in (-m, 0, m):
                    rows = np.clip(np.arange(m) + y + dy - m // 2, 0, ny - 1)
                    columns = np.clip(np.arange(m) + x + dx - m // 2, 0, nx - 1)
                    there = ~missing[np.ix_(rows, columns)]
                    part = scan[np.ix_(rows, columns)][there]
                    boxes.append(None if not len(part) else part.mean(axis=0) * m * m * 0.5)
            if boxes[4] is None:
                continue
            expected = [boxes[4] if box is None else box for box in boxes]
            assert kept[n] == index
            np.testing.assert_allclose(got[n], expected, rtol=1e-5)
            n += 1
        assert n == len(kept)
    first, last = y - m - m // 2, y + 2 * m - m // 2 - 1
    assert near.reach == Reach(y - first, last - y)
    assert near.reach.lines == 3 * m


def test_lines_are_ready_when_their_neighbours_are_over_and_go_when_nobody_needs_them() -> None:
    reach = Reach(1, 1)
    lines = ScanLines((6, 2), 3, 4, grows=False)
    assert lines.waiting(reach) is None
    for y in range(4):
        slot = lines.open(y, reach)
        lines.counts[slot] = y + 1
        lines.done[slot, : 1 if y == 1 else 2] = True  # one position of line 1 is missing
        lines.touch(y)
    assert lines.ready(reach) == range(3)
    assert lines.open(4, reach) == NO_ROOM
    lines.made[:2] = True
    lines.let_go(reach)
    assert lines.used == 3
    assert lines.summed().tolist() == [20] * 3, "those whose memory is free are in the sum, too"
    other = ScanLines((6, 2), 3, 4, grows=False)
    other.restore(lines.gathered(), reach)
    assert other.summed().tolist() == [20] * 3
    assert lines.open(0, reach) == TOO_LATE
    assert lines.open(5, reach) >= 0
    assert lines.open(4, reach) == NO_ROOM, "a line is refused as a whole"
    lines.over = True
    assert lines.waiting(reach) == 2

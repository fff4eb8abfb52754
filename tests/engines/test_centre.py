"""The centre that virtual detectors find by themselves: where it is, and from which pattern on."""

from __future__ import annotations

import numpy as np
import pytest
from numpy.typing import NDArray

from stemd.acquisition import Acquisition, Detector, Optics, Scan
from stemd.blocks import EventBlock
from stemd.engines.base import PositionMaps
from stemd.engines.reduction import CENTRE_FRAMES, CENTRE_HITS, Reducer, position_runs
from tests.engines.scenes import acquisition_of, blocks_of

SHAPE = (6, 9)
Place = tuple[int, int]


def lone_pixels(places: list[Place]) -> NDArray[np.uint16]:
    """A pattern for each place, with all its counts in this pixel; (-1, -1): an empty one."""
    patterns = np.zeros((len(places), *SHAPE), np.uint16)
    for pattern, (y, x) in zip(patterns, places, strict=True):
        if y >= 0:
            pattern[y, x] = 7
    return patterns


def a_reducer(acquisition: Acquisition, radii: tuple[float, float] = (0.0, 1.0)) -> Reducer:
    return Reducer(acquisition, Optics(), PositionMaps(acquisition, ["disc"]), {"disc": radii})


def centres_of(places: list[Place], probes: list[int] | None = None) -> list[object]:
    """The centre after each pattern, and whether it is fixed by then."""
    patterns = lone_pixels(places)
    acquisition = acquisition_of(patterns, (8, 10))
    reducer = a_reducer(acquisition)
    numbers = None if probes is None else np.array(probes, np.int64)
    seen: list[object] = []
    for block in blocks_of(acquisition, patterns, [1], numbers):
        reducer.reduce(block)
        seen.append((reducer.centre, reducer.centre_fixed))
    return seen


def test_the_first_pattern_with_counts_gives_the_centre_to_a_part_of_a_pixel() -> None:
    patterns = lone_pixels([(-1, -1), (2, 3)])
    patterns[1, 3, 6] = 21
    acquisition = acquisition_of(patterns, (1, 2))
    reducer = a_reducer(acquisition)
    empty, first = blocks_of(acquisition, patterns, [1])
    reducer.reduce(empty)
    assert reducer.centre is None
    reducer.reduce(first)
    assert reducer.centre == (2.75, 5.25)


def test_the_mean_of_the_first_64_patterns_is_kept_from_the_65th_on() -> None:
    places: list[Place] = [(1, 2), *[(5, 8)] * 63, *[(0, 0)] * 3]
    seen = centres_of(places)
    assert seen[62] == ((1.0, 2.0), False)
    mean = (1 + 63 * 5) / 64, (2 + 63 * 8) / 64
    assert seen[63:] == [(mean, True)] * 4
    assert CENTRE_FRAMES == 64


def test_flyback_frames_and_empty_patterns_do_not_count_for_the_centre() -> None:
    places: list[Place] = [(0, 0), (-1, -1), *[(4, 6)] * 64]
    seen = centres_of(places, [-1, *range(65)])
    assert seen[:2] == [(None, False)] * 2
    assert seen[-2:] == [((4.0, 6.0), False), ((4.0, 6.0), True)]


@pytest.mark.parametrize("cut", [64, 65, 7])
def test_a_centre_fixed_in_the_middle_of_a_block_holds_from_the_next_pattern_on(cut: int) -> None:
    places: list[Place] = [*[(1, 1)] * 32, *[(3, 3)] * 32, (2, 2), (1, 1)]
    patterns = lone_pixels(places)
    acquisition = acquisition_of(patterns, (6, 11))
    reducer = a_reducer(acquisition)
    for block in blocks_of(acquisition, patterns, [cut]):
        reducer.reduce(block)
    on_the_disc = np.flatnonzero(reducer._maps.detectors["disc"])
    assert on_the_disc.tolist() == [*range(32), 64]


def hits(acquisition: Acquisition, places: list[Place], probe: int = 0) -> EventBlock:
    yx = np.array([y << 16 | x for y, x in places], np.uint32)
    n = yx.size
    dwell = np.zeros(n, np.float32)
    numbers = np.full(n, probe, np.int32)
    return EventBlock(acquisition, numbers, yx, dwell, n, np.zeros(0, np.uint8), 1)


@pytest.mark.parametrize("cut", [100_000, 250, 64])
def test_hits_count_about_the_middle_then_about_the_mean_of_256_then_of_65536(cut: int) -> None:
    acquisition = Acquisition(Scan(shape=(2, 3)), Detector("events", SHAPE, "u1", 8))
    reducer = a_reducer(acquisition)
    # the middle of 6 x 9 pixels is (2.5, 4): (2, 4) is nearer than 1, (4, 4) is not
    first = [(2, 4)] * 100 + [(4, 4)] * (CENTRE_HITS[0] - 100)
    mean = (100 * 2 + 156 * 4) / 256  # 3.2: (4, 4) is on the disc, (2, 4) is not
    later = [(4, 4)] * 10 + [(2, 4)] * (CENTRE_HITS[1] - CENTRE_HITS[0] - 10)
    places = first + later
    for start in range(0, len(places), cut):
        reducer.reduce(hits(acquisition, places[start : start + cut]))
        if start + cut == 2 * 250:
            assert reducer.centre == (mean, 4.0)
            assert not reducer.centre_fixed
    assert reducer._maps.detectors["disc"][0] == 100 + 10
    assert reducer.centre == ((2 * (len(places) - 166) + 4 * 166) / CENTRE_HITS[1], 4.0)
    assert reducer.centre_fixed
    reducer.reduce(hits(acquisition, [(2, 4)] * 3 + [(4, 4)], probe=5))
    assert reducer._maps.detectors["disc"][5] == 3


def test_positions_in_a_row_are_one_run_and_a_single_gap_parts_two() -> None:
    probe = np.array([4, 5, -1, 7, 0, 8, -1], np.int64)
    assert position_runs(probe) == [(0, 1), (4, 6), (7, 9)]
    assert position_runs(np.array([3, 4, 5], np.int64)) == [(3, 6)]
    assert position_runs(np.array([-1, -1], np.int64)) == []

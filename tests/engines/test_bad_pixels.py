"""Broken pixels are those that a comparison with all neighbours of all pixels finds; and lines."""

from __future__ import annotations

import numpy as np
import pytest
from numpy.typing import NDArray

from stemd.engines import bad_lines, bad_pixels
from stemd.engines.bad_pixels import find_bad_pixels


def _neighbours(image: NDArray[np.int64]) -> NDArray[np.int64]:
    """The eight neighbours of all pixels in ascending order, (8, y, x)."""
    padded = np.pad(image, 1)
    height, width = image.shape
    every = [padded[y : y + height, x : x + width] for y in range(3) for x in range(3)]
    return np.sort(every[:4] + every[5:], axis=0)


def _reference(image: NDArray[np.int64]) -> tuple[NDArray[np.bool_], NDArray[np.bool_]]:
    """Pixels that are hot, and that are dead, by all of their neighbours."""
    around = _neighbours(image)
    largest, second = around[-1], around[-2]
    hot = np.zeros(image.shape, np.bool_)
    enough = max(image.max(), 0) >= bad_pixels.LEAST_COUNTS
    excess = image - second
    alone = (image > bad_pixels.TIMES_NEIGHBOURS * second) & (excess >= bad_pixels.LEAST_COUNTS)
    alone &= excess > bad_pixels.SIGMAS * np.sqrt(image + second)
    for y, x in np.argwhere(alone & enough):
        near = image[max(0, y - 1) : y + 2, max(0, x - 1) : x + 2]
        wide = image[max(0, y - 2) : y + 3, max(0, x - 2) : x + 3]
        rest = wide.size - near.size
        level = (wide.sum() - near.sum()) / rest if rest else 0.0
        spread = near.sum() - image[y, x] - largest[y, x] - level * (near.size - 2)
        hot[y, x] = spread < bad_pixels.SPREAD * excess[y, x]
    second = _neighbours(np.where(hot, 0, image))[1]
    dead = (second >= bad_pixels.DEAD_EXPECTED) & (image < bad_pixels.DEAD_PART * second) & ~hot
    return hot, dead


@pytest.mark.parametrize("seed", range(4))
def test_hot_and_dead_pixels_are_those_of_a_comparison_with_every_neighbour(seed: int) -> None:
    rng = np.random.default_rng(seed)
    hot_found = dead_found = 0
    for _ in range(60):
        shape = tuple(rng.integers(1, 40, 2))
        level = 10 ** rng.uniform(-1.5, 4)
        image = rng.poisson(level * rng.random(shape) ** rng.integers(0, 4)).astype(np.int64)
        for _ in range(rng.integers(0, 6)):
            y, x = rng.integers(0, shape[0]), rng.integers(0, shape[1])
            image[y, x] = rng.choice([0, 0, 60, int(level * 20), 1_000_000])
        hot, dead = _reference(image)
        found = find_bad_pixels(image, [], None)
        if found.too_many:
            assert np.count_nonzero(hot | dead) == found.too_many
            continue
        np.testing.assert_array_equal(found.hot | found.doubtful, hot)
        np.testing.assert_array_equal(found.dead, dead)
        hot_found, dead_found = hot_found + hot.sum(), dead_found + dead.sum()
    assert hot_found > 10
    assert dead_found > 10


def _disc(seed: int) -> NDArray[np.int64]:
    """Counts (48, 40) of a disc and what it scatters."""
    y, x = np.mgrid[:48, :40]
    expected = np.where(np.hypot(y - 24, x - 19) < 11, 400.0, 8.0)
    return np.random.default_rng(seed).poisson(expected).astype(np.int64)


@pytest.mark.parametrize("place", [0, 1, 8, 19, 33, 39])
@pytest.mark.parametrize("turned", [False, True])
def test_a_row_or_column_that_is_hot_or_dead_as_a_whole_is_found(place: int, turned: bool) -> None:
    expected = np.zeros((48, 40), np.bool_)
    expected[:, place] = True
    hot = _disc(place)
    hot[:, place] += 2000
    hot[5, 7] = 9000
    lit = _disc(place) + 300
    lit[:, place] = 0
    for image, kind in ((hot, "hot"), (lit, "dead")):
        here, wanted = (image.T, expected.T) if turned else (image, expected)
        found = find_bad_pixels(here, [])
        np.testing.assert_array_equal(found.dead_lines, wanted & (kind == "dead"))
        np.testing.assert_array_equal(found.dead, found.dead_lines)
        wanted = wanted & (kind == "hot")
        wanted[(7, 5) if turned else (5, 7)] |= kind == "hot"
        np.testing.assert_array_equal(found.hot, wanted)


def test_what_electrons_draw_is_no_broken_line() -> None:
    plain, edge, half, streak, gap = (_disc(seed) for seed in range(5))
    edge[:, :12] += 5000
    half[:24] = 0
    streak[:, 20] += 3000
    streak[:, [19, 21]] += 300
    gap[:, 20:22] = 0
    for image in (plain, edge, half, streak, gap, np.minimum(plain, 1), plain[:9], plain[:, :2]):
        hot, dead = bad_lines.lines_of(image, np.zeros(image.shape, np.bool_))
        assert not hot.any()
        assert not dead.any()

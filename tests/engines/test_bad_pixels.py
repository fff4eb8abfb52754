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
    largest, second = around[-1], around[-2].copy()
    inside = np.zeros(image.shape, np.bool_)
    inside[1:-1, 1:-1] = True
    second[~inside] = largest[~inside]
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
        excused = largest[y, x] if inside[y, x] else 0
        spread = near.sum() - image[y, x] - excused - level * (near.size - 2)
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
        for these, alone in ((found.hot | found.doubtful, hot), (found.dead, dead)):
            assert these[alone].all()
            # what is found beside these stands together
            assert not (these & ~alone)[_neighbours(these.astype(np.int64))[-1] == 0].any()
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


def _patterns(seed: int, background: float = 0.0) -> NDArray[np.int64]:
    """Counts (64, 48, 40) of a disc of 4 electrons a pixel that wanders."""
    random = np.random.default_rng(seed)
    y, x = np.mgrid[:48, :40]
    place = np.array([24.0, 19.0]) + random.normal(0.0, 0.5, (64, 2))
    away = np.hypot(y - place[:, :1, None], x - place[:, 1:, None])
    return random.poisson(4.0 * np.clip(11.5 - away, 0.0, 1.0) + background)


def _found(patterns: NDArray[np.int64], largest: int = 65535) -> bad_pixels.BadPixels:
    kept = [patterns[:20].astype(np.uint16), patterns[20:].astype(np.uint16)]
    return find_bad_pixels(patterns.sum(axis=0), kept, largest)


_L_SHAPE = np.array([[1, 1], [1, 0]], np.bool_)
_SQUARE, _CROSS = np.ones((2, 2), np.bool_), np.array([[0, 1, 0], [1, 1, 1], [0, 1, 0]], np.bool_)
_SHAPES = [_SQUARE, _L_SHAPE, _CROSS, np.ones((1, 3), np.bool_), np.ones((5, 5), np.bool_)]


@pytest.mark.parametrize("value", [60, 700, 4095, 20000])
@pytest.mark.parametrize("place", [(2, 28), (0, 0), (20, 16), (43, 3)])
@pytest.mark.parametrize("shape", _SHAPES, ids=["square", "L", "cross", "row", "large"])
def test_clusters_of_hot_pixels_are_found(
    shape: NDArray[np.bool_], place: tuple[int, int], value: int
) -> None:
    wanted = np.zeros((48, 40), np.bool_)
    wanted[place[0] : place[0] + shape.shape[0], place[1] : place[1] + shape.shape[1]] = shape
    patterns = _patterns(1, background=0.05)
    patterns[:, wanted] = value
    found = _found(patterns)
    if value == 4095 and place == (20, 16) and wanted.sum() > 4:
        # a beam that fills its counters looks the same
        assert not found.mask.any()
        np.testing.assert_array_equal(found.beam, wanted)
        return
    np.testing.assert_array_equal(found.hot, wanted)
    assert not (found.dead | found.saturated | found.doubtful | found.beam).any()


def test_a_cluster_at_the_counters_known_maximum_is_saturated_and_masked_off_the_beam() -> None:
    patterns = _patterns(2)
    patterns[:, 2:5, 30:33] = 4095
    found = _found(patterns, 4095)
    assert found.mask.sum() == 9
    assert found.mask[2:5, 30:33].all()
    assert not found.beam.any()


def test_a_sharp_cluster_that_changes_as_electrons_do_is_told_where_it_spoils_the_scan() -> None:
    patterns = _patterns(3)
    spot = np.random.default_rng(3).poisson(900.0, (64, 2, 3))
    patterns[:, 4:6, 30:33] = spot
    found = _found(patterns)
    assert not found.mask.any()
    assert found.doubtful.sum() == 6
    patterns[:, 4:6, 30:33] = spot // 30  # a reflection
    assert not _found(patterns).doubtful.any()
    patterns[:, 4:6, 30:33] = 0
    patterns[:, 23:25, 18:21] = spot  # the beam
    found = _found(patterns)
    assert not (found.mask | found.doubtful).any()


@pytest.mark.parametrize("kind", ["computed", "scaled"])
def test_pixels_that_do_not_change_are_no_news_where_none_changes(kind: str) -> None:
    y, x = np.mgrid[:48, :40]
    spots = 300.0 * ((y % 16 // 2 == 4) & (x % 20 // 3 == 2)) + 3.0 * (y > 10)
    patterns = np.repeat(np.rint(spots)[None], 64, axis=0).astype(np.int64)
    if kind == "scaled":
        patterns = np.random.default_rng(4).poisson(spots * 16, (64, 48, 40)) // 16
    found = _found(patterns)
    assert not (found.mask | found.doubtful).any(), found.in_words()


@pytest.mark.parametrize("place", [(20, 17), (27, 12), (31, 20)])
@pytest.mark.parametrize("shape", _SHAPES[:4], ids=["square", "L", "cross", "row"])
def test_clusters_of_dead_pixels_in_the_disc_are_found(
    shape: NDArray[np.bool_], place: tuple[int, int]
) -> None:
    wanted = np.zeros((48, 40), np.bool_)
    wanted[place[0] - 1 :, place[1] - 1 :][: shape.shape[0], : shape.shape[1]] = shape
    patterns = _patterns(5)
    patterns[:, wanted] = 0
    found = _found(patterns)
    np.testing.assert_array_equal(found.dead, wanted)
    assert not (found.hot | found.doubtful).any()


@pytest.mark.parametrize("width", [2, 3, 6])
@pytest.mark.parametrize("turned", [False, True])
def test_bands_of_dead_and_of_hot_lines_are_found(width: int, turned: bool) -> None:
    dead, hot = _patterns(6), _patterns(6)
    dead[:, :, 15 : 15 + width] = 0
    hot[:, :, 31 : 31 + width] = 350
    for patterns, first, kind in ((dead, 15, "dead"), (hot, 31, "hot")):
        wanted = np.zeros((48, 40), np.bool_)
        wanted[:, first : first + width] = True
        if turned:
            patterns, wanted = patterns.swapaxes(1, 2), wanted.T
        found = _found(patterns)
        np.testing.assert_array_equal(found.dead, wanted & (kind == "dead"))
        np.testing.assert_array_equal(found.hot, wanted & (kind == "hot"))
    streak = _patterns(6)
    streak[:, :, 31 : 31 + width] = np.random.default_rng(6).poisson(350.0, (64, 48, width))
    assert not _found(streak).mask.any()


def test_dark_between_discs_is_no_dead_band() -> None:
    y, x = np.mgrid[:128, :128]
    for radius in (12.0, 40.0, 60.0):
        for gap in (1.2, 2.6, 4.3):
            away = np.minimum(
                *(np.hypot(y - 64, x - 63.5 - side * (radius + gap / 2)) for side in (-1, 1))
            )
            mean = 30.0 * np.clip(radius + 0.5 - away, 0.0, 1.0)
            patterns = np.random.default_rng(7).poisson(mean, (16, 128, 128))
            assert not _found(patterns).mask.any()


@pytest.mark.parametrize("length", [12, 32])
def test_a_line_camera_s_disc_is_not_masked_and_its_hot_pixel_is(length: int) -> None:
    mean = np.zeros((1, length))
    mean[0, 3:8] = 6.0, 40.0, 40.0, 40.0, 6.0
    for edge in (0.0, 6.0):
        mean[0, [3, 7]] = edge
        patterns = np.random.default_rng(8).poisson(mean, (64, 1, length))
        for these in (patterns, patterns.swapaxes(1, 2)):
            assert not _found(these).mask.any()
        patterns[:, 0, -1] = 900
        assert np.argwhere(_found(patterns).hot).tolist() == [[0, length - 1]]


def test_a_disc_that_begins_to_show_at_the_edge_is_not_masked() -> None:
    y, x = np.mgrid[:48, :40]
    for out in (3.6, 4.0, 4.3, 4.6):
        mean = 80.0 * np.clip(4.5 - np.hypot(y - 20, x + out), 0.0, 1.0)
        mean += 80.0 * np.clip(9.5 - np.hypot(y - 24, x - 22), 0.0, 1.0)
        patterns = np.random.default_rng(9).poisson(mean, (64, 48, 40))
        assert not _found(patterns).mask.any()


def test_pixels_that_cannot_be_hot_are_not_searched_for() -> None:
    rng = np.random.default_rng(11)
    found = 0
    for _ in range(150):
        patterns = rng.poisson(rng.choice([0.1, 3.0, 40.0]), (8, 24, 30)).astype(np.uint16)
        y, x = rng.integers(0, 20, 2)
        broken = [
            np.s_[:, y, x], np.s_[:, y : y + 2, x : x + 3], np.s_[:, y], np.s_[:, :, x : x + 2],
        ][rng.integers(0, 4)]  # fmt: skip
        patterns[broken] = rng.choice([0, 60, 255])
        total = patterns.sum(axis=0, dtype=np.int64)
        bad = find_bad_pixels(total, [patterns], 255)
        possible = bad_pixels.may_be_hot(total, len(patterns), 255)
        assert not ((bad.hot | bad.saturated) & ~possible).any()
        found += bool((bad.hot | bad.saturated).any())
    assert found > 40
    assert not bad_pixels.may_be_hot(rng.poisson(2.0, (24, 30)), 8, 255).any()


@pytest.mark.parametrize("width", [1, 2, 4])
@pytest.mark.parametrize("beyond", [0.4, 0.8, 1.2])
@pytest.mark.parametrize("radius", [3, 30])
def test_the_end_of_a_disc_beyond_the_cross_of_a_quad_is_not_hot(
    width: int, beyond: float, radius: int
) -> None:
    y, x = np.mgrid[:256, :256] - 127.5
    first, stop = 128 - width // 2, 128 - width // 2 + width
    edge = stop - 127.5 - 0.5 + beyond
    light = 30.0 * np.clip(radius + 0.5 - np.hypot(y - edge + radius, x - 20.0), 0, 1)
    light[first:stop] = light[:, first:stop] = 0.0
    patterns = np.random.default_rng(0).poisson(light, (32, 256, 256)).astype(np.uint16)
    patterns[:, 200, 60] = 300
    found = find_bad_pixels(patterns.sum(axis=0, dtype=np.int64), [patterns], 4095)
    assert np.argwhere(found.hot).tolist() == [[200, 60]]

"""The fused kernel against the definition of sum, moments and detectors in plain NumPy."""

from __future__ import annotations

from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from stemd.acquisition import Acquisition, Detector, Optics, Scan
from stemd.engines import reduction
from stemd.engines.base import PositionMaps
from stemd.engines.kernels import tiles
from stemd.engines.kernels.nearness import multiplies_bytes
from stemd.engines.kernels.tiles import PatternPlan, plan_of
from stemd.engines.kernels.vectors import BAND, CELL, ROW_BY_ROW, STRIP, TILE
from stemd.engines.reduction import Reducer, position_runs
from stemd.pixels import Mask, mask_of
from tests.engines.scenes import blocks_of

Radii = dict[str, tuple[float, float]]
STRIPS, CHOSEN, FORCED = "strip by strip", "as chosen", "in order wherever it is possible"
ORDERS = [STRIPS, CHOSEN, FORCED] if multiplies_bytes() else [STRIPS]
"""What this processor has what it needs for."""


def _in_order(strips: NDArray[np.int64], kinds: NDArray[np.int64], rows: int, *_: int, **__: bool
) -> int:  # fmt: skip
    whole = rows == BAND and bool((kinds < 0).all()) and strips[-1] == (strips.size - 1) * STRIP
    return {2: 2, 4: 4, 8: 8, 16: 8}.get(strips.size if whole else 0, ROW_BY_ROW)


@pytest.fixture(scope="module", autouse=True, params=ORDERS)
def in_order(request: pytest.FixtureRequest) -> Iterator[str]:
    """In which order patterns are read, whatever this processor is."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(reduction, "reads_in_order", lambda: request.param != STRIPS)
        if request.param == FORCED:
            patch.setattr(tiles, "_order", _in_order)
        reduction._plan_for.cache_clear()
        yield request.param
    reduction._plan_for.cache_clear()


def reduced(
    patterns: NDArray[Any],
    detectors: Radii,
    center: tuple[float, float],
    header: int = 0,
    probes: NDArray[np.int64] | None = None,
    positions: int = 0,
    masked: Mask | None = None,
    *,
    narrow: bool = False,
) -> PositionMaps:
    detector = Detector("t", patterns.shape[1:], f"u{patterns.dtype.itemsize}", 0)
    acquisition = Acquisition(Scan(shape=(1, positions or len(patterns))), detector)
    maps = PositionMaps(acquisition, tuple(detectors), narrow=narrow)
    maps.masked = masked
    reducer = Reducer(acquisition, Optics(center=center), maps, detectors)
    for block in blocks_of(acquisition, patterns, (3, 1, 5), probes, header):
        reducer.reduce(block)
    return maps


def expect_equal(
    maps: PositionMaps, patterns: NDArray[Any], detectors: Radii, center: tuple[float, float]
) -> None:
    exact = patterns.astype(object) if patterns.dtype.itemsize > 4 else patterns.astype(np.int64)
    height, width = patterns.shape[1:]
    y, x = np.mgrid[:height, :width]
    square = (y - center[0]) ** 2 + (x - center[1]) ** 2
    for i, pattern in enumerate(exact):
        assert maps.total[i] == pattern.sum()
        assert maps.moment_y[i] == (pattern * y).sum()
        assert maps.moment_x[i] == (pattern * x).sum()
        for name, (inner, outer) in detectors.items():
            mask = (square >= inner**2) & (square < outer**2)
            assert maps.detectors[name][i] == pattern[mask].sum(), name


@settings(deadline=None, max_examples=60)
@given(
    shape=st.tuples(st.integers(1, 40), st.integers(1, 40)),
    dtype=st.sampled_from(["u1", "<u2", ">u2", "<u4", ">u4"]),
    header=st.sampled_from([0, 15, 384]),
    center=st.tuples(st.floats(-5, 45), st.floats(-5, 45)),
    radii=st.lists(st.floats(0, 60), min_size=4, max_size=4),
    seed=st.integers(0, 1000),
)
def test_sums_moments_and_detectors_equal_their_definition_for_any_detector(
    shape: tuple[int, int],
    dtype: str,
    header: int,
    center: tuple[float, float],
    radii: list[float],
    seed: int,
) -> None:
    top = min(np.iinfo(dtype).max, 2**24 - 1)
    patterns = np.random.default_rng(seed).integers(0, top, (7, *shape), np.uint32, endpoint=True)
    detectors = {"disc": (0.0, radii[0] + 0.1), "ring": (min(radii), max(radii) + 0.1)}
    given_patterns = patterns.astype(dtype)
    maps = reduced(given_patterns, detectors, center, header)
    expect_equal(maps, given_patterns, detectors, center)


@settings(deadline=None, max_examples=60)
@given(
    height=st.integers(1, 40) | st.sampled_from([255, 256, 257, 264, 520]),
    width=st.sampled_from([64, 128, 192, 200, 256, 515, 2200]),
    dtype=st.sampled_from(["u1", "<u2", ">u2"]),
    ring=st.tuples(st.floats(0, 130), st.floats(0, 130)),
    detectors=st.integers(0, 2),
    top=st.sampled_from([3, 255]),
    seed=st.integers(0, 1000),
)
def test_whole_strips_give_the_same_in_each_order_of_reading(
    height: int,
    width: int,
    dtype: str,
    ring: tuple[float, float],
    detectors: int,
    top: int,
    seed: int,
) -> None:
    rng = np.random.default_rng(seed)
    pixels = rng.integers(0, top, (2, height, width), np.uint8, endpoint=True)
    patterns = (pixels.astype("u4") * (257 if dtype != "u1" else 1)).astype(dtype)
    rings = {"ring": (min(ring), max(ring) + 0.1), "disc": (0.0, 31.0)}
    chosen = dict(list(rings.items())[:detectors])
    center = (height / 2, width / 2)
    expect_equal(reduced(patterns, chosen, center, header=384), patterns, chosen, center)


@pytest.mark.parametrize(
    ("dtype", "shape", "value"),
    [
        ("u1", (515, 515), 255),
        (">u2", (515, 515), 65535),
        ("<u2", (300, 2070), 65535),
        ("<u2", (1030, 257), 65535),
        ("<u4", (512, 512), 2**24 - 1),
        (">u4", (256, 256), 2**32 - 1),
        ("<u8", (64, 64), 2**40),
    ],
)
def test_nothing_overflows_at_the_maximum_count(
    dtype: str, shape: tuple[int, int], value: int
) -> None:
    patterns = np.full((4, *shape), value, dtype)
    patterns[1, :, : shape[1] // 2] = 0
    patterns[2, :, shape[1] // 2 :] = 0
    patterns[3, ::2, ::3] = 0
    center = (shape[0] / 2, shape[1] / 2)
    detectors = {"all": (0.0, 2000.0), "ring": (20.0, 200.0)}
    for narrow in (False, True):
        maps = reduced(patterns, detectors, center, narrow=narrow)
        expect_equal(maps, patterns, detectors, center)


def test_maps_are_narrow_until_a_sum_does_not_fit() -> None:
    """The seventh pattern's moments need 33 bits, its sum does not; the fourth has no position."""
    patterns = np.full((9, 64, 64), 8, "u4")
    patterns[6] = 20000
    probes = np.array([0, 1, 2, -1, 3, 3, 5, 6, 7])
    ring = {"ring": (5.0, 20.0)}
    maps = reduced(patterns, ring, (31.5, 31.5), probes=probes, positions=9, narrow=True)
    assert not maps.narrow
    plain = reduced(patterns, ring, (31.5, 31.5), probes=probes, positions=9)
    assert plain.moment_x[5] > 2**31 > plain.total[5]
    assert plain.total[3] == 2 * plain.total[0]
    for name in ("total", "moment_y", "moment_x", "detector_sums"):
        np.testing.assert_array_equal(getattr(maps, name), getattr(plain, name))
    few = reduced(patterns[:6], ring, (31.5, 31.5), probes=probes[:6], positions=9, narrow=True)
    assert few.narrow
    few.rename_detectors(("other", "ring"))
    assert few.detector_sums.dtype == np.int32
    np.testing.assert_array_equal(few.detectors["ring"][:4], plain.detectors["ring"][:4])


def test_threads_that_add_while_maps_become_wide_lose_nothing() -> None:
    patterns = np.full((400, 32, 32), 1, "u4")
    patterns[100::50] = 2**31
    acquisition = Acquisition(Scan(shape=(1, 400)), Detector("t", (32, 32), "u4", 0))
    plain = reduced(patterns, {}, (15.5, 15.5))
    for _ in range(5):
        maps = PositionMaps(acquisition, narrow=True)

        def add(part: int, maps: PositionMaps = maps) -> None:
            reducer = Reducer(acquisition, Optics(center=(15.5, 15.5)), maps, {})
            for number, block in enumerate(blocks_of(acquisition, patterns, (4,))):
                if number % 4 == part:
                    reducer.reduce(block)

        with ThreadPoolExecutor(4) as threads:
            list(threads.map(add, range(4)))
        for name in ("total", "moment_y", "moment_x"):
            np.testing.assert_array_equal(getattr(maps, name), getattr(plain, name))


def test_detectors_of_single_pixels_overflow_nowhere() -> None:
    """Every cell of them is a rim: more rows than 16 bits hold, within and between the groups."""
    shape = (72, 1100)
    patterns = np.full((2, *shape), 255, np.uint8)
    checks = (np.indices(shape).sum(axis=0) % 2).astype(np.bool_)
    maps = reduced(patterns, {"all": (0.0, 2000.0)}, (36.0, 550.0), masked=checks)
    assert maps.detectors["all"].tolist() == [255 * np.count_nonzero(~checks)] * 2


WIDE = (40, 1100)


def masks_of_lines() -> list[tuple[tuple[int, int], Mask]]:
    """Crosses, gaps, frames and squares, alone and with single pixels, on some detectors."""
    rng = np.random.default_rng(7)
    shapes: list[tuple[int, int]] = [(40, 70), (64, 512), (36, 32), (25, 31), WIDE]
    found = []
    for height, width in shapes:
        h, w = height // 2, width // 2
        cross = [(h - 1, 0, h + 1, width), (0, w - 1, height, w + 1)]
        border = [(0, 0, 1, width), (height - 1, 0, height, width)]
        border += [(0, 0, height, 1), (0, width - 1, height, width)]
        square = [(h - 9, w - 9, h + 9, w + 9)]
        comb = [(0, x, height - 3, x + 1) for x in range(3, width, 20)]
        pixels = rng.integers(0, (height, width), (12, 2)).tolist()
        some = [*cross, *border, *square, *comb, *pixels, (3, 0, 12, w), (0, 0, height, 5)]
        whole = [(0, 0, height, width)]
        every = (cross, cross + pixels, border, square, comb, some, whole)
        found += [((height, width), mask_of(each, (height, width))) for each in every]
    return found


@pytest.mark.parametrize("dtype", ["u1", ">u2", "<u4", "<u8"])
def test_masked_rows_columns_and_squares_count_nowhere_at_any_count(dtype: str) -> None:
    top = min(np.iinfo(dtype).max, 2**32)
    detectors = {"disc": (0.0, 19.0), "ring": (12.0, 400.0)}
    for shape, mask in masks_of_lines()[:: 3 if dtype == "<u8" else 1]:
        left = np.zeros((4, *shape), dtype)
        left[0] = top
        left[1, :, : shape[1] // 2] = top
        left[2, :, shape[1] // 2 :] = top
        left[3] = np.random.default_rng(1).integers(0, top, shape, np.uint64, endpoint=True)
        center = (shape[0] / 2, shape[1] / 2)
        maps = reduced(left, detectors, center, masked=mask)
        expect_equal(maps, np.where(mask, 0, left), detectors, center)
        maps = reduced(np.where(mask, left, 0), detectors, center, masked=mask)
        assert not maps.total.any()
        assert not maps.moment_x.any()


def rows_of(plan: PatternPlan) -> list[tuple[int, int, int]]:
    """First row, rows of a band and bands of each tile."""
    columns = [TILE.index(name) for name in ("y", "rows", "bands")]
    return [tuple(row) for row in plan.tiles[:, columns].tolist()]


def test_masked_rows_are_not_read_and_masked_columns_are_no_runs() -> None:
    mask = mask_of([(127, 0, 129, 256), (0, 127, 256, 129)], (256, 256))
    plan = plan_of((256, 256), "u2", mask, [])
    assert rows_of(plan) == [(0, 8, 15), (120, 7, 1), (129, 8, 15), (249, 7, 1)]
    assert plan.runs.size == 0
    assert rows_of(plan_of((256, 256), "u2", None, [])) == [(0, 8, 32)]


def test_narrow_patterns_are_read_as_wider_ones_of_fewer_rows() -> None:
    assert rows_of(plan_of((16, 16), "u1", None, [])) == [(0, 4, 1)]
    assert rows_of(plan_of((50, 40), "u1", None, [])) == [(0, 6, 1)]
    assert plan_of((50, 40), "u1", None, []).sizes[2] == 48, "two rows are left over"


def test_a_detector_costs_the_rows_of_its_rim() -> None:
    """Some five rows of cells for each pixel of the radius, of 256 * 32."""
    y, x = np.ogrid[:256, :256]
    disc = (y - 127.5) ** 2 + (x - 127.5) ** 2 < 77.0**2
    size = sum(plan_of((256, 256), "u2", None, masks).table.size for masks in ([disc], []))
    none = 2 * plan_of((256, 256), "u2", None, []).table.size
    assert (size - none) / (CELL + 4) < 5.5 * 77


@pytest.mark.parametrize("big_endian", [False, True])
def test_signed_pixels_count_as_they_are(big_endian: bool) -> None:
    """Real numbers that were scaled to integers, some of them negative."""
    shape = (37, 45)
    patterns = np.random.default_rng(2).integers(-(2**31), 2**31, (3, *shape), np.int64)
    patterns[0], patterns[1] = -(2**31), 2**31 - 1
    given_patterns = patterns.astype(">i4" if big_endian else "<i4")
    detectors = {"disc": (0.0, 9.0), "ring": (8.0, 30.0)}
    mask = mask_of([(3, 0, 4, 45), (0, 7, 37, 9), (30, 30), (30, 31)], shape)
    for masked in (None, mask):
        acquisition = Acquisition(Scan(shape=(1, 3)), Detector("t", shape, "i4", 0))
        maps = PositionMaps(acquisition, tuple(detectors))
        maps.masked = masked
        reducer = Reducer(acquisition, Optics(center=(18.0, 20.0)), maps, detectors)
        for block in blocks_of(acquisition, given_patterns, (3,)):
            reducer.reduce(replace(block, dtype="i4", big_endian=big_endian))
        left = patterns if masked is None else np.where(masked, 0, patterns)
        expect_equal(maps, left, detectors, (18.0, 20.0))


def test_frames_that_belong_to_no_position_change_nothing() -> None:
    patterns = np.full((6, 8, 8), 3, "<u2")
    probes = np.array([0, 1, -1, -1, 2, 3])
    maps = reduced(patterns, {}, (4, 4), probes=probes, positions=5)
    assert maps.total.tolist() == [192, 192, 192, 192, 0]
    assert maps.done.tolist() == [True, True, True, True, False]


@given(st.lists(st.integers(-1, 30), min_size=1, max_size=40))
def test_runs_cover_exactly_the_positions_among_the_probes(probes: list[int]) -> None:
    runs = position_runs(np.array(probes, np.int64))
    covered = [position for first, stop in runs for position in range(first, stop)]
    assert covered == sorted({probe for probe in probes if probe >= 0})


def test_an_automatic_detector_centre_does_not_depend_on_the_blocks() -> None:
    rng = np.random.default_rng(3)
    patterns = rng.poisson(2.0, (200, 16, 16)).astype("<u2")
    patterns[:3] = 0
    maps = []
    for sizes in ((1,), (7, 64), (200,), (63, 2)):
        detector = Detector("t", (16, 16), "u2", 0)
        acquisition = Acquisition(Scan(shape=(10, 20)), detector)
        part = PositionMaps(acquisition, ("a",))
        reducer = Reducer(acquisition, Optics(), part, {"a": (0.0, 5.0)})
        for block in blocks_of(acquisition, patterns, sizes):
            reducer.reduce(block)
        assert reducer.centre_fixed
        maps.append(part.detectors["a"])
    assert all((other == maps[0]).all() for other in maps[1:])

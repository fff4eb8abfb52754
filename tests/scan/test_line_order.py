"""Lines of another length than was told, or that run back, are said; healthy scans are not."""

from __future__ import annotations

import numpy as np
import pytest
from numpy.typing import NDArray

from stemd.acquisition import Acquisition, Detector, Scan
from stemd.engines.base import PositionMaps
from stemd.scan.line_order import _match_at, _matches, line_order

SHAPE = (48, 64)
FIELDS = ("crystal", "amorphous", "fringes", "nothing")


def centres(kind: str, seed: int, drift: float = 0.0) -> NDArray[np.float64]:
    """Centre of mass (2, y, x) in pixels: the slope of a phase that the steps resolve."""
    random = np.random.default_rng(seed)
    y, x = np.indices(SHAPE) * 1.0
    x = x + drift * y
    phase = np.zeros(SHAPE)
    if kind == "amorphous":
        q = np.hypot(np.fft.fftfreq(SHAPE[0])[:, None], np.fft.fftfreq(SHAPE[1])[None])
        waves = np.fft.fft2(random.normal(size=SHAPE)) * np.exp(-((q * 8.0) ** 2))
        phase = np.fft.ifft2(waves).real * 20.0
    elif kind in ("crystal", "fringes"):
        turn, (a, b) = random.uniform(0.0, np.pi), random.uniform(7.0, 15.0, 2)
        u, v = x * np.cos(turn) + y * np.sin(turn), y * np.cos(turn) - x * np.sin(turn)
        phase = np.cos(2 * np.pi * u / a) + (kind == "crystal") * np.cos(2 * np.pi * v / b)
    return np.stack(np.gradient(phase))


def maps_of(
    field: NDArray[np.float64], shape: tuple[int, int] = SHAPE, electrons: float = 900.0
) -> PositionMaps:
    random = np.random.default_rng(1)
    maps = PositionMaps(
        Acquisition(Scan(shape=shape), Detector("test", (64, 64), "u2", 12), id="t", started_ns=1)
    )
    count = shape[0] * shape[1]
    maps.total[:] = random.poisson(electrons, count)
    noise = random.normal(0.0, 10.0, (2, count)) / np.sqrt(electrons)
    for sums, part in zip(
        (maps.moment_y, maps.moment_x), field.reshape(2, -1) + noise, strict=True
    ):
        sums[:] = np.rint((31.5 + part[:count]) * maps.total)
    maps.done[:] = True
    return maps


def kinds(maps: PositionMaps) -> list[str]:
    return [notice.kind for notice in line_order(maps)]


@pytest.mark.parametrize("kind", FIELDS)
@pytest.mark.parametrize("drift", [0.0, 0.4])
def test_of_healthy_scans_nothing_is_said(kind: str, drift: float) -> None:
    for seed in range(10):
        assert kinds(maps_of(centres(kind, seed, drift))) == []


@pytest.mark.parametrize("kind", ["crystal", "amorphous"])
def test_lines_that_run_back_are_said(kind: str) -> None:
    found = []
    for seed in range(10):
        field = centres(kind, seed)
        field[:, 1::2] = field[:, 1::2, ::-1]
        found += kinds(maps_of(field))
    assert set(found) == {"lines_run_back"}
    assert len(found) >= 6, "a crystal may look the same from behind"


def test_another_size_of_the_scan_is_said_with_the_one_that_matches() -> None:
    texts = []
    for seed in range(10):
        field = centres("amorphous", seed)
        texts += [notice.text for notice in line_order(maps_of(field, (96, 32)))]
    assert len(texts) >= 8
    assert all("those of 64 would" in text for text in texts)


def test_a_scan_that_was_cut_off_or_is_small_is_left_alone() -> None:
    maps = maps_of(centres("amorphous", 1), (96, 32))
    maps.done[-1:] = False
    assert kinds(maps) == []
    assert kinds(maps_of(centres("amorphous", 1), (8, 384))) == []


def test_of_a_scan_without_a_single_count_nothing_is_said() -> None:
    maps = maps_of(centres("crystal", 1))
    for sums in (maps.total, maps.moment_y, maps.moment_x):
        sums[:] = 0
    assert kinds(maps) == []


def test_the_match_at_one_distance_is_that_of_all_distances() -> None:
    series = list(np.random.default_rng(2).normal(size=(2, 300)))
    found = [_match_at(series, apart) for apart in range(300)]
    np.testing.assert_allclose(_matches(series), found, atol=1e-9)

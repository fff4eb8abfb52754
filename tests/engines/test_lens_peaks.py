"""Where the evidence is highest, and how sure that is."""

from __future__ import annotations

import threading

import numpy as np
import pytest

from stemd.engines.bright_field.so_far import LEAST_LINES, MORE, MeasuringSoFar
from stemd.engines.lens.climb import APART_RADIAN, climbed, searched
from tests.conftest import wait_until


def evidence(place: np.ndarray) -> np.ndarray:
    """A high hill and a lower one, in two parts that agree."""
    heights = np.array([90.0, 60.0])
    middles = np.array([[3.2, -1.1, 0.4], [-4.3, 0.8, 0.2]])
    hill = heights * np.exp(-0.5 * ((place[:3] - middles) ** 2).sum(axis=1))
    return np.full(2, hill.sum() / 2)


def test_the_search_gives_peaks_that_stand_apart_the_highest_first():
    def heights(places: np.ndarray) -> np.ndarray:
        return np.array([evidence(place).sum() for place in places])

    peaks, floor = searched(heights, np.zeros(9), (6.0, 2.0, 2.0), 2.0, 3)
    (high, first), (low, second) = peaks[:2]
    assert high > low > floor
    np.testing.assert_allclose(first[:3], [3.2, -1.1, 0.4], atol=0.6)
    np.testing.assert_allclose(second[:3], [-4.3, 0.8, 0.2], atol=0.6)
    for number, (_, place) in enumerate(peaks):
        assert all(np.linalg.norm(place - other) >= APART_RADIAN for _, other in peaks[:number])


def test_the_climb_ends_at_the_top():
    start = np.zeros(9)
    start[:3] = 2.5, -0.5, 0.0
    top = climbed(evidence, start, (0, 1, 2))
    np.testing.assert_allclose(top.place[:3], [3.2, -1.1, 0.4], atol=2e-3)
    np.testing.assert_allclose(top.information, 90.0 * np.eye(3), atol=0.5)


@pytest.mark.parametrize("apart", [0.0, 0.3])
def test_parts_that_contradict_each_other_make_the_error_larger(apart):
    """Half of 40 parts have their top at -apart and half at apart, each curved like 10 units."""
    tops = apart * np.where(np.arange(40) % 2, 1.0, -1.0)

    def parts(place: np.ndarray) -> np.ndarray:
        return -5.0 * (place[0] - tops) ** 2

    variance = climbed(parts, np.full(9, 0.1), (0,)).variance()
    assert variance is not None
    # of the curvature 1 / 400; of the parts' scatter apart^2 / 40
    assert variance[0] == pytest.approx(max(1 / 400, apart**2 / 40), rel=0.01)


def test_a_flat_surface_has_no_error():
    assert climbed(lambda place: np.zeros(3), np.zeros(9), (0, 1)).variance() is None


def test_lines_are_measured_from_enough_on_and_again_when_there_are_more():
    there, measured, failures = [LEAST_LINES - 1], [], []
    hold = threading.Event()

    def measure(lines: int) -> None:
        measured.append(lines)
        assert hold.wait(20.0)
        if len(measured) == 2:
            raise ValueError("no lens")

    watch = MeasuringSoFar("x")

    def look() -> None:
        watch.look(lambda: there[0], measure, failures.append)

    def looked() -> bool:
        look()
        return bool(measured)

    look()
    assert not measured
    there[0] = LEAST_LINES
    wait_until(looked, "it is measured", 20.0)
    there[0] = 10 * LEAST_LINES
    look()  # busy
    hold.set()
    watch.wait()
    assert measured == [LEAST_LINES]
    there[0] = round(MORE * LEAST_LINES) - 1
    look()
    watch.wait()
    assert measured == [LEAST_LINES]
    there[0] += 1
    wait_until(lambda: looked() and len(measured) == 2, "it is measured again", 20.0)
    watch.wait()
    assert [str(error) for error in failures] == ["no lens"]
    assert not [thread for thread in threading.enumerate() if thread.name == "x-measure"]

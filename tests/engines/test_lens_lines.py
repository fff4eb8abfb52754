"""A search by lines of defocus sees the evidence that `Cells.evidence` has, place by place."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from stemd.beam import Beam
from stemd.engines.lens.cells import Cells
from stemd.engines.lens.estimate import Frequencies
from stemd.engines.lens.lines import Lines

NUMBERS = st.tuples(*[st.floats(-15.0, 15.0)] * 3, *[st.floats(-2.0, 2.0)] * 5, st.floats(-3, 3))


def cells_of(seed: int, number: int = 24, shape: tuple[int, int] = (20, 17)) -> Cells:
    """Cells anywhere in the disc, some of them rim cells, in a part of which all see the same."""
    rng = np.random.default_rng(seed)
    done = np.ones(shape, np.bool_)
    done[-2:, 5:] = False
    at = Frequencies(done, Beam(300e3, 25.0), 0.25, level=True)
    radius, angle = np.sqrt(rng.random(number)), rng.uniform(0.0, 2 * np.pi, number)
    points = np.stack([radius * np.sin(angle), radius * np.cos(angle)], axis=1)[:, None]
    specimen = rng.normal(size=shape) * rng.choice([0.0, 30.0])
    images = rng.poisson(np.exp(0.02 * specimen) * 20.0, (number, *shape)).astype(np.float32)
    spectra, counts = zip(*(at.spectrum_of(image) for image in images), strict=True)
    return Cells(at, np.stack(spectra), np.array(counts), points)


def assert_as_one_by_one(cells: Cells, places: np.ndarray) -> None:
    each = [cells.evidence(place) for place in places]
    np.testing.assert_allclose(Lines(cells).evidence(places), each, rtol=1e-7, atol=1e-6)


def line_from(start: np.ndarray, step: float, length: int) -> np.ndarray:
    places = np.tile(start, (length, 1))
    places[:, 0] += step * np.arange(length)
    return places


@given(NUMBERS, st.floats(0.3, 1.0), st.integers(1, 40), st.integers(0, 1000))
@settings(max_examples=30, deadline=None)
def test_a_line_has_the_evidence_of_its_places(start, step, length, seed):
    assert_as_one_by_one(cells_of(seed), line_from(np.array(start), step, length))


def test_a_long_line_does_not_drift() -> None:
    start = np.array([-250.0, 3.0, -2.0, 0.5, 0.2, -0.1, 0.4, 1.0, 0.0])
    assert_as_one_by_one(cells_of(4), line_from(start, 0.9, 560))


@pytest.mark.parametrize("astigmatism", [0.0, 3.0])
def test_where_the_overlaps_cancel_there_is_no_evidence_by_rounding(astigmatism: float) -> None:
    """In focus nothing is seen, and with one line of the lens in focus nothing of its waves."""
    start = np.zeros(9)
    start[:2] = -6.0, astigmatism
    places = line_from(start, 1.0, 13)
    cells = cells_of(7)
    heights = Lines(cells).evidence(places)
    assert np.isfinite(heights).all()
    assert_as_one_by_one(cells, places)


def test_the_next_line_may_have_another_step_and_turn() -> None:
    cells = cells_of(11)
    lines, start = Lines(cells), np.zeros(9)
    for step, turn in ((0.5, 0.0), (0.7, 0.0), (0.7, 0.2)):
        start[[0, 8]] = -3.0, turn
        places = line_from(start, step, 9)
        each = [cells.evidence(place) for place in places]
        np.testing.assert_allclose(lines.evidence(places), each, rtol=1e-7, atol=1e-6)

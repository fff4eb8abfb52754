"""Of a scan whose lens is not sure the image is a mean over what may be it."""

from __future__ import annotations

import numpy as np
import pytest

from stemd.engines.direct.averaged import AGAINST, TEMPER, parts_of
from tests.engines import weak_phase
from tests.engines.test_direct import BEAM, FIELD, LENS, PER_ANGLE, POSITIONS, camera, made, on_scan

FAINT = 30.0
"""Electrons a pattern of which several lenses explain the cells about as well."""
NEAR = {"search_defocus_nm": 15.0, "search_astigmatism_nm": 3.0}


@pytest.fixture(scope="module")
def truth() -> np.ndarray:
    return weak_phase.random_phase(96, POSITIONS, 0.05, 5, 16.0)


@pytest.fixture(scope="module")
def patterns(truth: np.ndarray) -> np.ndarray:
    shares = weak_phase.patterns(truth, FIELD, POSITIONS, BEAM, LENS, PER_ANGLE)
    return camera(shares, FAINT)


def test_where_no_lens_is_sure_the_image_is_nearly_that_of_the_true_one(patterns, truth) -> None:
    final, said = made(patterns, **NEAR)
    phase, error = final.results
    told, known = (
        made(patterns, told={**lens, "measured": "off"})[0].results
        for lens in ({}, LENS.as_optics())
    )

    def likeness(image: np.ndarray) -> float:
        return float(np.corrcoef(image.ravel(), on_scan(truth).ravel())[0, 1])

    assert not phase.extra["measured"]["sure"]
    assert phase.extra["lens"] == "averaged"
    assert sum(each["part"] for each in phase.extra["lenses"]) == pytest.approx(1.0, abs=0.01)
    assert likeness(phase.image) > 0.85 * likeness(known[0].image)
    assert likeness(phase.image) > likeness(told[0].image) + 0.2
    # what the lenses do not agree on is in the error, which covers what is wrong
    assert error.image.std() > 1.2 * known[1].image.std()
    wrong = phase.image - phase.image.mean() - (on_scan(truth) - on_scan(truth).mean())
    assert wrong.std() < error.image.mean()
    (notice,) = said
    assert notice.kind == "direct_lens_unsure"
    assert "defocus" in notice.text


def test_a_lens_that_was_told_stays_where_none_is_clearly_ahead(patterns) -> None:
    final, said = made(patterns, told=LENS.as_optics(), **NEAR)
    assert final.results[0].extra["lens"] == "told"
    assert "lenses" not in final.results[0].extra
    assert not said


def test_lenses_count_by_their_evidence() -> None:
    np.testing.assert_allclose(parts_of([100.0]), [1.0])
    np.testing.assert_allclose(parts_of([100.0, 100.0 + 0.9 * AGAINST]), [1.0, 0.0])
    parts = parts_of([100.0, 100.0 + AGAINST, 100.0 + AGAINST + TEMPER])
    assert parts.sum() == pytest.approx(1.0)
    assert parts[2] / parts[1] == pytest.approx(np.e)
    np.testing.assert_array_equal(parts_of([0.0, 1e6, 0.0]), [0.0, 1.0, 0.0])

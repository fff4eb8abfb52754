"""Every second line, column or pixel that is brighter: found, undone, told."""

from __future__ import annotations

import numpy as np
import pytest
from numpy.typing import NDArray

from benchmarks.restoration.defects import scenes, titanate
from benchmarks.restoration.truthful import fresh_seed
from stemd.engines.restoration.alternate import alternations
from stemd.engines.restoration.cleaned import cleaned
from stemd.offline.restoring.notes import notes

Image = NDArray[np.float32]


def crystal(seed: int, electrons: float = 30.0) -> Image:
    truth: Image = titanate(np.random.default_rng(seed)).truth.astype(np.float32)
    return electrons * truth / truth.max()


def second_ones(what: str, shape: tuple[int, int]) -> Image:
    y, x = np.indices(shape) % 2
    return {"lines": y, "columns": x, "pixels": (y + x) % 2}[what].astype(np.float32)


@pytest.mark.parametrize("what", ["lines", "columns", "pixels"])
def test_an_offset_of_every_second_one_is_undone_and_told(what: str) -> None:
    truth = crystal(fresh_seed(500))
    image = np.random.default_rng(fresh_seed(501)).poisson(truth).astype(np.float32)
    clean = cleaned(image + 4.0 * second_ones(what, image.shape))
    ((found, by),) = clean.alternating
    assert found == what
    assert by == pytest.approx(4.0, abs=0.1)
    assert np.abs(clean.image - image - 2.0).max() < 0.1
    document = {"alternating": dict(clean.alternating), "departing": 0.0}
    assert f"{what} by {by:.3g}" in " ".join(notes(document))


def test_a_gain_of_every_second_one_is_undone() -> None:
    truth = crystal(fresh_seed(502))
    image = np.random.default_rng(fresh_seed(503)).poisson(truth).astype(np.float32)
    clean, (found,) = alternations(image * (1.0 + 0.3 * second_ones("columns", image.shape)))
    assert found.gain == pytest.approx(0.3 / 1.15, abs=0.03)
    even, odd = clean[:, ::2].mean(), clean[:, 1::2].mean()
    assert even == pytest.approx(odd, rel=0.02)


def test_other_images_do_not_alternate() -> None:
    rng = np.random.default_rng(fresh_seed(504))
    images = [np.full((192, 192), 20.0), np.full((192, 192), 0.02), np.eye(192) * 60.0 + 10.0]
    images[0][70:110, 91:130] = 400.0  # an edge is at odd places, and no more than that
    images += [each.electrons(dose) for each in scenes(fresh_seed(505)) for dose in (5e2, 1e6)]
    for truth in images:
        for every in (1, 3):
            image = rng.poisson(truth).astype(np.float32)[::every, ::every]
            assert alternations(np.ascontiguousarray(image))[1] == []
    assert alternations(np.linspace(0.0, 1.0, 4096).reshape(64, 64).astype(np.float32))[1] == []

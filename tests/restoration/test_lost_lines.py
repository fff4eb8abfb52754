"""Whole lines that measured something else: found, filled in, told."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray

from benchmarks.restoration.defects import scenes, titanate
from benchmarks.restoration.score import Network
from benchmarks.restoration.specimens import specimens
from benchmarks.restoration.truthful import fresh_seed
from stemd.engines.restoration.cleaned import cleaned
from stemd.engines.restoration.finished import finished
from stemd.engines.restoration.lost_lines import lost_lines
from stemd.offline.restoring.notes import notes

Image = NDArray[np.float32]
SHIPPED = Path(__file__).parents[2] / "stemd" / "models" / "restoration.onnx"


def crystal(seed: int) -> tuple[Image, Image]:
    """(recorded, truth)."""
    rng = np.random.default_rng(seed)
    truth = titanate(rng).truth.astype(np.float32)
    truth *= 30.0 / truth.max()
    return rng.poisson(truth).astype(np.float32), truth


def test_bright_and_dead_lines_spoil_nothing_and_are_told() -> None:
    network = Network(SHIPPED)
    image, truth = crystal(fresh_seed(510))
    spoilt = image.copy()
    spoilt[60] += 200.0
    spoilt[100] = 255.0
    spoilt[130:133] = 0.0
    found = finished(spoilt, network.model, network.network)
    assert found.told()["lost_lines"] == [5, 0]
    lost = np.isin(np.arange(len(image)), [60, 100, 130, 131, 132])
    error, usual = (
        np.sqrt(np.mean(np.square(each - truth)[~lost])) for each in (found.image, network(image))
    )
    assert error < 1.2 * usual
    assert np.sqrt(np.mean(np.square(found.image - truth)[lost])) < 2.5 * usual
    text = " ".join(notes(found.told() | {"frames": 1}))
    assert "5 along x and 0 along y" in text


@pytest.mark.parametrize("along", ["lines", "columns"])
def test_lines_and_columns_are_filled_from_beside_them(along: str) -> None:
    image, _ = crystal(fresh_seed(511))
    spoilt = image.copy()
    spoilt[77] = 0.0
    if along == "columns":
        spoilt = np.ascontiguousarray(spoilt.T)
    clean = cleaned(spoilt)
    assert clean.lost_lines == {"lines": (1, 0), "columns": (0, 1)}[along]
    filled = clean.image.T if along == "columns" else clean.image
    np.testing.assert_allclose(filled[77], 0.5 * (image[76] + image[78]))


def test_no_line_of_a_specimen_is_lost() -> None:
    rng = np.random.default_rng(fresh_seed(512))
    for scene in [*specimens(), *scenes(fresh_seed(513))]:
        for dose in (5e2, 2e4, 1e8):
            counts = rng.poisson(scene.electrons(dose)).astype(np.float32)
            # coarser, too, where a column is no more than a pixel wide
            for every in (1, 3, 5):
                image = np.ascontiguousarray(counts[::every, ::every])
                assert not lost_lines(image).any()
                assert not lost_lines(np.ascontiguousarray(image.T)).any()
    flicker = rng.poisson(20.0, (192, 192)) + 3.0 * rng.standard_normal((192, 1))
    assert not lost_lines(flicker.astype(np.float32)).any()

"""Room about a scan: opposite edges are no neighbours."""

from __future__ import annotations

import numpy as np
import pytest

from stemd.aberrations import Aberrations
from stemd.beam import Beam
from stemd.engines.bright_field.margin import with_margin
from stemd.engines.bright_field.view import Discs
from stemd.engines.direct import finished
from stemd.engines.direct.finished import ExactImage

BEAM, STEP, SIDE, PER_ANGLE = Beam(300e3, 20.0), 0.3, 24, 4
LENS = Aberrations(150.0, 10.0, -5.0)


def discs(images: np.ndarray) -> Discs:
    half = PER_ANGLE + 1
    y, x = (part.ravel() for part in np.indices((2 * half + 1, 2 * half + 1)) - half)
    seen = np.broadcast_to(images, (y.size, SIDE, SIDE)).reshape(y.size, -1).astype(np.float32)
    vectors = np.stack([y, x], axis=1) / PER_ANGLE
    done = np.ones((SIDE, SIDE), np.bool_)
    middle = (float(half), float(half))
    return Discs(lambda cells: seen[cells], vectors, done, middle, PER_ANGLE, 1, BEAM, STEP)


def test_the_scan_stays_as_it_is_and_what_is_about_it_is_not_done() -> None:
    rng = np.random.default_rng(1)
    of = discs(rng.poisson(20.0, (121, SIDE, SIDE)))
    wide = with_margin(of, LENS)
    assert min(wide.done.shape) >= SIDE + LENS.reach(BEAM) / STEP
    assert max(wide.done.shape) <= 2 * SIDE + 4
    assert wide.done[:SIDE, :SIDE].all()
    assert wide.done.sum() == SIDE**2
    seen = wide.images(slice(3, 5)).reshape(2, *wide.done.shape)
    np.testing.assert_array_equal(
        seen[:, :SIDE, :SIDE], of.images(slice(3, 5)).reshape(2, SIDE, -1)
    )
    assert not seen[:, SIDE:].any()


def test_what_one_edge_shows_is_not_at_the_opposite_one(monkeypatch: pytest.MonkeyPatch) -> None:
    rng = np.random.default_rng(2)
    counts = np.full((121, SIDE, SIDE), 400.0)
    counts[:, :, :2] += 60.0 * rng.random((SIDE, 2))

    def opposite() -> float:
        made = ExactImage(discs(counts), "wiener", 1, 1e9).through(LENS, lambda: True)
        assert made is not None
        power = made.phase.var(axis=0)
        return float(power[-3:].mean() / power[:3].mean())

    assert opposite() < 0.25
    monkeypatch.setattr(finished, "with_margin", lambda discs, lens: discs)
    assert opposite() > 0.5

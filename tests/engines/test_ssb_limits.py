"""Of what it cannot serve single side-band ptychography says so."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any, cast

import numpy as np
import pytest

from stemd.aberrations import Aberrations
from stemd.beam import Beam
from stemd.engines.bright_field.view import Discs
from stemd.engines.lens.found import LensFound
from stemd.engines.ssb.limits import beyond_limits

BEAM = Beam(300e3, 20.0)


def discs(step: float = 0.3, side: int = 64) -> Discs:
    return Discs(
        lambda columns: np.zeros((0, 0), np.float32), np.zeros((1, 2)),
        np.ones((side, side), np.bool_), (10.0, 10.0), 8.0, 1, BEAM, step,
    )  # fmt: skip


def found(*, sure: bool, explained: float) -> LensFound:
    measured = SimpleNamespace(explained=explained, least_explained=0.35)
    return cast(LensFound, SimpleNamespace(sure=sure, found=measured))


@pytest.mark.parametrize(
    ("scan", "lens", "measured", "says"),
    [
        (discs(step=0.6), Aberrations(), None, "folds back"),
        (discs(), Aberrations(defocus=500.0), None, "over one cell"),
        (discs(side=32), Aberrations(defocus=150.0), None, "of the field"),
        (discs(), Aberrations(), found(sure=False, explained=0.1), "too thick"),
        (discs(), Aberrations(), found(sure=False, explained=0.9), "dose is low"),
    ],
)
def test_each_reason_is_told(scan: Discs, lens: Aberrations, measured: Any, says: str) -> None:
    reasons = beyond_limits(scan, lens, measured)
    assert any(says in reason for reason in reasons)


def test_what_it_can_serve_is_no_reason_to_warn() -> None:
    sure = found(sure=True, explained=0.9)
    assert beyond_limits(discs(), Aberrations(defocus=100.0, astigmatism_x=30.0), sure) == []
    assert beyond_limits(discs(), Aberrations(), None) == []

"""Descan: what the disc's moving edge makes of the cells there is not taken for the specimen."""

from __future__ import annotations

import math

import numpy as np
import pytest

from stemd.aberrations import Aberrations
from stemd.engines.bright_field.passed_over import Wandering
from tests.engines import weak_phase
from tests.engines.test_direct import (
    BEAM,
    FIELD,
    LENS,
    PER_ANGLE,
    POSITIONS,
    camera,
    made,
    on_scan,
)

CELL = 0.1
PLACES = np.stack(np.mgrid[-15:16, -15:16], axis=-1).reshape(-1, 2) * CELL
MANY = 1e5


def passed_over(across: np.ndarray, electrons: float = MANY) -> np.ndarray:
    return Wandering(PLACES, CELL, across).passed_over(electrons)


def test_cells_that_the_edge_passes_over_are_those_of_the_edge() -> None:
    passed = passed_over(np.array([[0.3, 0.0], [0.0, 0.0]]))  # along y, from line to line
    distance = np.hypot(*PLACES[passed].T)
    assert np.abs(distance - 1.0).max() < 0.15 + CELL
    at_the_top = np.abs(PLACES - (1.0, 0.0)).max(axis=1) < 1e-9
    assert passed[at_the_top].all()


def test_of_a_disc_that_stands_still_or_moves_within_the_noise_nothing_is_taken_out() -> None:
    assert not passed_over(np.zeros((2, 2)), 1e9).any()
    assert not passed_over(np.array([[0.3, 0.0], [0.0, 0.2]]), 1e-3).any()


def test_a_cell_that_is_not_to_be_used_stays_so() -> None:
    places = np.array([[np.nan, np.nan], [0.0, 0.0]])
    wandering = Wandering(places, CELL, np.array([[0.3, 0.0], [0.0, 0.2]]))
    assert not wandering.passed_over(MANY).any()


def wandering(shares: np.ndarray, pixels: float) -> np.ndarray:
    """The patterns moved by so many pixels from the first line to the last, and half as many back
    along the lines."""
    moved = np.empty_like(shares)
    for y in range(POSITIONS):
        for x in range(POSITIONS):
            seen = shares[y, x]
            for axis, by in (
                (0, pixels * (y / (POSITIONS - 1) - 0.5)),
                (1, -pixels / 2 * (x / (POSITIONS - 1) - 0.5)),
            ):
                low = int(np.floor(by))
                part = by - low
                seen = (1 - part) * np.roll(seen, low, axis) + part * np.roll(seen, low + 1, axis)
            moved[y, x] = seen
    return moved


@pytest.mark.parametrize(
    ("lens", "less"), [(LENS, 0.12), (Aberrations(), 0.04)], ids=["out of focus", "in focus"]
)
def test_a_wandering_disc_makes_no_bowl(lens: Aberrations, less: float) -> None:
    truth = weak_phase.random_phase(96, POSITIONS, 0.05, 5, 16.0)
    shares = weak_phase.patterns(truth, FIELD, POSITIONS, BEAM, lens, PER_ANGLE)
    told = {
        "center": "auto",
        "measured": "off",
        "defocus_nm": lens.defocus / 10,
        "astigmatism_nm": math.hypot(lens.astigmatism_x, lens.astigmatism_y) / 10,
        "astigmatism_deg": math.degrees(math.atan2(lens.astigmatism_y, lens.astigmatism_x)) / 2,
    }
    true = on_scan(truth).ravel()

    def likeness(patterns: np.ndarray) -> float:
        final, _ = made(camera(patterns, 3000.0), told=told, lens="told")
        seen = final.results[0].image.ravel().astype(np.float64)
        return float(np.corrcoef(seen, true)[0, 1])

    assert likeness(wandering(shares, 1.2)) > likeness(shares) - less

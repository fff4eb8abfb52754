"""A virtual detector that is changed in mid-scan: its image has both rings, and says so."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from stemd.acquisition import Optics
from stemd.scan.run import ScanRun
from tests.engines.scenes import acquisition_of, blocks_of, engine, settings_of

PATTERNS = np.random.default_rng(4).integers(0, 9, (60, 20, 24)).astype("<u2")
OLD, NEW = {"bf": (0.0, 4.0), "adf": (5.0, 9.0)}, {"bf": (0.0, 4.0), "adf": (6.0, 9.0)}


def settings(rings: dict[str, Any], **optics: Any) -> Any:
    own = engine("virtual_detector", detectors_px=rings)
    return settings_of([own], Optics(center=optics.pop("center", (9.5, 11.5)), **optics))


def changed_at(positions: int, *then: Any) -> ScanRun:
    """A scan whose settings become `then`, one after the other, after so many positions each."""
    own = engine("virtual_detector", detectors_px=OLD)
    acquisition = acquisition_of(PATTERNS, (5, 12))
    run = ScanRun(acquisition, settings(OLD), [own])
    later = list(then)
    for number, block in enumerate(blocks_of(acquisition, PATTERNS, (6,))):
        if number * 6 >= positions and later:
            run.change(later.pop(0))
        run.reduce(block)
    for more in later:
        run.change(more)
    run.end("complete")
    return run


def told(run: ScanRun) -> list[str]:
    return [n["text"] for n in run.notices if n["kind"] == "mixed_detectors"]


def images(run: ScanRun) -> dict[str, Any]:
    run.engines.update(run.settings)  # as the engines' thread does
    return {result.name: result for result in run.snapshot(final=True).results}


def test_an_image_of_two_rings_says_which_and_from_where() -> None:
    run = changed_at(24, settings(NEW), settings({**NEW, "adf": (7.0, 9.0)}))
    (text,) = told(run)
    assert "ring of the virtual detector adf" in text
    assert "after 24 of 60 positions" in text
    made = images(run)
    first, second = made["adf"].extra["mixed"]
    assert (first["positions"], first["inner_px"], first["outer_px"]) == (24, 5.0, 9.0)
    assert (second["positions"], second["inner_px"]) == (30, 6.0)
    assert "mixed" not in made["bf"].extra
    y, x = np.mgrid[:20, :24]
    far = np.hypot(y - 9.5, x - 11.5)
    for begin, stop, inner in ((0, 24, 5.0), (24, 30, 6.0), (30, 60, 7.0)):
        expected = (PATTERNS[begin:stop] * ((far >= inner) & (far < 9.0))).sum((1, 2))
        np.testing.assert_array_equal(made["adf"].image.ravel()[begin:stop], expected)


def test_a_detector_that_comes_in_mid_scan_and_a_centre_that_moves_are_told() -> None:
    run = changed_at(24, settings({**OLD, "haadf": (9.0, 11.0)}))
    assert told(run) == [
        "the virtual detector haadf was added after 24 of 60 positions: its image is 0 before"
    ]
    assert images(run)["haadf"].extra["mixed"][0]["inner_px"] is None
    moved = changed_at(24, settings(OLD, center=(9.5, 12.5)))
    assert len(told(moved)) == 2
    assert all("the centre of the virtual detector" in text for text in told(moved))
    assert images(moved)["bf"].extra["mixed"][0]["center"] == [9.5, 11.5]
    dose = changed_at(24, settings(OLD, acceptance_time_ns=500.0))
    assert len(told(dose)) == 1


def test_a_change_while_a_place_is_scanned_again_is_told_too() -> None:
    own = engine("virtual_detector", detectors_px=OLD)
    acquisition = acquisition_of(PATTERNS, (5, 6), repeats=2)
    run = ScanRun(acquisition, settings(OLD), [own])
    for number, block in enumerate(blocks_of(acquisition, PATTERNS, (6,))):
        if number == 7:
            run.change(settings(NEW))
        run.reduce(block)
    (text,) = told(run)
    assert "after 42 of 60 positions" in text


@pytest.mark.parametrize("positions", [0, 60])
def test_a_change_before_the_first_or_after_the_last_position_mixes_nothing(
    positions: int,
) -> None:
    run = changed_at(positions, settings(NEW))
    assert told(run) == []
    assert all("mixed" not in result.extra for result in images(run).values())


def test_other_settings_mix_nothing() -> None:
    run = changed_at(24, settings(OLD, rotation_deg=30.0))
    assert told(run) == []

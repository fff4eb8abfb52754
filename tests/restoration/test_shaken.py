"""Lattices whose lines are displaced by a good part of their period."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from benchmarks.restoration.defects import dislocated, scenes, strained
from benchmarks.restoration.measures import psnr
from benchmarks.restoration.truthful import CONDITIONS, fresh_seed
from stemd.engines.restoration.distortions import Distortions, Jitter, distort
from stemd.engines.restoration.estimate.channels import estimate
from stemd.engines.restoration.estimate.phases import placed
from stemd.engines.restoration.evidence.faithful import faithful
from stemd.engines.restoration.robust_scale import normalise

Image = np.ndarray[Any, np.dtype[np.float32]]


def fine(seed: int, electrons: float) -> tuple[Image, Image]:
    """(data, truth): a lattice of 5 to 7 pixels, its lines displaced by 0.8 along x."""
    rng = np.random.default_rng(fresh_seed(seed))
    period, angle = rng.uniform(5.0, 7.0), rng.uniform(0.0, 0.15)
    y, x = np.mgrid[:256, :256]
    along = 2.0 * np.pi * (x * np.cos(angle) + y * np.sin(angle)) / period
    across = 2.0 * np.pi * (y * np.cos(angle) - x * np.sin(angle)) / period
    truth = electrons * (1.2 + np.cos(along)) * (1.2 + np.cos(across)) * (1.0 + x / 400.0)
    image = truth.astype(np.float32)
    return distort(image, Distortions(jitter=Jitter(0.25, 0.8, 0.3)), rng), image


def test_a_fine_lattice_is_seen_behind_lines_that_are_far_off() -> None:
    gained = []
    for seed in range(200, 204):
        data, truth = fine(seed, 30.0)
        seen = normalise(data)
        known = estimate(seen.values)
        gained.append(psnr(seen.undone(known.shown), truth) - psnr(data, truth))
        assert known.shifts[:, 1].std() == pytest.approx(0.8, abs=0.35)
    # comparing lines with the displaced lattice itself gained 2 to 5 dB
    assert np.mean(gained) > 7.0


def test_what_is_bent_is_not_straightened_and_what_is_still_not_moved() -> None:
    for number, scene in enumerate((strained, dislocated)):
        rng = np.random.default_rng([fresh_seed(205), number])
        truth = scene(rng).electrons(2e4)
        seen = normalise(distort(truth, CONDITIONS["jitter"], rng))
        assert psnr(seen.undone(estimate(seen.values).shown), truth) > 29.5
    for scene_ in scenes(fresh_seed(206)):
        rng = np.random.default_rng(fresh_seed(207))
        values = normalise(distort(scene_.electrons(2e3), CONDITIONS["still"], rng)).values
        assert not placed(values).any(), scene_.name


def test_displaced_lines_are_no_slow_detector() -> None:
    for seed in range(208, 211):
        data, truth = fine(seed, 30.0)
        seen = normalise(data)
        shown = estimate(seen.values).shown
        found = seen.undone(faithful(seen.values, shown).image)
        # undoing a tail that was none made noise of everything: 5 to 12 dB
        assert psnr(found, truth) > psnr(seen.undone(shown), truth) - 1.0

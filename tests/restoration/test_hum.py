"""Mains hum in a lattice's image: found where it is, and not where there is none."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from benchmarks.restoration.defects import Scene, film, titanate
from benchmarks.restoration.measures import psnr
from benchmarks.restoration.truthful import fresh_seed
from stemd.acquisition import Scan
from stemd.engines.kernels.scan_distortions import sample
from stemd.engines.restoration.estimate import hum as hum_module
from stemd.engines.restoration.estimate.hum import Hum, find_hum
from stemd.engines.restoration.steady import steadied_scan

DWELL_S, LINE_S = 1e-5, 2.6e-3


def hum_of(scene: Scene, amplitude_px: float, seed: int) -> tuple[Any, Any, Hum]:
    """(recorded, truth, hum) at 20,000 e/A^2."""
    rng = np.random.default_rng(seed)
    amplitude = amplitude_px * np.array([0.5, 1.0]) * np.exp(2j * np.pi * rng.random(2))
    hum = Hum(amplitude, 50.03 * np.array([LINE_S, DWELL_S]))
    truth = scene.electrons(2e4)
    moved = sample(truth, *hum.shifts(truth.shape), True)
    return rng.poisson(np.maximum(moved, 0.0)).astype(np.float32), truth, hum


@pytest.mark.parametrize("amplitude_px", [0.3, 1.0])
def test_hum_is_found_and_undone(amplitude_px: float) -> None:
    seed = fresh_seed(50)
    data, truth, hum = hum_of(titanate(np.random.default_rng(seed)), amplitude_px, seed)
    scan = Scan(shape=data.shape, dwell_time_us=1e6 * DWELL_S, flyback=260 - data.shape[1])
    found = find_hum(data, LINE_S, DWELL_S)
    assert found is not None
    left = np.array(found.shifts(data.shape)) - hum.shifts(data.shape)
    assert np.sqrt(np.mean(np.square(left).sum(axis=0))) < 0.5 * amplitude_px
    steady, undone = steadied_scan(data, scan)
    assert undone["hum_px"] == pytest.approx(0.79 * amplitude_px, rel=0.25)
    assert psnr(steady, truth) > psnr(data, truth) + 0.05


@pytest.mark.parametrize("make", [titanate, film])
def test_a_still_scan_has_no_hum(make: Any) -> None:
    for number in range(3):
        seed = fresh_seed(52 + number)
        data, _, _ = hum_of(make(np.random.default_rng(seed)), 0.0, seed)
        assert find_hum(data, LINE_S, DWELL_S) is None
        scan = Scan(shape=data.shape, dwell_time_us=1e6 * DWELL_S)
        assert steadied_scan(data, scan)[0] is data


def test_a_scan_of_a_day_is_not_searched(monkeypatch: pytest.MonkeyPatch) -> None:
    def searched(*_: object) -> None:
        raise AssertionError("what is tried grows with the scan's time")

    monkeypatch.setattr(hum_module, "find_hum", searched)
    data = np.zeros((256, 256), np.float32)
    assert steadied_scan(data, Scan(shape=data.shape, dwell_time_us=1.3e6))[0] is data
    with pytest.raises(AssertionError):
        steadied_scan(data, Scan(shape=data.shape, dwell_time_us=1e3))

"""Lines that begin beside their place, all alike: found where it is so, and not where it is not."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from benchmarks.restoration.defects import disulfide, scenes, titanate
from benchmarks.restoration.measures import psnr
from benchmarks.restoration.truthful import fresh_seed
from stemd.acquisition import Scan
from stemd.engines.kernels.scan_distortions import sample
from stemd.engines.restoration.distortions import ar1, displace_lines
from stemd.engines.restoration.estimate.flagging import Flagging, find_flagging, unflagged
from stemd.engines.restoration.steady import steadied_scan

EDGE = np.s_[8:-8, :12]


def flagged(truth: Any, flagging: Flagging, seed: int) -> Any:
    seen = sample(truth, *flagging.shifts(truth.shape), True)
    return np.random.default_rng(seed).poisson(seen.clip(0.0)).astype(np.float32)


@pytest.mark.parametrize("make", [disulfide, titanate])
def test_lines_that_begin_beside_their_place_are_put_back(make: Any) -> None:
    seed = fresh_seed(60)
    truth = make(np.random.default_rng(seed)).electrons(2e4)
    true = Flagging(np.array([-0.3, 3.0]), 5.0)
    data = flagged(truth, true, seed)
    found = find_flagging(data)
    assert found is not None
    off = np.subtract(found.shifts(truth.shape), true.shifts(truth.shape))[:, 0, :12]
    assert np.sqrt(np.mean(np.square(off).sum(axis=0))) < 0.35
    put_back, moved_px = unflagged(data)
    assert moved_px == pytest.approx(3.0, rel=0.2)
    still = flagged(truth, Flagging(np.zeros(2), 5.0), seed)
    assert psnr(put_back[EDGE], truth[EDGE]) > psnr(data[EDGE], truth[EDGE]) + 1.0
    assert psnr(put_back[EDGE], truth[EDGE]) > psnr(still[EDGE], truth[EDGE]) - 3.0
    np.testing.assert_allclose(put_back[:, 100:], data[:, 100:], atol=1e-3)
    scan = Scan(shape=truth.shape, serpentine=True)
    same, told = steadied_scan(data, scan)
    assert same is data
    assert told == {"not_looked_for": ["hum", "flagging"]}


def test_nothing_is_moved_where_lines_begin_at_their_place() -> None:
    seed = fresh_seed(61)
    for number, scene in enumerate(scenes(seed)):
        for dose, jitter_px in ((2e3, 0.0), (2e4, 0.5), (1e5, 0.0)):
            rng = np.random.default_rng([seed, number, int(dose)])
            truth = scene.electrons(dose)
            lines = (ar1(len(truth), 0.5, part * jitter_px, rng) for part in (0.5, 1.0))
            seen = displace_lines(truth, *lines, cubic=True) if jitter_px else truth
            data = rng.poisson(seen.clip(0.0)).astype(np.float32)
            assert find_flagging(data) is None, (scene.name, dose)

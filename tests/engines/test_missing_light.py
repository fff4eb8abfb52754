"""Counts that masked pixels would have, held against a plain interpolation of each row."""

from __future__ import annotations

import numpy as np
import pytest
from numpy.typing import NDArray

from stemd.engines.missing_light import missing_share
from stemd.pixels import Mask


def filled(counts: NDArray[np.float64], mask: Mask) -> NDArray[np.float64]:
    """Each row's masked pixels by `np.interp`; NaN beyond the last good one."""
    found = np.where(mask, np.nan, counts)
    for row, bad in enumerate(mask):
        if bad.any() and not bad.all():
            at = np.arange(bad.size)
            found[row, bad] = np.interp(
                at[bad], at[~bad], counts[row, ~bad], left=np.nan, right=np.nan
            )
    return found


def plain(total: NDArray[np.int64], mask: Mask) -> float:
    counts = total.astype(np.float64)
    both = np.fmin(filled(counts, mask), filled(counts.T, mask.T).T)
    missing = float(np.nansum(both[mask]))
    return missing / max(1.0, missing + float(counts[~mask].sum()))


def masks(shape: tuple[int, int]) -> dict[str, Mask]:
    made = {name: np.zeros(shape, np.bool_) for name in ("none", "one", "lines", "edges", "all")}
    made["one"][3, 5] = True
    made["lines"][7:9] = made["lines"][:, 11] = True
    made["edges"][0] = made["edges"][:, -1] = made["edges"][-3:, :4] = True
    made["all"][:] = True
    made["many"] = np.random.default_rng(1).random(shape) < 0.3
    return made


@pytest.mark.parametrize("name", masks((20, 33)))
def test_the_share_is_that_of_a_plain_interpolation(name: str) -> None:
    total = np.random.default_rng(0).poisson(40.0, (20, 33)).astype(np.int64)
    mask = masks(total.shape)[name]
    assert missing_share(total, mask) == pytest.approx(plain(total, mask), rel=1e-12)

"""An offset that all pixels have is told from electrons by its not changing."""

from __future__ import annotations

import numpy as np
import pytest
from numpy.typing import NDArray

from stemd.acquisition import Detector
from stemd.scan.offset_counts import OffsetCounts

SHAPE = (64, 64)


def patterns(disc: float, dark: float, seed: int = 1) -> NDArray[np.uint16]:
    y, x = np.indices(SHAPE) - 31.5
    mean = np.where(np.hypot(y, x) < 14.0, disc, dark)
    return np.random.default_rng(seed).poisson(mean, (64, *SHAPE)).astype(np.uint16)


def told(seen: NDArray[np.uint16], parts: int = 1) -> list[str]:
    detector = Detector("test", SHAPE, "u2", 16)
    made = [OffsetCounts(detector, SHAPE) for _ in range(parts)]
    for number, pattern in enumerate(seen):
        made[number % parts].add(pattern)
    for other in made[1:]:
        made[0].merge(other.gathered())
    return [notice.text for notice in made[0].notices()]


@pytest.mark.parametrize("dark", [0.02, 0.5, 4.0, 30.0, 500.0])
@pytest.mark.parametrize("disc", [3.0, 60.0, 3000.0])
def test_electrons_are_no_offset(disc: float, dark: float) -> None:
    assert told(patterns(disc, dark)) == []


@pytest.mark.parametrize("offset", [1, 5, 100])
@pytest.mark.parametrize("parts", [1, 3])
def test_an_offset_is_told_with_its_part_of_the_counts(offset: int, parts: int) -> None:
    seen = patterns(3.0, 0.1)
    share = offset / (seen.mean() + offset)
    (text,) = told(seen + np.uint16(offset), parts)
    assert text.startswith(f"every pixel has {offset} counts or more in every pattern, {share:.0%}")


def test_patterns_that_are_all_the_same_are_told_elsewhere() -> None:
    assert told(np.full((64, *SHAPE), 7, np.uint16)) == []


def test_a_small_offset_and_few_patterns_say_nothing() -> None:
    assert told(patterns(3000.0, 0.1) + np.uint16(5)) == []
    assert told(patterns(3.0, 0.1)[:8] + np.uint16(5)) == []

"""Frames that show two different things are told, however well they lie upon each other."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from benchmarks.restoration.defects import disulfide, film
from stemd.engines.restoration.distortions import ar1, displace_lines
from stemd.engines.restoration.frames.kinds import kinds_of

Image = np.ndarray[Any, np.dtype[np.float32]]


def frames_of(
    scenes: list[Image], seed: int, jitter_px: float = 0.0
) -> tuple[list[Image], np.ndarray[Any, np.dtype[np.float64]]]:
    """A frame of each scene, drifting, with noise; and where its lines are."""
    rng = np.random.default_rng(seed)
    frames, lines = [], []
    for n, scene in enumerate(scenes):
        ny = len(scene)
        dy = 0.3 * n + ar1(ny, 0.5, 0.5 * jitter_px, rng)
        dx = -0.4 * n + ar1(ny, 0.5, jitter_px, rng)
        seen = displace_lines(scene, dy, dx, cubic=True)
        frames.append(rng.poisson(np.maximum(seen, 0.0)).astype(np.float32))
        lines.append(np.stack([dy, dx], 1))
    return frames, np.array(lines)


def scene(make: Any, seed: int, dose: float) -> Image:
    image: Image = make(np.random.default_rng(seed)).electrons(dose)
    return image


@pytest.mark.parametrize(
    ("pattern", "expected"),
    [
        ([0] * 6 + [1] * 6, [6, 7, 8, 9, 10, 11]),
        ([0, 1] * 5, [1, 3, 5, 7, 9]),
        ([1, 1, 0, 0, 0, 0, 0, 0], [0, 1]),
    ],
    ids=["then", "in turn", "two of eight"],
)
@pytest.mark.parametrize("make", [disulfide, film])
def test_two_places_are_told_apart(make: Any, pattern: list[int], expected: list[int]) -> None:
    places = [scene(make, 31, 4e3), scene(make, 32, 4e3)]
    frames, lines = frames_of([places[n] for n in pattern], 5)
    found = kinds_of(frames, lines, np.ones(len(frames), np.bool_))
    assert found is not None
    assert np.flatnonzero(found.second).tolist() == expected
    assert found.likeness < 0.9


@pytest.mark.parametrize("dose", [60.0, 1e3, 1e5])
@pytest.mark.parametrize("jitter_px", [0.0, 0.5])
@pytest.mark.parametrize("make", [disulfide, film])
def test_one_place_is_one_kind_however_noisy(make: Any, jitter_px: float, dose: float) -> None:
    for seed in range(2):
        frames, lines = frames_of([scene(make, 33 + seed, dose)] * 8, 7 + seed, jitter_px)
        assert kinds_of(frames, lines, np.ones(8, np.bool_)) is None


def test_frames_that_are_wrongly_placed_by_half_a_pixel_are_no_other_kind() -> None:
    frames, lines = frames_of([scene(disulfide, 40, 1e4)] * 8, 3)
    lines[::2, :, 1] += 0.5
    assert kinds_of(frames, lines, np.ones(8, np.bool_)) is None


def test_frames_that_are_left_out_are_of_no_kind() -> None:
    places = [scene(film, 50, 4e3), scene(film, 51, 4e3)]
    frames, lines = frames_of([places[n] for n in (0, 0, 0, 0, 1, 1)], 5)
    used = np.array([True, True, True, True, False, False])
    assert kinds_of(frames, lines, used) is None
    assert kinds_of(frames[:3], lines[:3], used[:3]) is None, "too few to tell"

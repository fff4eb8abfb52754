"""The estimate of the rotation on fields whose rotation is known."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from stemd.acquisition import Optics
from stemd.engines.rotation import RotationEstimate, estimate_rotation
from stemd.engines.vectors import to_scan_axes

F64 = NDArray[np.float64]


def atoms(shape: tuple[int, int], width: float, seed: int, *, apart: bool = False) -> F64:
    """Bright atoms of height 1 at random places, no two of them touching if `apart`."""
    rng = np.random.default_rng(seed)
    count = int(shape[0] * shape[1] / (30 * width**2))
    y, x = np.mgrid[: shape[0], : shape[1]].astype(float)
    image = np.zeros(shape)
    placed: list[tuple[float, float]] = []
    for cy, cx in rng.uniform((0, 0), shape, (count, 2)):
        if not apart or all(
            (cy - y0) ** 2 + (cx - x0) ** 2 > (4 * width) ** 2 for y0, x0 in placed
        ):
            placed.append((cy, cx))
            image += np.exp(-((y - cy) ** 2 + (x - cx) ** 2) / (2 * width**2))
    return image


def as_the_camera_sees(potential: F64, rotation_deg: float, flip: bool) -> tuple[F64, F64]:
    """The COM shifts in detector axes: what `to_scan_axes` turns back into the gradient."""
    y, x = np.gradient(potential)
    angle = np.radians(-rotation_deg)
    y, x = -x * np.sin(angle) + y * np.cos(angle), x * np.cos(angle) + y * np.sin(angle)
    return (x, y) if flip else (y, x)


def turn(a: float, b: float) -> float:
    """The angle between two directions in degrees."""
    return abs((a - b + 180.0) % 360.0 - 180.0)


def noisy(fields: tuple[F64, F64], part: float, seed: int = 1) -> tuple[F64, F64]:
    """The fields with white noise whose deviation is this part of theirs."""
    rng = np.random.default_rng(seed)
    deviation = part * np.sqrt((fields[0] ** 2 + fields[1] ** 2).mean() / 2)
    return tuple(field + rng.normal(0, deviation, field.shape) for field in fields)  # type: ignore[return-value]


@settings(deadline=None, max_examples=40)
@given(
    rotation=st.floats(-180.0, 180.0),
    flip=st.booleans(),
    known=st.booleans(),
    seed=st.integers(0, 100),
    shape=st.sampled_from([(48, 80), (96, 64), (70, 70)]),
)
def test_a_clean_field_gives_its_rotation_and_hand(
    rotation: float, flip: bool, known: bool, seed: int, shape: tuple[int, int]
) -> None:
    fields = as_the_camera_sees(atoms(shape, 2.0, seed, apart=True), rotation, flip)
    found = estimate_rotation(*fields, flip=known)
    assert found.flip == flip
    assert turn(found.rotation_deg, rotation) < 1.0
    assert found.confidence > 0.5
    optics = Optics(rotation_deg=found.rotation_deg, flip=found.flip)
    back = to_scan_axes(*fields, optics)
    truth = np.gradient(atoms(shape, 2.0, seed, apart=True))
    np.testing.assert_allclose(back[0], truth[0], atol=0.02 * np.abs(truth[0]).max())


@pytest.mark.parametrize(("noise", "width", "error"), [(1.0, 2.0, 2.0), (3.0, 4.0, 5.0)])
@pytest.mark.parametrize("rotation", [-170.0, -90.0, -33.0, 0.0, 61.0, 135.0])
@pytest.mark.parametrize("flip", [False, True])
def test_noise_moves_the_angle_little(
    noise: float, width: float, error: float, rotation: float, flip: bool
) -> None:
    clean = as_the_camera_sees(atoms((128, 128), width, 3), rotation, flip)
    found = estimate_rotation(*noisy(clean, noise))
    assert found.flip == flip
    assert turn(found.rotation_deg, rotation) < error
    assert 0.05 < found.confidence < 1.0


@pytest.mark.parametrize("seed", range(20))
def test_noise_alone_gives_no_confidence(seed: int) -> None:
    fields = np.random.default_rng(seed).normal(size=(2, 90, 60))
    assert estimate_rotation(*fields).confidence < 0.1


def test_dark_holes_are_told_from_bright_atoms() -> None:
    holes = as_the_camera_sees(-atoms((80, 80), 2.0, 5), 20.0, False)
    assert turn(estimate_rotation(*holes).rotation_deg, -160.0) < 1.0


def test_where_the_sign_is_unknown_the_angle_stays_on_its_side() -> None:
    y, x = np.mgrid[:64, :64] * (2 * np.pi / 8)
    checks = as_the_camera_sees(np.sin(y) * np.sin(x), 70.0, False)
    for present, expected in ((60.0, 70.0), (-100.0, -110.0)):
        found = estimate_rotation(*checks, rotation_deg=present)
        assert turn(found.rotation_deg, expected) < 1.0
        assert found.confidence < 0.5


def test_fringes_do_not_tell_the_hand_and_it_is_kept() -> None:
    _, x = np.mgrid[:64, :64] * (2 * np.pi / 8)
    fringes = as_the_camera_sees(np.cos(x) + np.cos(2 * x), 10.0, False)
    assert estimate_rotation(*fringes, flip=False).flip is False
    assert estimate_rotation(*fringes, flip=True).flip is True


def test_an_even_descan_changes_nothing() -> None:
    fields = as_the_camera_sees(atoms((64, 64), 2.0, 7), 40.0, False)
    y, x = np.mgrid[:64, :64]
    moved = fields[0] + 0.3 * x + 5.0, fields[1] - 0.2 * y + 0.4 * x
    found = estimate_rotation(*moved)
    assert found.rotation_deg == pytest.approx(estimate_rotation(*fields).rotation_deg)


def test_nothing_gives_nothing() -> None:
    flat = np.zeros((20, 20))
    assert estimate_rotation(flat, flat) == RotationEstimate(0.0, False, 0.0)
    with pytest.raises(ValueError, match="too small"):
        estimate_rotation(flat[:5], flat[:5])

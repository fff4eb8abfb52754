"""An estimate of the rotation that is chance leaves the setting as it is, and says so."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest

from stemd.acquisition import Optics
from stemd.scan import rotation
from tests.engines.test_rotation import F64, as_the_camera_sees, atoms, turn

SIDE = 48


def estimated(monkeypatch: pytest.MonkeyPatch, field: tuple[F64, F64]) -> Any:
    """Of a scan with this field of shifts, told to be turned by 33 degrees and mirrored."""
    monkeypatch.setattr(rotation, "resolve_centre", lambda *args: (0.0, 0.0))
    monkeypatch.setattr(rotation, "middle_shifts", lambda *args: field)
    maps = SimpleNamespace(shape=(SIDE, SIDE), done=np.ones(SIDE * SIDE, np.bool_))
    run: Any = SimpleNamespace(
        settings=SimpleNamespace(optics=Optics(rotation_deg=33.0, flip=True)),
        maps=maps,
        acquisition=SimpleNamespace(detector=SimpleNamespace(shape=(64, 64))),
    )
    return rotation.rotation_of(run)


@pytest.mark.parametrize("seed", range(6))
def test_vacuum_and_a_shuffled_scan_keep_the_setting(
    monkeypatch: pytest.MonkeyPatch, seed: int
) -> None:
    rng = np.random.default_rng(seed)
    y, x = as_the_camera_sees(atoms((SIDE, SIDE), 2.0, seed), -120.0, False)
    order = rng.permutation(SIDE * SIDE)
    shuffled = tuple(part.ravel()[order].reshape(SIDE, SIDE) for part in (y, x))
    for field in (rng.normal(size=(2, SIDE, SIDE)), shuffled):
        found = estimated(monkeypatch, tuple(field))  # type: ignore[arg-type]
        assert (found.rotation_deg, found.flip, found.determined) == (33.0, True, False)


def test_atoms_tell_it(monkeypatch: pytest.MonkeyPatch) -> None:
    found = estimated(monkeypatch, as_the_camera_sees(atoms((SIDE, SIDE), 2.0, 1), -120.0, False))
    assert found.determined
    assert turn(found.rotation_deg, -120.0) < 2.0
    assert not found.flip

"""Counts in another byte order, in steps, negative, all alike, and swapped axes are told."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from stemd.acquisition import Detector, Optics, Scan
from stemd.adapters.files import open_recording
from stemd.scan.odd_counts import OddCounts
from stemd.scan.processing import process_recording
from stemd.settings import Settings

KINDS = ("byte_order", "counts_in_steps", "negative_counts", "axes_doubted", "identical_patterns")


def discs(mean: float, background: float = 0.02) -> NDArray[np.int64]:
    """Counts (12, 10, 20, 24) of a disc that wanders over the detector."""
    y, x = np.mgrid[:20, :24]
    j, i = np.mgrid[:12, :10]
    far = np.hypot(
        y - 9.5 - np.sin(j / 3)[..., None, None], x - 11.5 - np.cos(i / 4)[..., None, None]
    )
    expected = np.where(far < 6.0, mean, background * mean)
    return np.random.default_rng(2).poisson(expected)


def told(folder: Path, patterns: NDArray[Any]) -> list[str]:
    np.save(folder / "scan.npy", patterns)
    recording = open_recording(folder / "scan.npy", Scan(shape=patterns.shape[:2]))
    run, _ = process_recording(recording, Settings(Optics()), [])
    recording.close()
    return [notice["kind"] for notice in run.notices if notice["kind"] in KINDS]


@pytest.mark.parametrize("mean", [3.0, 40.0, 900.0])
@pytest.mark.parametrize("dtype", ["<u2", ">u2", "<u4", "<i4", "<f4"])
def test_good_counts_are_no_news(tmp_path: Path, mean: float, dtype: str) -> None:
    assert told(tmp_path, discs(mean).astype(dtype)) == []


def test_a_damaged_pattern_is_no_sign_of_other_axes(tmp_path: Path) -> None:
    patterns = discs(3.0).astype("<u2")
    patterns[5, 5] = 60000
    assert told(tmp_path, patterns) == []


@pytest.mark.parametrize("mean", [0.5, 3.0])
def test_hot_pixels_are_no_sign_of_another_byte_order(tmp_path: Path, mean: float) -> None:
    patterns = discs(mean).astype("<u2")
    patterns[:, :, (3, 9), (20, 11)] = 4095
    assert told(tmp_path, patterns) == []


@pytest.mark.parametrize("unit", [0.25, 0.5, 3.0, 1000.0])
@pytest.mark.parametrize("dtype", ["f4", "f8"])
def test_real_numbers_in_steps_are_in_no_other_byte_order(
    tmp_path: Path, unit: float, dtype: str
) -> None:
    assert "byte_order" not in told(tmp_path, (discs(40.0) * unit).astype(dtype))
    assert "byte_order" not in told(tmp_path, (discs(40.0) * unit + 0.125).astype(dtype))


@pytest.mark.parametrize("mean", [20.0, 900.0, 5000.0])
def test_pixels_whose_bytes_are_in_the_other_order_are_told(tmp_path: Path, mean: float) -> None:
    assert told(tmp_path, discs(mean).astype("<u2").byteswap()) == ["byte_order"]


def test_counts_in_steps_negative_ones_and_swapped_axes_are_told(tmp_path: Path) -> None:
    counts = discs(20.0)
    assert told(tmp_path, (4 * counts).astype("<u2")) == ["counts_in_steps"]
    assert told(tmp_path, (counts - 1).astype("<i4")) == ["negative_counts"]
    axes = np.ascontiguousarray(counts.transpose(2, 3, 0, 1)).astype("<u2")
    assert told(tmp_path, axes) == ["axes_doubted"]


def test_patterns_of_few_values_say_nothing_of_steps(tmp_path: Path) -> None:
    assert told(tmp_path, np.full((12, 10, 20, 24), 6, "<u2")) == ["identical_patterns"]


def disc_of(value: int) -> NDArray[np.int64]:
    y, x = np.mgrid[:20, :24]
    return np.where(np.hypot(y - 9.5, x - 11.5) < 6.0, value, 0)


def hot() -> NDArray[np.int64]:
    pattern = np.zeros((20, 24), np.int64)
    pattern[3, 4:8] = 4095
    return pattern


@pytest.mark.parametrize(
    ("pattern", "live", "offline"),
    [
        (np.full((20, 24), 3), ["warning"], ["info"]),
        (disc_of(7), ["warning"], ["info"]),
        (discs(20.0)[3, 4], ["warning"], ["warning"]),
        (np.zeros((20, 24), np.int64), [], []),
        (hot(), [], []),
    ],
    ids=["flat", "disc", "counted", "blank", "hot pixels alone"],
)
def test_patterns_that_are_all_alike_are_a_warning_of_a_camera_and_a_remark_where_computed(
    pattern: NDArray[np.int64], live: list[str], offline: list[str]
) -> None:
    for files, levels in ((False, live), (True, offline)):
        odd = OddCounts(Detector("test", (20, 24), "u2", 16), (20, 24), files=files)
        for _ in range(30):
            odd.add(pattern.astype("<u2"))
        said = odd.notices(np.full(30, pattern.sum()))
        assert [each.level for each in said if each.kind == "identical_patterns"] == levels


def test_one_pattern_again_and_again_is_told_however_the_scan_is_cut(tmp_path: Path) -> None:
    alike = np.broadcast_to(discs(20.0)[3, 4], (12, 10, 20, 24)).astype("<u2")
    assert told(tmp_path, alike) == ["identical_patterns"]
    other = alike.copy()
    other[-1, -2, 0, 0] += 1  # of those that are looked at
    assert told(tmp_path, other) == []
    assert told(tmp_path, np.zeros_like(alike)) == []
    detector = Detector("test", (20, 24), "u2", 16)
    for patterns, alone in ((alike, True), (other, False)):
        parts = [OddCounts(detector, (20, 24), files=True) for _ in range(4)]
        flat = patterns.reshape(-1, 20, 24)
        for part, some in zip(parts, (flat[:50], flat[50:], flat[:0]), strict=False):
            for pattern in some:
                part.add(pattern)
        for part in parts[1:]:
            parts[0].merge(part.gathered())
        kinds = [notice.kind for notice in parts[0].notices(flat.sum(axis=(1, 2), dtype=np.int64))]
        assert kinds == ["identical_patterns"] * alone

"""A part of the detector that counts nothing is told, and honest darkness is not."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray

from stemd.acquisition import Optics, Scan
from stemd.adapters.files import open_recording
from stemd.scan.dark_parts import DarkParts, dark_parts
from stemd.scan.processing import process_recording
from stemd.settings import Settings

SIZE = 64


def disc(
    mean: float, radius: float, background: float = 0.0, middle: tuple[float, float] = (31.5, 31.5)
) -> NDArray[np.float64]:
    """Expected counts (y, x) of a bright disc, whose edge pixels are lit by their part."""
    y, x = (np.mgrid[: 8 * SIZE, : 8 * SIZE] + 0.5) / 8 - 0.5
    fine = np.where(np.hypot(y - middle[0], x - middle[1]) < radius, mean, background)
    return np.asarray(fine.reshape(SIZE, 8, SIZE, 8).mean(axis=(1, 3)))


def counts(expected: NDArray[np.float64], seed: int = 1) -> NDArray[np.int64]:
    """Counts (8, 8, y, x) of a scan."""
    return np.random.default_rng(seed).poisson(expected, (8, 8, *expected.shape))


def told(folder: Path, patterns: NDArray[np.int64], optics: Optics | None = None) -> list[str]:
    np.save(folder / "scan.npy", patterns.astype("<u2"))
    recording = open_recording(folder / "scan.npy", Scan(shape=patterns.shape[:2]))
    run, _ = process_recording(recording, Settings(optics or Optics()), [])
    recording.close()
    return [notice["text"] for notice in run.notices if notice["kind"] == "dark_part"]


@pytest.mark.parametrize(
    ("part", "words"),
    [
        (np.s_[:32, :], "rows 0 to 31, columns 0 to 63: 50%"),
        (np.s_[:, 32:], "rows 0 to 63, columns 32 to 63: 50%"),
        (np.s_[32:, :32], "rows 32 to 63, columns 0 to 31: 25%"),
        (np.s_[27:, 30:], "rows 27 to 63, columns 30 to 63: 31%"),  # a chip beside a gap
        (np.s_[:, 24:40], "rows 0 to 63, columns 24 to 39: 25%"),
    ],
)
@pytest.mark.parametrize("background", [0.0, 0.02])
def test_a_half_a_quadrant_and_a_module_are_told_once_with_their_place(
    tmp_path: Path, part: tuple[slice, slice], words: str, background: float
) -> None:
    patterns = counts(disc(2.0, 20.0, background))
    assert told(tmp_path, patterns) == []
    patterns[:, :, *part] = 0
    (text,) = told(tmp_path, patterns)
    assert words in text
    assert "64 patterns" in text
    assert text.count("rows") == 1


@pytest.mark.parametrize("radius", [4.0, 7.3, 12.0, 25.0])
@pytest.mark.parametrize("mean", [0.01, 0.3, 5.0, 400.0])
def test_what_the_optics_leave_dark_is_no_news(radius: float, mean: float) -> None:
    none = np.zeros((SIZE, SIZE), np.bool_)
    for seed in range(4):
        middle = np.random.default_rng(seed).uniform(8.0, 55.0, 2)
        expected = disc(mean, radius, middle=(middle[0], middle[1]))
        total = counts(expected, seed).sum(axis=(0, 1))
        assert dark_parts(total, none) == []


def test_spots_in_a_row_and_a_fading_halo_are_no_news() -> None:
    none = np.zeros((SIZE, SIZE), np.bool_)
    y, x = np.mgrid[:SIZE, :SIZE]
    spots = np.where((y // 2 == 10) & (x % 8 < 2), 500, 0)
    assert dark_parts(spots, none) == []
    assert dark_parts(spots + ((y >= 22) & (y < 40)), none) == []
    halo = np.random.default_rng(1).poisson(2000.0 * np.exp(-np.hypot(y - 31, x - 31) / 3.0))
    assert dark_parts(halo, none) == []


def test_masked_pixels_are_no_dark_part_and_hide_none(tmp_path: Path) -> None:
    patterns = counts(disc(2.0, 20.0))
    patterns[:, :, :32] = 0
    assert told(tmp_path, patterns, Optics(mask=((0, 0, 32, 64),))) == []
    (text,) = told(tmp_path, patterns, Optics(mask=((32, 0, 33, 64), (0, 10, 64, 11))))
    assert "rows 0 to 32, columns 0 to 63" in text


def test_parts_of_a_scan_are_merged() -> None:
    expected = disc(2.0, 20.0)
    expected[:, :32] = 0.0
    patterns = counts(expected).reshape(-1, SIZE, SIZE)
    whole, first, second = (DarkParts((2 * SIZE - 1, SIZE), 2, "u2") for _ in range(3))
    for number, pattern in enumerate(patterns):
        whole.add(pattern, None)
        (first if number < 20 else second).add(pattern, None)
    first.merge(second.gathered())
    assert first.notices() == whole.notices()
    # of a large detector every second row is looked at: the last one has no row behind it
    assert "rows 0 to 126, columns 0 to 31" in whole.notices()[0].text


def test_nothing_is_looked_for_where_no_pattern_was_seen(monkeypatch: pytest.MonkeyPatch) -> None:
    """As in a scan of hits: to look through a detector that is all dark takes 60 ms."""

    def search(*_: object) -> None:
        raise AssertionError("there is nothing to look for")

    monkeypatch.setattr("stemd.scan.dark_parts.dark_parts", search)
    assert DarkParts((512, 512), 1, "u2").notices() == []


@pytest.mark.parametrize("across", [1, 2, 3, 5])
def test_dark_beside_hot_pixels_is_no_dark_part(across: int) -> None:
    looked_at = DarkParts((128, 128), 1, "u2")
    y, x = np.mgrid[:128, :128] - 63.5
    light = np.where(np.hypot(y, x) < 12, 0.5, 0.0)
    random = np.random.default_rng(0)
    for _ in range(32):
        pattern = random.poisson(light).astype(np.uint16)
        pattern[10 : 10 + across, 20 : 20 + across] = 3000
        looked_at.add(pattern, None)
    assert looked_at.notices() == []

"""Counters at their maximum are told once a scan, with how much of the counts they have."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from stemd.acquisition import Acquisition, Detector, Optics, Scan
from stemd.blocks import FrameBlock
from stemd.offline.cluster.parts import Part
from stemd.offline.cluster.store import PartStore
from stemd.scan.part import ScanPart
from stemd.scan.run import ScanRun
from stemd.scan.sampled import LOOKED_AT
from stemd.settings import Settings
from tests.engines.scenes import blocks_of

SIZE = 48


def discs(count: int, mean: float, radius: float = 12.0) -> NDArray[np.int64]:
    """Poisson counts (count, y, x) of so many a pixel in a disc."""
    y, x = np.mgrid[:SIZE, :SIZE] - (SIZE - 1) / 2
    expected = np.where(np.hypot(y, x) < radius, mean, 0.02 * mean)
    return np.random.default_rng(3).poisson(expected, (count, SIZE, SIZE))


def run_of(
    patterns: NDArray[Any],
    depth: int,
    mask: tuple[Any, ...] | None = None,
    scale: float = 1.0,
    lines: Scan | None = None,
) -> ScanRun:
    kind = f"{patterns.dtype.kind}{patterns.dtype.itemsize}"
    detector = Detector("test", patterns.shape[1:], kind, depth, scale=scale)
    acquisition = Acquisition(lines or Scan(shape=(1, len(patterns))), detector)
    return ScanRun(acquisition, Settings(Optics(mask=mask)), [])


def said_of(patterns: NDArray[Any], depth: int, sizes: tuple[int, ...] = (7,), **more: Any) -> str:
    run = run_of(patterns, depth, **more)
    probes = run.acquisition.scan.probes(np.arange(len(patterns)))
    for block in blocks_of(run.acquisition, patterns, sizes, probes):
        run.reduce(block)
    run.end("complete")
    found = [n["text"] for n in run.notices if n["kind"] == "clipped_counts"]
    assert len(found) <= 1
    return "".join(found)


@pytest.mark.parametrize(
    ("depth", "dtype"), [(6, "u1"), (8, "u1"), (12, ">u2"), (16, "<u2"), (24, "<u4")]
)
def test_a_disc_at_the_maximum_of_the_counter_is_told_with_its_share(
    depth: int, dtype: str
) -> None:
    largest = 2**depth - 1
    patterns = np.minimum(discs(300, 1.2 * largest), largest).astype(dtype)
    text = said_of(patterns, depth)
    assert f"maximum of {largest:,}" in text
    looked = patterns[:: -(-300 // LOOKED_AT)].astype(np.float64)
    share = largest * (looked == largest).mean() / patterns.astype(np.float64).mean()
    assert f"{(looked == largest).mean():.1%} of those in 60 patterns that were looked at" in text
    assert f"with {share:.0%} of the counts" in text
    assert said_of(patterns, depth, (300,)) == said_of(patterns, depth, (1,)) == text
    below = np.minimum(discs(300, 0.3 * largest), largest).astype(dtype)
    assert said_of(below, depth) == ""


def test_the_same_patterns_are_looked_at_where_lines_run_backwards() -> None:
    scan = Scan(shape=(6, 50), serpentine=True)
    patterns = np.minimum(discs(300, 300.0), 255).astype("u1")
    one, many = (said_of(patterns, 8, sizes, lines=scan) for sizes in ((300,), (49, 51)))
    assert "in 60 patterns" in one
    assert one == many


def test_patterns_all_of_whose_pixels_are_at_the_maximum_are_told() -> None:
    patterns = discs(200, 20.0).astype("<u2")
    patterns[100:] = 4095
    assert "in 25 of them all pixels are" in said_of(patterns, 12)


def test_a_depth_that_nobody_tells_shows_in_the_counts() -> None:
    patterns = np.minimum(discs(50, 5000.0), 4095).astype("<u2")
    assert "maximum of 4,095" in said_of(patterns, 16)
    # counts that happen to end near there do not pile up
    assert said_of(np.minimum(discs(50, 3900.0), 4095).astype("<u2"), 16) == ""
    assert said_of(np.minimum(discs(50, 5000.0), 4095).astype("<i4"), 32, scale=0.25) == ""


def test_lone_hot_pixels_and_masked_ones_are_no_news() -> None:
    patterns = discs(50, 3.0).astype("<u2")
    patterns[:, [3, 20, 40], [7, 30, 9]] = 4095
    assert said_of(patterns, 12) == ""
    patterns[:, 30:40, 30:40] = 4095
    assert "maximum" in said_of(patterns, 12)
    assert said_of(patterns, 12, mask=((30, 30, 40, 40),)) == ""


def test_a_counter_of_one_bit_is_told_by_what_it_must_have_lost() -> None:
    for mean, told in ((0.05, False), (1.0, True)):
        came = discs(512, mean)
        patterns = np.minimum(came, 1).astype("u1")
        text = said_of(patterns, 1)
        assert bool(text) == told
        if told:
            lost = float(text.split("about ")[1].split("%")[0]) / 100
            assert lost == pytest.approx(1.0 - patterns.sum() / came.sum(), abs=0.02)


def test_parts_of_a_scan_tell_what_the_whole_tells(tmp_path: Any) -> None:
    patterns = np.minimum(discs(400, 5000.0), 4095).astype("<u2")
    whole = said_of(patterns, 12)
    run = run_of(patterns, 12)
    blocks = list(blocks_of(run.acquisition, patterns, (9,)))
    parts = [ScanPart(run) for _ in range(2)]
    for number, block in enumerate(blocks):
        assert isinstance(block, FrameBlock)
        parts[number >= 20].reduce(block)
    for part in parts:
        part.merge()
    run.end("complete")
    assert [n["text"] for n in run.notices if n["kind"] == "clipped_counts"] == [whole]
    store, merged = PartStore(tmp_path, "key"), run_of(patterns, 12)
    for first, stop in ((0, 20), (20, len(blocks))):
        one = run_of(patterns, 12)
        for block in blocks[first:stop]:
            one.reduce(block)
        store.save(Part.of(one, first, stop))
        loaded = store.load(first, stop)
        assert loaded is not None
        loaded.add_to(merged)
    merged.end("complete")
    assert [n["text"] for n in merged.notices if n["kind"] == "clipped_counts"] == [whole]


@pytest.mark.parametrize("dtype", ["<u2", ">u2", "<u4"])
def test_values_that_mark_what_has_none_are_told_where_they_come_now_and_then(dtype: str) -> None:
    patterns = discs(64, 40.0).astype(dtype)
    patterns[::3, 20, 21] = patterns[5, 30, 30] = np.iinfo(dtype).max
    found = []
    for depth in (0, 12):
        run = run_of(patterns, depth or 8 * patterns.itemsize)
        for block in blocks_of(run.acquisition, patterns, (7,)):
            run.reduce(block)
        run.end("complete")
        found.append([n for n in run.notices if n["kind"] == "full_values"])
    (said,), none = found
    assert (said["count"], said["level"], none) == (2, "warning", [])
    assert "[20, 21], [30, 30]" in said["text"]


def test_a_disc_at_the_maximum_is_told_beside_single_pixels_that_have_no_value() -> None:
    patterns = np.minimum(discs(64, 80_000.0), 65_535).astype("<u2")
    assert said_of(patterns, 16)
    patterns[::3, 1, 2] = 65_535
    assert said_of(patterns, 16)

"""What the images of a large scan need of memory, by counting what NumPy allocates."""

from __future__ import annotations

import tracemalloc
from collections.abc import Iterator, Sequence
from pathlib import Path

import numpy as np
import pytest

from stemd import drawing
from stemd.acquisition import Acquisition, Detector, Optics, Scan
from stemd.engines import growing, icom, ricom, vectors
from stemd.engines.kernels import ricom as kernels
from stemd.image_frames import ReducedImage
from stemd.plugins import NoSettings
from stemd.results import Result, Snapshot
from stemd.scan import line_order, odd_positions, sums
from stemd.scan.run import ScanRun
from stemd.storage.tiff import TiffWriter
from tests.engines.scenes import engine, settings_of

SHAPE = (2048, 512)
WIDE = 512
FIXED = 24 << 20
"""Bytes that do not depend on the number of positions: lines that are transformed at once."""
ENGINES = ("ricom", "com", "sum", "virtual_detector", "icom")


def begun_scan(*names: str, shape: tuple[int, int] = SHAPE) -> ScanRun:
    """A scan of which nothing has come."""
    tables = {
        "virtual_detector": {"detectors_px": {"ring": (3.0, 7.0)}},
        "ricom": {"kernel_size": 5},
    }
    engines = [engine(name, **tables.get(name, {})) for name in names]
    detector = Detector("t", (16, 16), "u1", 8)
    acquisition = Acquisition(Scan(shape=shape), detector, id="large", started_ns=1)
    return ScanRun(acquisition, settings_of(engines, Optics()), engines)


def come(run: ScanRun, first: int, stop: int) -> None:
    """These positions have come: noise."""
    maps, rng, some = run.sums.maps, np.random.default_rng(first), 1 << 14
    for at in range(first, stop, some):
        part = slice(at, min(stop, at + some))
        size = part.stop - at
        maps.total[part] = rng.integers(1, 50, size)
        for moment in (maps.moment_y, maps.moment_x):
            moment[part] = maps.total[part] * 7 + rng.integers(-40, 40, size)
        maps.detector_sums[:, part] = maps.total[part] // 3
    maps.done[first:stop] = True


def finished_scan(*names: str) -> ScanRun:
    """A scan of SHAPE, as it is when the last pattern has come."""
    run = begun_scan(*names)
    come(run, 0, run.sums.maps.total.size)
    run.end("complete")
    return run


@pytest.fixture(autouse=True)
def traced() -> Iterator[None]:
    """Allocations are counted in these tests."""
    tracemalloc.start()
    yield
    tracemalloc.stop()


@pytest.mark.parametrize(
    ("name", "most"), [("ricom", 5), ("com", 18), ("sum", 6), ("virtual_detector", 6), ("icom", 10)]
)
def test_an_engine_needs_little_more_than_its_finished_images(name: str, most: int) -> None:
    """Bytes a position at the most, the images included."""
    run = finished_scan(name)
    (one,) = run.engines.every
    tracemalloc.reset_peak()
    before, _ = tracemalloc.get_traced_memory()
    one.snapshot(final=True)
    _, peak = tracemalloc.get_traced_memory()
    assert peak - before < most * SHAPE[0] * SHAPE[1] + FIXED


def test_images_that_are_taken_by_engine_are_not_in_memory_together() -> None:
    run = finished_scan(*ENGINES)
    together = {result.name: result.image for result in run.snapshot(final=True).results}
    sizes = []
    tracemalloc.reset_peak()
    before, _ = tracemalloc.get_traced_memory()

    def take(snapshot: Snapshot) -> None:
        assert snapshot.final
        sizes.append(len(snapshot.results))
        for result in snapshot.results:
            assert np.array_equal(result.image, together.pop(result.name))

    left = run.images.finals_by_engine(run.settings, take)
    assert not left.results
    assert not together, "every image was given"
    assert sizes == [1, 4, 1, 1, 1]
    _, peak = tracemalloc.get_traced_memory()
    assert peak - before < 18 * SHAPE[0] * SHAPE[1] + FIXED


def peak_of_a_large_scan(lines: int, folder: Path, engines: Sequence[str] = ENGINES) -> int:
    """Bytes at the most while a scan is made as beside a camera: looked at, finished, written."""
    folder.mkdir()
    tracemalloc.reset_peak()
    before, _ = tracemalloc.get_traced_memory()
    run = begun_scan(*engines, shape=(lines, WIDE))
    positions, viewer = run.sums.maps.total.size, {}
    part = positions // 4
    for first in range(0, positions, part):
        come(run, first, first + part)
        run.intake.add_positions([(first, first + part)])
        run.feed()
        snapshot = run.snapshot(final=False)
        for result in snapshot.results:
            viewer.setdefault(result.name, ReducedImage(64)).of(result)
    run.end("complete")
    early: list[Snapshot] = []
    final = run.images.finals(run.settings, early.append)
    written = TiffWriter(NoSettings()).write(folder, final, {})
    assert len(written.files) == len(final.results) == len(snapshot.results) + ("icom" in engines)
    for result in final.results:
        assert viewer[result.name].of(result).any() if result.name in viewer else True
    return tracemalloc.get_traced_memory()[1] - before


@pytest.fixture
def fine(monkeypatch: pytest.MonkeyPatch) -> None:
    """What is in memory at once whatever the scan is a small part of these scans, too."""
    for module in (growing, ricom, sums):
        monkeypatch.setattr(module, "LARGE", 1)
    monkeypatch.setattr(vectors, "STRETCH", 1 << 12)
    monkeypatch.setattr(drawing, "DRAWN_AT_ONCE", 1 << 12)
    monkeypatch.setattr(kernels, "LINES", 16)
    monkeypatch.setattr(icom, "LINES", 1)
    monkeypatch.setattr(vectors, "DESCAN_MOST", 1 << 12)
    monkeypatch.setattr(line_order, "LOOKED_AT", 1 << 13)
    monkeypatch.setattr(odd_positions, "SAMPLED", 1 << 12)
    monkeypatch.setattr(odd_positions, "AT_A_TIME", 1)


@pytest.mark.usefixtures("fine")
@pytest.mark.parametrize(
    ("engines", "most"), [(ENGINES, 29.0), (("com", "sum", "virtual_detector"), 21.0)]
)
def test_a_live_scan_needs_so_many_bytes_a_position(
    engines: Sequence[str], most: float, tmp_path: Path
) -> None:
    """Sums 17, riCOM's image 4, iCOM's 4 and as much again while it is made; nothing else grows.

    Images that follow from the sums need 4, one after another, while they are written.
    """
    few, many = 256, 512
    _, *peaks = [  # the first time kernels and modules are read, too
        peak_of_a_large_scan(lines, tmp_path / str(lines), engines) for lines in (32, few, many)
    ]
    assert (peaks[1] - peaks[0]) / ((many - few) * WIDE) == pytest.approx(most, abs=0.9)


def test_an_engine_that_fails_keeps_no_other_from_giving_its_images(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    run = finished_scan("com", "sum")
    monkeypatch.setattr(run.engines.every[0], "snapshot", lambda final: 1 / 0)
    taken: list[Result] = []
    run.images.finals_by_engine(run.settings, lambda snapshot: taken.extend(snapshot.results))
    assert [result.name for result in taken] == ["sum"]
    assert "com" in run.failed

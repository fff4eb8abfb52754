"""What the images of a large scan need of memory, by counting what NumPy allocates."""

from __future__ import annotations

import tracemalloc
from collections.abc import Iterator

import numpy as np
import pytest

from stemd.acquisition import Acquisition, Detector, Optics, Scan
from stemd.results import Result, Snapshot
from stemd.scan.run import ScanRun
from tests.engines.scenes import engine, settings_of

SHAPE = (2048, 512)
FIXED = 24 << 20
"""Bytes that do not depend on the number of positions: lines that are transformed at once."""
ENGINES = ("ricom", "com", "sum", "virtual_detector", "icom")


def finished_scan(*names: str) -> ScanRun:
    """A scan of SHAPE with noise in its maps, as it is when the last pattern has come."""
    tables = {"virtual_detector": {"detectors_px": {"ring": (3.0, 7.0)}}}
    engines = [engine(name, **tables.get(name, {})) for name in names]
    detector = Detector("t", (16, 16), "u1", 8)
    acquisition = Acquisition(Scan(shape=SHAPE), detector, id="large", started_ns=1)
    run = ScanRun(acquisition, settings_of(engines, Optics()), engines)
    maps, rng = run.recorded, np.random.default_rng(0)
    maps.total[:] = rng.integers(1, 50, maps.total.size)
    for moment in (maps.moment_y, maps.moment_x):
        moment[:] = maps.total * 7 + rng.integers(-40, 40, moment.size)
    maps.detector_sums[:] = maps.total // 3
    maps.done[:] = True
    run.end("complete")
    return run


@pytest.fixture(autouse=True)
def traced() -> Iterator[None]:
    """Allocations are counted in these tests."""
    tracemalloc.start()
    yield
    tracemalloc.stop()


@pytest.mark.parametrize(
    ("name", "most"), [("ricom", 8), ("com", 18), ("sum", 6), ("virtual_detector", 6), ("icom", 16)]
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


def test_an_engine_that_fails_keeps_no_other_from_giving_its_images(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    run = finished_scan("com", "sum")
    monkeypatch.setattr(run.engines.every[0], "snapshot", lambda final: 1 / 0)
    taken: list[Result] = []
    run.images.finals_by_engine(run.settings, lambda snapshot: taken.extend(snapshot.results))
    assert [result.name for result in taken] == ["sum"]
    assert "com" in run.failed

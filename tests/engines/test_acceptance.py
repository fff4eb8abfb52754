"""Dose slicing: only electrons that come early in their dwell time, live and after the fact."""

from __future__ import annotations

import numpy as np

from stemd.acquisition import Acquisition, Detector, Optics, Scan
from stemd.blocks import EventBlock
from stemd.scan.run import ScanRun
from stemd.settings import Settings
from tests.engines.scenes import engine

SHAPE = (4, 5)
DETECTOR = (16, 16)
ENGINES = [
    engine("sum"),
    engine("com"),
    engine("pacbed"),
    engine("virtual_detector", detectors_px={"ring": [2.0, 6.0]}),
]


def acquisition() -> Acquisition:
    return Acquisition(Scan(shape=SHAPE), Detector("t", DETECTOR, "u2", 12), id="t", started_ns=1)


def block_of(
    where: Acquisition, rng: np.random.Generator, first: int, stop: int, latest_ns: float = 1000.0
) -> EventBlock:
    """50 hits at each of the positions first..stop-1, dwell times evenly up to 1000 ns."""
    probe = np.repeat(np.arange(first, stop, dtype=np.int32), 50)
    y, x = rng.integers(0, 16, (2, probe.size), np.uint32)
    dwell = rng.uniform(0.0, 1000.0, probe.size).astype(np.float32)
    early = dwell < np.float32(latest_ns)
    yx = (y << np.uint32(16) | x)[early]
    wire = np.zeros(8 * int(early.sum()), np.uint8)
    runs = [(first, stop)]
    return EventBlock(where, probe[early], yx, dwell[early], int(early.sum()), wire, 1, runs)


def images(blocks: list[tuple[EventBlock, float | None]]) -> dict[str, np.ndarray]:
    def settings(accepted_ns: float | None) -> Settings:
        optics = Optics(center=(7.5, 7.5), acceptance_time_ns=accepted_ns)
        return Settings(optics=optics, engines={e.name: e.settings for e in ENGINES})

    run = ScanRun(blocks[0][0].acquisition, settings(blocks[0][1]), ENGINES)
    for block, accepted_ns in blocks:
        if accepted_ns != run.settings.optics.acceptance_time_ns:
            run.change(settings(accepted_ns))
            for one in run.engines.every:
                one.update(run.settings)
        run.reduce(block)
        run.feed()
    run.end("complete")
    return {result.name: result.image for result in run.snapshot(final=True).results}


def test_an_acceptance_time_gives_the_images_of_the_early_electrons_alone() -> None:
    where = acquisition()
    cut = images([(block_of(where, np.random.default_rng(1), 0, 20), 300.0)])
    early = images([(block_of(where, np.random.default_rng(1), 0, 20, 300.0), None)])
    whole = images([(block_of(where, np.random.default_rng(1), 0, 20), None)])
    assert set(cut) == set(early) >= {"sum", "pacbed", "ring", "com_y"}
    for name, image in cut.items():
        np.testing.assert_array_equal(image, early[name], err_msg=name)
    assert 0.2 < cut["sum"].sum() / whole["sum"].sum() < 0.4


def test_a_change_in_mid_scan_holds_from_the_next_block_on() -> None:
    where = acquisition()
    rng = np.random.default_rng(2)
    first, second = block_of(where, rng, 0, 10), block_of(where, rng, 10, 20)
    changed = images([(first, None), (second, 300.0)])["sum"].ravel()
    whole = images([(first, None), (second, None)])["sum"].ravel()
    np.testing.assert_array_equal(changed[:10], whole[:10])
    assert (changed[10:] < whole[10:]).all()

"""A scan's memory is given back when the next one is finished, not when a collector runs.

Python's collector of circles counts objects, not bytes: the few objects of a scan hold megabytes,
and dozens of scans would wait for it.
"""

from __future__ import annotations

import asyncio
import gc
import json
import weakref
from collections.abc import Iterator
from pathlib import Path

import pytest

from stemd.acquisition import Scan
from stemd.blocks import Ended, FrameBlock, Started
from stemd.inference.worker import shared
from stemd.scan.run import ScanRun
from stemd.storage.scan_files import ScanFiles
from stemd.storage.store import Store
from tests.daemon.test_scans import Bench, store
from tests.engines import airpi_scenes
from tests.faults.warm_scans import frames

__all__ = ["store"]

CONFIG = """
[daemon]
instrument = "titan"

[[pipeline]]
name = "cam"

[pipeline.adapter]
type = "merlin"
scan = {{ shape = [16, 16], step_size_angstrom = 0.5 }}

[pipeline.optics]
energy_ev = 200e3
convergence_semi_angle_mrad = 20.0
pixel_size_mrad = 2.0

{engines}

[pipeline.record]
raw = true
"""
ENGINES = {
    "airpi": 'type = "airpi"\nbackend = "onnxruntime"\nmodel = {model}',
    "restoration": 'type = "restoration"\ninput = "ricom"\nbackend = "onnxruntime"',
    "direct": 'type = "direct"',
    "ssb": 'type = "ssb"',
}

SCAN = Scan(shape=(16, 16), flyback=0, step_size_angstrom=0.5, dwell_time_us=10.0)
"""Who is held by whom does not depend on how many positions there are."""


class NeverStops:
    """The reader's flag."""

    def is_set(self) -> bool:
        """It is to go on."""
        return False


@pytest.fixture
def collector() -> Iterator[None]:
    """It runs again after the test."""
    yield
    gc.enable()


async def one_scan(bench: Bench) -> list[weakref.ref[object]]:
    """A whole scan through all parts; references to all of it that may hold memory."""
    run: ScanRun | None = None
    files: ScanFiles | None = None
    finished = len(bench.heard.finished)
    for message in frames(SCAN):
        if isinstance(message, Started):
            run, files = await asyncio.to_thread(bench.scans.begin, message.acquisition)
        elif isinstance(message, FrameBlock):
            assert run is not None
            assert files is not None
            assert files.recorder is not None
            run.reduce(message)
            assert files.recorder.offer(message, NeverStops())
            message.release()
        elif isinstance(message, Ended):
            assert run is not None
            await bench.end(run)
    await bench.until(lambda: len(bench.heard.finished) > finished)
    assert run is not None
    assert not run.failed, run.failed
    return [weakref.ref(each) for each in (run, run.maps, files, *run.engines.every)]


@pytest.mark.parametrize("engine", ENGINES)
async def test_a_scan_is_gone_when_the_next_one_is_finished(
    store: Store, tmp_path: Path, collector: None, engine: str
) -> None:
    model = json.dumps(airpi_scenes.write(tmp_path, airpi_scenes.reader(), "reader"))
    table = f"[[pipeline.engine]]\n{ENGINES[engine].format(model=model)}\n"
    ricom = '[[pipeline.engine]]\ntype = "ricom"\nkernel_size = 5\n'
    bench = Bench(store, CONFIG.format(engines=ricom + table))
    await one_scan(bench)  # kernels may be compiled, which leaves much to the collector
    gc.collect()
    gc.disable()
    first = await one_scan(bench)
    await one_scan(bench)
    shared().submit(lambda: None).result()  # the networks' thread has done with both
    await asyncio.sleep(0)
    left = [made for each in first if (made := each()) is not None]
    assert left == []

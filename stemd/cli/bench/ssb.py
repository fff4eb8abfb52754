"""SSB: keeping the discs of patterns, and the image from what is kept."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np

from stemd.acquisition import Acquisition, Detector, Optics, Scan
from stemd.blocks import BLOCK_BYTES
from stemd.cli.bench.harness import Case, Context, Row, repeat
from stemd.cli.bench.kernels import block_of
from stemd.cli.bench.limits import memory_read
from stemd.config.resolved import EngineConfig
from stemd.scan.run import ScanRun
from stemd.settings import Settings

SIZE = 256
SIDE = 256
"""Lines, and positions of a line."""
OPTICS = Optics(
    energy_ev=300e3,
    convergence_semi_angle_mrad=20.0,
    pixel_size_mrad=0.625,
    center=(127.5, 127.5),
    measured="off",
)
STEP_ANGSTROM = 0.2


def _run() -> ScanRun:
    engine = EngineConfig.of("ssb", {})
    scan = Scan(shape=(SIDE, SIDE), step_size_angstrom=STEP_ANGSTROM)
    acquisition = Acquisition(scan, Detector("b", (SIZE, SIZE), "u2", 0))
    return ScanRun(acquisition, Settings(optics=OPTICS, engines={"ssb": engine.settings}), [engine])


def keep(context: Context) -> Iterator[Row]:
    """256 x 256 big-endian 16-bit patterns, in cache, into the store; one thread."""
    run = _run()
    (engine,) = run.engines.every
    block = block_of("u2", True, SIZE, BLOCK_BYTES)
    parts = SIDE * SIDE // block.count

    def call(part: int) -> None:
        block.probe = np.arange(block.count) + part * block.count
        engine.consume(block)

    timing = repeat(call, context.seconds, parts)
    limit = memory_read(context) / (SIZE * SIZE * 2)
    yield Row.timed(f"ssb/engine/{SIZE}", block.count, "frames/s", timing, limit, "memory/read")


def image(context: Context) -> Iterator[Row]:
    """The finished image of 256 x 256 positions from their kept discs; one thread."""
    run = _run()
    (engine,) = run.engines.every
    block = block_of("u2", True, SIZE, BLOCK_BYTES)
    for first in range(0, SIDE * SIDE, block.count):
        block.probe = np.arange(first, first + block.count)
        block.probe[block.probe >= SIDE * SIDE] = -1
        run.reduce(block)
    timing = repeat(lambda part: engine.snapshot(final=True), context.seconds)
    note = f"{timing.wall_s:.2f} s an image"
    yield Row.timed(f"ssb/image/{SIDE}", SIDE * SIDE, "positions/s", timing, note=note)


def cases() -> dict[str, Case]:
    """All cases by name."""
    return {f"ssb/engine/{SIZE}": keep, f"ssb/image/{SIDE}": image}

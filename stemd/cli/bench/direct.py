"""Direct ptychography: the live image, from patterns to the phase, on one core."""

from __future__ import annotations

from collections.abc import Iterator
from functools import partial

import numpy as np

from stemd.aberrations import Aberrations
from stemd.acquisition import Optics
from stemd.beam import Beam
from stemd.blocks import BLOCK_BYTES, FrameBlock
from stemd.cli.bench.harness import Case, Context, Row, repeat
from stemd.cli.bench.kernels import block_of
from stemd.engines.beside.positions_taken import PositionsTaken
from stemd.engines.bright_field.discs import BrightField
from stemd.engines.bright_field.lattice import lattice_for
from stemd.engines.bright_field.view import Discs
from stemd.engines.direct.live import LivePhase, Wanted

SIZE, RADIUS = 96, 12.0
"""Of the 8-bit patterns, and of their disc, in pixels."""
PER_ANGLE = 6
"""Cells a semi-angle."""
SIDE, STEP_ANGSTROM = 256, 0.25
KERNEL = 31
BEAM = Beam(300e3, 20.0)
DEFOCUS = {"focus": 0.0, "defocus": 100.0}
"""Angstrom: in focus few components do, away from it each cell looks elsewhere."""


def with_disc(block: FrameBlock) -> FrameBlock:
    """The block with a disc of 3 counts a pixel in the mean, and few beside it."""
    y, x = np.indices(block.shape) - (SIZE - 1) / 2
    mean = np.where(np.hypot(y, x) < RADIUS, 3.0, 0.05).ravel()
    counts = np.random.default_rng(3).poisson(mean, (block.count, SIZE**2))
    block.wire.reshape(block.count, -1)[:, block.pixel_offset :] = counts
    return block


def scan_of(block: FrameBlock, defocus: float, side: int = SIDE) -> LivePhase:
    """A whole scan in one thread: patterns binned and kept, lines added, images taken out.

    The block's patterns come again and again, as if from a camera.
    """
    positions, middle, shape = side * side, (SIZE - 1) / 2, (side, side)
    lattice = lattice_for(RADIUS, PER_ANGLE, 1.15, positions, 1 << 30)
    kept = BrightField(lattice, (SIZE, SIZE), positions, 1 << 30)
    kept.place((middle, middle))
    seen = PositionsTaken(positions)
    live = LivePhase(kept, seen, shape)
    discs = Discs(
        lambda columns: np.zeros((0, 0), np.float32),
        (kept.places() - middle) / RADIUS,
        np.ones(shape, np.bool_), (middle, middle), RADIUS, lattice.bin, BEAM, STEP_ANGSTROM,
    )  # fmt: skip
    wanted = Wanted(discs, Optics(), Aberrations(defocus), False, KERNEL)
    for first in range(0, positions, block.count):
        probe = np.arange(first, first + block.count)
        block.probe = np.where(probe < positions, probe, -1)
        kept.add(block, 0.0)
        seen.take(block)
        live.lines.touch(first, int(block.probe.max()))
        live.grow(defocus, lambda: wanted)
        live.image()
    return live


def live(name: str, context: Context) -> Iterator[Row]:
    """256 x 256 patterns, in cache, until all of them are in the live image."""
    block = with_disc(block_of("u1", False, SIZE, BLOCK_BYTES))
    defocus = DEFOCUS[name]
    timing = repeat(lambda part: scan_of(block, defocus), context.seconds)
    kernels = scan_of(block, defocus).kernels
    assert kernels is not None
    positions = SIDE * SIDE
    yield Row(
        f"direct/live/{name}",
        positions / timing.wall_s,
        "positions/s",
        cpu_us_per_frame=timing.cpu_s / positions * 1e6,
        note=f"{kernels.columns.size} cells in {kernels.components} components, "
        f"{kernels.rows} x {kernels.rows}",
    )


def cases() -> dict[str, Case]:
    """All cases by name."""
    return {f"direct/live/{name}": partial(live, name) for name in DEFOCUS}

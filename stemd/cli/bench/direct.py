"""Direct ptychography: the live image, from patterns to the phase, on one core."""

from __future__ import annotations

from collections.abc import Iterator
from functools import partial

import numpy as np
from numpy.typing import NDArray

from stemd.aberrations import Aberrations
from stemd.acquisition import Acquisition, Detector, Optics, Scan
from stemd.beam import Beam
from stemd.blocks import FrameBlock
from stemd.cli.bench.harness import Case, Context, Row, repeat
from stemd.engines.beside.positions_taken import PositionsTaken
from stemd.engines.bright_field.discs import BrightField
from stemd.engines.bright_field.lattice import lattice_for
from stemd.engines.bright_field.view import Discs
from stemd.engines.direct.live import LivePhase, Wanted
from stemd.engines.kernels.overlaps import GAMMA, add_overlaps
from stemd.engines.lens.estimate import Frequencies

SIZE, RADIUS = 96, 12.0
"""Of the 8-bit patterns, and of their disc, in pixels."""
PER_ANGLE = 6
"""Cells a semi-angle."""
SIDE, STEP_ANGSTROM = 256, 0.25
PERIOD, TOGETHER = 64, 256
"""Lines after which the specimen repeats, and patterns of a block."""
KERNEL = 31
BEAM = Beam(300e3, 20.0)
DEFOCUS = {"focus": 0.0, "defocus": 100.0}
"""Angstrom: in focus few components do, away from it each cell looks elsewhere."""


def scan_patterns(defocus: float) -> NDArray[np.uint8]:
    """PERIOD lines of a specimen of 0.1 radian, white noise, that repeats: (n, 96, 96), weak-phase
    patterns of 3 counts a pixel of the disc, through a lens with this defocus in angstrom.
    """
    rng, beam = np.random.default_rng(3), BEAM
    at = Frequencies(np.ones((PERIOD, SIDE), np.bool_), beam, STEP_ANGSTROM)
    phase = np.fft.rfft2(rng.normal(0.0, 0.1, at.shape)).ravel()[at.index]
    lens, one = Aberrations(defocus).coefficients(beam), np.ones(at.index.size, np.complex64)
    patterns = np.zeros((PERIOD * SIDE, SIZE, SIZE), np.uint8)
    places = np.indices((SIZE, SIZE)) - (SIZE - 1) / 2
    for y, x in zip(*np.nonzero(np.hypot(*places) < RADIUS), strict=True):
        seen = np.zeros(at.index.size, np.complex128)
        point = (places[:, y, x] / RADIUS).reshape(1, 2)
        add_overlaps(one, point, 1.0, at.y, at.x, lens, GAMMA, seen, np.zeros(seen.size))
        mean = 3.0 * (1.0 + at.image_of(phase * seen.conj())).clip(0.0)
        patterns[:, y, x] = rng.poisson(mean).ravel()
    return patterns


def _block_of(
    acquisition: Acquisition, patterns: NDArray[np.uint8], first: int, count: int
) -> FrameBlock:
    numbers, wire = np.arange(first, first + count), patterns.reshape(-1)
    return FrameBlock(
        acquisition=acquisition, pixels=wire,
        pixel_offset=first % len(patterns) * SIZE**2, stride=SIZE**2, count=count,
        shape=(SIZE, SIZE), dtype="u1", big_endian=False, sequence=numbers, probe=numbers,
        wire=wire, received_ns=0,
    )  # fmt: skip


def scan_of(patterns: NDArray[np.uint8], defocus: float) -> LivePhase:
    """A whole scan in one thread: patterns binned and kept, lines added, images taken out."""
    positions, middle, shape = SIDE * SIDE, (SIZE - 1) / 2, (SIDE, SIDE)
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
    scan = Scan(shape=shape, step_size_angstrom=STEP_ANGSTROM)
    acquisition = Acquisition(scan, Detector("bench", (SIZE, SIZE), "u1", 8))
    for first in range(0, positions, TOGETHER):
        block = _block_of(acquisition, patterns, first, TOGETHER)
        kept.add(block, 0.0)
        seen.take(block)
        live.lines.touch(first, first + TOGETHER - 1)
        live.grow(defocus, lambda: wanted)
        live.image()
    while not live.lines.added.all():
        live.grow(defocus, lambda: wanted, soon=True)
    return live


def live(name: str, context: Context) -> Iterator[Row]:
    """256 x 256 patterns, from memory, until all of them are in the live image."""
    defocus = DEFOCUS[name]
    patterns = scan_patterns(defocus)
    timing = repeat(lambda part: scan_of(patterns, defocus), context.seconds)
    kernels = scan_of(patterns, defocus).kernels
    assert kernels is not None
    yield Row.timed(
        f"direct/live/{name}",
        SIDE * SIDE,
        "positions/s",
        timing,
        note=f"{kernels.columns.size} cells in {kernels.components} components, "
        f"{kernels.rows} x {kernels.rows}",
    )


def cases() -> dict[str, Case]:
    """All cases by name."""
    return {f"direct/live/{name}": partial(live, name) for name in DEFOCUS}

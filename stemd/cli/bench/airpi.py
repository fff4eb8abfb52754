"""AIRPI: binning, features, network and stitching, apart and together."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from functools import partial

import numpy as np

from stemd.acquisition import Acquisition, Detector, Optics, Scan
from stemd.beam import Beam
from stemd.blocks import BLOCK_BYTES
from stemd.cli.bench.harness import Case, Context, Row, repeat
from stemd.cli.bench.kernels import block_of
from stemd.cli.bench.limits import PARTS, memory_read
from stemd.config.resolved import EngineConfig
from stemd.engines.airpi.features import (
    GRID,
    SAMPLES,
    WINDOW,
    field_angstrom,
    fill_features,
    inputs,
    scalars,
)
from stemd.engines.airpi.model import Loaded
from stemd.engines.airpi.stitching import Stitcher
from stemd.engines.diffraction_grid import GridTable, grid_table
from stemd.engines.kernels.grid import bin_hits
from stemd.engines.probe import probe
from stemd.inference.catalogue import installed
from stemd.scan.run import ScanRun
from stemd.settings import Settings

SIZE = 256
BEAM = Beam(300e3, 20.0)
PIXEL_MRAD = 0.625
STEP_ANGSTROM = 0.2
ROTATION_DEG = 17.0
MODEL = "airpi"
BATCH = 64
LINE = 256
HITS = 100
THREADS = 2
MEMORY_BYTES = 128 * 1024**2


def _table() -> GridTable:
    pixels = BEAM.convergence_semi_angle_mrad / PIXEL_MRAD
    return grid_table(GRID, (SIZE, SIZE), (126.3, 128.8), pixels, ROTATION_DEG)


def bin_from(where: str, context: Context) -> Iterator[Row]:
    """256 x 256 big-endian 16-bit patterns to the grid, turned; one thread."""
    total = BLOCK_BYTES if where == "cache" else MEMORY_BYTES // PARTS
    blocks = [block_of("u2", True, SIZE, total) for _ in range(1 if where == "cache" else PARTS)]
    table, count = _table(), blocks[0].count
    frames = np.arange(count)
    out = np.zeros((count, GRID.members.size), np.int32)
    timing = repeat(
        lambda part: table.add_frames(blocks[part], frames, out, frames),
        context.seconds,
        len(blocks),
    )
    limit = memory_read(context) / (SIZE * SIZE * 2) if where == "memory" else None
    name, limit_name = f"airpi/bin/{where}/{SIZE}", "memory/read" if limit else ""
    yield Row.timed(name, count, "frames/s", timing, limit, limit_name)


def bin_events(context: Context) -> Iterator[Row]:
    """Hits to the grid, 100 a position; one thread."""
    rng = np.random.default_rng(0)
    table = _table()
    probe_ = np.repeat(np.arange(LINE, dtype=np.int32), HITS)
    y, x = (np.clip(rng.normal(127.0, 24.0, (2, probe_.size)), 0, 255)).astype(np.uint32)
    yx, dwell = y << np.uint32(16) | x, np.zeros(0, np.float32)
    out = np.zeros((LINE, GRID.members.size), np.int32)

    def call(part: int) -> None:
        bin_hits(
            probe_,
            yx,
            dwell,
            probe_.size,
            0.0,
            SIZE,
            0,
            table.first,
            table.target,
            table.share,
            out,
        )

    timing = repeat(call, context.seconds)
    row = Row.timed(
        "airpi/bin/events", probe_.size, "hits/s", timing, note=f"{HITS} hits a position"
    )
    yield replace(row, cpu_us_per_frame=timing.cpu_s / LINE * 1e6)


def features(context: Context) -> Iterator[Row]:
    """The network's input from binned patterns, one thread."""
    rng = np.random.default_rng(0)
    disc = GRID.disc()
    counts = rng.poisson(2000.0 * disc, (LINE * 3, GRID.members.size)).astype(np.float32)
    groups = rng.integers(0, LINE * 3, (BATCH, 9))
    out = np.zeros((BATCH, inputs()), np.float32)
    told = scalars(BEAM, STEP_ANGSTROM, 3.75)
    known = np.ones(GRID.members.size, np.float32)

    def call(part: int) -> None:
        fill_features(counts, groups, disc, known, told, out)

    timing = repeat(call, context.seconds)
    yield Row.timed("airpi/features", BATCH, "positions/s", timing)


def stitch(context: Context) -> Iterator[Row]:
    """Patches into the object, one thread."""
    rng = np.random.default_rng(0)
    stitcher = Stitcher(probe(BEAM, SAMPLES, field_angstrom(BEAM)), WINDOW, (440, 440))
    patches = rng.normal(size=(BATCH, WINDOW, WINDOW)).astype(np.complex64)
    places = rng.uniform(10.0, 420.0, (BATCH, 2))
    timing = repeat(lambda part: stitcher.add(patches, places), context.seconds)
    yield Row.timed("airpi/stitching", BATCH, "positions/s", timing)


def network(context: Context) -> Iterator[Row]:
    """The network that is installed, on the best backend there is."""
    loaded = Loaded(MODEL, "auto", THREADS, BATCH, shared_thread=False)
    batch = np.random.default_rng(0).normal(size=(BATCH, inputs())).astype(np.float32)
    timing = repeat(lambda part: loaded.begin(batch)(), context.seconds)
    note = f"{loaded.about}, {THREADS} threads"
    yield Row.timed("airpi/network", BATCH, "positions/s", timing, note=note, cpu=False)


def together(context: Context) -> Iterator[Row]:
    """Patterns in memory to the object, as `stemd process` does it with one thread of its own."""
    engine = EngineConfig.of("airpi", {"model": MODEL, "threads": THREADS, "batch": BATCH})
    optics = Optics(
        energy_ev=BEAM.energy_ev,
        convergence_semi_angle_mrad=BEAM.convergence_semi_angle_mrad,
        pixel_size_mrad=PIXEL_MRAD,
        rotation_deg=ROTATION_DEG,
        center=(127.5, 127.5),
    )
    block = block_of("u2", True, SIZE, LINE * (SIZE * SIZE * 2 + 384))
    scan = Scan(shape=(1_000_000 // LINE, LINE), step_size_angstrom=STEP_ANGSTROM)
    acquisition = Acquisition(scan, Detector("b", (SIZE, SIZE), "u2", 0))
    settings = Settings(optics=optics, engines={"airpi": engine.settings})
    run = ScanRun(acquisition, settings, [engine])
    line = [0]

    def call(part: int) -> None:
        block.probe = np.arange(block.count) + line[0] * LINE
        line[0] += 1
        run.reduce(block)

    call(0)
    call(0)
    timing = repeat(call, context.seconds)
    note = f"{SIZE} x {SIZE} x 16 bits, {THREADS} threads for the network"
    note += "".join(f"; {why}" for why in run.failed.values())
    yield Row.timed("airpi/engine", block.count, "positions/s", timing, note=note, cpu=False)


def cases() -> dict[str, Case]:
    """All cases by name; those of the network where one is installed."""
    found: dict[str, Case] = {
        f"airpi/bin/{where}/{SIZE}": partial(bin_from, where) for where in ("cache", "memory")
    }
    found |= {"airpi/bin/events": bin_events, "airpi/features": features, "airpi/stitching": stitch}
    if any(each.name == MODEL for each in installed()):
        found |= {"airpi/network": network, "airpi/engine": together}
    return found

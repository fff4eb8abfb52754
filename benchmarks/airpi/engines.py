"""stemd's own engines as methods of the score: patterns go in as frames, as from a camera.

python -m benchmarks.airpi.score --method airpi=benchmarks.airpi.engines:airpi
"""

from __future__ import annotations

from typing import Any

import numpy as np

from benchmarks.airpi.scan4d import PATTERN, Picture, Scan4D
from stemd.acquisition import Acquisition, Detector, Optics, Scan
from stemd.beam import Beam
from stemd.blocks import FrameBlock
from stemd.config.resolved import EngineConfig
from stemd.results import Result
from stemd.scan.run import ScanRun
from stemd.settings import Settings

WITHOUT_NOISE = 1e8
"""Electrons a pattern that stand for an infinite dose: whole numbers are what a camera gives."""


def results(
    scan: Scan4D, engine: str, *, told: dict[str, Any] | None = None, **table: Any
) -> dict[str, Result]:
    """All final images of an engine with the settings `table`. Raises RuntimeError if it fails.

    `told`: keys of the optics; without it those of the scan's beam.
    """
    counts = scan.fraction() * np.float32(scan.electrons or WITHOUT_NOISE)
    patterns = np.rint(counts).astype(np.uint32).reshape(-1, PATTERN, PATTERN)
    beam = scan.beam
    optics = Optics(
        energy_ev=beam.energy_ev,
        convergence_semi_angle_mrad=beam.convergence_semi_angle_mrad,
        pixel_size_mrad=scan.pixel_mrad,
        **{"center": (PATTERN / 2, PATTERN / 2), **_lens(beam, told)},
    )
    acquisition = Acquisition(
        Scan(shape=scan.shape, step_size_angstrom=scan.step),
        Detector("simulated", (PATTERN, PATTERN), "u4", 32),
    )
    chosen = EngineConfig.of(engine, dict(table))
    settings = Settings(optics=optics, engines={chosen.name: chosen.settings})
    run = ScanRun(acquisition, settings, [chosen])
    ny, nx = scan.shape
    for line in range(ny):
        first = line * nx
        wire = patterns[first : first + nx].reshape(-1).view(np.uint8)
        numbers = np.arange(first, first + nx)
        run.reduce(
            FrameBlock(
                acquisition=acquisition, pixels=wire, pixel_offset=0, stride=4 * PATTERN**2,
                count=nx, shape=(PATTERN, PATTERN), dtype="u4", big_endian=False,
                sequence=numbers, probe=numbers, wire=wire, received_ns=1,
            )
        )  # fmt: skip
    run.end("complete")
    final = run.serve(lambda snapshot: None, lambda: 1.0)
    if run.failed:
        raise RuntimeError(f"{engine}: {run.failed}")
    return {result.name: result for result in final.results}


def _lens(beam: Beam, told: dict[str, Any] | None) -> dict[str, Any]:
    if told is not None:
        return told
    return {"defocus_nm": beam.defocus_angstrom / 10, "cs_mm": beam.cs_mm}


def airpi(scan: Scan4D, **table: Any) -> Picture:
    """`airpi_phase`, one repetition for all doses: what the engine chooses by itself."""
    result = results(scan, "airpi", **{"repetition": "auto", "every": 1, **table})["airpi_phase"]
    assert result.pixel_size is not None
    y, x = (-result.pixel_size * n for n in result.extra["origin"])
    return Picture(result.image, result.pixel_size, (y, x))


def ssb(scan: Scan4D, **table: Any) -> Picture:
    """`ssb_phase` with its defaults."""
    return Picture(results(scan, "ssb", **table)["ssb_phase"].image, scan.step)

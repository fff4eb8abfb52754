"""Small scans for the engine tests: patterns in, blocks and runs out."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from stemd.acquisition import Acquisition, Detector, Optics, Scan
from stemd.blocks import FrameBlock
from stemd.config.resolved import EngineConfig
from stemd.results import Result
from stemd.scan.run import ScanRun
from stemd.settings import Settings


def acquisition_of(patterns: NDArray[Any], shape: tuple[int, int], **scan: Any) -> Acquisition:
    detector = Detector("test", patterns.shape[1:], f"u{patterns.dtype.itemsize}", 12)
    return Acquisition(Scan(shape=shape, **scan), detector, id="test", started_ns=1)


def blocks_of(
    acquisition: Acquisition,
    patterns: NDArray[Any],
    sizes: Sequence[int],
    probes: NDArray[np.int64] | None = None,
    header: int = 0,
) -> Iterator[FrameBlock]:
    """Cut patterns (n, h, w) into blocks of the given sizes in turn, headers in between."""
    n, height, width = patterns.shape
    raw = patterns.view(np.uint8).reshape(n, -1)
    wire = np.zeros((n, header + raw.shape[1]), np.uint8)
    wire[:, header:] = raw
    all_probes = np.arange(n) if probes is None else probes
    start = turn = 0
    while start < n:
        stop = min(n, start + sizes[turn % len(sizes)])
        flat = np.ascontiguousarray(wire[start:stop]).reshape(-1)
        yield FrameBlock(
            acquisition=acquisition,
            pixels=flat,
            pixel_offset=header,
            stride=wire.shape[1],
            count=stop - start,
            shape=(height, width),
            dtype=f"u{patterns.dtype.itemsize}",  # type: ignore[arg-type]
            big_endian=patterns.dtype.byteorder == ">",
            sequence=np.arange(start, stop),
            probe=np.ascontiguousarray(all_probes[start:stop], np.int64),
            wire=flat,
            received_ns=1,
        )
        start, turn = stop, turn + 1


def engine(name: str, **table: Any) -> EngineConfig:
    return EngineConfig.of(name, table)


def settings_of(engines: Sequence[EngineConfig], optics: Optics | None = None) -> Settings:
    return Settings(
        optics=optics or Optics(), engines={choice.name: choice.settings for choice in engines}
    )


def run_scan(
    patterns: NDArray[Any],
    shape: tuple[int, int],
    engines: Sequence[EngineConfig],
    optics: Optics | None = None,
    sizes: Sequence[int] = (4,),
    probes: NDArray[np.int64] | None = None,
) -> dict[str, Result]:
    """A whole scan; the final results by name."""
    acquisition = acquisition_of(patterns, shape)
    run = ScanRun(acquisition, settings_of(engines, optics), engines)
    for block in blocks_of(acquisition, patterns, sizes, probes):
        run.reduce(block)
    run.end("complete")
    final = run.serve(lambda snapshot: None, lambda: 100.0)
    assert not run.failed
    return {result.name: result for result in final.results}


def shifted_discs(
    shifts: NDArray[np.float64], size: int = 32, center: tuple[float, float] = (15.5, 15.5)
) -> NDArray[np.uint16]:
    """Gaussian spots whose COM is `center` plus the shift (n, 2) in pixels (y, x), to 1e-3."""
    y, x = np.mgrid[:size, :size]
    dy = y[None] - center[0] - shifts[:, 0, None, None]
    dx = x[None] - center[1] - shifts[:, 1, None, None]
    spots = 60000.0 * np.exp(-(dy**2 + dx**2) / (2 * 3.0**2))
    return np.rint(spots).astype(np.uint16)

"""Compiling the kernels before they are needed, into numba's cache."""

from __future__ import annotations

from collections.abc import Iterable

import numpy as np

from stemd.acquisition import Acquisition, Detector, Optics, Scan
from stemd.blocks import FrameBlock
from stemd.scan.engines import EngineChoice
from stemd.scan.run import ScanRun
from stemd.settings import Settings


def warm_up(engines: Iterable[EngineChoice], optics: Optics, dtypes: Iterable[str]) -> None:
    """Run a tiny scan of every pixel type through the engines, so that all kernels exist.

    Takes seconds where nothing is cached, milliseconds where it is.
    """
    chosen = tuple(engines)
    alpha = optics.convergence_semi_angle_mrad
    if alpha is not None:  # the whole disc on a tiny detector, as some engines ask for
        optics = optics.model_copy(update={"pixel_size_mrad": alpha, "center": (3.5, 3.5)})
    settings = Settings(optics=optics, engines={engine.name: engine.settings for engine in chosen})
    for dtype in dtypes:
        shape = (8, 8)
        scan = Scan(shape=(2, 4), step_size_angstrom=1.0)
        acquisition = Acquisition(scan, Detector("warm-up", shape, dtype, 0), id="warm-up")
        run = ScanRun(acquisition, settings, chosen)
        bytes_frame = shape[0] * shape[1] * int(dtype[1])
        wire = np.ones(scan.positions * bytes_frame, np.uint8)
        block = FrameBlock(
            acquisition=acquisition,
            pixels=wire,
            pixel_offset=0,
            stride=bytes_frame,
            count=scan.positions,
            shape=shape,
            dtype=dtype,  # type: ignore[arg-type]
            big_endian=True,
            sequence=np.arange(scan.positions),
            probe=np.arange(scan.positions),
            wire=wire,
            received_ns=acquisition.started_ns,
        )
        run.reduce(block)
        run.end("complete")
        run.serve(lambda snapshot: None, lambda: 10.0)

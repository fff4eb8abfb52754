"""A program of its own: which kernels real scans compile after the daemon's warm-up.

Prints a JSON list of them; empty as it should be. Kernels of the process's other work would hide
those that are missing, so that it must be a process of its own.
"""

from __future__ import annotations

import gc
import json
import sys
from collections.abc import Iterator, Mapping, Sequence
from types import MappingProxyType
from typing import Any

import numpy as np

from stemd import plugins
from stemd.acquisition import Acquisition, Detector, Optics, Scan
from stemd.adapters.events.stream import EventStream
from stemd.adapters.recordings.pictures import Picture
from stemd.adapters.timepix3.front import WordsFront
from stemd.blocks import BlockPool, Ended, EventBlock, FrameBlock, ImageBlock, Message, Started
from stemd.compilation.kernels import Kernel
from stemd.config.resolved import EngineConfig, PipelineConfig
from stemd.config.tables import PublishTable, RecordTable
from stemd.scan.run import ScanRun
from stemd.scan.warm import steps
from tests.timepix3.streams import Camera, electrons

SCAN = Scan(shape=(24, 24), flyback=0, step_size_angstrom=0.5, dwell_time_us=10.0)
REPEATED = Scan(shape=(40, 40), repeats=3, flyback=0, step_size_angstrom=0.5, dwell_time_us=10.0)
SIDE = 48
PHASE = {"energy_ev": 200e3, "convergence_semi_angle_mrad": 20.0, "pixel_size_mrad": 2.0}
ENGINES: Sequence[tuple[str, dict[str, Any]]] = (
    ("ricom", {"kernel_size": 31}),
    ("com", {}),
    ("icom", {}),
    ("virtual_detector", {"detectors_px": {"bf": [0.0, 8.0]}}),
    ("sum", {}),
    ("pacbed", {}),
    ("pattern", {}),
    ("ssb", {}),
    ("direct", {}),
)


def compiled() -> dict[str, int]:
    """Versions of each kernel of stemd that have been compiled, or loaded from the cache."""
    found = (each for each in gc.get_objects() if isinstance(each, Kernel) and each.made)
    names = ((f"{k.__module__}.{k.__qualname__}", k.versions) for k in found)
    return {name: count for name, count in names if name.startswith("stemd.")}


def frames(scan: Scan = SCAN) -> Iterator[Message]:
    """A scan of discs as a camera sends it, bright and dark as over a lattice of uneven lines."""
    y, x = np.indices((SIDE, SIDE))
    disc = np.hypot(y - 24, x - 23) < 10
    column = np.arange(scan.positions) % scan.shape[1] + np.repeat(
        np.random.default_rng(5).standard_normal(scan.lines), scan.shape[1]
    )
    mean = 3.0 + 2.0 * np.cos(column * 1.3) + np.cos(np.arange(scan.positions) // scan.shape[1])
    wire = np.random.default_rng(1).poisson(mean[:, None, None] * disc)
    acquisition = Acquisition(scan, Detector("test", (SIDE, SIDE), "u2", 12))
    yield Started(acquisition)
    for first in range(0, scan.positions, 64):
        data = np.ascontiguousarray(wire[first : first + 64].astype(">u2")).reshape(-1)
        positions = np.arange(first, first + len(data) // SIDE**2)
        yield FrameBlock(
            acquisition=acquisition,
            pixels=data.view(np.uint8),
            pixel_offset=0,
            stride=SIDE * SIDE * 2,
            count=positions.size,
            shape=(SIDE, SIDE),
            dtype="u2",
            big_endian=True,
            sequence=positions,
            probe=positions,
            wire=data.view(np.uint8),
            received_ns=1,
        )
    yield Ended(acquisition, "complete")


def hits(settings: Any) -> Iterator[Message]:
    """A scan of hits, as a Timepix3 camera sends it, with an old pulse and a masked pixel."""
    camera = Camera(edges=((settings.tdc.start_edge, 0),), drop=(5,), late_words=30)
    front = WordsFront(settings.detector_layout)
    decoder = EventStream(settings, front, BlockPool(), scan=SCAN, name="t", raw_name="r")
    data = np.frombuffer(bytearray(camera.stream(electrons(SCAN, 20_000))), np.uint8)
    yield from decoder.consume(data, 0)
    yield from decoder.finish("complete", 0)
    decoder.close()


def picture(settings: Any) -> Iterator[Message]:
    """An image of a lattice, as from a folder."""
    from stemd.adapters.images import messages_of

    y, x = np.indices((64, 64))
    seen = np.random.default_rng(2).poisson(9 + 4 * np.cos(y / 2) * np.cos(x / 3))
    nothing = np.zeros(0, np.uint8)
    yield from messages_of(
        Picture(seen.astype(np.float32), 0.5, "", nothing, ".tif", "x"), settings.image
    )


def run(pipeline: PipelineConfig, messages: Iterator[Message]) -> None:
    """A scan whose engines get each block's positions, and give their images, before the next."""
    made: ScanRun | None = None
    for message in messages:
        if isinstance(message, Started):
            made = ScanRun(message.acquisition, pipeline.settings(), pipeline.engines, live=True)
        elif isinstance(message, (FrameBlock, EventBlock)):
            assert made is not None
            made.reduce(message)
            message.release()
            made.feed()
            made.snapshot(final=False)
        elif isinstance(message, ImageBlock):
            assert made is not None
            made.take(message)
    assert made is not None
    made.end("complete")
    made.serve(lambda _: None, lambda: 50.0)
    assert not made.failed, made.failed


def pipeline_of(
    adapter: str,
    table: dict[str, Any],
    engines: Sequence[Any],
    optics: Mapping[str, Any] = MappingProxyType(PHASE),
) -> PipelineConfig:
    """A pipeline of this adapter and these engines."""
    plugin = plugins.load("adapters", adapter)
    settings = plugin.settings.model_validate(table)
    chosen = tuple(EngineConfig.of(*each) for each in engines)
    return PipelineConfig(
        "test",
        plugin,
        settings,  # type: ignore[arg-type]
        Optics.model_validate(optics),
        chosen,
        PublishTable(),
        RecordTable(),
    )


def main(kind: str) -> None:
    """Warm up, run a scan, say what it has compiled."""
    scan = SCAN.model_dump()
    if kind == "frames":
        pipeline = pipeline_of("merlin", {}, ENGINES)
        messages = frames()
    elif kind == "repeats":
        pipeline = pipeline_of("merlin", {"scan": REPEATED.model_dump()}, ENGINES[:7])
        messages = frames(REPEATED)
    elif kind == "frames without optics":
        pipeline = pipeline_of("merlin", {}, ENGINES[:7], {})
        messages = frames()
    elif kind == "hits":
        table = {"scan": scan, "cluster": {}, "hot_pixels": "learn", "learn_hits": 1000}
        pipeline = pipeline_of("timepix3", table, ENGINES[:7])
        messages = hits(pipeline.adapter)
    else:
        pipeline = pipeline_of("images", {}, [("restoration", {"input": "image"})])
        messages = picture(pipeline.adapter)
    for _, step in steps(pipeline):
        step()
    before = compiled()
    run(pipeline, messages)
    after = compiled()
    late = sorted(name for name in after if after[name] != before.get(name, 0))
    sys.stdout.write(json.dumps(late) + "\n")


if __name__ == "__main__":
    main(sys.argv[1])

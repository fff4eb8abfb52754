"""Compiling the kernels before they are needed, into numba's cache."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from functools import cache, partial
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from stemd.acquisition import Acquisition, Detector, Optics, Scan
from stemd.blocks import Ended, EventBlock, FrameBlock, ImageBlock, Message, Started
from stemd.compilation import with_numba
from stemd.engines.base import PositionMaps
from stemd.engines.kernels import masked, narrow
from stemd.plugins import Plugin
from stemd.scan.engines import EngineChoice
from stemd.scan.repeats import Repeats
from stemd.scan.run import ScanRun
from stemd.settings import Settings

DTYPES = ("u1", "u2", "u4")
"""Pixel types for which the kernels of patterns are compiled."""


TINY = Scan(shape=(16, 16), step_size_angstrom=0.5)
TINY_SIDE, TINY_RADIUS = 24, 8.0
"""Side of the tiny detector and radius of the bright field, pixels."""
REPEATED = Scan(shape=(64, 64), repeats=3)
"""Large enough for waves to be found in it, with frames to be compared with a sum."""


class Warmed(Protocol):
    """A configured pipeline: what is compiled for it."""

    @property
    def adapter_plugin(self) -> Plugin:
        """Where the adapter comes from."""
        ...

    @property
    def adapter(self) -> Any:
        """The adapter's settings."""
        ...

    @property
    def optics(self) -> Optics:
        """The optics of its scans."""
        ...

    @property
    def engines(self) -> Sequence[EngineChoice]:
        """Its engines."""
        ...


def steps(pipeline: Warmed) -> Iterator[tuple[str, Callable[[], None]]]:
    """What is to be done for a pipeline before it is ready, step by step.

    First its adapter, as "", with what aligns the frames of a place that is scanned several times;
    then each engine by its name, each in tiny scans of its own together
    with those whose images it needs: what one of them does, such as never returning, is
    its own affair. Each takes seconds where nothing is cached, milliseconds where it is.
    """
    yield "", partial(_run, pipeline, ())
    scan = getattr(pipeline.adapter, "scan", None)
    if isinstance(scan, Scan) and scan.repeats > 1:
        yield "", _align
    for engine in pipeline.engines:
        chosen = with_needed(engine, pipeline.engines)
        yield engine.name, partial(_run, pipeline, chosen)


def with_needed(engine: EngineChoice, engines: Sequence[EngineChoice]) -> list[EngineChoice]:
    """An engine behind those that make the images it needs, in their order."""
    wanted = [engine]
    for each in wanted:
        images = set(each.settings.inputs().values())
        wanted += [
            e for e in engines if e not in wanted and images & set(e.settings.outputs(e.name))
        ]
    return [e for e in engines if e in wanted]


def warm_up(engines: Iterable[EngineChoice], optics: Optics, dtypes: Iterable[str]) -> None:
    """Run a tiny scan of every pixel type through the engines, so that all kernels exist."""
    chosen = tuple(engines)
    for each in chosen:
        _exhaust(each.plugin.warm(each.settings))
    optics = _of_tiny(optics)
    for number, dtype in enumerate(dtypes):
        # images take longer than patterns, and do not depend on the pixels' type
        _scan(_patterns(dtype), chosen, optics, images=number == 0)


def warm_adapter(
    plugin: Plugin, settings: Any, engines: Sequence[EngineChoice], optics: Optics
) -> bool:
    """Run the tiny scans of an adapter through the engines; False where it has none."""
    found = False
    for each in engines:
        _exhaust(each.plugin.warm(each.settings))
    masked.warm()
    narrow.warm()
    for scan in _scans(plugin.warm(settings)):
        found = True
        _scan(scan, engines, optics)
    return found


def _exhaust(what: Iterable[object]) -> None:
    for _ in what:
        pass


def _run(pipeline: Warmed, engines: Sequence[EngineChoice]) -> None:
    with_numba()
    plugin, optics = pipeline.adapter_plugin, pipeline.optics
    if not warm_adapter(plugin, pipeline.adapter, engines, optics):
        warm_up(engines, optics, DTYPES)


def _scans(messages: Iterable[Message]) -> Iterator[Iterator[Message]]:
    """Messages, scan by scan; each must be taken to its end before the next."""
    rest = iter(messages)

    def one(started: Started) -> Iterator[Message]:
        yield started
        for message in rest:
            yield message
            if isinstance(message, Ended):
                return

    for message in rest:
        if isinstance(message, Started):
            yield one(message)


def _scan(
    messages: Iterable[Message],
    engines: Sequence[EngineChoice],
    optics: Optics,
    *,
    images: bool = True,
) -> None:
    """One scan from its first message to its last one, or to its final images."""
    optics = optics.model_copy(update={"mask": None})  # that of the real detector
    own = {each.name: each.settings.for_trial() for each in engines}
    settings = Settings(optics=optics, engines=own)
    run: ScanRun | None = None
    for message in messages:
        if isinstance(message, Started):
            run = ScanRun(message.acquisition, settings, engines)
        elif isinstance(message, (FrameBlock, EventBlock)):
            assert run is not None
            run.reduce(message)
            message.release()
        elif isinstance(message, ImageBlock):
            assert run is not None
            run.take(message)
    if run is not None and images:
        run.end("complete")
        run.serve(lambda snapshot: None, lambda: 10.0)


def _align() -> None:
    """Frames of a lattice whose lines are displaced, aligned as beside a camera and at the end."""
    detector = Detector("warm-up", (TINY_SIDE, TINY_SIDE), "u2", 0)
    acquisition = Acquisition(REPEATED, detector, id="warm-up")
    maps = PositionMaps(acquisition, ("seen",))
    repeats = Repeats(acquisition, maps)
    rng = np.random.default_rng(0)
    y, x = np.indices((REPEATED.lines, REPEATED.shape[1]))
    moved = x + rng.standard_normal((REPEATED.lines, 1))
    seen = rng.poisson(100.0 + 40.0 * np.cos(y / 1.5) + 40.0 * np.cos(moved / 1.7))
    maps.total[:] = maps.detector_sums[0] = seen.ravel()
    maps.done[:] = True
    size = repeats.positions
    for first in range(0, REPEATED.positions, size):
        repeats.take([(first, first + size)])
    _exhaust(repeats.settle())


def _of_tiny(optics: Optics) -> Optics:
    """The optics for `_patterns`."""
    alpha = optics.convergence_semi_angle_mrad
    if alpha is None:
        return optics
    middle = (TINY_SIDE - 1) / 2
    return optics.model_copy(
        update={"pixel_size_mrad": alpha / TINY_RADIUS, "center": (middle, middle)}
    )


@cache
def _discs() -> NDArray[np.uint8]:
    """Patterns, (positions, y, x): a disc of noise that moves as over a lattice.

    Something to see for engines that look before they compute.
    """
    ny, nx = TINY.shape
    at_y, at_x = (np.indices(TINY.shape).reshape(2, ny * nx, 1, 1) * 2 * np.pi / 4)[:]
    y, x = np.indices((TINY_SIDE, TINY_SIDE)) - (TINY_SIDE - 1) / 2
    mean = 4.0 + np.cos(at_y) * y / TINY_RADIUS + np.sin(at_x) * x / TINY_RADIUS
    seen = np.random.default_rng(0).poisson(mean * (np.hypot(y, x) <= TINY_RADIUS))
    return np.asarray(seen, np.uint8)


def _patterns(dtype: str) -> Iterator[Message]:
    shape = (TINY_SIDE, TINY_SIDE)
    acquisition = Acquisition(TINY, Detector("warm-up", shape, dtype, 0), id="warm-up")
    wire = np.ascontiguousarray(_discs().astype(f">{dtype}")).reshape(-1).view(np.uint8)
    yield Started(acquisition)
    yield FrameBlock(
        acquisition=acquisition,
        pixels=wire,
        pixel_offset=0,
        stride=wire.size // TINY.positions,
        count=TINY.positions,
        shape=shape,
        dtype=dtype,  # type: ignore[arg-type]
        big_endian=True,
        sequence=np.arange(TINY.positions),
        probe=np.arange(TINY.positions),
        wire=wire,
        received_ns=acquisition.started_ns,
    )
    yield Ended(acquisition, "complete")

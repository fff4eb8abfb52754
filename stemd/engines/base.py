"""What an engine is, and the integer maps that all position-wise engines share."""

from __future__ import annotations

import threading
from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING, Any, Protocol, runtime_checkable

import numpy as np
from numpy.typing import NDArray

from stemd.acquisition import Acquisition
from stemd.blocks import Block, Notice
from stemd.pixels import Mask
from stemd.results import Result
from stemd.settings import Settings

if TYPE_CHECKING:
    from stemd.engines.lens.found import OpticsFound

Sums = NDArray[np.signedinteger[Any]]
Positions = tuple[int, int]
"""Probe positions first..stop-1 (flat indices) that are complete."""


class PositionMaps:
    """What one pass over the patterns leaves of a scan: a few integers a probe position.

    Flat (ny*nx,) int64: `total` = sum I, `moment_y` = sum y I, `moment_x` = sum x I (detector
    pixels from pixel (0, 0)), and `detectors[name]` = sum of I over a virtual detector; `done`
    bool. Integers make the maps exact and additive: any split of the scan into blocks, threads
    or machines gives the same maps, and every image that follows from them is recomputed from
    them. The reader thread writes a position once; engines read it after they were told.
    Where the scan has `repeats`, y runs over all of them, or (`frames`) they were added up.
    `masked` (y, x): detector pixels that are in none of the sums, None where all are; it is known
    before the first block is consumed. Hits on them have no position; of whole patterns an engine
    leaves them out itself. `narrow` maps are int32 until a sum does not fit: who adds to them asks
    for `wide` ones, or adds under `changing` what fits.
    """

    def __init__(
        self, acquisition: Acquisition, detectors: Sequence[str] = (), *, narrow: bool = False
    ) -> None:
        self.shape = (acquisition.scan.lines, acquisition.scan.shape[1])
        n, kind = acquisition.scan.positions, np.int32 if narrow else np.int64
        self.changing = threading.Lock()
        self.total: Sums = np.zeros(n, kind)
        self.moment_y: Sums = np.zeros(n, kind)
        self.moment_x: Sums = np.zeros(n, kind)
        self.done: NDArray[np.bool_] = np.zeros(n, np.bool_)
        self._detectors: tuple[tuple[str, ...], Sums]
        self._detectors = tuple(detectors), np.zeros((len(detectors), n), kind)
        self.masked: Mask | None = None
        self.mixed: Mapping[str, Sequence[Mapping[str, Any]]] = {}
        """Virtual detectors that were changed in mid-scan, by name: `positions` done by then, with
        the radii `inner_px` and `outer_px` (None: not summed) around `center`."""
        self.frames: int | None = None
        """Frames that have been added up, where a place was scanned several times."""
        self.counts: NDArray[np.int32] | None = None
        """Then: positions (ny*nx,) that have been added at each place."""

    @property
    def narrow(self) -> bool:
        """Whether the sums have 32 bits."""
        return self.total.dtype == np.int32

    def wide(self) -> None:
        """Make the sums int64, if they are not. The caller holds `changing` if others add."""
        if self.narrow:
            self.moment_y, self.moment_x = _wider(self.moment_y), _wider(self.moment_x)
            self.detector_sums = _wider(self.detector_sums)
            self.total = _wider(self.total)

    def evened(
        self, sums: NDArray[Any], first: int = 0, stop: int | None = None
    ) -> NDArray[np.float32]:
        """Sums (..., ny*nx) of positions first..stop-1, as if all places had as many frames."""
        part = slice(first, stop)
        image = sums[..., part].astype(np.float32)
        if self.counts is not None and self.frames is not None:
            image *= np.float32(self.frames) / np.maximum(self.counts[part], 1).astype(np.float32)
        return image

    @property
    def totals_done(self) -> Sums:
        """The sums of the positions that are done; not to be written to."""
        return self.total if self.done.all() else self.total[self.done]

    @property
    def detector_names(self) -> tuple[str, ...]:
        """Names of the virtual detectors, in the order of their sums."""
        return self._detectors[0]

    @property
    def detector_sums(self) -> Sums:
        """Sum over each virtual detector, (detectors, ny*nx)."""
        return self._detectors[1]

    @detector_sums.setter
    def detector_sums(self, sums: Sums) -> None:
        self._detectors = self.detector_names, sums

    @property
    def detectors(self) -> Mapping[str, Sums]:
        """Sum over each virtual detector by name, flat (ny*nx,). By any thread, at any time."""
        names, sums = self._detectors
        return {name: sums[index] for index, name in enumerate(names)}

    def rename_detectors(self, names: Sequence[str]) -> None:
        """Other virtual detectors from now on; those that stay keep their image."""
        old = self.detectors
        sums = np.zeros((len(names), self.total.size), self.total.dtype)
        for index, name in enumerate(names):
            if name in old:
                sums[index] = old[name]
        self._detectors = tuple(names), sums


def _wider(sums: Sums) -> Sums:
    """The same in 64 bits; of nothing, memory that is not touched."""
    return sums.astype(np.int64) if sums.any() else np.zeros(sums.shape, np.int64)


class Engine(Protocol):
    """Turns positions or patterns into results. Runs in one thread and owns its accumulators.

    What can be known before a scan its settings declare (`stemd.settings.EngineSettings`), so
    that a config is checked without building an engine: the names of its images (`outputs`: one
    image of the engine's own name unless declared otherwise), the images of other engines that
    it needs (`inputs`), the virtual detectors that the reduction sums for it (`masks`), and in
    `needs` what it is given: "positions" (runs of complete positions of the maps, in a thread
    beside the reader's), "patterns" (whole blocks, in the reader's thread while they are in
    cache: must be quick) or "images" (what the other engines have made: `ImageEngine`).
    """

    name: str

    def start(self, acquisition: Acquisition, settings: Settings, maps: PositionMaps) -> None:
        """A scan begins. All memory that the engine needs is allocated here."""
        ...

    def update(self, settings: Settings) -> None:
        """Settings changed in mid-scan; called between two `consume`."""
        ...

    def consume(self, item: Positions | Block) -> None:
        """A run of positions, or a block that must not be kept without `retain`.

        Offline no run of positions comes: the image is made when all are there.
        """
        ...

    def snapshot(self, *, final: bool) -> Sequence[Result]:
        """Copies of the images as they are.

        When `final`, exact: a position engine computes them from the integer maps alone, so
        that they do not depend on what was consumed when, or whether at all.
        """
        ...


class PatternEngine(Engine, Protocol):
    """An engine that needs patterns; parts of a scan may be given to several of them."""

    def merge(self, other: Any) -> None:
        """Add what another engine of the same kind made of a later part of the same scan."""
        ...


class ImageEngine(Engine, Protocol):
    """An engine that works on other engines' images, in a thread of its own."""

    def offer(self, results: Sequence[Result], *, final: bool) -> None:
        """The newest images of the engines before it; returns at once.

        Unfinished images may be left out when there is no time; the finished ones, which come
        once, may not.
        """
        ...

    def wait(self, timeout_s: float) -> bool:
        """Whether what was offered last has been worked on, waiting for it for a while."""
        ...


Gathered = Mapping[str, NDArray[Any]]
"""What an engine has gathered, as plain arrays: for files and other machines."""


@runtime_checkable
class SpreadEngine(PatternEngine, Protocol):
    """A pattern engine whose parts may be gathered in other processes, or on other machines.

    A double of it gathers a part of the scan and gives out `gathered()`; elsewhere, or later,
    another double takes that with `restore` and is merged. Position engines need none of this:
    their images follow from the integer maps.
    """

    def gathers_by(self, settings: Settings) -> Mapping[str, Any]:
        """The settings that decide what `consume` gathers, as plain JSON types.

        Parts that were gathered with equal ones serve every other choice of the rest.
        """
        ...

    def gathered(self) -> Gathered:
        """Everything that `merge` needs, as arrays of numbers; nothing while nothing was seen."""
        ...

    def restore(self, gathered: Gathered) -> None:
        """After `start`, take over what another double's `gathered` has given.

        The arrays may be kept, but not written to.
        """
        ...


@runtime_checkable
class FindingEngine(SpreadEngine, Protocol):
    """A spread engine that measures something, such as a centre, on the first patterns of a scan.

    All later parts must use what the first one has found, or images would depend on the cut.
    """

    def finds(self, settings: Settings) -> bool:
        """Whether anything must be measured with these settings."""
        ...

    def found(self) -> Gathered | None:
        """What was measured, as arrays of numbers; None until then."""
        ...

    def follow(self, found: Gathered) -> None:
        """After `start`: this double gathers a later part, and uses what the first part found.

        `found` is empty where there was nothing to find.
        """
        ...


@runtime_checkable
class SlowEngine(PatternEngine, Protocol):
    """A pattern engine that takes longer than a camera can wait.

    Beside a camera `consume` returns at once and the engine works in threads of its own. What it
    has no time for it leaves out; it counts that and says so. Without a camera `consume` does all
    of the work before it returns.
    """

    def prepare(self, tell: Callable[[Notice], None], *, beside: bool) -> None:
        """Before `start`: whether a camera is waiting, and whom to send notices to.

        `tell` may be called by any thread.
        """
        ...

    def finish(self) -> None:
        """The last block has been consumed; returns at once."""
        ...

    def wait(self, timeout_s: float) -> bool:
        """After `finish`: whether everything has been worked on, waiting for it for a while."""
        ...

    def abandon(self, why: str = "") -> None:
        """Abandon unfinished work and release every block. A notice gives the reason `why`."""
        ...

    def lacking(self) -> int:
        """After `wait`: positions with a pattern that the image lacks, or has only coarsely.

        0 without a camera: processing the record again would not improve the image.
        """
        ...


@runtime_checkable
class MeasuringEngine(Engine, Protocol):
    """An engine that measures the optics of a whole scan while it makes its finished images."""

    def optics_found(self) -> OpticsFound | None:
        """What was measured; None where it has not been looked for. By any thread."""
        ...

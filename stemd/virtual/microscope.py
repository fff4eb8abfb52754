"""The microscope as a whole: specimen, beam, camera and scan give counts frame by frame."""

from __future__ import annotations

import itertools
import math
from collections.abc import Iterator
from dataclasses import dataclass, field, replace

import numpy as np
from numpy.typing import NDArray

from stemd.aberrations import Aberrations
from stemd.acquisition import Scan
from stemd.beam import Beam
from stemd.virtual.diffraction import Camera, PatternRenderer
from stemd.virtual.kernels import sample_counts
from stemd.virtual.scan import ScanPath
from stemd.virtual.specimen import build
from stemd.virtual.truth import Truth, compute

CACHE_BYTES = 512 * 1024 * 1024
"""Expected patterns of one scan are kept for the next ones if they fit into this."""
AHEAD_FRAMES = 65_536
"""Frames whose positions are worked out at a time."""

Counts = NDArray[np.uint8] | NDArray[np.uint16] | NDArray[np.uint32]


@dataclass(frozen=True, slots=True)
class Setup:
    """Everything that decides what a virtual camera counts.

    `lens`: what is not round of the probe's aberrations; defocus and Cs are the beam's.
    `source_size_angstrom`: standard deviation of the incoherent source at the specimen; it takes
    nine times as long to render. `dose` is the mean number of electrons that hit the specimen for
    each pattern. `scan` must have a step size. Drift is in angstrom per second (y, x), `jitter`
    in steps.
    """

    scan: Scan
    specimen: str = "nanoparticle"
    thickness_angstrom: float = 7.81
    beam: Beam = field(default_factory=Beam)
    lens: Aberrations = field(default_factory=Aberrations)
    source_size_angstrom: float = 0.0
    camera: Camera = field(default_factory=Camera)
    dose: float = 1000.0
    seed: int = 1
    frame_time_s: float = 1e-3
    drift_angstrom_per_s: tuple[float, float] = (0.0, 0.0)
    jitter: float = 0.0


class Microscope:
    """Renders scans of a setup; a scan is known by its number, from 0.

    The counts of a frame follow from the setup, the scan number and the frame number alone.
    Not for use by two threads at a time, but for `move`, which acts from the next scan on.
    """

    def __init__(self, setup: Setup, cache_bytes: int = CACHE_BYTES) -> None:
        self.setup = setup
        self.path = ScanPath(
            setup.scan,
            setup.frame_time_s,
            setup.drift_angstrom_per_s,
            setup.jitter,
            setup.seed,
        )
        self.specimen = build(setup.specimen, self.path.field, setup.thickness_angstrom)
        self._cache_bytes = cache_bytes
        self._moved = Aberrations()
        self._now: Aberrations | None = None
        self._adjust()

    def move(self, change: Aberrations) -> None:
        """Drive the lens by this much, from the next scan on. By any thread."""
        self._moved = self._moved.plus(change)

    def _adjust(self) -> None:
        """Be where the drives have been moved to."""
        moved, setup = self._moved, self.setup
        if moved == self._now:
            return
        self._now = moved
        beam = replace(
            setup.beam,
            defocus_angstrom=setup.beam.defocus_angstrom + moved.defocus,
            cs_mm=setup.beam.cs_mm + moved.spherical * 1e-7,
        )
        lens = setup.lens.plus(moved).not_round
        self.renderer = PatternRenderer(self.specimen, beam, setup.camera, lens)
        h, w = self.renderer.core_shape
        frames = setup.scan.frames
        self._cache: NDArray[np.float32] | None = None
        self._cached = np.zeros(0, np.bool_)
        if self.path.repeats and frames * h * w * 4 <= self._cache_bytes:
            # untouched pages of a zeroed array take no memory until they are filled
            self._cache = np.zeros((frames, h, w), np.float32)
            self._cached = np.zeros(frames, np.bool_)

    def truth(self) -> Truth:
        """What a perfect reconstruction would show. Raises UsageError for a huge field."""
        return compute(self.specimen, self.setup.beam, self.setup.camera, self.path)

    def _core(
        self, scan_number: int, frames: NDArray[np.int64], part: int
    ) -> Iterator[NDArray[np.float32]]:
        if self._cache is not None and self._cached[frames].all():
            for first in range(0, frames.size, part):
                yield self._cache[frames[first] : frames[first] + min(part, frames.size - first)]
            return
        positions = self.path.positions(frames, scan_number)
        shifts = self.setup.camera.shifts(self.path.nominal(frames), self.path.field)
        done = 0
        for core in self._rendered(positions, shifts, part):
            if self._cache is not None:
                there = slice(int(frames[done]), int(frames[done]) + core.shape[0])
                self._cache[there] = core
                self._cached[there] = True
            done += core.shape[0]
            yield core

    def _rendered(
        self, positions: NDArray[np.float64], shifts: NDArray[np.float64], part: int
    ) -> Iterator[NDArray[np.float32]]:
        """As `PatternRenderer.core`, of a source of finite size."""
        size = self.setup.source_size_angstrom
        if size <= 0.0:
            yield from self.renderer.core(positions, shifts, part)
            return
        # Gauss and Hermite's three points along each axis: exact for polynomials to order five
        points = [(-math.sqrt(3.0) * size, 1 / 6), (0.0, 2 / 3), (math.sqrt(3.0) * size, 1 / 6)]
        for first in range(0, positions.shape[0], part):
            now = slice(first, first + part)
            total: NDArray[np.float32] | None = None
            for (y, wy), (x, wx) in itertools.product(points, points):
                at = positions[now] + np.array([y, x])
                core = np.concatenate(list(self.renderer.core(at, shifts[now], part)))
                core *= np.float32(wy * wx)
                total = core if total is None else total + core
            assert total is not None
            yield total

    def counts(
        self,
        scan_number: int,
        first: int,
        stop: int,
        dtype: np.dtype[np.unsignedinteger] | type[np.unsignedinteger] = np.uint16,
        limit: int = 65_535,
        part: int = 128,
    ) -> Iterator[NDArray[np.unsignedinteger]]:
        """Counts (n, h, w) of frames first..stop-1, n <= part at a time, clipped to `limit`.

        Frames beyond the scan's last belong to the scans after it.
        """
        per_scan = self.setup.scan.frames
        while first < stop:
            number, start = scan_number + first // per_scan, first % per_scan
            if start == 0:
                self._adjust()
            end = min(start + stop - first, per_scan, start + AHEAD_FRAMES)
            frames = np.arange(start, end)
            done = 0
            for core in self._core(number, frames, part):
                expected = self.renderer.finish(core)
                out = np.empty(expected.shape, dtype)
                chosen = frames[done : done + core.shape[0]]
                sample_counts(
                    expected, self.setup.dose, self.setup.seed, number, chosen, limit, out
                )
                done += core.shape[0]
                yield out
            first += end - start

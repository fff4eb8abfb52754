"""SSB: single side-band ptychography of a scan, the reference among phase images of thin specimens.

The discs of all patterns are kept as small integers; the image is made of them now and then while
the scan runs, and exactly at its end.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping, Sequence
from typing import Annotated, Any

import numpy as np
from numpy.typing import NDArray
from pydantic import Field

from stemd.acquisition import Acquisition, FiniteFloat, Optics
from stemd.beam import Beam
from stemd.blocks import Block
from stemd.engines.base import Gathered, PositionMaps
from stemd.engines.beside.scan import BesideScan, phase_beam
from stemd.engines.first_patterns import copied
from stemd.engines.ssb.bright_field import BrightField, moments
from stemd.engines.ssb.lattice import lattice_for
from stemd.engines.ssb.side_bands import side_band_phase
from stemd.engines.vectors import resolve_centre, to_scan_axes
from stemd.errors import StemdError
from stemd.plugins import Plugin
from stemd.results import Result
from stemd.settings import Settings, SlowEngineSettings

LIVE_SHARE = 0.25
"""At most this part of the time goes into images of a scan that is not finished."""
LEAST_LINES = 16
"""Complete scan lines from which on an unfinished image is worth making."""
SPARE = {"auto": 1.4, "given": 1.15}
"""Radius that is kept, in semi-angles: the centre moves while it is being found."""
SURE_COUNTS = 256
"""Counts from whose mean place a centre is taken to begin with."""
MOST_WAITING = 32
"""Blocks that wait for so many counts, unless they are large."""
MOST_WAITING_BYTES = 64 * 1024 * 1024


class SsbSettings(SlowEngineSettings):
    """`regularisation`: see `side_bands.side_band_phase`; small for high doses.

    `defocus_angstrom` (underfocus positive) and `cs_mm` of the probe are taken out.
    `pixels_per_angle`: cells a convergence semi-angle, fewer where `memory_mb` does not suffice.
    `live`: images of unfinished scans too.
    """

    regularisation: Annotated[float, Field(ge=0.0, le=1e6)] = 0.1
    defocus_angstrom: FiniteFloat = 0.0
    cs_mm: FiniteFloat = 0.0
    pixels_per_angle: Annotated[int, Field(ge=3, le=32)] = 8
    memory_mb: Annotated[float, Field(gt=0.0, le=1e6)] = 1024.0
    live: bool = True

    def outputs(self, engine: str) -> tuple[str, ...]:
        """The phase."""
        return (f"{engine}_phase",)


class SsbEngine(BesideScan):
    """`ssb_phase` in radian. Implements base.SlowEngine and base.FindingEngine of the engines.

    While a camera waits blocks go through a bounded queue: one thread bins them, one makes the
    images. Without a camera `consume` bins and `snapshot` makes the image.
    """

    cut = "not_made", "not made"

    def __init__(self, settings: SsbSettings) -> None:
        super().__init__(settings.name or "ssb")
        self._own = settings

    # engines.base.Engine

    def start(self, acquisition: Acquisition, settings: Settings, maps: PositionMaps) -> None:
        """A scan begins. Raises StemdError for optics that are missing or a scan too large."""
        self._begin(acquisition, maps)
        self.update(settings)
        beam, pixel, _ = self._beam(settings.optics)
        most = int(self._own.memory_mb * 1e6)
        positions = acquisition.scan.positions
        spare = SPARE["auto" if settings.optics.center == "auto" else "given"]
        lattice = lattice_for(
            beam.convergence_semi_angle_mrad / pixel,
            self._own.pixels_per_angle,
            spare,
            positions,
            most,
        )
        self._kept = BrightField(lattice, acquisition.detector.shape, positions, most)
        if settings.optics.center != "auto":
            self._kept.place(settings.optics.center)
        self._waiting: list[Block] = []
        self._waiting_bytes = 0
        self._moments = np.zeros(3)
        self._final: tuple[Settings, Result | None] | None = None
        self._newest: Result | None = None
        self._lines = 0
        self._rest_until = 0.0
        self._all_in = False
        self._start_threads()

    def update(self, settings: Settings) -> None:
        """Regularisation, aberrations, centre, rotation, flip: for the next image.

        What is kept of a pattern stays as it was when the scan began.
        """
        self._settings = settings
        own = settings.engines.get(self.name, self._own)
        assert isinstance(own, SsbSettings)
        self._own = own

    def snapshot(self, *, final: bool) -> Sequence[Result]:
        """The image, float32 (ny, nx), radian. Raises StemdError where it cannot be made."""
        if self._beside is not None:
            self._beside.check()
        if not final:
            result = self._newest
        elif self._final is not None and self._final[0] is self._settings:
            result = self._final[1]
        elif self._given_up:
            result = None
        else:
            self._settle()
            result = self._make(self._maps.shape[0], lambda: True)
        return [result] if result is not None else []

    # engines.base.FindingEngine: parts of few counts cannot tell where the disc is

    def finds(self, settings: Settings) -> bool:
        """Whether the first patterns decide which cells are kept."""
        return settings.optics.center == "auto"

    def found(self) -> Gathered | None:
        """The middle cell, y and x; None until it is known."""
        origin = self._kept.origin
        return None if origin is None else {"origin": np.array(origin, np.int64)}

    def follow(self, found: Gathered) -> None:
        """Keep the cells about the same middle cell as the first part of the scan."""
        if "origin" in found and self._kept.origin is None:
            y, x = (int(n) for n in found["origin"])
            self._kept.place(self._kept.lattice.middle((y, x)))

    # engines.base.SpreadEngine

    def merge(self, other: SsbEngine) -> None:
        """Add what another part of the same scan has kept."""
        for part in (self, other):
            part._settle()
        self._kept.merge(other._kept)

    def gathers_by(self, settings: Settings) -> Mapping[str, Any]:
        """All that decides which pixels go into which cell, and which hits count."""
        optics = settings.optics
        own = settings.engines.get(self.name, self._own)
        assert isinstance(own, SsbSettings)
        alpha, pixel = optics.convergence_semi_angle_mrad, optics.pixel_size_mrad
        return {
            "acceptance_time_ns": optics.acceptance_time_ns,
            "radius_px": alpha / pixel if alpha and pixel else None,
            "center": optics.center if optics.center == "auto" else list(optics.center),
            **own.model_dump(mode="json", include={"pixels_per_angle", "memory_mb"}),
        }

    def gathered(self) -> Gathered:
        """See `BrightField.gathered`."""
        self._settle()
        return self._kept.gathered()

    def restore(self, gathered: Gathered) -> None:
        """Take over what `gathered` has given."""
        self._kept.restore(gathered)

    # within

    @property
    def _acceptance_ns(self) -> float:
        return self._settings.optics.acceptance_time_ns or 0.0

    @property
    def _in_image(self) -> NDArray[np.bool_]:
        return ~self._seen.left_out if self._final is not None else np.zeros_like(self._maps.done)

    def _beam(self, optics: Optics) -> tuple[Beam, float, float]:
        own = self._own
        return phase_beam(self._acquisition, optics, own.defocus_angstrom, own.cs_mm)

    def _add_now(self, block: Block) -> None:
        """Keep the discs of a block's patterns; until their place is known keep a copy."""
        if self._kept.origin is not None:
            self._kept.add(block, self._acceptance_ns)
        elif block.count:
            self._waiting.append(copied(block))
            self._waiting_bytes += block.wire.nbytes
            self._moments += moments(block, self._acceptance_ns)
            many = len(self._waiting) >= MOST_WAITING or self._waiting_bytes >= MOST_WAITING_BYTES
            if self._moments[0] >= SURE_COUNTS or many:
                self._settle()

    def _settle(self) -> None:
        """Decide which cells are kept, from what is there, and add what has waited for it."""
        count, y, x = self._moments
        if self._kept.origin is None and count > 0:
            self._kept.place((y / count, x / count))
        waiting, self._waiting, self._waiting_bytes = self._waiting, [], 0
        if self._kept.origin is not None:
            for block in waiting:
                self._kept.add(block, self._acceptance_ns)

    def _take(self, block: Block, wake: Callable[[], object]) -> None:
        self._add_now(block)
        self._seen.take(block)
        wake()

    def _complete(self, wake: Callable[[], object]) -> None:
        self._settle()
        self._all_in = True
        wake()

    def _make_next(self) -> bool:
        """Make an image if it is time to; whether there may be more to do at once."""
        if self._all_in:
            if self._final is None and not self._given_up:
                settings = self._settings
                result = self._make(self._maps.shape[0], lambda: not self._given_up)
                self._final = settings, result
            return False
        # a multiple of 8: lengths that are quick to transform
        lines = self._seen.complete_lines(self._maps.done, self._maps.shape) // 8 * 8
        if self._ending or not self._own.live or not LEAST_LINES <= lines != self._lines:
            return False
        began = time.monotonic()
        if began < self._rest_until:
            return False
        self._lines = lines
        self._newest = self._make(lines, lambda: not self._ending) or self._newest
        ended = time.monotonic()
        self._rest_until = ended + (ended - began) * (1 / LIVE_SHARE - 1)
        return True

    def _make(self, lines: int, go_on: Callable[[], bool]) -> Result | None:
        """The image of the first `lines` lines."""
        optics, own, kept = self._settings.optics, self._own, self._kept
        beam, pixel, step = self._beam(optics)
        ny, nx = self._maps.shape
        image = np.zeros((ny, nx), np.float32)
        center = resolve_centre(self._maps, optics, self._acquisition.detector.shape)
        if kept.origin is not None:
            radius = beam.convergence_semi_angle_mrad / pixel
            if not kept.covers(center, radius):
                raise StemdError(
                    f"engine {self.name}: the disc at {center[0]:.1f}, {center[1]:.1f} with a "
                    f"radius of {radius:.1f} pixels is not within what was kept of the patterns",
                    "set optics.center and convergence_semi_angle_mrad before the scan",
                )
            shift = (kept.places() - center).T
            vectors = np.stack(to_scan_axes(shift[0], shift[1], optics), axis=1) / radius
            done = (self._maps.done & ~self._seen.left_out)[: lines * nx]
            electrons = self._maps.total[: lines * nx][done].mean() if done.any() else 0.0
            phase = side_band_phase(
                lambda columns: kept.images(columns, lines * nx), vectors,
                done.reshape(lines, nx), float(electrons), beam, step, own.regularisation, go_on,
            )  # fmt: skip
            if phase is None:
                return None
            image[:lines] = phase
        extra = {
            "center": list(center),
            "rotation_deg": optics.rotation_deg,
            "flip": optics.flip,
            "cells_per_angle": round(
                beam.convergence_semi_angle_mrad / pixel / kept.lattice.bin, 3
            ),
            "left_out": self._seen.lost,
            **own.model_dump(mode="json", include=set(ABOUT)),
        }
        return Result(f"{self.name}_phase", image, "rad", "scan", step, extra)


ABOUT = ("regularisation", "defocus_angstrom", "cs_mm")


PLUGIN = Plugin(
    name="ssb",
    summary="single side-band ptychography: quantitative phase of thin specimens",
    settings=SsbSettings,
    build=SsbEngine,
)

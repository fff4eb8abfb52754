"""What engines have in common that make a phase of the bright-field discs of a whole scan.

The discs of all patterns are kept as small integers; the images are made of them now and then
while the scan runs, and exactly at its end.
"""

from __future__ import annotations

import time
from abc import abstractmethod
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from typing import Annotated, Any, ClassVar, Self

import numpy as np
from numpy.typing import NDArray
from pydantic import Field

from stemd.acquisition import Acquisition, Length, Optics
from stemd.beam import Beam
from stemd.blocks import Block
from stemd.engines.base import Gathered, PositionMaps
from stemd.engines.beside.scan import BesideScan, phase_beam
from stemd.engines.bright_field.discs import BrightField, moments
from stemd.engines.bright_field.lattice import lattice_for
from stemd.engines.bright_field.measuring import Vectors
from stemd.engines.bright_field.optics import OpticsMeasurement
from stemd.engines.bright_field.so_far import MeasuringSoFar
from stemd.engines.bright_field.view import Discs
from stemd.engines.first_patterns import copied
from stemd.engines.lens.found import LensFound, OpticsFound
from stemd.engines.lens.measure import Search
from stemd.engines.vectors import descan_of, to_scan_axes
from stemd.errors import StemdError
from stemd.results import Result
from stemd.settings import EngineSettings, OfRepeats, Settings, SlowEngineSettings

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


class BrightFieldSettings(SlowEngineSettings):
    """`pixels_per_angle`: cells a convergence semi-angle, fewer where `memory_mb` does not suffice.

    `live`: images of unfinished scans too. `search_...`: how far from what is told the lens is
    looked for at the end of a scan, unless `optics.measured` is "off".
    """

    pixels_per_angle: Annotated[int, Field(ge=3, le=32)] = 8
    memory_mb: Annotated[float, Field(gt=0.0, le=1e6)] = 1024.0
    live: bool = True
    search_defocus_nm: Length = 30.0
    search_astigmatism_nm: Length = 5.0

    of_repeats: ClassVar[OfRepeats] = "placed"

    def for_trial(self) -> Self:
        """A trial measures the lens, but does not look far for it."""
        return self.model_copy(update={"search_defocus_nm": 2.0, "search_astigmatism_nm": 1.0})

    @property
    def uses_measured_lens(self) -> bool:
        """Whether images are made with what was measured."""
        return False


class BrightFieldEngine(BesideScan):
    """Base of such engines. Implements base.SlowEngine and base.FindingEngine.

    One that inherits says with `_images_of` what the images are.

    Of all such engines of a pipeline one measures the lens (`lens_found`), and those that make
    their images with what they have measured.

    While a camera waits blocks go through a bounded queue: one thread bins them, one makes the
    images. Without a camera `consume` bins and `snapshot` makes the image.
    """

    cut = "not_made", "not made"

    def __init__(self, name: str, settings: BrightFieldSettings) -> None:
        super().__init__(name)
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
        self._kept = BrightField(
            lattice, acquisition.detector.shape, positions, most, lambda: maps.masked
        )
        if settings.optics.center != "auto":
            self._kept.place(settings.optics.center)
        self._waiting: list[Block] = []
        self._waiting_bytes = 0
        self._moments = np.zeros(3)
        self._final: tuple[Settings, Sequence[Result]] | None = None
        self._newest: Sequence[Result] = ()
        self._lines = 0
        self._rest_until = 0.0
        self._all_in = False
        self._optics = OpticsMeasurement(
            self.name,
            maps,
            acquisition.detector.shape,
            bounded=self._is_beside and not self._own.uses_measured_lens,
        )
        self._so_far = MeasuringSoFar(self.name)
        self._start_threads()

    def update(self, settings: Settings) -> None:
        """What decides how images are made, such as the lens or the rotation: for the next image.

        What is kept of a pattern stays as it was when the scan began.
        """
        self._settings = settings
        own = settings.engines.get(self.name, self._own)
        assert isinstance(own, BrightFieldSettings)
        self._own = own

    @property
    def _measures(self) -> bool:
        """Whether this engine is the one that measures the lens, or needs to."""
        if self._settings.optics.measured == "off" or self._own.uses_measured_lens:
            return self._settings.optics.measured != "off"
        able = [
            name
            for name, each in self._settings.engines.items()
            if isinstance(each, BrightFieldSettings)
        ]
        using = [name for name in able if _uses(self._settings.engines[name])]
        return not using and able[:1] == [self.name]

    def snapshot(self, *, final: bool) -> Sequence[Result]:
        """The images, float32 (ny, nx). Raises StemdError where they cannot be made."""
        if self._beside is not None:
            self._beside.check()
        if not final:
            return self._newest
        if self._final is not None and self._final[0] is self._settings:
            return self._final[1]
        if self._given_up:
            return ()
        self._settle()
        return self._make(self._maps.shape[0], lambda: True)

    def optics_found(self) -> OpticsFound | None:
        """See base.MeasuringEngine."""
        return self._optics.found()

    @property
    def lens_found(self) -> LensFound | None:
        """The lens by which images may be made, once it has been measured."""
        return self._optics.lens

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

    def merge(self, other: BrightFieldEngine) -> None:
        """Add what another part of the same scan has kept."""
        for part in (self, other):
            part._settle()
        self._kept.merge(other._kept)
        self._optics.sum.counts += other._optics.sum.counts

    def gathers_by(self, settings: Settings) -> Mapping[str, Any]:
        """All that decides which pixels go into which cell, and which hits count."""
        optics = settings.optics
        own = settings.engines.get(self.name, self._own)
        assert isinstance(own, BrightFieldSettings)
        alpha, pixel = optics.convergence_semi_angle_mrad, optics.pixel_size_mrad
        return {
            "acceptance_time_ns": optics.acceptance_time_ns,
            "radius_px": alpha / pixel if alpha and pixel else None,
            "center": optics.center if optics.center == "auto" else list(optics.center),
            **own.model_dump(mode="json", include={"pixels_per_angle", "memory_mb"}),
        }

    def gathered(self) -> Gathered:
        """See `BrightField.gathered`; `sum` (y, x) of patterns besides."""
        self._settle()
        kept = self._kept.gathered()
        return {**kept, "sum": self._optics.sum.counts} if kept else {}

    def restore(self, gathered: Gathered) -> None:
        """Take over what `gathered` has given."""
        self._kept.restore(gathered)
        if "sum" in gathered:
            self._optics.sum.counts = np.array(gathered["sum"], np.int64)

    # within

    @property
    def _acceptance_ns(self) -> float:
        return self._settings.optics.acceptance_time_ns or 0.0

    @property
    def _in_image(self) -> NDArray[np.bool_]:
        return ~self._seen.left_out if self._final is not None else np.zeros_like(self._maps.done)

    @abstractmethod
    def _images_of(self, discs: Discs, go_on: Callable[[], bool]) -> Sequence[Result] | None:
        """The images (lines, nx) of these discs; None once `go_on` says no."""

    def _beam(self, optics: Optics) -> tuple[Beam, float, float]:
        return phase_beam(self._acquisition, optics)

    def _measure(self, discs: Discs, vectors: Vectors, go_on: Callable[[], bool]) -> None:
        """The optics that the data of the whole scan have; said where they are not those told."""
        optics = self._settings.optics
        measured = self._optics.measure(discs, vectors, optics, self._search, go_on)
        lens = self.lens_found
        if measured and lens is not None and (lens.disagrees or lens.turned):
            self._say(
                "lens_disagrees",
                lens.words(),
                remedy="focus the microscope, or set what was measured in the optics; "
                'optics.measured = "use" does it by itself',
            )

    def _measure_so_far(self, lines: int) -> None:
        """The optics that the first lines have; they may yet change."""
        optics = self._settings.optics
        if self._goes_on() and lines < self._maps.shape[0]:  # of all it is measured at the end
            discs, vectors = self._discs(optics, lines, whole=False)
            self._optics.measure_so_far(discs, vectors, optics, self._search, self._goes_on)

    def _goes_on(self) -> bool:
        return not (self._ending or self._given_up)

    @property
    def _search(self) -> Search:
        own = self._own
        return Search(10.0 * own.search_defocus_nm, 10.0 * own.search_astigmatism_nm)

    def _add_now(self, block: Block) -> None:
        """Keep the discs of a block's patterns; until their place is known keep a copy."""
        self._optics.sum.add(block, self._acceptance_ns)
        if self._kept.origin is not None:
            self._kept.add(block, self._acceptance_ns)
        elif block.count:
            self._waiting.append(copied(block))
            self._waiting_bytes += block.wire.nbytes
            self._moments += moments(block, self._acceptance_ns, self._maps.masked)
            many = len(self._waiting) >= MOST_WAITING or self._waiting_bytes >= MOST_WAITING_BYTES
            if self._moments[0] >= SURE_COUNTS or many:
                self._settle()

    def _settle(self) -> None:
        """Decide which cells are kept, from what is there, and add what has waited for it."""
        count, y, x = self._moments
        if self._kept.origin is None and count > 0:
            disc = self._optics.disc_so_far(self._settings.optics)
            self._kept.place((y / count, x / count) if disc is None else disc.center)
        waiting, self._waiting, self._waiting_bytes = self._waiting, [], 0
        if self._kept.origin is not None:
            for block in waiting:
                self._kept.add(block, self._acceptance_ns)

    def _take(self, block: Block, wake: Callable[[], object]) -> None:
        self._add_now(block)
        self._seen.take(block)
        if self._measures and self._kept.origin is not None:
            self._so_far.look(
                lambda: self._seen.complete_lines(self._maps.done, self._maps.shape),
                self._measure_so_far,
                lambda error: self._say("not_measured", f"the optics were not measured: {error}"),
            )
        wake()

    def _complete(self, wake: Callable[[], object]) -> None:
        self._so_far.wait()
        self._settle()
        self._all_in = True
        wake()

    def _make_next(self) -> bool:
        """Make an image if it is time to; whether there may be more to do at once."""
        if self._all_in:
            if self._final is None and not self._given_up:
                settings = self._settings
                made = self._make(self._maps.shape[0], lambda: not self._given_up)
                self._final = settings, made
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

    def _make(self, lines: int, go_on: Callable[[], bool]) -> Sequence[Result]:
        """The images of the first `lines` lines; nothing where `go_on` said no."""
        optics, whole = self._settings.optics, lines == self._maps.shape[0]
        discs, vectors = self._discs(optics, lines, whole=whole)
        if whole and self._measures:
            self._measure(discs, vectors, go_on)
            if self._own.uses_measured_lens and (found := self.lens_found) and found.turned:
                optics = found.in_optics(optics)
                discs = replace(discs, vectors=vectors(optics))
        made = self._images_of(discs, go_on)
        return [self._whole(result, discs, optics) for result in made or ()]

    def _discs(self, optics: Optics, lines: int, *, whole: bool) -> tuple[Discs, Vectors]:
        """The discs of the first `lines` lines, and how they lie by other optics."""
        kept = self._kept
        beam, pixel, step = self._beam(optics)
        nx = self._maps.shape[1]
        radius = beam.convergence_semi_angle_mrad / pixel
        center = self._optics.center(optics, whole=whole)
        places = np.full((kept.lattice.cells, 2), np.nan)
        if kept.origin is not None:
            places = (kept.places() - center) / radius
        if kept.origin is not None and not kept.covers(center, radius):
            raise StemdError(
                f"engine {self.name}: the disc at {center[0]:.1f}, {center[1]:.1f} with a "
                f"radius of {radius:.1f} pixels lies outside the kept part of the patterns",
                "set optics.center and convergence_semi_angle_mrad before the scan",
            )
        done = (self._maps.done & ~self._seen.left_out)[: lines * nx].reshape(lines, nx)

        def images(columns: slice) -> NDArray[np.float32]:
            counts = kept.images(columns, lines * nx)
            return counts if lines * nx < self._maps.total.size else self._maps.evened(counts)

        def vectors(turned: Optics) -> NDArray[np.float64]:
            return np.stack(to_scan_axes(places[:, 0], places[:, 1], turned), axis=1)

        found = descan_of(self._maps)
        wanders = None
        if found is not None and found.clear.any():
            across = step * np.maximum(1, np.array(self._maps.shape) - 1)
            wanders = found.clear * pixel * 1e-3 / across
        discs = Discs(
            images, vectors(optics), done, center, radius, kept.lattice.bin, beam, step,
            level=whole and wanders is not None, wanders=wanders,
        )  # fmt: skip
        return discs, vectors

    def _whole(self, result: Result, discs: Discs, optics: Optics) -> Result:
        """With all lines of the scan, and with what all such images have to say."""
        ny, nx = self._maps.shape
        times = result.image.shape[1] // nx
        image = np.zeros((ny * times, nx * times), np.float32)
        image[: result.image.shape[0]] = result.image
        extra = {
            "center": list(discs.center),
            "rotation_deg": optics.rotation_deg,
            "flip": optics.flip,
            "cells_per_angle": round(discs.radius / discs.cell, 3),
            "left_out": self._seen.lost,
            **result.extra,
        }
        if self.lens_found is not None:
            extra["measured"] = self.lens_found.as_json()
        return replace(result, image=image, extra=extra)


def _uses(own: EngineSettings) -> bool:
    return isinstance(own, BrightFieldSettings) and own.uses_measured_lens

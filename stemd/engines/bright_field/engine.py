"""What engines have in common that make a phase of the bright-field discs of a whole scan.

The discs of all patterns are kept as small integers; the images are made of them now and then
while the scan runs, and exactly at its end.
"""

from __future__ import annotations

import time
from abc import abstractmethod
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from stemd.acquisition import Acquisition, Optics
from stemd.beam import Beam
from stemd.blocks import Block
from stemd.engines.base import Gathered, PositionMaps
from stemd.engines.beside.scan import BesideScan, phase_beam
from stemd.engines.bright_field.collecting import Collecting
from stemd.engines.bright_field.discs import BrightField
from stemd.engines.bright_field.lattice import lattice_for
from stemd.engines.bright_field.optics import OpticsMeasurement
from stemd.engines.bright_field.settings import BrightFieldSettings, measures
from stemd.engines.bright_field.so_far import MeasuringSoFar
from stemd.engines.bright_field.view import Discs, Looking, Vectors, discs_seen
from stemd.engines.lens.found import LensFound, OpticsFound
from stemd.results import Result
from stemd.settings import Settings

LIVE_SHARE = 0.25
"""At most this part of the time goes into images of a scan that is not finished."""
LEAST_LINES = 16
"""Complete scan lines from which on an unfinished image is worth making."""
SPARE = {"auto": 1.4, "given": 1.15}
"""Radius that is kept, in semi-angles: the centre moves while it is being found."""


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
        self._discs_of = Collecting(
            self._kept,
            self._optics.sum,
            settings.optics,
            self._optics.disc_so_far,
            lambda: maps.masked,
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
        return measures(self.name, self._own, self._settings)

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
        """See `Collecting.found`."""
        return self._discs_of.found()

    def follow(self, found: Gathered) -> None:
        """See `Collecting.follow`."""
        self._discs_of.follow(found)

    # engines.base.SpreadEngine

    def merge(self, other: BrightFieldEngine) -> None:
        """Add what another part of the same scan has kept."""
        self._discs_of.merge(other._discs_of)

    def gathers_by(self, settings: Settings) -> Mapping[str, Any]:
        """See `BrightFieldSettings.gathers_by`."""
        own = settings.engines.get(self.name, self._own)
        assert isinstance(own, BrightFieldSettings)
        return own.gathers_by(settings)

    def gathered(self) -> Gathered:
        """See `Collecting.gathered`."""
        return self._discs_of.gathered()

    def restore(self, gathered: Gathered) -> None:
        """Take over what `gathered` has given."""
        self._discs_of.restore(gathered)

    # within

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
        measured = self._optics.measure(discs, vectors, optics, self._own.search, go_on)
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
            self._optics.measure_so_far(discs, vectors, optics, self._own.search, self._goes_on)

    def _goes_on(self) -> bool:
        return not (self._ending or self._given_up)

    def _add_now(self, block: Block) -> None:
        """Keep the discs of a block's patterns."""
        self._discs_of.optics = self._settings.optics
        self._discs_of.add(block)

    def _settle(self) -> None:
        """Everything is there that says which cells are kept."""
        self._discs_of.optics = self._settings.optics
        self._discs_of.settle()

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
        beam, pixel, step = self._beam(optics)
        nx = self._maps.shape[1]
        done = (self._maps.done & ~self._seen.left_out)[: lines * nx].reshape(lines, nx)
        by = Looking(beam, pixel, step, self._optics.center(optics, whole=whole))
        return discs_seen(self.name, self._kept, self._maps, done, by, optics, level=whole)

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

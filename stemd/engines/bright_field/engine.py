"""What engines have in common that make a phase of the bright-field discs of a whole scan.

The discs of all patterns are kept as small integers; the images are made of them now and then
while the scan runs, and exactly at its end.
"""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Callable, Sequence
from dataclasses import replace

import numpy as np
from numpy.typing import NDArray

from stemd.acquisition import Acquisition, Optics
from stemd.blocks import Block
from stemd.engines.base import PositionMaps
from stemd.engines.bright_field.keeping import KeepsDiscs
from stemd.engines.bright_field.pace import Pace
from stemd.engines.bright_field.settings import measures
from stemd.engines.bright_field.so_far import MeasuringSoFar
from stemd.engines.bright_field.view import Discs, Looking, Vectors, discs_seen
from stemd.engines.lens.found import LensFound, OpticsFound
from stemd.errors import StemdError
from stemd.results import Result
from stemd.settings import Settings


class BrightFieldEngine(KeepsDiscs):
    """Base of such engines. Implements base.SlowEngine and base.MeasuringEngine.

    One that inherits says with `_images_of` what the images are.

    Of all such engines of a pipeline one measures the lens (`lens_found`), and those that make
    their images with what they have measured.

    While a camera waits blocks go through a bounded queue: one thread bins them, one makes the
    images. Without a camera `consume` bins and `snapshot` makes the image.
    """

    cut = "not_made", "not made"

    # engines.base.Engine

    def start(self, acquisition: Acquisition, settings: Settings, maps: PositionMaps) -> None:
        """A scan begins. Raises StemdError for optics that are missing or a scan too large."""
        self._keep(acquisition, settings, maps)
        self._final: tuple[Settings, Sequence[Result]] | None = None
        self._newest: Sequence[Result] = ()
        self._pace = Pace()
        self._all_in = False
        self._so_far = MeasuringSoFar(self.name)
        self._start_threads()

    def update(self, settings: Settings) -> None:
        """What decides how images are made, such as the lens, for the next image."""
        self._use(settings)

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

    # within

    @property
    def _in_image(self) -> NDArray[np.bool_]:
        return ~self._seen.left_out if self._final is not None else np.zeros_like(self._maps.done)

    @abstractmethod
    def _images_of(self, discs: Discs, go_on: Callable[[], bool]) -> Sequence[Result] | None:
        """The images (lines, nx) of these discs; None once `go_on` says no."""

    def _measure(self, discs: Discs, vectors: Vectors, go_on: Callable[[], bool]) -> None:
        """The optics that the data of the whole scan have; said where they are not those told."""
        optics = self._settings.optics
        measured = self._optics.measure(discs, vectors, optics, self._own.search, go_on)
        lens = self.lens_found
        if self._optics.rested:
            self._say(
                "not_measured",
                "the lens of this scan was not measured: scans follow each other faster than it is",
                level="info",
                remedy="stemd process measures it in the scan's record",
            )
        if measured and lens is not None and lens.one_of_two:
            self._say(
                "camera_turned",
                lens.words(),
                remedy="set rotation_deg and flip to the one with which atoms are bright in icom",
            )
        if measured and lens is not None and (lens.disagrees or lens.turned):
            self._say(
                "lens_disagrees",
                lens.words(),
                remedy=("focus the microscope, or " if lens.disagrees else "")
                + 'set what was measured in the optics; optics.measured = "use" does it by itself',
            )

    def _measure_so_far(self, lines: int) -> None:
        """The optics that the first lines have; they may yet change."""
        optics = self._settings.optics
        if self._goes_on() and lines < self._maps.shape[0]:  # of all it is measured at the end
            discs, vectors = self._discs(optics, lines, whole=False)
            self._optics.measure_so_far(discs, vectors, optics, self._own.search, self._goes_on)

    def _not_measured(self, error: Exception) -> None:
        if not isinstance(error, StemdError):
            error = StemdError(f"{type(error).__name__}: {error}")
        text = f"the optics were not measured: {error.message}"
        self._say("not_measured", text, remedy=error.remedy)

    def _goes_on(self) -> bool:
        return not (self._ending or self._given_up)

    def _take(self, block: Block, wake: Callable[[], object]) -> None:
        self._add_now(block)
        self._seen.take(block)
        if self._measures and self._kept.origin is not None:
            self._so_far.look(
                lambda: self._seen.complete_lines(self._maps.done, self._maps.shape),
                self._measure_so_far,
                self._not_measured,
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
        if self._ending or not self._own.live:
            return False
        lines = self._pace.due(self._seen.complete_lines(self._maps.done, self._maps.shape))
        if not lines:
            return False
        with self._pace.making(lines):
            made = self._make(lines, lambda: not self._ending)
        self._newest = made or self._newest
        return True

    def _make(self, lines: int, go_on: Callable[[], bool]) -> Sequence[Result]:
        """The images of the first `lines` lines; nothing where `go_on` said no."""
        optics, whole = self._settings.optics, lines == self._maps.shape[0]
        discs, vectors = self._discs(optics, lines, whole=whole)
        if whole and self._measures:
            if self._own.uses_measured_lens:  # that goes with the disc that is seen
                discs, vectors = self._optics.about_disc(discs, vectors, optics)
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
        return discs_seen(self._kept, self._maps, done, by, optics, level=whole)

    def _whole(self, result: Result, discs: Discs, optics: Optics) -> Result:
        """With all lines of the scan, and with what all such images have to say."""
        ny, nx = self._maps.shape
        times = result.image.shape[1] // nx
        image = np.zeros((ny * times, nx * times), np.float32)
        image[: result.image.shape[0]] = result.image
        extra = {
            "center": list(discs.center),
            "semi_angle_mrad": round(discs.beam.convergence_semi_angle_mrad, 4),
            "rotation_deg": optics.rotation_deg,
            "flip": optics.flip,
            "cells_per_angle": round(discs.radius / discs.cell, 3),
            "left_out": self._seen.lost,
            **result.extra,
        }
        if self.lens_found is not None:
            extra["measured"] = self.lens_found.as_json()
        return replace(result, image=image, extra=extra)

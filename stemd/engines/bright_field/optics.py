"""What an engine of the bright field measures of the optics, and how often."""

from __future__ import annotations

import math
import time
from collections.abc import Callable
from dataclasses import replace

import numpy as np
from numpy.typing import NDArray

from stemd.acquisition import Optics
from stemd.engines.base import PositionMaps
from stemd.engines.bright_field.measuring import disc_found, lens_found
from stemd.engines.bright_field.pattern_sum import PatternSum
from stemd.engines.bright_field.view import Discs, Vectors
from stemd.engines.diffraction_grid import beam_angles
from stemd.engines.lens.found import DiscFound, LensFound, OpticsFound
from stemd.engines.lens.measure import Search, StoppedError
from stemd.engines.probe import Disc, disc_seen
from stemd.engines.rotation import MIN_SIDE, estimate_rotation
from stemd.engines.vectors import resolve_centre, shifts, to_scan_axes

MOST_LARGER = 1.4
"""Times the disc that was told beyond which an edge is not the disc's: no more than that is kept of
a pattern, and a search through so large an aperture would have no end."""
OFF_CENTER, OTHER_SIZE, CLEARLY = 0.5, 0.08, 4.0
"""Pixels by which the disc is not where it was told, and the pixels of its radius and the standard
errors by which it has another size, from which on it is taken as it is seen. A point spread of a
pixel makes a disc of any size look smaller by up to 0.08."""
OTHER_SCALE = 1.2
"""Times the disc that was told, or its part, from which on pixel size or semi-angle must be wrong:
nobody knows which, and the aberrations go with the pixel's square, so none is claimed."""
SHARE = 0.5
"""Of the time beside a camera goes into measuring at most, where no image needs it: of scans that
follow each other faster some are not measured."""

_rest_until: dict[str, float] = {}
"""By the engine's name: engines live for one scan."""


class OpticsMeasurement:
    """Disc and lens of one scan. One thread, but for `found`, which any may call.

    `lens`: of the lines so far, in the end of all.

    `name`: the engine's; `bounded`: no image needs it, and a camera waits.
    """

    def __init__(
        self, name: str, maps: PositionMaps, detector: tuple[int, int], *, bounded: bool
    ) -> None:
        self.sum = PatternSum(maps.total.size, detector)
        self.lens: LensFound | None = None
        self._disc: DiscFound | None = None
        self._name, self._maps, self._detector, self._bounded = name, maps, detector, bounded
        self._made_with: tuple[Optics, Search] | None = None
        self._so_far: OpticsFound | None = None
        self.rested = False
        """Whether the lens of the whole scan was not looked for, for want of time."""

    def found(self) -> OpticsFound | None:
        """What was measured of this scan; None where it has not been looked for.

        Until the scan is over that of the lines so far.
        """
        if self._made_with is None:
            return self._so_far
        return OpticsFound(self.lens, self._disc, self._maps.shape[0])

    def measure_so_far(
        self,
        discs: Discs,
        vectors: Vectors,
        optics: Optics,
        search: Search,
        go_on: Callable[[], bool],
    ) -> None:
        """Measure the lines that there are; nothing comes of it where `go_on` says no."""
        disc = disc_found(self.sum.counts.copy(), self._maps.masked)
        lens = None
        if not _of_another_scale(disc, optics):
            try:
                turns = self._turns(optics)
                lens = lens_found(discs, vectors, turns, optics, search, go_on, None)
            except StoppedError:
                return
        self.lens, self._so_far = lens, OpticsFound(lens, disc, discs.done.shape[0])

    def center(self, optics: Optics, *, whole: bool) -> tuple[float, float]:
        """Of the disc, where its edge has it if it can be seen and the centre is not given.

        A background, and what hot pixels count, pull at the mean place of the counts.
        """
        if optics.center == "auto":
            if whole:
                self._disc = disc_found(self.sum.counts, self._maps.masked)
            disc = self._disc if whole else self.disc_so_far(optics)
            if disc is not None:
                return disc.center
        return resolve_centre(self._maps, optics, self._detector)

    def disc_so_far(self, optics: Optics) -> Disc | None:
        """The disc in the patterns that have come, where it can be seen."""
        alpha, pixel = beam_angles(optics)
        counts = self.sum.counts.copy()
        if self._maps.masked is not None:
            counts[self._maps.masked] = 0
        return disc_seen(counts.astype(np.float64), alpha / pixel)

    def measure(
        self,
        discs: Discs,
        vectors: Vectors,
        optics: Optics,
        search: Search,
        go_on: Callable[[], bool],
    ) -> bool:
        """Measure, unless it has been done with the same; whether there is something new.

        Where `go_on` says no, what has been found until then stands.
        """
        made_with, began = (optics, search), time.monotonic()
        self.rested = False
        if self._made_with == made_with:
            return False
        if self._bounded and began < _rest_until.get(self._name, 0.0):
            self.rested = True
            return False
        discs, vectors = self.about_disc(discs, vectors, optics)
        if _of_another_scale(self._disc, optics):
            self.lens, self._made_with = None, made_with
            return True

        if self._made_with is not None:
            self.lens = None  # it was found with other settings

        def sooner(lens: LensFound) -> None:
            self.lens = lens
            self._made_with = made_with

        turns = self._turns(optics)
        try:
            self.lens = lens_found(discs, vectors, turns, optics, search, go_on, sooner)
        except StoppedError:
            return self._made_with == made_with
        self._made_with = made_with
        if self._bounded:
            ended = time.monotonic()
            _rest_until[self._name] = ended + (ended - began) * (1.0 / SHARE - 1.0)
        return True

    def about_disc(self, discs: Discs, vectors: Vectors, optics: Optics) -> tuple[Discs, Vectors]:
        """The same for the disc that is seen, where it is clearly not the one that was told.

        `discs`: of the whole scan.
        """
        disc = self._disc = disc_found(self.sum.counts, self._maps.masked)
        if disc is None:
            return discs, vectors
        aside = math.dist(disc.center, discs.center)
        larger = disc.radius / discs.radius
        # one that wanders is smeared, and its edge with it
        other = discs.wanders is None and abs(disc.radius - discs.radius) > max(
            OTHER_SIZE, CLEARLY * disc.radius_sigma
        )
        if (aside < OFF_CENTER and not other) or not 1.0 / MOST_LARGER < larger < MOST_LARGER:
            return discs, vectors
        larger = larger if other else 1.0
        y, x = (
            np.array([(told - seen) / discs.radius])
            for told, seen in zip(discs.center, disc.center, strict=True)
        )

        def about(turned: Optics) -> NDArray[np.float64]:
            moved = np.stack(to_scan_axes(y, x, turned), axis=1)
            return np.asarray((vectors(turned) + moved) / larger)

        angle = discs.beam.convergence_semi_angle_mrad * larger
        beam = replace(discs.beam, convergence_semi_angle_mrad=angle)
        seen = replace(
            discs,
            vectors=about(optics),
            center=disc.center,
            radius=discs.radius * larger,
            beam=beam,
        )
        return seen, about

    def _turns(self, optics: Optics) -> list[tuple[float, bool]]:
        """Rotation and flip by the centre-of-mass field, of either hand."""
        if min(self._maps.shape) < MIN_SIDE:
            return []
        center = resolve_centre(self._maps, optics, self._detector)
        y, x = (part.reshape(self._maps.shape) for part in shifts(self._maps, center))
        hands = {
            (round(found.rotation_deg, 1), found.flip)
            for flip in (False, True)
            for found in [estimate_rotation(y, x, rotation_deg=optics.rotation_deg, flip=flip)]
        }
        return sorted(hands)


def _of_another_scale(disc: DiscFound | None, optics: Optics) -> bool:
    """Whether the disc has quite another radius than the one that was told."""
    alpha, pixel = beam_angles(optics)
    larger = 1.0 if disc is None else disc.radius * pixel / alpha
    return not 1.0 / OTHER_SCALE < larger < OTHER_SCALE

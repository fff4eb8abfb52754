"""Centre-of-mass maps and the electric field that follows from them (thesis eq. 3.1, 3.2)."""

from __future__ import annotations

import math
from collections.abc import Sequence
from functools import partial

import numpy as np

from stemd.acquisition import Acquisition, Optics
from stemd.blocks import Block
from stemd.engines.base import PositionMaps, Positions
from stemd.engines.growing import Growing
from stemd.engines.vectors import (
    F64,
    centre_of_mass,
    resolve_centre,
    shifts,
    stretches,
    to_scan_axes,
)
from stemd.plugins import Plugin
from stemd.results import DrawnResult, Result
from stemd.settings import EngineSettings, Settings

STILL_PX = 0.01
"""Pixels that an automatic centre moves by before the growing images of a large scan are others."""
UNITS = {"com_y": "px", "com_x": "px", "field_magnitude": "px", "field_direction": "rad"}


class ComSettings(EngineSettings):
    """The COM engine has no settings of its own: centre, rotation, flip belong to the optics."""

    def outputs(self, engine: str) -> tuple[str, ...]:
        """The centre's two components, and the field's length and direction."""
        return tuple(UNITS)


class ComEngine:
    """`com_y`, `com_x` in detector axes; `field_magnitude`, `field_direction` in scan axes.

    The field is the electric field that deflects the beam: opposite to the COM shift, since the
    electron's charge is negative. Its magnitude is given as the deflection in detector pixels,
    its direction in radians counter-clockwise from +x as displayed (y down), 0 where it is 0.
    """

    def __init__(self, settings: ComSettings) -> None:
        self.name = settings.name or "com"

    def start(self, acquisition: Acquisition, settings: Settings, maps: PositionMaps) -> None:
        """A scan begins: everything is computed from the maps."""
        self._acquisition, self._settings, self._maps = acquisition, settings, maps
        self._growing = Growing(maps)
        self._sums, self._known = np.zeros(2), 0
        self._centre: tuple[float, float] | None = None

    def update(self, settings: Settings) -> None:
        """Centre, rotation or flip changed."""
        self._settings = settings
        self._growing.anew()

    def consume(self, item: Positions | Block) -> None:
        """Remember what has come; the maps are the accumulators."""
        assert isinstance(item, tuple)
        self._growing.came(*item)
        if not self._growing.drawn:
            return
        for part in stretches(*item):
            com_y, com_x = centre_of_mass(self._maps, *part)
            known = np.isfinite(com_y)
            self._sums += com_y[known].sum(), com_x[known].sum()
            self._known += int(np.count_nonzero(known))

    def _centre_now(self, *, final: bool) -> tuple[float, float]:
        """The zero; of growing images that are drawn by what was consumed.

        Where it has moved, all of them are others.
        """
        optics, shape = self._settings.optics, self._acquisition.detector.shape
        if final or not (self._growing.drawn and self._known and optics.center == "auto"):
            return resolve_centre(self._maps, optics, shape)
        mean = (float(self._sums[0] / self._known), float(self._sums[1] / self._known))
        if self._centre is None or math.dist(mean, self._centre) > STILL_PX:
            self._growing.anew()
            self._centre = mean
        return self._centre

    def snapshot(self, *, final: bool) -> Sequence[Result]:
        """The four maps, float32 (ny, nx)."""
        acquisition, optics, maps = self._acquisition, self._settings.optics, self._maps
        centre = self._centre_now(final=final)
        step = acquisition.scan.step_size_angstrom
        extra = {"center": list(centre), "center_mode": _mode(optics.center)}
        if self._growing.drawn:
            results: list[Result] = []
            for name, units in UNITS.items():
                values = partial(_value_of, name, maps, centre, optics)
                drawing = self._growing.drawing(values, final=final)
                results.append(DrawnResult(name, drawing, units, "scan", step, extra))
            return results
        images = [np.empty(maps.total.size, np.float32) for _ in UNITS]
        for first, stop in stretches(0, maps.total.size):
            shift_y, shift_x = shifts(maps, centre, first, stop)
            scan_y, scan_x = to_scan_axes(shift_y, shift_x, optics)
            fields = (shift_y, shift_x, np.hypot(scan_y, scan_x), _direction(scan_y, scan_x))
            for image, field in zip(images, fields, strict=True):
                image[first:stop] = field
        return [
            Result(name, image.reshape(maps.shape), units, "scan", step, extra)
            for (name, units), image in zip(UNITS.items(), images, strict=True)
        ]


def _direction(scan_y: F64, scan_x: F64) -> F64:
    direction = np.arctan2(scan_y, -scan_x)
    direction[(scan_y == 0.0) & (scan_x == 0.0)] = 0.0
    return direction


def _value_of(
    name: str,
    maps: PositionMaps,
    centre: tuple[float, float],
    optics: Optics,
    first: int,
    stop: int,
) -> F64:
    """The values of one of the images at positions first..stop-1."""
    shift_y, shift_x = shifts(maps, centre, first, stop)
    if name.startswith("com"):
        return shift_y if name == "com_y" else shift_x
    scan_y, scan_x = to_scan_axes(shift_y, shift_x, optics)
    return np.hypot(scan_y, scan_x) if name == "field_magnitude" else _direction(scan_y, scan_x)


def _mode(center: object) -> str:
    return "auto" if center == "auto" else "fixed"


PLUGIN = Plugin(
    name="com",
    summary="centre-of-mass maps, electric field magnitude and direction",
    settings=ComSettings,
    build=ComEngine,
)

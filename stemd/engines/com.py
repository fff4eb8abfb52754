"""Centre-of-mass maps and the electric field that follows from them (thesis eq. 3.1, 3.2)."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from stemd.acquisition import Acquisition
from stemd.blocks import Block
from stemd.engines.base import PositionMaps, Positions
from stemd.engines.vectors import resolve_centre, shifts, stretches, to_scan_axes
from stemd.plugins import Plugin
from stemd.results import Result
from stemd.settings import EngineSettings, Settings


class ComSettings(EngineSettings):
    """The COM engine has no settings of its own: centre, rotation, flip belong to the optics."""

    def outputs(self, engine: str) -> tuple[str, ...]:
        """The centre's two components, and the field's length and direction."""
        return ("com_y", "com_x", "field_magnitude", "field_direction")


class ComEngine:
    """`com_y`, `com_x` in detector axes; `field_magnitude`, `field_direction` in scan axes.

    The field is the electric field that deflects the beam: opposite to the COM shift, since the
    electron's charge is negative. Its magnitude is given as the deflection in detector pixels,
    its direction in radians counter-clockwise from +x as displayed (y down), 0 where it is 0.
    """

    def __init__(self, settings: ComSettings) -> None:
        self.name = settings.name or "com"

    def start(self, acquisition: Acquisition, settings: Settings, maps: PositionMaps) -> None:
        """A scan begins: everything is computed from the maps, nothing is allocated."""
        self._acquisition, self._settings, self._maps = acquisition, settings, maps

    def update(self, settings: Settings) -> None:
        """Centre, rotation or flip changed."""
        self._settings = settings

    def consume(self, item: Positions | Block) -> None:
        """Nothing to do: the maps are the accumulators."""

    def snapshot(self, *, final: bool) -> Sequence[Result]:
        """The four maps, float32 (ny, nx)."""
        acquisition, optics, maps = self._acquisition, self._settings.optics, self._maps
        centre = resolve_centre(maps, optics, acquisition.detector.shape)
        names = {"com_y": "px", "com_x": "px", "field_magnitude": "px", "field_direction": "rad"}
        images = [np.empty(maps.total.size, np.float32) for _ in names]
        for first, stop in stretches(0, maps.total.size):
            shift_y, shift_x = shifts(maps, centre, first, stop)
            scan_y, scan_x = to_scan_axes(shift_y, shift_x, optics)
            direction = np.arctan2(scan_y, -scan_x)
            direction[(scan_y == 0.0) & (scan_x == 0.0)] = 0.0
            fields = (shift_y, shift_x, np.hypot(scan_y, scan_x), direction)
            for image, field in zip(images, fields, strict=True):
                image[first:stop] = field
        step = acquisition.scan.step_size_angstrom
        extra = {"center": list(centre), "center_mode": _mode(optics.center)}
        return [
            Result(name, image.reshape(maps.shape), units, "scan", step, extra)
            for (name, units), image in zip(names.items(), images, strict=True)
        ]


def _mode(center: object) -> str:
    return "auto" if center == "auto" else "fixed"


PLUGIN = Plugin(
    name="com",
    summary="centre-of-mass maps, electric field magnitude and direction",
    settings=ComSettings,
    build=ComEngine,
)

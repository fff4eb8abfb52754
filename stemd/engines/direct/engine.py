"""Direct ptychography: the phase of the bright field, through a lens measured in the data."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Literal

import numpy as np

from stemd.aberrations import Aberrations
from stemd.engines.bright_field.engine import BrightFieldEngine, BrightFieldSettings
from stemd.engines.bright_field.measuring import usable_cells
from stemd.engines.bright_field.view import Discs
from stemd.engines.lens.estimate import Cell, Frequencies, Linear
from stemd.plugins import Plugin
from stemd.results import Result


class DirectSettings(BrightFieldSettings):
    """`lens`: "measured" uses what the data say of defocus and two-fold astigmatism where they are
    sure of it; "told" uses that of the optics.

    `pixels_per_angle`: cells a convergence semi-angle, fewer where `memory_mb` does not suffice.
    `live`: images of unfinished scans too, through the lens that is told. `search_...`: how far
    from what is told the lens is looked for.
    """

    lens: Literal["measured", "told"] = "measured"

    def outputs(self, engine: str) -> tuple[str, ...]:
        """The phase and its standard error."""
        return (f"{engine}_phase", f"{engine}_uncertainty")

    @property
    def uses_measured_lens(self) -> bool:
        """Whether images are made with what was measured."""
        return self.lens == "measured"


class DirectEngine(BrightFieldEngine):
    """`direct_phase` and `direct_uncertainty` in radian."""

    _own: DirectSettings

    def __init__(self, settings: DirectSettings) -> None:
        super().__init__(settings.name or "direct", settings)

    def _images_of(self, discs: Discs, go_on: Callable[[], bool]) -> Sequence[Result] | None:
        told, found = Aberrations.of_optics(self._settings.optics), self.lens_found
        taken = found is not None and found.sure and self._own.uses_measured_lens
        lens = found.found.aberrations if taken and found is not None else told
        estimate = Linear(
            Frequencies(discs.done, discs.beam, discs.step_angstrom, level=discs.level),
            lens.coefficients(discs.beam),
        )
        for cell, at in zip(*usable_cells(discs), strict=True):
            if not go_on():
                return None
            image = discs.images(slice(int(cell), int(cell) + 1))[0].reshape(discs.done.shape)
            estimate.add(Cell(*estimate.at.spectrum_of(image), at))
        names, step = self._own.outputs(self.name), discs.step_angstrom
        about = {**lens.as_optics(), "lens": "measured" if taken else "told"}
        known = np.where(discs.done, np.float32(estimate.deviation()), np.float32(0.0))
        return [
            Result(names[0], estimate.phase(), "rad", "scan", step, about),
            Result(names[1], known.astype(np.float32), "rad", "scan", step, about),
        ]


PLUGIN = Plugin(
    name="direct",
    summary="direct ptychography: phase of the bright field, through a lens measured in the data",
    settings=DirectSettings,
    build=DirectEngine,
)

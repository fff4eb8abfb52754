"""SSB: single side-band ptychography, the reference among phase images of thin specimens."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Annotated

from pydantic import Field

from stemd.aberrations import Aberrations
from stemd.engines.bright_field.engine import BrightFieldEngine
from stemd.engines.bright_field.settings import BrightFieldSettings
from stemd.engines.bright_field.view import Discs
from stemd.engines.lens.refined import warm
from stemd.engines.ssb.limits import beyond_limits
from stemd.engines.ssb.side_bands import side_band_phase
from stemd.plugins import Plugin
from stemd.results import Result


class SsbSettings(BrightFieldSettings):
    """`regularisation`: see `side_bands.side_band_phase`; small for high doses.

    The aberrations of the optics are taken out.
    `pixels_per_angle`: cells a convergence semi-angle, fewer where `memory_mb` does not suffice.
    `live`: images of unfinished scans too.
    """

    regularisation: Annotated[float, Field(ge=0.0, le=1e6)] = 0.1

    def outputs(self, engine: str) -> tuple[str, ...]:
        """The phase."""
        return (f"{engine}_phase",)

    def through_lens_told(self) -> bool:
        """Its aberrations are those that are taken out."""
        return True


class SsbEngine(BrightFieldEngine):
    """`ssb_phase` in radian."""

    _own: SsbSettings

    def __init__(self, settings: SsbSettings) -> None:
        super().__init__(settings.name or "ssb", settings)
        self._told_limits: list[str] = []

    def _images_of(self, discs: Discs, go_on: Callable[[], bool]) -> Sequence[Result] | None:
        lens = Aberrations.of_optics(self._settings.optics)
        phase = side_band_phase(
            discs.images, discs.vectors, discs.done, discs.beam, lens, discs.step_angstrom,
            self._own.regularisation, go_on,
        )  # fmt: skip
        if phase is None:
            return None
        if discs.done.shape == self._maps.shape:
            self._tell_limits(beyond_limits(discs, lens, self.lens_found))
        extra = {"regularisation": self._own.regularisation, **lens.as_optics()}
        return [Result(f"{self.name}_phase", phase, "rad", "scan", discs.step_angstrom, extra)]

    def _tell_limits(self, limits: list[str]) -> None:
        """Say what the image of a whole scan is not to be trusted for, each time it is new."""
        if limits and limits != self._told_limits:
            self._say(
                "beyond_limits", "the image may show what is not there: " + "; ".join(limits),
                remedy="change that at the microscope, or look at direct, and at its uncertainty",
            )  # fmt: skip
        self._told_limits = limits


PLUGIN = Plugin(
    name="ssb",
    summary="single side-band ptychography: quantitative phase of thin specimens",
    settings=SsbSettings,
    build=SsbEngine,
    warm=warm,
)

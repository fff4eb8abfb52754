"""SSB: single side-band ptychography, the reference among phase images of thin specimens."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Annotated

from pydantic import Field

from stemd.acquisition import FiniteFloat
from stemd.engines.bright_field.engine import BrightFieldEngine, BrightFieldSettings
from stemd.engines.bright_field.view import Discs
from stemd.engines.ssb.side_bands import side_band_phase
from stemd.plugins import Plugin
from stemd.results import Result


class SsbSettings(BrightFieldSettings):
    """`regularisation`: see `side_bands.side_band_phase`; small for high doses.

    `defocus_angstrom` (underfocus positive) and `cs_mm` of the probe are taken out.
    `pixels_per_angle`: cells a convergence semi-angle, fewer where `memory_mb` does not suffice.
    `live`: images of unfinished scans too.
    """

    regularisation: Annotated[float, Field(ge=0.0, le=1e6)] = 0.1
    defocus_angstrom: FiniteFloat = 0.0
    cs_mm: FiniteFloat = 0.0

    def outputs(self, engine: str) -> tuple[str, ...]:
        """The phase."""
        return (f"{engine}_phase",)


class SsbEngine(BrightFieldEngine):
    """`ssb_phase` in radian."""

    _own: SsbSettings

    def __init__(self, settings: SsbSettings) -> None:
        super().__init__(settings.name or "ssb", settings)

    def _lens(self) -> tuple[float, float]:
        return self._own.defocus_angstrom, self._own.cs_mm

    def _images_of(self, discs: Discs, go_on: Callable[[], bool]) -> Sequence[Result] | None:
        total = self._maps.total[: discs.done.size][discs.done.reshape(-1)]
        phase = side_band_phase(
            discs.images, discs.vectors, discs.done, float(total.mean()) if total.size else 0.0,
            discs.beam, discs.step_angstrom, self._own.regularisation, go_on,
        )  # fmt: skip
        if phase is None:
            return None
        extra = self._own.model_dump(mode="json", include=set(ABOUT))
        return [Result(f"{self.name}_phase", phase, "rad", "scan", discs.step_angstrom, extra)]


ABOUT = ("regularisation", "defocus_angstrom", "cs_mm")


PLUGIN = Plugin(
    name="ssb",
    summary="single side-band ptychography: quantitative phase of thin specimens",
    settings=SsbSettings,
    build=SsbEngine,
)

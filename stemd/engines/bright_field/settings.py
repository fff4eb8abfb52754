"""What engines that make a phase of the bright field can be told, and which of them measures."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Annotated, ClassVar, Self

from pydantic import Field

from stemd.engines.lens.measure import Search
from stemd.settings import EngineSettings, OfRepeats, Settings, SlowEngineSettings
from stemd.typed import Length


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
        return self.model_copy(update={"search_defocus_nm": 0.5, "search_astigmatism_nm": 0.2})

    @property
    def uses_measured_lens(self) -> bool:
        """Whether images are made with what was measured."""
        return False

    @property
    def search(self) -> Search:
        """Within which limits the lens is looked for."""
        return Search(10.0 * self.search_defocus_nm, 10.0 * self.search_astigmatism_nm)

    def gathers_by(self, settings: Settings) -> Mapping[str, object]:
        """All that decides which pixels go into which cell, and which hits count."""
        optics = settings.optics
        alpha, pixel = optics.convergence_semi_angle_mrad, optics.pixel_size_mrad
        return {
            "acceptance_time_ns": optics.acceptance_time_ns,
            "radius_px": alpha / pixel if alpha and pixel else None,
            "center": optics.center if optics.center == "auto" else list(optics.center),
            **self.model_dump(mode="json", include={"pixels_per_angle", "memory_mb"}),
        }


def measures(name: str, own: BrightFieldSettings, settings: Settings) -> bool:
    """Whether the engine of this name is the one that measures the lens, or needs to.

    Of several one does, and all that make their images with what they have measured.
    """
    if settings.optics.measured == "off" or own.uses_measured_lens:
        return settings.optics.measured != "off"
    able = [key for key, each in settings.engines.items() if isinstance(each, BrightFieldSettings)]
    using = [key for key in able if _uses(settings.engines[key])]
    return not using and able[:1] == [name]


def _uses(own: EngineSettings) -> bool:
    return isinstance(own, BrightFieldSettings) and own.uses_measured_lens

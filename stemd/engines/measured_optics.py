"""The optics measured in the bright field, without an image: beside other phase engines."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from stemd.engines.bright_field.engine import BrightFieldEngine
from stemd.engines.bright_field.settings import BrightFieldSettings
from stemd.engines.bright_field.view import Discs
from stemd.engines.lens.refined import warm
from stemd.plugins import Plugin
from stemd.results import Result


class MeasuredOpticsSettings(BrightFieldSettings):
    """`pixels_per_angle`: cells a convergence semi-angle; `search_...`: how far from what is told
    the lens is looked for.
    """

    complete: bool = False
    live: bool = False

    def outputs(self, engine: str) -> tuple[str, ...]:
        """No image."""
        return ()


class MeasuredOpticsEngine(BrightFieldEngine):
    """Measures, where neither `direct` nor `ssb` does."""

    def __init__(self, settings: MeasuredOpticsSettings) -> None:
        super().__init__(settings.name or "measured_optics", settings)

    def _images_of(self, discs: Discs, go_on: Callable[[], bool]) -> Sequence[Result] | None:
        return []


PLUGIN = Plugin(
    name="measured_optics",
    summary="defocus, astigmatism, rotation, centre and semi-angle from the bright field; no image",
    settings=MeasuredOpticsSettings,
    build=MeasuredOpticsEngine,
    warm=warm,
)

"""Live settings: frozen, numbered, picked up between two blocks."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from types import MappingProxyType
from typing import Any, ClassVar, Literal, Self

from pydantic import ConfigDict, Field

from stemd.acquisition import Optics, Scan
from stemd.errors import ConfigError
from stemd.typed import Table

OfRepeats = Literal["first", "any", "placed"]


class EngineSettings(Table):
    """Base of every engine's settings, and what the engine declares by them before any scan.

    The defaults are those of an engine that makes one image, of its own name, from the integer
    maps. `name` tells two engines of one type apart.
    """

    model_config = ConfigDict(frozen=True, extra="forbid", validate_default=True)

    name: str | None = Field(default=None, pattern=r"^[a-z][a-z0-9_]{0,40}$")

    needs: ClassVar[Literal["positions", "patterns", "images"]] = "positions"
    """What the engine is given (`stemd.engines.base.Engine`)."""
    whole_positions: ClassVar[bool] = False
    """Whether the engine needs all hits of a position together: then an event stream, which is
    cut by bytes, is processed in one part."""
    of_repeats: ClassVar[OfRepeats] = "first"
    """Which patterns an engine that needs them is given of a place that is scanned `repeats` times:
    those of the first frame, of all where their place does not matter ("any"), or all at the
    places that were measured ("placed"), which takes a second reading, of the record. It then adds
    them up; positions and images are those of the aligned sum whatever this is."""
    keeps_lens: ClassVar[bool] = False
    """Whether what was gathered of a scan has its lens in it: then only the scan's record gives
    its images another one."""
    summed_with: ClassVar[tuple[str, ...]] = ()
    """Settings that decide what the reduction sums: later images of a scan keep them."""

    def outputs(self, engine: str) -> tuple[str, ...]:
        """Names of all images of the finished scan; `engine` is the engine's name.

        Images of an unfinished scan are some of these.
        """
        return (engine,)

    def through_lens_told(self) -> bool:
        """Whether its images are made through the lens that the optics tell, right or wrong."""
        return False

    def key_of(self, image: str) -> tuple[str, ...]:
        """Keys of the setting that has given an image its name; none: the engine's own name."""
        return ()

    def inputs(self) -> Mapping[str, str]:
        """Images of other engines that this one needs, by the setting that names each."""
        return {}

    def for_trial(self) -> Self:
        """The same for the tiny scans before the first real one: all its kernels, least work."""
        return self

    def masks(self, optics: Optics) -> Mapping[str, tuple[float, float]]:
        """What the reduction is to sum for it: (inner, outer) radius in pixels by name.

        The sums are in `PositionMaps.detectors`. Raises ConfigError where the optics do not say
        enough.
        """
        return {}


def masks_of(engine: str, own: EngineSettings, optics: Optics) -> dict[str, tuple[float, float]]:
    """What the reduction is to sum for one engine, see `EngineSettings.masks`.

    Raises ConfigError where the optics do not say enough, or `masks` gives something else.
    """
    remedy = "masks of an engine's settings gives {name: (inner, outer)}, pixels, inner below outer"
    try:
        made = dict(own.masks(optics))
        pairs = {str(name): (float(inner), float(outer)) for name, (inner, outer) in made.items()}
    except ConfigError:
        raise
    except Exception as error:
        text = f"{type(error).__name__}: {error}"
        raise ConfigError(f"engine {engine}: its masks cannot be used: {text}", remedy) from error
    for name, (inner, outer) in pairs.items():
        if not 0.0 <= inner < outer:
            raise ConfigError(f"engine {engine}: no pixel is in {name}: [{inner}, {outer}]", remedy)
    return pairs


class SlowEngineSettings(EngineSettings):
    """Of engines that may leave positions out beside a scan.

    `complete`: make the image again from the scan's record, after the scan, if positions lack.
    """

    needs: ClassVar[Literal["patterns"]] = "patterns"

    complete: bool = True


@dataclass(frozen=True, slots=True)
class Settings:
    """Everything engines obey, as in force from one block on.

    `engines` maps an engine's name (its type unless named) to its settings object.
    """

    optics: Optics = field(default_factory=Optics)
    engines: Mapping[str, EngineSettings] = field(default_factory=lambda: MappingProxyType({}))
    scan: Scan | None = None
    revision: int = 1

    def masks(self) -> dict[str, tuple[float, float]]:
        """All that the reduction sums for engines: (inner, outer) radius in pixels by name.

        Raises ConfigError where the optics do not say enough.
        """
        found: dict[str, tuple[float, float]] = {}
        for engine, own in self.engines.items():
            found |= masks_of(engine, own, self.optics)
        return found

    def of_scan(self, scan: Scan) -> Settings:
        """The same for a scan as it is."""
        return replace(self, scan=scan)

    def with_known(self, optics: Mapping[str, float]) -> Settings:
        """The same, with what is known otherwise of optics that are not set."""
        fresh = {key: value for key, value in optics.items() if getattr(self.optics, key) is None}
        if not fresh:
            return self
        return replace(self, optics=self.optics.model_copy(update=fresh))

    def for_maps_of(self, reduced: Settings) -> Settings:
        """The same for images of a scan whose maps were summed with the settings `reduced`."""
        engines = dict(self.engines)
        for name, then in reduced.engines.items():
            if name in engines:
                kept = {key: getattr(then, key) for key in then.summed_with}
                engines[name] = engines[name].model_copy(update=kept)
        return replace(self, engines=engines)

    def kept_of(self, reduced: Settings) -> dict[str, dict[str, Any]]:
        """What `for_maps_of` leaves as it was though these settings say otherwise: {engine: {key:
        value of the maps}}.
        """
        found: dict[str, dict[str, Any]] = {}
        for name, then in reduced.engines.items():
            now = self.engines.get(name)
            if now is None:
                continue
            before, after = (own.model_dump(mode="json") for own in (then, now))
            kept = {key: before[key] for key in then.summed_with if before[key] != after[key]}
            if kept:
                found[name] = kept
        return found

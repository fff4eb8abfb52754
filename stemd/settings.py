"""Live settings: frozen, numbered, picked up between two blocks."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from types import MappingProxyType

from pydantic import BaseModel, ConfigDict, Field

from stemd.acquisition import Optics, Scan


class EngineSettings(BaseModel):
    """Base of every engine's settings. `name` tells two engines of one type apart."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    name: str | None = Field(default=None, pattern=r"^[a-z][a-z0-9_]{0,40}$")


class SlowEngineSettings(EngineSettings):
    """Of engines that may leave positions out beside a scan.

    `complete`: make the image again from the scan's record, after the scan, if positions lack.
    """

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

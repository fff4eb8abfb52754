"""Keeps the bright field that AIRPI's image is held to, as long as there is room for it."""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Mapping, Sequence
from typing import Any, TypeVar

import numpy as np
from numpy.typing import NDArray

from stemd.acquisition import Acquisition
from stemd.blocks import Block
from stemd.engines.airpi.bright import Evidence, HeldSettings, HeldTo
from stemd.engines.base import Gathered, PositionMaps
from stemd.errors import StemdError
from stemd.settings import Settings

F64 = NDArray[np.float64]
T = TypeVar("T")
LENS_BY_S, LEAST_LENS_S = 2.2, 1.0
"""Seconds after a scan beside a camera by which the search for its lens ends, so that the image
comes; it has so many at least, however late the last patterns were taken in."""
PREFIX = "held_"
"""Before the names of what is gathered of the bright field."""


class Keeper:
    """What `HeldTo` does, until it fails: that is told once, and nothing more is kept.

    `fails(reason, remedy)` is called then. `trial`: as `EngineSettings.for_trial`.
    """

    def __init__(
        self, name: str, memory_mb: float, fails: Callable[[str, str], None], *, trial: bool = False
    ) -> None:
        own = HeldSettings(name=f"{name}_held", memory_mb=memory_mb, live=False, complete=False)
        self._held: HeldTo | None = HeldTo(f"{name}_held", own.for_trial() if trial else own)
        self._fails = fails
        self._made: tuple[Settings, Sequence[Evidence]] | None = None
        self._lens_by = math.inf

    def end(self) -> None:
        """The scan beside a camera is over: the time to look for its lens runs from now on."""
        self._lens_by = time.monotonic() + LENS_BY_S

    def _with(self, call: Callable[[HeldTo], T]) -> T | None:
        if self._held is None:
            return None
        try:
            return call(self._held)
        except StemdError as error:
            self._held = None
            self._fails(error.message, error.remedy)
            return None

    def start(self, acquisition: Acquisition, settings: Settings, maps: PositionMaps) -> None:
        """A scan begins."""
        self._with(lambda held: held.start(acquisition, settings, maps))

    def update(self, settings: Settings) -> None:
        """Other settings from now on."""
        self._with(lambda held: held.update(settings))

    def place(self, center: tuple[float, float]) -> None:
        """Where the disc is, in detector pixels: all parts of a scan keep the same cells."""
        self._with(lambda held: held.place(center))

    def add(self, block: Block) -> None:
        """Keep the bright field of a block's patterns."""
        self._with(lambda held: held.consume(block))

    def gathered(self) -> Mapping[str, NDArray[Any]]:
        """What is kept, as arrays of numbers."""
        found = self._with(lambda held: held.gathered()) or {}
        return {f"{PREFIX}{key}": value for key, value in found.items()}

    def restore(self, gathered: Gathered) -> None:
        """Take over what `gathered` has given, among other arrays."""
        own = {
            key.removeprefix(PREFIX): value
            for key, value in gathered.items()
            if key.startswith(PREFIX)
        }
        self._with(lambda held: held.restore(own))

    def merge(self, other: Keeper) -> None:
        """Add what another part of the scan has kept; without it nothing is known of the whole."""
        theirs = other._held
        if theirs is None:
            self._held = None
        else:
            self._with(lambda held: held.merge(theirs))

    def evidence(
        self,
        settings: Settings,
        go_on: Callable[[], bool],
        density: Callable[[], F64 | None] = lambda: None,
    ) -> Sequence[Evidence]:
        """Of the whole scan, made once for the same settings; nothing where `go_on` said no.

        `density`: gives the specimen's power by the dark field.
        """
        if self._made is None or self._made[0] is not settings:
            # only the first time a camera waits
            until = max(self._lens_by, time.monotonic() + LEAST_LENS_S)
            until = math.inf if self._made is not None else until
            hasty = math.isfinite(self._lens_by)
            power = density()
            made = self._with(lambda held: held.evidence(go_on, until, hasty=hasty, density=power))
            self._made = settings, made or ()
        return self._made[1]

    @property
    def hurried(self) -> bool:
        """Whether there was no time to look for the lens."""
        return self._held is not None and self._held.hurried

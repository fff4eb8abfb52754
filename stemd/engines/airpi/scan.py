"""AIRPI's work on one scan: patterns are binned, and the network makes an object of them."""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from stemd.acquisition import Acquisition
from stemd.blocks import Block, EventBlock
from stemd.engines.airpi.bright import Evidence
from stemd.engines.airpi.keeper import Keeper
from stemd.engines.airpi.making import Making
from stemd.engines.airpi.model import Loaded, find_model
from stemd.engines.airpi.object import ExitWaveObject
from stemd.engines.airpi.setup import (
    NEXT_SCAN,
    AirpiSettings,
    beyond_training,
    found_in,
    prepared,
)
from stemd.engines.airpi.warnings import Warnings
from stemd.engines.base import PositionMaps
from stemd.engines.beside.scan import BesideScan, Wake, phase_beam
from stemd.engines.beside.worker import low_priority
from stemd.engines.first_patterns import FirstPatterns, Found
from stemd.pixels import Mask
from stemd.settings import Settings


class AirpiScan(BesideScan):
    """What the engine does with a scan's patterns, until there is an object to show.

    Without threads of its own `consume` does all the work. Beside a scan blocks wait in a bounded
    queue, one thread bins them and one has the network work on them.
    """

    cut = "cut_short", "cut short"

    def __init__(self, settings: AirpiSettings) -> None:
        super().__init__(settings.name or "airpi")
        self._own = settings

    # engines.base.Engine

    def start(self, acquisition: Acquisition, settings: Settings, maps: PositionMaps) -> None:
        """A scan begins. Raises StemdError for optics that are missing, ModelError."""
        self._begin(acquisition, maps)
        self._settings = settings
        own = self._own = self._settings_in(settings)
        self._object: ExitWaveObject | None = None
        self._found: Found | None = None
        self._begins = True
        self._any = self._of_events = False
        self._warnings = Warnings(self._say)
        self._turned = settings.optics
        self._masked: Mask | None = None
        self._beam, self._pixel_mrad, self._step = phase_beam(acquisition, settings.optics)
        find_model(own.model)
        self._network = Loaded(
            own.model,
            own.backend,
            own.threads,
            own.batch,
            shared_thread=self._is_beside,
            device=own.device,
        )
        lines = acquisition.scan.shape[0]
        self._making = Making(self._network, lines, beside=self._is_beside)
        self._keeper = Keeper(self.name, own.memory_mb, self._warnings.not_held, trial=own.is_trial)
        self._keeper.start(acquisition, settings, maps)
        self._first = FirstPatterns(acquisition, self._acceptance_ns, lambda: maps.masked)
        center = settings.optics.center
        if center != "auto" and not self.finds(settings):
            self._settle(Found((float(center[0]), float(center[1])), math.nan))
        self._start_threads()

    def update(self, settings: Settings) -> None:
        """Repetition, every, centre, rotation and flip: for what is binned, or made, next."""
        kept = self._own.model_dump(include=set(NEXT_SCAN))
        self._own = self._settings_in(settings).model_copy(update=kept)
        self._settings = settings
        self._keeper.update(settings)

    def finish(self) -> None:
        """No more blocks will come: there is so much time for the image."""
        if self._is_beside and not self._ending:
            self._making.end()
            self._keeper.end()
        super().finish()

    # engines.base.FindingEngine

    def finds(self, settings: Settings) -> bool:
        """Whether the first patterns decide something: centre, disc or repetition."""
        own = self._settings_in(settings)
        center = settings.optics.center
        return center == "auto" or own.probe == "pacbed" or own.repetition == "auto"

    # What is done with a pattern

    def _settings_in(self, settings: Settings) -> AirpiSettings:
        own = settings.engines.get(self.name, self._own)
        assert isinstance(own, AirpiSettings)
        return own

    @property
    def _completes(self) -> bool:
        return self._own.complete

    @property
    def _acceptance_ns(self) -> float:
        return self._settings.optics.acceptance_time_ns or 0.0

    def _add_now(self, block: Block) -> None:
        self._take(block, self._make_ready)

    def _take(self, block: Block, after_line: Wake) -> None:
        self._any = True
        self._of_events |= isinstance(block, EventBlock)
        if self._object is None:
            self._first.add(block)
            if self._first.enough:
                self._settle_with_what_there_is(after_line)
            return
        optics, masked = self._settings.optics, self._maps.masked
        if optics != self._turned or masked is not self._masked:
            self._turned, self._masked = optics, masked
            self._object.turn(optics, None if optics.center == "auto" else optics.center, masked)
        self._keeper.add(block)
        self._object.add(block, self._acceptance_ns, after_line)

    def _complete(self, after_line: Wake) -> None:
        """All patterns are there: make every line that is left, with what it has."""
        self._settle_with_what_there_is(after_line)
        if self._object is not None:
            with self._object.lock:
                self._object.lines.over = True
            after_line()
            if self._is_beside:
                # the network needs none of it: it makes its last lines meanwhile
                low_priority()
                self._evidence()

    def _make_ready(self) -> None:
        while self._make_next():
            pass

    def _make_next(self) -> bool:
        """Make one line; False if there is none that can be made now."""
        thing = self._object
        if thing is None:
            return False
        if self._making.next(self._prepared, self._own):
            if self._making.coarser is not None:
                self._warnings.coarser(*self._making.coarser, self._remedy)
            return True
        return False

    def _evidence(self) -> Sequence[Evidence]:
        """What the bright field of the whole scan says of it, if that is wanted."""
        if not self._own.use_bright_field:
            return ()
        thing = self._object
        assert thing is not None
        evidence = self._keeper.evidence(
            self._settings, lambda: not self._given_up, thing.power_density
        )
        if self._keeper.hurried:
            self._warnings.hurried(self._remedy)
        return evidence

    @property
    def _lost(self) -> int:
        thing = self._object
        return super()._lost + (thing.counts["left_out"] if thing is not None else 0)

    @property
    def _in_image(self) -> NDArray[np.bool_]:
        if self._keeper.hurried or (self._object is not None and self._object.unfitted):
            return np.zeros_like(self._seen.left_out)
        return np.repeat(self._making.whole, self._maps.shape[1]) & ~self._seen.left_out

    # What must be known before

    def _settle_with_what_there_is(self, after_line: Wake | None = None) -> None:
        if self._object is not None or not self._any:
            return
        first = self._first
        self._settle(found_in(first, self._settings.optics, self._own.probe))
        kept, first.kept = first.kept, []
        for block in kept:
            self._take(block, after_line or self._make_ready)

    def _settle(self, found: Found) -> None:
        """Centre, disc and dose are known: allocate the object."""
        optics = self._settings.optics
        self._turned, self._found = optics, found
        self._prepared = prepared(
            self._acquisition, optics, self._own, self._beam, self._pixel_mrad, found,
            beside=self._is_beside, begins=self._begins,
        )  # fmt: skip
        self._object = self._prepared.thing
        if self._begins:
            self._warnings.angle(found, self._beam, self._pixel_mrad)
            beyond = beyond_training(optics, self._beam, self._step, self._prepared.electrons)
            self._warnings.lens(beyond)
        self._keeper.place(found.center)

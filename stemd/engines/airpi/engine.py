"""AIRPI: a live phase image from a network, one probe position and its neighbours at a time.

T. Friedrich et al., Microsc. Microanal. 29 (2023) 395, doi 10.1093/micmic/ozac002; thesis
chapter 4. The method is the subject of patent application EP4075126A1.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any

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
    described,
    found_in,
    prepared,
)
from stemd.engines.airpi.showing import shown
from stemd.engines.airpi.slopes import slopes_of
from stemd.engines.airpi.warnings import Warnings
from stemd.engines.base import Gathered, PositionMaps
from stemd.engines.beside.scan import BesideScan, Wake, phase_beam
from stemd.engines.first_patterns import FirstPatterns, Found
from stemd.errors import ModelError, StemdError
from stemd.pixels import Mask
from stemd.plugins import Plugin
from stemd.results import Result
from stemd.settings import Settings


class AirpiEngine(BesideScan):
    """`airpi_phase` and `airpi_weight`. Implements base.SlowEngine and base.FindingEngine.

    More than 20 methods, because half of them are those of the protocols. Without threads of its
    own `consume` does all the work. Beside a scan blocks wait in a bounded queue, one thread bins
    them and one has the network work on them.
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
        self._keeper = Keeper(self.name, own.memory_mb, self._warnings.not_held)
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

    def snapshot(self, *, final: bool) -> Sequence[Result]:
        """Phase and weight, float32, of the object's own size. Raises what has gone wrong."""
        if self._beside is not None:
            self._beside.check()
        elif final:
            self._complete(self._make_ready)
            if self._object is not None:
                self._network.load()  # parts may all have been made elsewhere: what ran is told
        thing = self._object
        if thing is None or not (final or thing.lines.made.any()):
            return []  # rather than an empty picture
        of, slopes = thing.geometry, None
        if self._own.use_centre_of_mass:
            slopes = slopes_of(
                self._maps, self._settings.optics, self._acquisition.detector.shape,
                of.beam, of.pixels_per_angle, of.step_size_angstrom,
            )  # fmt: skip
        return shown(
            thing, self._own.outputs(self.name), self._own.least_transfer, slopes,
            self._evidence() if final else (), self._about(thing), self._warnings,
        )  # fmt: skip

    # engines.base.FindingEngine

    def finds(self, settings: Settings) -> bool:
        """Whether the first patterns decide something: centre, disc or repetition."""
        own = self._settings_in(settings)
        center = settings.optics.center
        return center == "auto" or own.probe == "pacbed" or own.repetition == "auto"

    def found(self) -> Gathered | None:
        """What the first patterns have told; None until then."""
        return None if self._found is None else {"found": self._found.as_array()}

    def follow(self, found: Gathered) -> None:
        """See base.FindingEngine: use what the first part of the scan has found."""
        self._begins = False
        if self._object is not None:
            self._object.lines.begins = False
        elif "found" in found:
            self._settle(Found.of(found["found"]))

    # engines.base.SpreadEngine

    def gathers_by(self, settings: Settings) -> Mapping[str, Any]:
        """All settings but how the network is run and how the image is made, and all optics."""
        own = self._settings_in(settings).model_dump(
            mode="json",
            exclude={
                "threads",
                "device",
                "least_transfer",
                "use_centre_of_mass",
                "use_bright_field",
                "complete",
            },
        )
        return {"optics": settings.optics.model_dump(mode="json"), **own}

    def gathered(self) -> Gathered:
        """The object's sums, the lines at the rim, what was found out."""
        self._settle_with_what_there_is()
        if self._object is None or self._found is None or not self._any:
            return {}
        events = np.array([self._of_events])
        return {
            "found": self._found.as_array(),
            "events": events,
            **self._object.gathered(),
            **self._keeper.gathered(),
        }

    def restore(self, gathered: Gathered) -> None:
        """Take over what `gathered` has given."""
        if gathered:
            if self._object is None:
                self._settle(Found.of(gathered["found"]))
            assert self._object is not None
            self._object.restore(gathered)
            self._keeper.restore(gathered)
            self._begins, self._any = self._object.lines.begins, True
            self._of_events = bool(gathered["events"][0])

    def merge(self, other: AirpiEngine) -> None:
        """Add a later part of the same scan, and make the lines between the two.

        Raises StemdError for parts of an event stream.
        """
        other._settle_with_what_there_is()
        if other._object is None or not other._any:
            return
        if self._any and (self._of_events or other._of_events):
            # a position may be complete in one part and have had its hits in another
            raise StemdError(
                f"{self.name} cannot be put together from parts of an event stream",
                "process the file without --cluster",
            )
        if self._object is None and other._found is not None and not self._any:
            self._settle(other._found)
        self._settle_with_what_there_is()
        assert self._object is not None
        self._object.merge(other._object)
        self._keeper.merge(other._keeper)
        self._any, self._of_events = True, other._of_events
        self._make_ready()

    # What is done with a pattern

    def _settings_in(self, settings: Settings) -> AirpiSettings:
        own = settings.engines.get(self.name, self._own)
        assert isinstance(own, AirpiSettings)
        return own

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
        if thing.lines.over and self._is_beside:
            self._evidence()  # here, where nothing waits for it
        return False

    def _evidence(self) -> Sequence[Evidence]:
        """What the bright field of the whole scan says of it, if that is wanted."""
        if not self._own.use_bright_field:
            return ()
        evidence = self._keeper.evidence(self._settings, lambda: not self._given_up)
        if self._keeper.hurried:
            self._warnings.hurried(self._remedy)
        return evidence

    @property
    def _lost(self) -> int:
        thing = self._object
        return super()._lost + (thing.counts["left_out"] if thing is not None else 0)

    @property
    def _in_image(self) -> NDArray[np.bool_]:
        if self._keeper.hurried:
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

    def _about(self, thing: ExitWaveObject) -> dict[str, Any]:
        ran = {"model_sha256": self._network.sha256, "backend": self._network.about}
        return {"model": self._own.model, **ran, **described(thing), "left_out": self._lost}


def _doubt(settings: AirpiSettings) -> str | None:
    try:
        find_model(settings.model)
    except ModelError as error:
        return f"{error.message}; {error.remedy}"
    return None


PLUGIN = Plugin(
    name="airpi",
    summary="phase of the specimen from a network, live: dose-efficient, super-resolved (AIRPI)",
    settings=AirpiSettings,
    build=AirpiEngine,
    doubt=_doubt,
)

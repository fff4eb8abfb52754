"""AIRPI: a live phase image from a network, one probe position and its neighbours at a time.

T. Friedrich et al., Microsc. Microanal. 29 (2023) 395, doi 10.1093/micmic/ozac002; thesis
chapter 4. The method is the subject of patent application EP4075126A1.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from typing import Annotated, Any, ClassVar, Literal

import numpy as np
from pydantic import Field

from stemd.acquisition import Acquisition, FiniteFloat, PositiveFloat
from stemd.beam import Beam
from stemd.blocks import Block, EventBlock, Notice
from stemd.engines.base import Gathered, PositionMaps, Run
from stemd.engines.beside import Beside
from stemd.engines.coarseness import Coarseness
from stemd.engines.diffraction_grid import beam_angles
from stemd.engines.exit_wave_features import GRID
from stemd.engines.exit_wave_model import Loaded, find_model
from stemd.engines.exit_wave_object import ExitWaveObject, Geometry
from stemd.engines.first_patterns import FirstPatterns, Found
from stemd.engines.measured_slopes import Slopes
from stemd.engines.positions_taken import PositionsTaken
from stemd.engines.vectors import resolve_centre, shifts, to_scan_axes
from stemd.errors import NetworkError, StemdError
from stemd.inference.choice import BackendName
from stemd.plugins import Plugin
from stemd.results import Result
from stemd.settings import Settings, SlowEngineSettings

MOST_REPETITION = 16
ANGLE_OFF = 0.15
"""Part by which a fitted disc may differ from the convergence angle without a word."""
BACKLOG_BYTES = 32 * 1024 * 1024
BACKLOG_LINES = 4, 64
"""Binned lines that may wait for the network during a scan: so many bytes, between so many."""
REMEDY = ("the scan's record makes the whole image: by itself after the scan, where stemd records "
          "and airpi.complete is on, else with stemd process")  # fmt: skip
NEXT_SCAN = ("model", "backend", "threads", "batch", "oversample", "when_slow", "probe",
             "defocus_angstrom", "cs_mm", "counts_per_electron")  # fmt: skip


class AirpiSettings(SlowEngineSettings):
    """`model`: a name of `stemd models list`, or a path; `threads` of the CPU for the network.

    `repetition` m adds up the patterns of m x m positions, "auto" as many as the dose asks for;
    `every`: of m positions and lines one is made, "auto": each half box. `when_slow`: what to do
    when the camera is faster than the network. `probe`: where the disc is and how large, from
    the parameters or from the first patterns. `least_transfer`: the smaller, the more of the
    coarse structure comes back, and of its noise (`patch_offsets`). `use_centre_of_mass`: hold the
    image to the slopes that the centre of mass of the same patterns gives (`measured_slopes`).
    Repetition, every, these two and the optics' centre, rotation and flip are obeyed at once, the
    others from the next scan on, `complete` when the scan ends.
    """

    model: Annotated[str, Field(min_length=1)] = "airpi"
    backend: BackendName = "auto"
    threads: Annotated[int, Field(ge=1, le=256)] = 2
    batch: Annotated[int, Field(ge=1, le=4096)] = 64
    oversample: Annotated[int, Field(ge=1, le=8)] = 1
    repetition: Literal["auto"] | Annotated[int, Field(ge=1, le=MOST_REPETITION)] = "auto"
    every: Literal["auto"] | Annotated[int, Field(ge=1, le=64)] = "auto"
    least_transfer: Annotated[float, Field(gt=0.0, le=1.0)] = 0.3
    use_centre_of_mass: bool = True
    when_slow: Literal["coarser", "skip"] = "coarser"
    probe: Literal["parameters", "pacbed"] = "parameters"
    defocus_angstrom: FiniteFloat = 0.0
    cs_mm: FiniteFloat = 0.0
    counts_per_electron: PositiveFloat = 1.0


class AirpiEngine:
    """`airpi_phase` and `airpi_weight`. Implements base.SlowEngine and base.FindingEngine.

    Without threads of its own `consume` does all the work. Beside a scan blocks wait in a
    bounded queue, one thread bins them and one has the network work on them.
    """

    needs: ClassVar[Literal["positions", "patterns"]] = "patterns"

    def __init__(self, settings: AirpiSettings) -> None:
        self.name = settings.name or "airpi"
        self._own = settings
        self._tell: Callable[[Notice], None] = lambda notice: None
        self._is_beside = False
        self._beside: Beside | None = None

    # engines.base.Engine

    def start(self, acquisition: Acquisition, settings: Settings, maps: PositionMaps) -> None:
        """A scan begins. Raises StemdError for optics that are missing, NetworkError."""
        self._acquisition, self._settings, self._maps = acquisition, settings, maps
        own = self._own = self._settings_in(settings)
        self._object: ExitWaveObject | None = None
        self._found: Found | None = None
        self._begins = True
        self._seen = self._of_events = False
        self._maps = maps
        self._seen_not = PositionsTaken(acquisition.scan.positions)
        self._whole = np.zeros(acquisition.scan.shape[0], np.bool_)
        self._left_out = 0
        self._counted_left_out = False
        self._turned = settings.optics
        self._angles = beam_angles(settings.optics)
        if settings.optics.energy_ev is None:
            raise missing("optics.energy_ev", "[pipeline.optics]")
        if acquisition.scan.step_size_angstrom is None:
            raise missing("scan.step_size_angstrom", "the scan of [pipeline.adapter]")
        find_model(own.model)
        self._network = Loaded(
            own.model, own.backend, own.threads, own.batch, shared_thread=self._is_beside
        )
        self._first = FirstPatterns(acquisition, self._acceptance_ns)
        center = settings.optics.center
        if center != "auto" and not self.finds(settings):
            self._settle(Found((float(center[0]), float(center[1])), math.nan))
        if self._is_beside:
            self._beside = Beside(self.name, self._add, self._complete, self._make_next)

    def update(self, settings: Settings) -> None:
        """Repetition, every, centre, rotation and flip: for what is binned, or made, next."""
        kept = self._own.model_dump(include=set(NEXT_SCAN))
        self._own = self._settings_in(settings).model_copy(update=kept)
        self._settings = settings

    def consume(self, item: Run | Block) -> None:
        """Take a block in, or put it into the queue."""
        assert not isinstance(item, tuple)
        if self._beside is None:
            self._add(item, self._make_ready)
        elif not self._beside.offer(item):
            lost = patterns_in(item)
            if not self._left_out and lost:
                self._say("left_out", "patterns come faster than they can be taken in: some are "
                          "left out of the image", REMEDY, 0)  # fmt: skip
            self._left_out += lost
            self._seen_not.leave_out(item)

    def snapshot(self, *, final: bool) -> Sequence[Result]:
        """Phase and weight, float32, of the object's own size. Raises what has gone wrong."""
        if self._beside is not None:
            self._beside.check()
        elif final:
            self._complete(self._make_ready)
            if self._object is not None:
                self._network.load()  # parts may all have been made elsewhere: what ran is told
        thing = self._object
        if thing is None:
            return []
        slopes = self._slopes(thing.geometry) if self._own.use_centre_of_mass else None
        phase, weight = thing.images(self._own.least_transfer, slopes)
        size = thing.geometry.pixel_angstrom
        extra = self._about(thing)
        return [
            Result(f"{self.name}_phase", phase, "rad", "scan", size, extra),
            Result(f"{self.name}_weight", weight, "1", "scan", size, extra),
        ]

    # engines.base.SlowEngine

    def prepare(self, tell: Callable[[Notice], None], *, beside: bool) -> None:
        """See engines.base.SlowEngine."""
        self._tell, self._is_beside = tell, beside

    def finish(self) -> None:
        """No more blocks will come."""
        if self._beside is not None:
            self._beside.finish()

    def wait(self, timeout_s: float) -> bool:
        """Whether everything is done, waiting for it for a while."""
        if self._beside is None:
            return True
        if not self._beside.wait(timeout_s):
            return False
        lost = self._lost
        if lost and not self._counted_left_out:
            self._counted_left_out = True
            self._say("left_out", f"{lost:,} patterns are not in the image", REMEDY, lost)
        return True

    def abandon(self, why: str = "") -> None:
        """Leave undone what is not done yet; `why` is told."""
        if self._beside is not None and not self._beside.wait(0.0):
            self._beside.abandon()
            if why:
                self._say("cut_short", f"the image was cut short: {why}", REMEDY)

    def lacking(self) -> int:
        """Positions left out, and those of lines that were made coarser or not at all."""
        if self._beside is None:
            return 0
        lines = self._maps.done.reshape(self._maps.shape)
        left_out = self._seen_not.left_out.reshape(self._maps.shape)
        return int(np.count_nonzero(lines & (left_out | ~self._whole[:, None])))

    # engines.base.FindingEngine

    def finds(self, settings: Settings) -> bool:
        """Whether the first patterns decide something: centre, disc or repetition."""
        own = self._settings_in(settings)
        center = settings.optics.center
        return center == "auto" or own.probe == "pacbed" or own.repetition == "auto"

    def found(self) -> Gathered | None:
        """What was found out from the first patterns; None until then."""
        return None if self._found is None else {"found": self._found.as_array()}

    def follow(self, found: Gathered) -> None:
        """Be a later part of a scan whose first part has found this out."""
        self._begins = False
        if self._object is not None:
            self._object.lines.begins = False
        elif "found" in found:
            self._settle(Found.of(found["found"]))

    # engines.base.SpreadEngine

    def gathers_by(self, settings: Settings) -> Mapping[str, Any]:
        """All settings but how the network is run and how the image is made, and all optics."""
        own = self._settings_in(settings).model_dump(
            mode="json", exclude={"threads", "least_transfer", "use_centre_of_mass", "complete"}
        )
        return {"optics": settings.optics.model_dump(mode="json"), **own}

    def gathered(self) -> Gathered:
        """The object's sums, the lines at the rim, what was found out."""
        self._settle_with_what_there_is()
        if self._object is None or self._found is None or not self._seen:
            return {}
        events = np.array([self._of_events])
        return {"found": self._found.as_array(), "events": events, **self._object.gathered()}

    def restore(self, gathered: Gathered) -> None:
        """Take all of it back."""
        if gathered:
            if self._object is None:
                self._settle(Found.of(gathered["found"]))
            assert self._object is not None
            self._object.restore(gathered)
            self._begins, self._seen = self._object.lines.begins, True
            self._of_events = bool(gathered["events"][0])

    def merge(self, other: AirpiEngine) -> None:
        """Take over a later part of the same scan, and make the lines between the two.

        Raises StemdError for parts of an event stream.
        """
        other._settle_with_what_there_is()
        if other._object is None or not other._seen:
            return
        if self._seen and (self._of_events or other._of_events):
            # a position may be complete in one part and have had its hits in another
            raise StemdError(
                f"{self.name} cannot be put together from parts of an event stream",
                "process the file without --cluster",
            )
        if self._object is None and other._found is not None and not self._seen:
            self._settle(other._found)
        self._settle_with_what_there_is()
        assert self._object is not None
        self._object.merge(other._object)
        self._seen, self._of_events = True, other._of_events
        self._make_ready()

    # What is done with a pattern

    def _settings_in(self, settings: Settings) -> AirpiSettings:
        own = settings.engines.get(self.name, self._own)
        assert isinstance(own, AirpiSettings)
        return own

    @property
    def _acceptance_ns(self) -> float:
        return self._settings.optics.acceptance_time_ns or 0.0

    def _add(self, block: Block, after_line: Callable[[], object]) -> None:
        self._seen = True
        self._of_events |= isinstance(block, EventBlock)
        if self._object is None:
            self._first.add(block)
            if self._first.enough:
                self._settle_with_what_there_is(after_line)
            return
        optics = self._settings.optics
        if optics != self._turned:
            self._turned = optics
            self._object.turn(optics, None if optics.center == "auto" else optics.center)
        self._object.add(block, self._acceptance_ns, after_line)

    def _complete(self, after_line: Callable[[], object]) -> None:
        """Nothing more will come: what is missing is missing for good."""
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
        before, own = self._coarseness.coarser, self._own
        backlog = thing.backlog / self._backlog_lines if self._is_beside else 0.0
        thing.neighbourhood = self._coarseness.choose(own.repetition, own.every, backlog)
        line = thing.waiting()
        if line is None:
            return False
        if self._coarseness.coarser > before:
            chosen = thing.neighbourhood
            self._say(
                "coarser",
                f"the network is slower than the camera: from line {line} on it takes one of every "
                f"{chosen.every} positions and lines, with the patterns of {chosen.repetition} x "
                f"{chosen.repetition} positions",
                REMEDY + "; a faster processor, or fewer positions, makes it whole during the scan",
            )
        # a line that found no room is taken for made, too
        held = thing.lines.slot(line) >= 0
        thing.make(line, self._network.begin)
        self._whole[line] = held and not self._coarseness.gave_way
        return True

    @property
    def _lost(self) -> int:
        """Patterns that are not in the image."""
        thing = self._object
        return self._left_out + (thing.counts["left_out"] if thing is not None else 0)

    # What must be known before

    def _settle_with_what_there_is(self, after_line: Callable[[], object] | None = None) -> None:
        if self._object is not None or not self._seen:
            return
        first, optics = self._first, self._settings.optics
        radius, center = None, first.center()
        if self._own.probe == "pacbed":
            disc = first.disc()
            center, radius = disc.center, disc.radius
        if optics.center != "auto":
            center = float(optics.center[0]), float(optics.center[1])
        self._settle(Found(center, first.counts(), radius))
        kept, first.kept = first.kept, []
        for block in kept:
            self._add(block, after_line or self._make_ready)

    def _settle(self, found: Found) -> None:
        """Everything is known: allocate the object."""
        own, optics = self._own, self._settings.optics
        scan = self._acquisition.scan
        alpha, pixel = self._angles
        if found.radius is not None:
            fitted = found.radius * pixel
            if abs(fitted / alpha - 1.0) > ANGLE_OFF and self._begins:
                self._say(
                    "angle",
                    f"the disc of the first patterns has a radius of {fitted:.3g} mrad, "
                    f"optics.convergence_semi_angle_mrad is {alpha:g}: the disc's is taken",
                    "correct convergence_semi_angle_mrad or pixel_size_mrad",
                )
            alpha = fitted
        assert optics.energy_ev is not None
        assert scan.step_size_angstrom is not None
        beam = Beam(optics.energy_ev, alpha, own.defocus_angstrom, own.cs_mm)
        geometry = Geometry(
            beam, scan.step_size_angstrom, found.center, alpha / pixel, own.oversample,
            own.counts_per_electron,
        )  # fmt: skip
        known = not math.isnan(found.counts)
        self._coarseness = Coarseness(
            scan.shape[1],
            scan.step_size_angstrom / beam.airy_radius,
            found.counts / own.counts_per_electron if known else None,
            own.repetition,
            gives_way=self._is_beside and own.when_slow == "coarser",
        )
        line_bytes = scan.shape[1] * GRID.members.size * 4
        least, most = BACKLOG_LINES
        self._backlog_lines = max(least, min(most, BACKLOG_BYTES // line_bytes))
        reach = self._coarseness.most.reach.lines
        self._turned = optics
        self._found = found
        self._object = ExitWaveObject(
            self._acquisition,
            optics,
            geometry,
            self._coarseness.choose(own.repetition, own.every, 0.0),
            batch=own.batch,
            held=min(
                scan.shape[0], reach + self._backlog_lines if self._is_beside else 2 * reach + 2
            ),
            grows=not self._is_beside,
            begins=self._begins,
        )

    def _slopes(self, geometry: Geometry) -> Slopes:
        """What the maps, which the run makes of all patterns, say of the phase's slopes."""
        maps, optics = self._maps, self._settings.optics
        known = maps.done & (maps.total > 0)
        centre = resolve_centre(maps, optics, self._acquisition.detector.shape)
        radian = 2.0 * math.pi * geometry.beam.aperture / geometry.pixels_per_angle
        y, x = (
            np.where(known, radian * shift, 0.0).astype(np.float32).reshape(maps.shape)
            for shift in to_scan_axes(*shifts(maps, centre), optics)
        )
        return Slopes(y, x, known.reshape(maps.shape), geometry.step_size_angstrom)

    def _about(self, thing: ExitWaveObject) -> dict[str, Any]:
        chosen = thing.neighbourhood
        return {
            "model": self._own.model,
            "model_sha256": self._network.sha256,
            "backend": self._network.about,
            "origin": [thing.geometry.origin] * 2,
            "reach_semi_angles": round(thing.reach, 3),
            "center": list(thing.geometry.center),
            "convergence_semi_angle_mrad": thing.geometry.beam.convergence_semi_angle_mrad,
            "repetition": chosen.repetition,
            "every": chosen.every,
            "groups": thing.counts["groups"],
            "left_out": self._lost,
            "late": thing.counts["late"],
            "saturated": thing.counts["saturated"],
        }

    def _say(self, kind: str, text: str, remedy: str, count: int = 1) -> None:
        self._tell(Notice(f"{self.name}_{kind}", f"{self.name}: {text}", "warning", count, remedy))


def missing(key: str, where: str) -> StemdError:
    """The error for a number without which there is no phase."""
    return StemdError(f"{key} is not set, and the phase cannot be had without it",
                      f"set {key.split('.')[-1]} in {where}")  # fmt: skip


def patterns_in(block: Block) -> int:
    """Positions of which a block brings the pattern, or the last hits."""
    if isinstance(block, EventBlock):
        return sum(stop - first for first, stop in block.complete)
    return int(np.count_nonzero(block.probe[: block.count] >= 0))


def _doubt(settings: AirpiSettings) -> str | None:
    try:
        find_model(settings.model)
    except NetworkError as error:
        return f"{error.message}; {error.remedy}"
    return None


PLUGIN = Plugin(
    name="airpi",
    summary="phase of the specimen from a network, live: dose-efficient, super-resolved (AIRPI)",
    settings=AirpiSettings,
    build=AirpiEngine,
    doubt=_doubt,
)

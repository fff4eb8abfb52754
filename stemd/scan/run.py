"""One scan on its way from blocks to final images: what its two threads may call."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING, Any, Literal

from stemd.acquisition import Acquisition
from stemd.blocks import Block, EndReason, FrameBlock, ImageBlock, Message, Notice
from stemd.engines.base import Gathered, PositionMaps
from stemd.engines.growing import LARGE
from stemd.engines.reduction import Reducer
from stemd.errors import ConfigError
from stemd.results import Result, Snapshot
from stemd.scan.blank import blank_notices, negative_notices
from stemd.scan.counters import Said
from stemd.scan.doubts import grave_doubts_of
from stemd.scan.engines import EngineChoice, Report, ScanEngines
from stemd.scan.images import Publish, ScanImages
from stemd.scan.intake import Intake
from stemd.scan.links import LinkReducers
from stemd.scan.masking import MASK, ScanMask
from stemd.scan.mixed import MixedDetectors
from stemd.scan.sampled import SampledPatterns
from stemd.settings import Settings

if TYPE_CHECKING:
    from stemd.scan.repeats import Repeats

POLL_S = 0.01
"""How often the engines look for new positions: often enough for the eye, rare enough to leave
the interpreter to the reader, which never has to wake anybody."""
CUT_OFF = ("stopped", "replaced", "disconnected", "restarted")
"""Ends that were not the camera's own."""
NOTHING = -(1 << 62)
SNAPSHOT_SHARE = 0.25
"""At most this part of the engines' time goes into snapshots; large images come less often."""


class ScanRun:
    """The data path of one acquisition, from its blocks to its images.

    `reduce` is called by the reader's thread and touches only integer maps; `serve` runs in a
    thread of its own, feeds the engines and makes snapshots until the scan has ended. Between
    the two stands the `intake`. A failing engine is reported once and left out, the others go
    on. With `live` a camera waits: slow engines work beside the scan, and their finished images
    come after all others; `notice` is told what they have to say, by any thread; `recorded` says
    whether there is a record from which images are completed.
    """

    def __init__(
        self,
        acquisition: Acquisition,
        settings: Settings,
        engines: Sequence[EngineChoice],
        centre: tuple[float, float] | None = None,
        report: Report | None = None,
        *,
        live: bool = False,
        notice: Callable[[Notice], None] = lambda notice: None,
        recorded: Callable[[], bool] = lambda: False,
    ) -> None:
        self.acquisition = acquisition
        settings = settings.with_known(acquisition.optics)
        self.settings = settings
        detectors = settings.masks()
        scan = acquisition.scan
        narrow = scan.positions >= LARGE and scan.repeats == 1
        self.recorded = PositionMaps(acquisition, tuple(detectors), narrow=narrow)
        """What the reader has summed, of all frames."""
        self.repeats = self._repeats_of(acquisition, self.recorded)
        self.maps = self.recorded if self.repeats is None else self.repeats.maps
        """Those of the place, which the images are made of."""
        self._said = Said(notice, recorded)
        self.mask = self._mask_of(acquisition, settings, live=live, tell=self._said.tell)
        self.maps.masked = self.recorded.masked = self.mask.mask
        self._mixed = MixedDetectors(self.maps, self.recorded)
        self.sampled = SampledPatterns(acquisition.detector, scan.positions, files=not live)
        self.reducer = Reducer(acquisition, settings.optics, self.recorded, detectors, centre)
        self.engines = ScanEngines(
            acquisition if self.repeats is None else self.repeats.place,
            settings,
            self.maps,
            engines,
            live=live,
            tell=self._said.tell,
            report=report,
            repeats=self.repeats,
        )
        self.intake = Intake(acquisition.started_ns)
        self.images = ScanImages(acquisition, self.engines, self.intake, self.repeats)
        self.history: list[dict[str, Any]] = []
        """Changes of settings in mid-scan, for scan.json."""
        self.measured: dict[str, Any] | None = None
        """The measured optics, once `measured_optics` has been asked for them."""
        self.end_reason: EndReason | None = None
        self.finished_ns = 0
        self.ended = threading.Event()
        self._applied = settings
        self.links = LinkReducers(self.intake)
        told = settings.of_scan(acquisition.scan)
        doubts = [
            Notice("doubt", text) for text in grave_doubts_of(told, acquisition.detector.shape)
        ]
        for said in (*doubts, *self.mask.given_notices(), *self.engines.first_only()):
            self.tell(said)

    @staticmethod
    def _repeats_of(acquisition: Acquisition, recorded: PositionMaps) -> Repeats | None:
        """The frames of a place that is scanned several times; None where it is scanned once."""
        if acquisition.scan.repeats == 1:
            return None
        from stemd.scan.repeats import Repeats  # with all that aligns images

        return Repeats(acquisition, recorded)

    @staticmethod
    def _mask_of(
        acquisition: Acquisition,
        settings: Settings,
        *,
        live: bool,
        tell: Callable[[Notice], None],
    ) -> ScanMask:
        """The scan's mask. A camera does not wait for one that cannot be used: that is told."""
        try:
            return ScanMask(acquisition, settings.optics)
        except ConfigError as error:
            if not live:
                raise
            text = f"{error.message}; the scan is made without it"
            tell(Notice("mask", text, level="error", remedy=error.remedy))
            return ScanMask(acquisition, settings.optics.model_copy(update={"mask": None}))

    def _mask_is_known(self) -> None:
        self.reducer.mask(self.mask.mask)
        if self.repeats is not None:
            self.repeats.mask(self.mask.mask)
        for said in self.mask.found_notices():
            self.tell(said)

    # The reader's side

    def reduce(self, block: Block) -> None:
        """Take a block in: moments, virtual detectors, inline engines.

        The first ones are held back where they are to tell which pixels do not count.
        """
        if not self.mask.known:
            self.intake.bytes += block.wire.nbytes
            if self.mask.hold(block):
                self.settle()
            return
        self._reduce(block)

    def reduce_apart(self, block: FrameBlock, link: int, settings: Settings) -> bool:
        """Take a block into the sums in the thread of one of several links.

        False, and nothing is done, while the first patterns are to decide something, and where the
        settings have changed: then blocks are needed in order. Engines that need patterns get it by
        `take_in`.
        """
        taken = self.links.reduce(
            block,
            link,
            settings,
            lambda: (
                settings is self.settings
                and self.repeats is None
                and self.mask.known
                and self.reducer.centre_fixed
            ),
            self._reducer_for,
        )
        if taken:
            self.sampled.look(block, self.recorded.masked)
        return taken

    def _reducer_for(self, settings: Settings) -> Reducer:
        """One more reducer into the same maps."""
        optics, detectors = settings.optics, settings.masks()
        return Reducer(self.acquisition, optics, self.recorded, detectors, self.reducer.centre)

    def take_in(self, block: Block) -> None:
        """Give a block that is in the sums to the engines that need patterns, in order."""
        self.engines.take_in(block)

    @property
    def wants_patterns(self) -> bool:
        """Whether there are engines that need patterns."""
        return bool(self.engines.inline)

    def settle(self) -> None:
        """What the first patterns decide is decided by those that there are."""
        if not self.mask.known:
            held = self.mask.decide()
            self._mask_is_known()
            for block in held:
                self._reduce(block)

    def found(self) -> dict[str, Gathered]:
        """What the first patterns have told, for other parts of the scan."""
        return {**self.engines.found(), MASK: self.mask.found()}

    def follow(self, found: Mapping[str, Gathered]) -> None:
        """Be a later part of a scan whose first part has found this out."""
        self.follow_mask(found)
        self.engines.follow(found)

    def follow_mask(self, found: Mapping[str, Gathered]) -> None:
        """Leave out the pixels that the first part of the scan has found."""
        self.mask.follow(found.get(MASK, {}))
        self._mask_is_known()

    def _reduce(self, block: Block) -> None:
        complete = self.reducer.reduce(block)
        self.sampled.look(block, self.recorded.masked)
        self.engines.take_in(block)
        self.intake.add(block, complete)

    def take(self, block: ImageBlock) -> None:
        """Take a finished image in: all positions are done."""
        scan = self.acquisition.scan
        result = Result(block.name, block.image, "counts", "scan", scan.step_size_angstrom)
        self.recorded.done[:] = True
        self.intake.add_image(block, result, scan.positions)

    def change(self, settings: Settings) -> None:
        """New settings from the next block on; called by the reader's thread."""
        with self.links.paused():
            before, centre = self.settings, self.reducer.centre
            self.reducer.update(settings.optics, settings.masks())
            self.settings = settings
            centres = centre, self.reducer.centre
            said = self._mixed.changed(before, settings, centres, self.positions_done)
        for notice in said:
            self.tell(notice)

    def end(self, reason: EndReason) -> None:
        """No more blocks will come."""
        self.settle()
        self.end_reason = reason
        self.finished_ns = time.time_ns()
        for said in self.blank():
            self.tell(said)
        self.engines.finish()
        self.ended.set()

    def blank(self) -> Sequence[Notice]:
        """What is to be said of patterns that no experiment makes; nothing of images."""
        if self.is_empty or self.intake.images():
            return []
        shape = self.acquisition.detector.shape
        return [
            *blank_notices(self.recorded),
            *negative_notices(self.recorded, shape),
            *self.sampled.notices(self.recorded.totals_done),
        ]

    # Any thread

    def count(self, messages: Sequence[Message]) -> None:
        """Count what was noticed outside of the blocks."""
        self._said.count(messages)

    def tell(self, notice: Notice) -> None:
        """Count what an engine has to say, and pass it on."""
        self._said.tell(notice)

    @property
    def counters(self) -> dict[str, int]:
        """What was counted, by kind; a copy."""
        return self._said.counters.as_dict()

    @property
    def notices(self) -> list[dict[str, Any]]:
        """What was noticed about the scan's data, as it stands in scan.json; a copy."""
        return self._said.notices.as_list()

    @property
    def frames(self) -> int:
        """Frames that have come in."""
        return self.intake.frames

    @property
    def positions_done(self) -> int:
        """Probe positions that are complete."""
        return self.intake.positions_done

    @property
    def is_empty(self) -> bool:
        """Whether nothing came of the scan: no pattern and no hit, but perhaps its line pulses."""
        return self.frames == 0 and not self.intake.images() and not self.recorded.total.any()

    @property
    def failed(self) -> Mapping[str, str]:
        """Why engines were left out, by name."""
        return self.engines.failed

    @property
    def first_found(self) -> bool:
        """Whether all is known that the first patterns decide, so that parts may be made."""
        found = self.mask.known and self.reducer.centre_fixed
        return found and self.engines.all_found(self.settings)

    @property
    def status(self) -> Literal["complete", "incomplete", "aborted"]:
        """`complete` if every position is there, `aborted` if cut off, else `incomplete`."""
        if self.positions_done >= self.acquisition.scan.positions:
            return "complete"
        return "aborted" if self.end_reason in CUT_OFF else "incomplete"

    def abandon(self, why: str) -> None:
        """Slow engines leave unfinished work undone; `why` is told."""
        self.engines.abandon(why)

    # The engines' side

    def serve(
        self,
        publish: Publish,
        rate_hz: Callable[[], float],
        publish_final: Publish = lambda snapshot: None,
    ) -> Snapshot:
        """Feed the engines until the scan has ended; returns the final snapshot.

        `publish` gets the snapshots in between, at most `rate_hz()` a second and only when
        there is something new. Changed settings are shown at once: who turns a knob watches.
        `publish_final` gets the finished images that must not wait for engines which work on
        images; `images.early` has their names.
        """
        shown = 0
        next_time = rested = time.monotonic()
        while True:
            ended = self.ended.wait(POLL_S)
            self.images.beat()
            settings = self.settings
            if settings is not self._applied:
                self._applied = settings
                self.engines.update(settings)
                shown, next_time = NOTHING, rested
            self.feed()
            if ended:
                break
            now = time.monotonic()
            if now >= next_time and self._shown_now() != shown:
                shown = self._shown_now()
                publish(self.snapshot(final=False))
                rested = now + (time.monotonic() - now) / SNAPSHOT_SHARE
                period = 1.0 / rate_hz()  # from when it was due: what came late is not added up
                next_time = max(now + period - (now - next_time) % period, rested)
        self.settle_repeats()
        return self.images.finals(self.settings, publish_final)

    def _shown_now(self) -> int:
        """A number that changes when there is something new to be seen."""
        added = 0 if self.repeats is None else self.repeats.added
        return -1 - added if added else self.positions_done

    def feed(self) -> None:
        """Give the engines the positions that have become complete."""
        complete = self.intake.take_positions()
        if self.repeats is not None:
            complete = self.repeats.take(complete)
        for engine in self.engines.positional:
            for positions in complete:
                self.engines.guard(engine, engine.consume, positions)

    def snapshot(self, *, final: bool) -> Snapshot:
        """All images now; exact, from the integer maps, when `final`."""
        if final:
            self.settle_repeats()
        return self.images.snapshot(self.settings, final=final)

    def settle_repeats(self) -> None:
        """The frames of a place that was scanned several times are added up for good."""
        if self.repeats is not None:
            for said in self.repeats.settle():
                self.tell(said)

    # After `serve`

    def lacking(self) -> dict[str, int]:
        """Positions by engine that images of slow engines lack and are to get from the record."""
        return self.engines.lacking(self.settings)

    def recompute(self, settings: Settings) -> Snapshot:
        """The final images anew from the maps, with other settings.

        What the reduction summed with the old settings (virtual detectors) keeps them.
        """
        self.settings = settings.for_maps_of(self.settings)
        self.engines.update(self.settings)
        return self.snapshot(final=True)

"""One scan on its way from blocks to final images: what its two threads may call."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Mapping, Sequence
from typing import Any, Literal

from stemd.acquisition import Acquisition
from stemd.adapters.recordings.mask_file import read_mask
from stemd.blocks import Block, EndReason, FrameBlock, ImageBlock, Message, Notice
from stemd.engines.base import Gathered
from stemd.results import Result, Snapshot
from stemd.scan.counters import Said
from stemd.scan.doubts import grave_doubts_of
from stemd.scan.engines import EngineChoice, Report, ScanEngines
from stemd.scan.given_mask import ReadMask
from stemd.scan.images import Publish, ScanImages
from stemd.scan.intake import Intake
from stemd.scan.masking import MASK
from stemd.scan.snapshot_times import SnapshotTimes
from stemd.scan.sums import ScanSums
from stemd.settings import Settings

POLL_S = 0.01
"""How often the engines look for new positions: often enough for the eye, rare enough to leave
the interpreter to the reader, which never has to wake anybody."""
CUT_OFF = ("stopped", "replaced", "disconnected", "restarted")
"""Ends that were not the camera's own."""


class ScanRun:
    """The data path of one acquisition, from its blocks to its images.

    `reduce` is called by the reader's thread and touches only the integer maps of `sums`; `serve`
    runs in a thread of its own, feeds the `engines` and makes `images` until the scan has ended.
    Between the two stands the `intake`. A failing engine is reported once and left out, the others
    go on. With `live` a camera waits: slow engines work beside the scan, and their finished images
    come after all others; `notice` is told what they have to say, by any thread; `recorded` says
    whether there is a record from which images are completed; `read` gives the mask in a file.
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
        read: ReadMask = read_mask,
    ) -> None:
        self.acquisition = acquisition
        settings = settings.with_known(acquisition.optics)
        self.settings = self._applied = settings
        self._said = Said(notice, recorded)
        tell = self._said.tell
        self.intake = Intake(acquisition.started_ns)
        self.sums = ScanSums(
            acquisition, settings, self.intake, tell, centre=centre, live=live, read=read
        )
        self.maps = self.sums.of_place
        """What the images are made of."""
        self.repeats = self.sums.repeats
        self.engines = ScanEngines(
            acquisition if self.repeats is None else self.repeats.place,
            settings,
            self.maps,
            engines,
            live=live,
            tell=tell,
            report=report,
            repeats=self.repeats,
        )
        self.images = ScanImages(acquisition, self.engines, self.intake, self.repeats)
        self.history: list[dict[str, Any]] = []
        """Changes of settings in mid-scan, for scan.json."""
        self.measured: dict[str, Any] | None = None
        """The measured optics, once `measured_optics` has been asked for them."""
        self.end_reason: EndReason | None = None
        self.finished_ns = 0
        self.ended = threading.Event()
        told = settings.of_scan(acquisition.scan)
        doubts = [
            Notice("doubt", text) for text in grave_doubts_of(told, acquisition.detector.shape)
        ]
        for said in (*doubts, *self.sums.mask.given_notices(), *self.engines.first_only()):
            tell(said)

    # The reader's side

    def reduce(self, block: Block) -> None:
        """Take a block in: moments, virtual detectors, inline engines."""
        self.sums.reduce(block, self.engines.take_in)

    def reduce_apart(self, block: FrameBlock, link: int, settings: Settings) -> bool:
        """Take a block into the sums in the thread of one of several links.

        False, and nothing is done, where blocks are needed in order. Engines that need patterns get
        the block, in order, by `engines.take_in`.
        """
        return self.sums.reduce_apart(block, link, settings)

    def settle(self) -> None:
        """What the first patterns decide is decided by those that there are."""
        self.sums.settle(self.engines.take_in)

    def found(self) -> dict[str, Gathered]:
        """What the first patterns have told, for other parts of the scan."""
        return {**self.engines.found(), MASK: self.sums.mask.found()}

    def follow(self, found: Mapping[str, Gathered]) -> None:
        """Be a later part of a scan whose first part has found this out."""
        self.sums.follow_mask(found)
        self.engines.follow(found)

    def take(self, block: ImageBlock) -> None:
        """Take a finished image in: all positions are done."""
        scan = self.acquisition.scan
        result = Result(block.name, block.image, "counts", "scan", scan.step_size_angstrom)
        self.sums.maps.done[:] = True
        self.intake.add_image(block, result, scan.positions)

    def change(self, settings: Settings) -> None:
        """New settings from the next block on; called by the reader's thread."""
        self.sums.change(settings)
        self.settings = settings

    def end(self, reason: EndReason) -> None:
        """No more blocks will come."""
        self.settle()
        self.end_reason = reason
        self.finished_ns = time.time_ns()
        for said in self.odd():
            self.tell(said)
        self.engines.finish()
        self.ended.set()

    def odd(self) -> Sequence[Notice]:
        """What is to be said of patterns that no experiment makes; nothing of images."""
        return [] if self.is_empty or self.intake.images() else self.sums.odd()

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
        return self.frames == 0 and not self.intake.images() and not self.sums.maps.total.any()

    @property
    def failed(self) -> Mapping[str, str]:
        """Why engines were left out, by name."""
        return self.engines.failed

    @property
    def first_found(self) -> bool:
        """Whether all is known that the first patterns decide, so that parts may be made."""
        return self.sums.decided and self.engines.all_found(self.settings)

    @property
    def status(self) -> Literal["complete", "incomplete", "aborted"]:
        """`complete` if every position is there, `aborted` if cut off, else `incomplete`."""
        if self.positions_done >= self.acquisition.scan.positions:
            return "complete"
        return "aborted" if self.end_reason in CUT_OFF else "incomplete"

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
        times = SnapshotTimes(time.monotonic(), 0)
        while True:
            ended = self.ended.wait(POLL_S)
            self.images.beat()
            settings = self.settings
            if settings is not self._applied:
                self._applied = settings
                self.engines.update(settings)
                times.at_once()
            self.feed()
            if ended:
                break
            began, seen = time.monotonic(), self._to_be_seen()
            if times.due(began, seen):
                publish(self.snapshot(final=False))
                times.made(began, time.monotonic(), seen, rate_hz())
        self.settle_repeats()
        return self.images.finals(self.settings, publish_final)

    def _to_be_seen(self) -> int:
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

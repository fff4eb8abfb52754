"""What the patterns of one scan are summed into, and what the first of them decide."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING

from stemd.acquisition import Acquisition
from stemd.adapters.recordings.mask_file import read_mask
from stemd.blocks import Block, FrameBlock, Notice
from stemd.engines.base import Gathered, PositionMaps
from stemd.engines.growing import LARGE
from stemd.engines.reduction import Reducer
from stemd.scan.blank import blank_notices, negative_notices
from stemd.scan.given_mask import ReadMask
from stemd.scan.intake import Intake
from stemd.scan.line_order import line_order
from stemd.scan.links import LinkReducers
from stemd.scan.masking import MASK, usable_mask
from stemd.scan.mixed import MixedDetectors
from stemd.scan.odd_positions import odd_positions
from stemd.scan.sampled import SampledPatterns
from stemd.settings import Settings

if TYPE_CHECKING:
    from stemd.scan.repeats import Repeats

TakeIn = Callable[[Block], None]
"""Gets each block once it is in the sums, in order."""


class ScanSums:
    """The integer maps of one scan and all that decides what is summed into them.

    That is the mask of the detector, the virtual detectors and their centre. The reader's thread
    calls everything here, but for `reduce_apart`, which the threads of several links call. What is
    summed goes on to the engines' thread by the `intake`. `tell` gets what the patterns say.
    """

    def __init__(
        self,
        acquisition: Acquisition,
        settings: Settings,
        intake: Intake,
        tell: Callable[[Notice], None],
        *,
        centre: tuple[float, float] | None,
        live: bool,
        read: ReadMask = read_mask,
    ) -> None:
        scan, detectors = acquisition.scan, settings.masks()
        narrow = scan.positions >= LARGE and scan.repeats == 1
        self.maps = PositionMaps(acquisition, tuple(detectors), narrow=narrow)
        """What was summed, of all frames."""
        self.repeats = _repeats_of(acquisition, self.maps)
        """The frames of a place that is scanned several times; None where it is scanned once."""
        self.of_place = self.maps if self.repeats is None else self.repeats.maps
        """The maps of the place, which the images are made of."""
        self.mask = usable_mask(acquisition, settings.optics, tell, live=live, read=read)
        self.of_place.masked = self.maps.masked = self.mask.mask
        self.reducer = Reducer(acquisition, settings.optics, self.maps, detectors, centre)
        self.links = LinkReducers(intake)
        self.sampled = SampledPatterns(acquisition.detector, scan.positions, files=not live)
        self._mixed = MixedDetectors(self.of_place, self.maps)
        self._acquisition, self._settings = acquisition, settings
        self._intake, self._tell = intake, tell

    @property
    def decided(self) -> bool:
        """Whether mask and centre are known, so that blocks may be summed in any order."""
        return self.mask.known and self.reducer.centre_fixed

    def reduce(self, block: Block, take_in: TakeIn) -> None:
        """Take a block into the sums.

        The first ones are held back where they are to tell which pixels do not count.
        """
        if self.mask.known:
            self._reduce(block, take_in)
            return
        self._intake.bytes += block.wire.nbytes
        if self.mask.hold(block):
            self.settle(take_in)

    def _reduce(self, block: Block, take_in: TakeIn) -> None:
        complete = self.reducer.reduce(block)
        self.look(block)
        take_in(block)
        self._intake.add(block, complete)

    def look(self, block: Block) -> None:
        """Look at some of a block's patterns for counts that no experiment makes. Any thread."""
        self.sampled.look(block, self.maps.masked)

    def settle(self, take_in: TakeIn) -> None:
        """Find the mask in the patterns that there are, if it is not known yet."""
        if not self.mask.known:
            held = self.mask.decide()
            self._mask_is_known()
            for block in held:
                self._reduce(block, take_in)

    def follow_mask(self, found: Mapping[str, Gathered]) -> None:
        """Leave out the pixels that the first part of the scan has found."""
        self.mask.follow(found.get(MASK, {}))
        self._mask_is_known()

    def _mask_is_known(self) -> None:
        self.reducer.mask(self.mask.mask)
        if self.repeats is not None:
            self.repeats.mask(self.mask.mask)
        for said in self.mask.found_notices():
            self._tell(said)

    def reduce_apart(self, block: FrameBlock, link: int, settings: Settings) -> bool:
        """Take a block into the sums in the thread of one of several links.

        False, and nothing is done, where blocks are needed in order: while the first patterns are
        to decide something, and where `settings` are not those of the sums.
        """
        taken = self.links.reduce(
            block,
            link,
            settings,
            lambda: settings is self._settings and self.repeats is None and self.decided,
            self.another_reducer,
        )
        if taken:
            self.look(block)
        return taken

    def another_reducer(self, settings: Settings) -> Reducer:
        """One more reducer into the same maps, with the centre that was found, for one thread."""
        optics, detectors = settings.optics, settings.masks()
        return Reducer(self._acquisition, optics, self.maps, detectors, self.reducer.centre)

    def change(self, settings: Settings) -> None:
        """New settings from the next block on."""
        with self.links.paused():
            before, centre = self._settings, self.reducer.centre
            self.reducer.update(settings.optics, settings.masks())
            self._settings = settings
            centres = centre, self.reducer.centre
            said = self._mixed.changed(before, settings, centres, self._intake.positions_done)
        for notice in said:
            self._tell(notice)

    def odd(self) -> Sequence[Notice]:
        """What is to be said of patterns that no experiment makes."""
        return [
            *blank_notices(self.maps),
            *negative_notices(self.maps, self._acquisition.detector.shape),
            *self.sampled.notices(self.maps.totals_done),
            *odd_positions(self.maps),
            *line_order(self.maps),
        ]


def _repeats_of(acquisition: Acquisition, maps: PositionMaps) -> Repeats | None:
    if acquisition.scan.repeats == 1:
        return None
    from stemd.scan.repeats import Repeats  # with all that aligns images

    return Repeats(acquisition, maps)

"""The images of a stream: which series and scan they are of, expanded and placed."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np

from stemd.acquisition import Scan
from stemd.adapters.dectris.camera import DectrisCamera, layout_of
from stemd.adapters.dectris.expander import Expander
from stemd.adapters.dectris.kernels import scanning, table
from stemd.adapters.dectris.odd_images import OddImages, of_other_series
from stemd.adapters.dectris.series import PixelMask
from stemd.adapters.dectris.slots import CompressedSlots
from stemd.adapters.dectris.stolen import StolenFrames
from stemd.adapters.frames.following import ScanFollower
from stemd.adapters.frames.format import FrameLayout, FrameStart
from stemd.adapters.frames.placer import Bytes
from stemd.adapters.frames.told import announced, changed, left_out
from stemd.blocks import BlockPool, Message, Notice, Started
from stemd.errors import FormatError

_NOTHING = np.zeros(0, np.uint8)


class SeriesImages(ScanFollower):
    """The part of `StreamDecoder` that takes images in; `expander`: of several threads."""

    def __init__(self, pool: BlockPool, scan: Scan | None, source: str, expander: Expander) -> None:
        super().__init__(DectrisCamera(), scan, source)
        self._pool, self._expander = pool, expander
        self._slots: CompressedSlots | None = None
        self._stolen = StolenFrames()
        self._odd = OddImages()
        self._series, self._unannounced = -1, False
        self._masks: dict[str, PixelMask] = {}

    def forget(self) -> None:
        """What comes next is of a new connection."""
        if self._slots is not None:
            self._slots.drop()
        self.new_series(-1, {})
        self._odd.take()
        self._placer.forget()
        self._tracker.new_acquisition(None)

    def new_series(self, series: int, masks: dict[str, PixelMask]) -> None:
        """Images of another series come from now on."""
        self._series, self._masks, self._unannounced = series, masks, False
        self._stolen.reset()

    def bad(self, count: int) -> Iterator[Message]:
        """Tell of images that cannot be read."""
        yield from self._tallies.add(
            "bad_frame",
            "{count} images are damaged or of an unknown kind: there are holes",
            count,
            "known are 8, 16 and 32 bits, little-endian, compression bslz4, lz4 or none",
        )

    def images(self, data: Bytes, rows: scanning.Rows, now_ns: int) -> Iterator[Message]:
        """Images of one series, size and type, whose messages stand in `data`."""
        try:
            layout = layout_of(rows[0])
        except FormatError as error:
            yield from self._tallies.add("bad_frame", error.message, len(rows), error.remedy)
            return
        series = int(rows[0, table.SERIES])
        odd = self._odd
        kept = []
        if not self._fits(series, layout, int(rows[0, table.NUMBER])):
            if odd.kind not in (None, (series, layout)):
                yield from self.leave_out_odd()
            if not odd.are_many(len(rows)):
                odd.keep(data, rows, series, layout)
                return
            kept = odd.take()
        yield from self.leave_out_odd()
        if series != self._series:
            yield from self._placer.close("restarted", announced())
            self.new_series(series, {})
            self._unannounced = True
            self._tracker.new_acquisition(None)
        yield from self._expect(layout)
        for where, some in [*kept, (data, rows)]:
            yield from self._take_in(where, some, now_ns)

    def _fits(self, series: int, layout: FrameLayout, number: int) -> bool:
        """Images are like those before, or begin anew."""
        slots, tracker = self._slots, self._tracker
        if slots is None or not tracker.planned or number == 0:
            return True
        if series != self._series:
            return tracker.acquisition is None
        return layout == slots.layout

    def leave_out_odd(self) -> Iterator[Message]:
        """What came of another kind were a few odd images."""
        odd, slots = self._odd, self._slots
        if odd.kind is not None and slots is not None:
            series, layout = odd.kind
            if series == self._series:
                told = left_out(odd.first, layout, slots.layout, odd.count)
            else:
                told = of_other_series(odd.first, series, self._series, odd.count)
            yield from self._tallies.add(*told)
        odd.take()

    def _take_in(self, data: Bytes, rows: scanning.Rows, now_ns: int) -> Iterator[Message]:
        """Expand and place images whose messages stand in `data`."""
        if (stolen := self._stolen.noticed(rows[:, table.NUMBER])) is not None:
            yield stolen
        slots = self._slots
        assert slots is not None
        while len(rows):
            part = rows[: slots.fits(rows)]
            rows = rows[len(part) :]
            damaged = slots.load(data, part)
            if damaged:
                yield from self.bad(damaged)
            if slots.capacity:
                yield from self._told_behind_start(slots, now_ns)

    def _told_behind_start(self, slots: CompressedSlots, now_ns: int) -> Iterator[Message]:
        """Place images; what is to be told of an unannounced series stands with its scan."""
        for message in self._placer.place(slots, slots.capacity, now_ns):
            yield message
            if self._unannounced and isinstance(message, Started):
                self._unannounced = False
                yield Notice(
                    "no_start",
                    f"series {self._series} began before stemd was connected, or another client "
                    "was told of it: its pixel mask and its number of images are not known",
                    "info",
                )

    def _expect(self, layout: FrameLayout) -> Iterator[Message]:
        if self._slots is None or layout != self._slots.layout:
            if self._slots is not None:
                if self._tracker.planned:
                    ended, begun = changed(self._slots.layout, layout)
                    if self._tracker.acquisition is not None:
                        self._tracker.say_of_next(begun)
                    yield from self._placer.close("restarted", ended)
                    self._tracker.renumber()
                self._slots.drop()
            self._slots = CompressedSlots(self._pool, layout, self._expander)
            self._placer.expect(FrameStart(layout, b"", _NOTHING), 0)
        if not self._tracker.planned:
            self._tracker.make_plan()

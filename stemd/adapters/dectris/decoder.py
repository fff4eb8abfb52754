"""From the bytes of a DECTRIS stream to scans and blocks of frames: pure, no socket, no clock."""

from __future__ import annotations

from collections.abc import Generator, Iterable, Iterator, Sequence

import numpy as np
from numpy.typing import NDArray

from stemd.acquisition import Scan
from stemd.adapters.dectris import zmtp
from stemd.adapters.dectris.camera import (
    SHAPE,
    START_NAME,
    DectrisCamera,
    layout_of,
    mask_of,
    read_message,
)
from stemd.adapters.dectris.expander import Expander
from stemd.adapters.dectris.inbox import Inbox
from stemd.adapters.dectris.kernels import scanning, table
from stemd.adapters.dectris.kernels.scanning import find_messages, parts_of
from stemd.adapters.dectris.odd_images import OddImages, of_other_series
from stemd.adapters.dectris.series import PixelMask, SeriesEnd, SeriesStart, Unknown
from stemd.adapters.dectris.slots import CompressedSlots
from stemd.adapters.dectris.stolen import StolenFrames
from stemd.adapters.frames.following import ScanFollower
from stemd.adapters.frames.format import Announcement, FrameLayout, FrameStart
from stemd.adapters.frames.placer import Bytes
from stemd.adapters.frames.told import announced, changed, left_out
from stemd.blocks import BlockPool, EndReason, Message, Notice, Started
from stemd.errors import FormatError

_ROWS = 1024
_MAX_HEAD_PARTS = 16
_NOTHING = np.zeros(0, np.uint8)


class StreamDecoder(ScanFollower):
    """Implements adapters.base.Decoder for one connection to a stream, of either kind.

    `channel`: of several, the one to use; "": the first. `greets`: the bytes begin with ZeroMQ's
    handshake; those of a record do not. `expander`: of several threads. `scan`, `fed`, `flush` are
    as FrameDecoder's.
    """

    def __init__(
        self,
        pool: BlockPool,
        scan: Scan | None = None,
        source: str = "",
        channel: str = "",
        *,
        greets: bool = True,
        expander: Expander | None = None,
    ) -> None:
        super().__init__(DectrisCamera(), scan, source)
        self._expander = expander or Expander()
        self._pool, self._greets = pool, greets
        self._channel_name = channel
        self._channel = np.frombuffer(bytearray(channel.encode()), np.uint8)
        self._rows = np.zeros((_ROWS, table.COLUMNS), np.int64)
        self._parts = np.zeros((scanning.MAX_PARTS, 2), np.int64)
        self._inbox = Inbox()
        self._slots: CompressedSlots | None = None
        self._stolen = StolenFrames()
        self._odd = OddImages()
        self.garbage_bytes = self.series_bytes = 0
        """`series_bytes`: of all messages that are no images, of all connections."""
        self.broken = False
        self.reset()

    def reset(self) -> None:
        """The next byte is the first of a new connection."""
        if self._slots is not None:
            self._slots.drop()
        self._inbox.clear()
        self.garbage_bytes = 0
        self.broken = False
        self._greeted = not self._greets
        self._outgoing = zmtp.greeting() if self._greets else b""
        self._series, self._unannounced = -1, False
        self._head: list[bytes] = []
        self._masks: dict[str, PixelMask] = {}
        self._stolen.reset()
        self._odd.take()
        self._tracker.new_acquisition(None)

    @property
    def useless_bytes(self) -> int:
        """Bytes of this connection that no frame can come of."""
        return self.garbage_bytes

    def outgoing(self) -> bytes:
        """What is to be sent to the camera now: handshake, answers to its questions."""
        data, self._outgoing = self._outgoing, b""
        return data

    def wants(self) -> Sequence[memoryview]:
        """Where the next bytes are to land."""
        return (self._inbox.room(),)

    def fed(self, count: int, now_ns: int) -> Iterable[Message]:
        """`count` bytes have landed at `now_ns` (UTC)."""
        self._inbox.stop += count
        if self.broken:
            self.garbage_bytes += self._inbox.drop()
            return ()
        return self._drive(now_ns)

    def flush(self, now_ns: int, *, eof: bool) -> Iterable[Message]:
        """What is whole has been given out; at `eof` what is not whole is counted and dropped."""
        if not eof:
            return
        left = self._inbox.left
        self._inbox.clear()
        yield from self._leave_out_odd()
        if left and self._greeted and not self.broken:
            yield Notice("partial_frame", f"the last {left} bytes are not a whole message")
        yield from self._tallies.rest()

    def end(self, reason: EndReason, now_ns: int) -> Iterator[Message]:
        """End the scan under way, if any."""
        yield from self._tracker.close(reason)

    def _drive(self, now_ns: int) -> Iterator[Message]:
        if not self._greeted and not (yield from self._greet()):
            return
        inbox, more = self._inbox, True
        while more and not self.broken:
            found, after, size = find_messages(
                inbox.data, inbox.at, inbox.stop, self._channel, self._rows, self._parts
            )
            yield from self._messages(self._rows[:found], now_ns)
            inbox.at = after
            more = found == _ROWS
            if size < 0:
                why = FormatError("what comes is no message of ZeroMQ's protocol", "")
                yield from self._break(why)
            elif not more:
                inbox.tidy(size)

    def _greet(self) -> Generator[Message, None, bool]:
        """The other side's greeting, True once it is whole."""
        inbox = self._inbox
        data = inbox.data[inbox.at : min(inbox.stop, zmtp.GREETING_BYTES)].tobytes()
        try:
            zmtp.check_greeting(data)
        except FormatError as error:
            yield from self._break(error)
            return False
        if len(data) < zmtp.GREETING_BYTES:
            return False
        inbox.at += zmtp.GREETING_BYTES
        self._greeted = True
        self._outgoing += zmtp.ready("PULL")
        return True

    def _break(self, error: FormatError) -> Iterator[Message]:
        """Nothing that follows can be understood."""
        self.broken = True
        self.garbage_bytes += self._inbox.drop()
        yield Notice("bad_stream", error.message, "error", remedy=error.remedy)

    def _messages(self, rows: scanning.Rows, now_ns: int) -> Iterator[Message]:
        """All messages of a receive: images of one kind together, the others one by one."""
        alike = rows[:, [table.KIND, table.SERIES, *SHAPE]]
        cuts = np.flatnonzero(np.any(alike[1:] != alike[:-1], axis=1)) + 1
        for part in np.split(rows, cuts):
            kind = int(part[0, table.KIND]) if len(part) else -1
            if kind == table.IMAGE:
                yield from self._images(part, now_ns)
            elif kind == table.NO_CHANNEL:
                yield from self._tallies.add(
                    "no_channel",
                    f"images without the channel {self._channel_name!r}: {{count}}",
                    len(part),
                    f"set channel to one of {', '.join(self._masks) or 'those of the detector'}",
                )
            elif kind == table.BAD:
                yield from self._bad(len(part))
            elif kind >= 0:
                for row in part:
                    yield from self._other(row)
            if self.broken:
                return

    def _bad(self, count: int) -> Iterator[Message]:
        yield from self._tallies.add(
            "bad_frame",
            "{count} images are damaged or of an unknown kind, and leave holes",
            count,
            "known are 8, 16 and 32 bits, little-endian, compression bslz4, lz4 or none",
        )

    def _other(self, row: NDArray[np.int64]) -> Iterator[Message]:
        message = self._inbox.data[row[table.BEGIN] : row[table.END]].tobytes()
        self.series_bytes += len(message)
        parts = parts_of(message)
        try:
            if row[table.KIND] == table.COMMAND:
                self._outgoing += zmtp.answer(parts[0])
                return
            said = read_message(parts)
            if isinstance(said, Unknown) and said.nameless and self._head:
                # The header of the legacy stream may come as a message for each of its parts.
                parts = [*self._head, *parts]
                said, message = read_message(parts), zmtp.message(*parts)
        except FormatError as error:
            if row[table.KIND] == table.COMMAND:
                yield from self._break(error)
            else:
                text = "{count} messages could not be read: " + error.message
                yield from self._tallies.add("bad_message", text, remedy=error.remedy)
            return
        if isinstance(said, SeriesStart):
            grows = parts[0].startswith(b"{") and len(parts) < _MAX_HEAD_PARTS
            self._head = parts if grows else []
            yield from self._start(said, message)
        elif isinstance(said, SeriesEnd):
            # An end may come late, when the next series has begun.
            if said.series == self._series:
                yield from self._leave_out_odd()
                yield from self._tracker.close("stopped")
        else:
            text = f"{{count}} messages of the kind {said.kind[:40]!r} were passed over"
            yield from self._tallies.add("unknown_message", text)

    def _start(self, said: SeriesStart, message: bytes) -> Iterator[Message]:
        """A series begins: what was under way is over."""
        yield from self._leave_out_odd()
        yield from self._tracker.close("restarted", announced())
        yield from self._tallies.rest()
        self._new_series(said.series, said.masks)
        self._tracker.new_acquisition(
            Announcement(
                said.frames,
                None,
                said.text,
                ((START_NAME, message),),
                mask=mask_of(said.masks, self._channel_name),
            )
        )
        if len(said.channels) > 1 and not self._channel_name:
            yield Notice(
                "channels",
                f"the images have the channels {', '.join(said.channels)}: "
                f"{said.channels[0]} is used",
                "info",
                remedy="set channel to use another",
            )

    def _new_series(self, series: int, masks: dict[str, PixelMask]) -> None:
        self._series, self._masks, self._unannounced = series, masks, False
        self._stolen.reset()

    def _images(self, rows: scanning.Rows, now_ns: int) -> Iterator[Message]:
        """Images of one series, size and type."""
        self._head = []
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
                yield from self._leave_out_odd()
            if not odd.are_many(len(rows)):
                odd.keep(self._inbox.data, rows, series, layout)
                return
            kept = odd.take()
        yield from self._leave_out_odd()
        if series != self._series:
            yield from self._tracker.close("restarted", announced())
            self._new_series(series, {})
            self._unannounced = True
            self._tracker.new_acquisition(None)
        yield from self._expect(layout)
        for data, before in [*kept, (self._inbox.data, rows)]:
            yield from self._take_in(data, before, now_ns)

    def _fits(self, series: int, layout: FrameLayout, number: int) -> bool:
        """Images are like those before, or begin anew."""
        slots, tracker = self._slots, self._tracker
        if slots is None or not tracker.planned or number == 0:
            return True
        if series != self._series:
            return tracker.acquisition is None
        return layout == slots.layout

    def _leave_out_odd(self) -> Iterator[Message]:
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
                yield from self._bad(damaged)
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
                    yield from self._tracker.close("restarted", ended)
                    self._tracker.renumber()
                self._slots.drop()
            self._slots = CompressedSlots(self._pool, layout, self._expander)
            self._placer.expect(FrameStart(layout, b"", _NOTHING), 0)
        if not self._tracker.planned:
            self._tracker.make_plan()

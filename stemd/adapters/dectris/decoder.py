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
    mask_of,
    read_message,
)
from stemd.adapters.dectris.expander import Expander
from stemd.adapters.dectris.images import SeriesImages
from stemd.adapters.dectris.inbox import Inbox
from stemd.adapters.dectris.kernels import scanning, table
from stemd.adapters.dectris.kernels.scanning import find_messages, parts_of
from stemd.adapters.dectris.series import SeriesEnd, SeriesStart, Unknown
from stemd.adapters.frames.format import Announcement
from stemd.adapters.frames.told import announced
from stemd.blocks import BlockPool, EndReason, Message, Notice
from stemd.errors import FormatError

_ROWS = 1024
_MAX_HEAD_PARTS = 16


class StreamDecoder(SeriesImages):
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
        super().__init__(pool, scan, source, expander or Expander())
        self._greets = greets
        self._channel_name = channel
        self._channel = np.frombuffer(bytearray(channel.encode()), np.uint8)
        self._rows = np.zeros((_ROWS, table.COLUMNS), np.int64)
        self._parts = np.zeros((scanning.MAX_PARTS, 2), np.int64)
        self._inbox = Inbox()
        self.garbage_bytes = self.series_bytes = 0
        """`series_bytes`: of all messages that are no images, of all connections."""
        self.broken = False
        self.reset()

    def reset(self) -> None:
        """The next byte is the first of a new connection."""
        self.forget()
        self._inbox.clear()
        self.garbage_bytes = 0
        self.broken = False
        self._greeted = not self._greets
        self._outgoing = zmtp.greeting() if self._greets else b""
        self._head: list[bytes] = []

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
        yield from self.leave_out_odd()
        if left and self._greeted and not self.broken:
            yield Notice("partial_frame", f"the last {left} bytes are not a whole message")
        yield from self._tallies.rest()

    def end(self, reason: EndReason, now_ns: int) -> Iterator[Message]:
        """End the scan under way, if any."""
        yield from self._placer.close(reason)

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
                self._head = []
                yield from self.images(self._inbox.data, part, now_ns)
            elif kind == table.NO_CHANNEL:
                yield from self._tallies.add(
                    "no_channel",
                    f"images without the channel {self._channel_name!r}: {{count}}",
                    len(part),
                    f"set channel to one of {', '.join(self._masks) or 'those of the detector'}",
                )
            elif kind == table.BAD:
                yield from self.bad(len(part))
            elif kind >= 0:
                for row in part:
                    yield from self._other(row)
            if self.broken:
                return

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
                yield from self.leave_out_odd()
                yield from self._placer.close("stopped")
        else:
            text = f"{{count}} messages of the kind {said.kind[:40]!r} were passed over"
            yield from self._tallies.add("unknown_message", text)

    def _start(self, said: SeriesStart, message: bytes) -> Iterator[Message]:
        """A series begins: what was under way is over."""
        yield from self.leave_out_odd()
        yield from self._placer.close("restarted", announced())
        yield from self._tallies.rest()
        self.new_series(said.series, said.masks)
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

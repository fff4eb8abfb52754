"""Several connections to one stream, joined to the bytes that one alone would have brought.

A control unit hands its messages to its clients in turn; where one connection does not carry all
of them, several of ours do. Images carry numbers: by these their messages are put into line
again. A series begins with its start and ends with its end, whichever connection brought those.
Pure: no socket, no clock.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from stemd.adapters.dectris import zmtp
from stemd.adapters.dectris.camera import read_message
from stemd.adapters.dectris.inbox import Inbox
from stemd.adapters.dectris.kernels import scanning, table
from stemd.adapters.dectris.kernels.joining import copy_messages
from stemd.adapters.dectris.kernels.scanning import Rows, find_messages, parts_of
from stemd.adapters.dectris.series import SeriesEnd, SeriesStart
from stemd.errors import FormatError

Bytes = NDArray[np.uint8]

PATIENCE_S = 0.2
"""A message that one connection lacks for so long is not waited for any more."""
MOST_BYTES = 256 * 1024 * 1024
"""Of all that wait for one: beyond that nothing is waited for."""
_ROWS = 1024
_ANY_CHANNEL = np.zeros(0, np.uint8)
_START, _END = -1, 1 << 60
"""Numbers of the messages before and behind all images of their series."""
_NONE = -2


class Chunk:
    """Whole messages that one connection has brought together; `rows` of those not in line yet.

    SERIES and NUMBER of `rows` are also those of messages that are no images.
    """

    def __init__(self, data: Bytes, rows: Rows) -> None:
        self.data, self.rows = data, rows


class Pull:
    """One connection: finds its messages, answers its commands.

    `broken`: what it brings is no stream; `rest` then is what could not be understood.
    """

    def __init__(self) -> None:
        self.outgoing = zmtp.greeting()
        self.hello = b""
        self.broken = False
        self._inbox = Inbox()
        self._greeted = False
        self._parts = np.zeros((scanning.MAX_PARTS, 2), np.int64)
        self._series, self._number = -1, _NONE
        self._past: list[int] = []

    def room(self) -> memoryview:
        """Where the next bytes are to land."""
        return self._inbox.room()

    @property
    def rest(self) -> bytes:
        """Bytes that have come and are no whole message."""
        return self._inbox.data[self._inbox.at : self._inbox.stop].tobytes()

    def seen(self, series: int) -> int:
        """The last number of the series that it has brought; _END: it brings no more of it."""
        if series == self._series:
            return self._number
        return _END if self._series > series or series in self._past else _NONE

    def came(self, count: int) -> list[Chunk]:
        """`count` bytes have landed; the messages that are whole now, of each series together."""
        self._inbox.stop += count
        found: list[Chunk] = []
        try:
            if self._greeted or self._greet():
                while self._scan(found):
                    pass
        except FormatError:
            self.broken = True
        return found

    def _greet(self) -> bool:
        inbox = self._inbox
        data = inbox.data[inbox.at : min(inbox.stop, zmtp.GREETING_BYTES)].tobytes()
        zmtp.check_greeting(data)
        if len(data) < zmtp.GREETING_BYTES:
            return False
        inbox.at += zmtp.GREETING_BYTES
        self.hello, self.outgoing = data, self.outgoing + zmtp.ready("PULL")
        self._greeted = True
        return True

    def _scan(self, found: list[Chunk]) -> bool:
        """Take out whole messages; whether there may be more."""
        inbox = self._inbox
        rows = np.zeros((_ROWS, table.COLUMNS), np.int64)
        count, after, size = find_messages(
            inbox.data, inbox.at, inbox.stop, _ANY_CHANNEL, rows, self._parts
        )
        if count:
            data = inbox.data[inbox.at : after].copy()
            rows = rows[:count]
            rows[:, [table.BEGIN, table.END]] -= inbox.at
            inbox.at = after
            rows = self._numbered(data, rows)
            if len(rows):
                found.append(Chunk(data, rows))
        if size < 0:
            raise FormatError("what comes is no message of ZeroMQ's protocol", "")
        if count < _ROWS:
            inbox.tidy(size)
        return bool(count == _ROWS)

    def _numbered(self, data: Bytes, rows: Rows) -> Rows:
        """Commands are answered and left out; what is no image gets a series and a number."""
        keep = np.ones(len(rows), np.bool_)
        before: NDArray[np.int64] | None = None  # the row that was kept last
        behind = 0
        for index in np.flatnonzero(rows[:, table.KIND] != table.IMAGE):
            before = rows[index - 1] if index > behind else before
            behind = int(index) + 1
            row = rows[index]
            parts = parts_of(data[row[table.BEGIN] : row[table.END]].tobytes())
            if row[table.KIND] == table.COMMAND:
                keep[index] = False
                self.outgoing += zmtp.answer(parts[0])
                continue
            place = _place_of(parts)
            if place is None:  # stays behind what came before it
                place = (self._series, self._number)
                if before is not None:
                    place = (int(before[table.SERIES]), int(before[table.NUMBER]))
            row[table.SERIES], row[table.NUMBER] = place
            before = row
        rows = rows[keep]
        for series in dict.fromkeys(rows[:, table.SERIES].tolist()):
            if series != self._series:
                self._past = [*self._past[-7:], self._series]
                self._past = [each for each in self._past if each != series]
                self._series = series
            self._number = int(rows[rows[:, table.SERIES] == series, table.NUMBER].max())
        return rows


def _place_of(parts: list[bytes]) -> tuple[int, int] | None:
    """(series, number) of a message that is no image, None where it does not say."""
    try:
        said = read_message(parts)
    except FormatError:
        return None
    if isinstance(said, SeriesStart):
        return said.series, _START
    return (said.series, _END) if isinstance(said, SeriesEnd) else None


class Joined:
    """The messages of several connections in line.

    Bytes land in `pulls[i].room()`; `came` says how many; `line` gives what is in line now.
    """

    def __init__(self, count: int) -> None:
        self.pulls = [Pull() for _ in range(count)]
        self._chunks: list[Chunk] = []
        self._series, self._next, self._over = -1, _NONE, -1
        self._begun = self._ended = False
        self._since_s = 0.0
        self._greeted = False

    @property
    def waiting(self) -> bool:
        """Whether there are messages that are not in line yet."""
        return bool(self._chunks)

    def came(self, which: int, count: int) -> None:
        """So many bytes have landed from this connection."""
        self._chunks += self.pulls[which].came(count)

    def line(self, now_s: float, *, over: bool = False) -> bytes:
        """What is in line; `over`: nothing more will come, so all of it."""
        found = []
        if not self._greeted and self.pulls[0].hello:
            self._greeted = True
            found.append(self.pulls[0].hello + zmtp.ready("PUSH"))
        over = over or sum(chunk.data.size for chunk in self._chunks) > MOST_BYTES
        broken = [pull for pull in self.pulls if pull.broken]
        while part := self._part(now_s, all_of_it=over or bool(broken)):
            found.append(part)
        return b"".join([*found, *(pull.rest for pull in broken[:1])])

    def _part(self, now_s: float, *, all_of_it: bool) -> bytes:
        """What is in line of the series under way, or of the one that comes first."""
        if not self._chunks:
            self._since_s = now_s
            return b""
        rows = np.concatenate([chunk.rows for chunk in self._chunks])
        here = np.flatnonzero(rows[:, table.SERIES] == self._series)
        if not (self._begun and here.size):
            first = int(rows[:, table.SERIES].min())
            if first != self._series:
                # Where the one before has not ended for all, its messages may be on their way.
                self._next = _START if self._ended else _NONE
                self._series, self._begun, self._ended = first, False, False
                self._since_s = now_s
            here = np.flatnonzero(rows[:, table.SERIES] == self._series)
        numbers = rows[here, table.NUMBER]
        order = np.argsort(numbers, kind="stable")
        here, numbers = here[order], numbers[order]
        if self._series == self._over:
            if numbers[0] != _START:
                self._copied(rows, here)  # later than anybody waited for
                return self._part(now_s, all_of_it=all_of_it)
            self._over = -1  # a control unit that was started anew counts anew
        hurried = all_of_it or now_s - self._since_s >= PATIENCE_S
        count = here.size if hurried else self._in_line(numbers)
        if not count:
            return b""
        self._since_s = now_s
        self._next = int(numbers[count - 1]) + 1
        self._begun = True
        if self._next > _END:
            self._over, self._begun, self._ended = self._series, False, not hurried
        return self._copied(rows, here[:count])

    def _in_line(self, numbers: NDArray[np.int64]) -> int:
        """How many of these sorted numbers nothing can come before."""
        all_seen = min(pull.seen(self._series) for pull in self.pulls)
        count = int(np.searchsorted(numbers, all_seen, "right"))
        follows = int(numbers[count - 1]) + 1 if count else self._next
        rest = numbers[count:]
        breaks = np.flatnonzero(rest != follows + np.arange(rest.size))
        return count + (int(breaks[0]) if breaks.size else rest.size)

    def _copied(self, rows: Rows, chosen: NDArray[np.int64]) -> bytes:
        """The messages of these rows one behind the other; they are no longer kept."""
        sizes = rows[chosen, table.END] - rows[chosen, table.BEGIN]
        places = np.full(len(rows), -1, np.int64)
        places[chosen] = np.cumsum(sizes) - sizes
        out = np.empty(int(sizes.sum()), np.uint8)
        first, left = 0, []
        for chunk in self._chunks:
            to = places[first : first + len(chunk.rows)]
            first += len(chunk.rows)
            goes = to >= 0
            copy_messages(chunk.data, chunk.rows[goes], to[goes], out)
            chunk.rows = chunk.rows[~goes]
            if len(chunk.rows):
                left.append(chunk)
        self._chunks = left
        return out.tobytes()

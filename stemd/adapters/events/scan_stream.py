"""The scans of a recorded event stream, one behind the other, in a single pass."""

from __future__ import annotations

from collections.abc import Callable, Generator, Iterator
from functools import partial

import numpy as np

from stemd.acquisition import Acquisition
from stemd.adapters.base import Recording
from stemd.adapters.scan_choice import no_such_scan
from stemd.blocks import Block, Ended, EventBlock, Message, Notice, Started


class ScanStream:
    """The messages of a file on their way; `next` is the scan that begins now, if one does."""

    def __init__(self, messages: Iterator[Message]) -> None:
        self._messages = messages
        self.next: Started | None = None

    def advance(self) -> list[Message]:
        """Go on to the next scan; what is noticed on the way."""
        self.next = None
        noticed: list[Message] = []
        for message in self._messages:
            if isinstance(message, Started):
                self.next = message
                break
            if isinstance(message, EventBlock):
                message.release()
            elif isinstance(message, Notice):
                noticed.append(message)
        return noticed

    def blocks(
        self, acquisition: Acquisition, noticed: list[Message], start: int, stop: int
    ) -> Iterator[EventBlock]:
        """Events of positions start..stop-1 of the scan that has begun, as those of `acquisition`.

        The caller releases them. What is noticed is added to `noticed`.
        """
        whole = start <= 0 and stop >= acquisition.scan.positions
        for message in self._messages:
            if isinstance(message, EventBlock):
                message.acquisition = acquisition
                if not whole:
                    _keep(message, start, stop)
                yield message
            elif isinstance(message, Notice):
                noticed.append(message)
            elif isinstance(message, Ended):
                return

    def follower(self, number: int) -> list[Message]:
        """Behind a scan: what is still noticed, and whether one of this number follows."""
        noticed = self.advance()
        if self.next is not None:
            noticed.append(another_follows(number))
        return noticed

    def each(
        self, noticed: list[Message], numbered: Callable[[int], Recording]
    ) -> Iterator[Recording]:
        """Recordings of the scan that has begun and of all behind it.

        `noticed`: before the first. Each is read before the next is asked for; read once more it
        is what `numbered` gives for its number, from 1.
        """
        number = 1
        while self.next is not None:
            again = partial(numbered, number)
            scan = _ScanOfStream(self, self.next.acquisition, noticed, again)
            yield scan
            for block in scan.rest():
                block.release()
            noticed = []
            number += 1


def another_follows(number: int) -> Notice:
    """The notice for a file that goes on behind a scan, with the one of this number."""
    text = "another scan follows in the file"
    remedy = f"--scan-number {number} chooses it; stemd process makes the images of all"
    return Notice("several_scans", text, level="info", remedy=remedy)


def skipped_to(stream: ScanStream, number: int, source: object) -> list[Message]:
    """Go on to the scan with this number, from 1; what is noticed directly before the first.

    Raises UsageError where the file has fewer scans, but at least one.
    """
    noticed = stream.advance()
    for passed in range(1, number):
        if stream.next is None:
            break
        stream.advance()
        noticed = []
        if stream.next is None:
            raise no_such_scan(source, passed, number)
    return noticed


class OneScan:
    """Finds one scan, `number` from 1, in the messages of a file, or of what follows in it.

    `started`: so many scans have begun in the file. It is `over` when the scan has ended,
    `followed` when another one has begun behind it. What is noticed from its beginning to the next
    one's is added to `noticed`.
    """

    def __init__(
        self, acquisition: Acquisition, noticed: list[Notice], number: int, started: int
    ) -> None:
        self.over = False
        self.started = started
        self._acquisition, self._noticed, self._number = acquisition, noticed, number

    @property
    def followed(self) -> bool:
        """Whether another one has begun behind it."""
        return self.started > self._number

    def of(self, messages: Generator[Message, None, int]) -> Generator[EventBlock, None, int]:
        """Its blocks among some messages, for the caller to release; returns what these return."""
        while True:
            try:
                message = next(messages)
            except StopIteration as end:
                return int(end.value)
            mine = self.started == self._number
            if isinstance(message, EventBlock):
                if not mine or self.over:
                    message.release()
                    continue
                message.acquisition = self._acquisition
                yield message
            elif isinstance(message, Started):
                self.started += 1
                if self.started == self._number + 1:
                    self._noticed.append(another_follows(self.started))
            elif isinstance(message, Ended):
                self.over |= mine
            elif isinstance(message, Notice) and mine:
                self._noticed.append(message)


class _ScanOfStream:
    """Implements adapters.base.Recording for one scan of a stream, read as a whole.

    The first time while the stream goes by, then from the file's beginning.
    """

    splits = False

    def __init__(
        self,
        stream: ScanStream,
        acquisition: Acquisition,
        noticed: list[Message],
        again: Callable[[], Recording],
    ) -> None:
        self.acquisition = acquisition
        self.frames = acquisition.scan.positions
        self.notices = noticed
        self._stream = stream
        self._again = again
        self._read = False

    def blocks(self, start: int, stop: int) -> Iterator[Block]:
        """Events of positions start..stop-1 of the scan; the caller releases them."""
        if self._read:
            yield from self._again().blocks(start, stop)
        else:
            yield from self.rest(start, stop)

    def rest(self, start: int = 0, stop: int | None = None) -> Iterator[Block]:
        """The same, of the stream that goes by: nothing where it has gone."""
        if not self._read:
            self._read = True
            stop = self.frames if stop is None else stop
            yield from self._stream.blocks(self.acquisition, self.notices, start, stop)
            self.notices += self._stream.advance()

    def close(self) -> None:
        """The file is its opener's."""


def _keep(block: EventBlock, start: int, stop: int) -> None:
    """Leave only the events and runs of positions start..stop-1 in a block."""
    probe = block.probe[: block.count]
    inside = np.flatnonzero((probe >= start) & (probe < stop))
    block.probe = probe[inside]
    block.yx = block.yx[inside]
    block.dwell_ns = block.dwell_ns[inside]
    block.count = inside.size
    runs = [(max(first, start), min(last, stop)) for first, last in block.complete]
    block.complete = [run for run in runs if run[0] < run[1]]

"""The scans of a recorded event stream, one behind the other, in a single pass."""

from __future__ import annotations

from collections.abc import Generator, Iterator

import numpy as np

from stemd.acquisition import Acquisition
from stemd.adapters.base import Recording
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

    def follower(self) -> list[Message]:
        """Behind a scan: what is still noticed, and whether another one follows."""
        noticed = self.advance()
        if self.next is not None:
            noticed.append(another_follows())
        return noticed

    def each(self, noticed: list[Message]) -> Iterator[Recording]:
        """Recordings of the scan that has begun and of all behind it.

        `noticed`: before the first. Each is read before the next is asked for.
        """
        while self.next is not None:
            scan = _ScanOfStream(self, self.next.acquisition, noticed)
            yield scan
            for block in scan.blocks(0, scan.frames):
                block.release()
            noticed = []


def another_follows() -> Notice:
    """The notice for a file that goes on behind its first scan."""
    text = "another scan follows in the file"
    remedy = "--scan-number 2 chooses it; stemd process makes the images of all"
    return Notice("several_scans", text, level="info", remedy=remedy)


class FirstScan:
    """Finds the first scan, or the rest of it (`begun`), in the messages of a file.

    It is `over` when it has ended, `followed` when another one has begun behind it. What is
    noticed from its beginning to the next one's is added to `noticed`.
    """

    def __init__(self, acquisition: Acquisition, noticed: list[Notice], *, begun: bool) -> None:
        self.over = self.followed = False
        self._acquisition, self._noticed, self._begun = acquisition, noticed, begun

    def of(self, messages: Generator[Message, None, int]) -> Generator[EventBlock, None, int]:
        """Its blocks among some messages, for the caller to release; returns what these return."""
        while True:
            try:
                message = next(messages)
            except StopIteration as end:
                return int(end.value)
            if isinstance(message, EventBlock):
                if self.over:
                    message.release()
                    continue
                message.acquisition = self._acquisition
                yield message
            elif isinstance(message, Started):
                self._begun, self.followed = True, self.over
                if self.over:
                    self._noticed.append(another_follows())
            elif isinstance(message, Ended):
                self.over = True
            elif isinstance(message, Notice) and self._begun and not self.followed:
                self._noticed.append(message)


class _ScanOfStream:
    """Implements adapters.base.Recording for one scan of a stream: it is read once, as a whole."""

    splits = False

    def __init__(
        self, stream: ScanStream, acquisition: Acquisition, noticed: list[Message]
    ) -> None:
        self.acquisition = acquisition
        self.frames = acquisition.scan.positions
        self.notices = noticed
        self._stream = stream
        self._read = False

    def blocks(self, start: int, stop: int) -> Iterator[Block]:
        """All events of the scan, once."""
        if not self._read:
            self._read = True
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

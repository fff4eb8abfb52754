"""Recorded event streams: the file's records through the same decoder as the live stream."""

from __future__ import annotations

import copy
import threading
from collections.abc import Callable, Generator, Iterator, Sequence

import numpy as np
from numpy.typing import NDArray

from stemd.acquisition import Acquisition, Scan
from stemd.adapters.base import Checkpoint, Recording
from stemd.adapters.events.front import BLOCK_RECORDS, Front
from stemd.adapters.events.records import RecordReader, Records, open_records
from stemd.adapters.events.scan_stream import OneScan, ScanStream, skipped_to
from stemd.adapters.events.settings import EventSettings
from stemd.adapters.events.stream import EventStream
from stemd.adapters.events.sync_start import SyncStart
from stemd.adapters.recordings.address import RecordingPath
from stemd.adapters.recordings.remote import read_beside
from stemd.blocks import Block, BlockPool, EventBlock, Message, Notice
from stemd.errors import FormatError

SECTION_POOL_BYTES = 4 * 1024 * 1024
"""Memory for hits where whoever takes a block releases it before the next."""

SYNC_BYTES = 64 * 1024
"""More than the small file that says where a scan begins ever holds."""

FrontMaker = Callable[[], Front]


def sync_start(path: RecordingPath) -> SyncStart | None:
    """Where the recorded scan begins, from the small file that stemd wrote beside it."""
    said = read_beside(path, ".sync.json", SYNC_BYTES)
    return SyncStart.loads(said, str(path.with_suffix(".sync.json"))) if said is not None else None


class EventRecording:
    """A recorded event stream, read from its beginning in one pass.

    `messages` gives everything: one acquisition for each scan in the file. As a `Recording` it
    is one scan alone, the first or the `numbered` one, and its "frames" are probe positions:
    `blocks(a, b)` are the events of positions a..b-1, decoded from the beginning of the file each
    time, since the position of an event follows from the line pulses before it. `records`: those
    of the file where they are not its bytes. `noticed` of it already.
    """

    def __init__(
        self,
        path: RecordingPath,
        settings: EventSettings,
        front: FrontMaker,
        *,
        scan: Scan | None = None,
        name: str,
        raw_name: str,
        records: Records | None = None,
        noticed: Sequence[Notice] = (),
    ) -> None:
        self.path = path
        self._settings = settings
        self._front = front
        self._name, self._raw_name = name, raw_name
        self._records: Records = open_records(path) if records is None else records
        self._start = sync_start(path)
        self._scan = scan or settings.scan
        self._notices: list[Message] = []
        self._noticed = tuple(noticed)
        self._number = 1
        self._acquisition: Acquisition | None = None
        self.counters: dict[str, int] = {}
        self._decoder(BlockPool(total_bytes=0))  # raises for a scan that is not known

    def _decoder(self, pool: BlockPool) -> EventStream:
        return EventStream(
            self._settings,
            self._front(),
            pool,
            scan=self._scan,
            name=self._name,
            source=str(self.path),
            raw_name=self._raw_name,
            start=self._start,
        )

    def messages(
        self, pool: BlockPool | None = None, stop: threading.Event | None = None
    ) -> Iterator[Message]:
        """Started, blocks, Ended of every scan in the file, and notices; blocks are released
        by whoever takes them.
        """
        if pool is not None:
            yield from self._messages(pool, stop)
            return
        own = BlockPool()
        try:
            yield from self._messages(own, stop)
        finally:
            own.close()

    def _messages(self, pool: BlockPool, stop: threading.Event | None) -> Iterator[Message]:
        yield from self._noticed
        decoder = self._decoder(pool)
        now_ns = self._records.modified_ns
        size, position = self._records.size, 0
        with self._records.reader(0, size) as reader:
            while size - position >= decoder.record_bytes:
                if stop is not None and stop.is_set():
                    yield from decoder.finish("stopped", now_ns)
                    return
                used = yield from decoder.consume(_piece(reader, position, decoder), now_ns)
                if used == 0:
                    break
                position += used
        if position < size:
            yield _cut_off(size - position)
        yield from decoder.finish("disconnected", now_ns)
        self.counters = decoder.counters()
        if self._acquisition is None and not self.counters["assigned"]:
            yield Notice(
                "no_scan",
                f"{self.path} holds {self.counters['pixels']} hits but no scan was found in it: "
                f"{self.counters['line_pulses']} line pulses",
                remedy='check tdc.input and tdc.edge, or use sync = "dwell"',
            )

    @property
    def extent(self) -> int:
        """Bytes of the stream."""
        return self._records.size

    def resume(
        self,
        acquisition: Acquisition,
        checkpoint: Checkpoint | None,
        stop: int,
        noticed: list[Notice],
    ) -> Generator[EventBlock, None, Checkpoint | None]:
        """Blocks of the scan from a checkpoint (None: the beginning) to about byte `stop`.

        The caller releases them. Returns the checkpoint for what follows, None when the scan is
        over. The blocks of all sections, and what they add to `noticed`, are those of `blocks`
        over the whole scan, wherever it is cut.
        """
        pool = BlockPool(SECTION_POOL_BYTES)
        try:
            return (yield from self._resume(acquisition, checkpoint, stop, noticed, pool))
        finally:
            pool.close()

    def _resume(
        self,
        acquisition: Acquisition,
        checkpoint: Checkpoint | None,
        stop: int,
        noticed: list[Notice],
        pool: BlockPool,
    ) -> Generator[EventBlock, None, Checkpoint | None]:
        decoder = self._decoder(pool)
        now_ns = self._records.modified_ns
        size, position = self._records.size, 0
        started = 0
        if checkpoint is not None:
            decoder.restore(checkpoint, acquisition)
            position, started = (int(checkpoint[key][0]) for key in ("position", "started"))
        one = OneScan(acquisition, noticed, self._number, started)
        used = decoder.record_bytes
        with self._records.reader(position, stop) as reader:
            while used and not one.over and size - position >= decoder.record_bytes:
                if position >= stop:
                    here = {"position": position, "started": one.started}
                    counts = {key: np.array([value], np.int64) for key, value in here.items()}
                    return {**decoder.state(), **counts}
                piece = decoder.consume(_piece(reader, position, decoder), now_ns)
                used = yield from one.of(piece)
                position += used
        with self._records.reader(position, size) as reader:  # another may begin anywhere
            while used and not one.followed and size - position >= decoder.record_bytes:
                piece = decoder.consume(_piece(reader, position, decoder), now_ns)
                used = yield from one.of(piece)
                position += used
        if not one.followed:
            if position < size:
                noticed.append(_cut_off(size - position))
            yield from one.of(_ended(decoder, now_ns))
        return None

    @property
    def acquisition(self) -> Acquisition:
        """The scan. Raises FormatError when there is none, UsageError for a number too high."""
        if self._acquisition is None:
            stream = ScanStream(self.messages())
            self._notices = skipped_to(stream, self._number, self.path)
            if stream.next is None:
                raise self._no_scan(self._notices)
            self._acquisition = stream.next.acquisition
        return self._acquisition

    def numbered(self, number: int) -> EventRecording:
        """Another scan of the file, from 1; closed with this one."""
        other = copy.copy(self)
        other._number, other._acquisition, other._notices = number, None, []
        return other

    def _no_scan(self, noticed: Sequence[Message]) -> FormatError:
        last = noticed[-1] if noticed else None
        text = getattr(last, "text", f"{self.path} holds no scan")
        return FormatError(text, getattr(last, "remedy", ""))

    @property
    def frames(self) -> int:
        """Probe positions of the scan."""
        return self.acquisition.scan.positions

    @property
    def splits(self) -> bool:
        """Events are found by reading from the beginning."""
        return False

    @property
    def notices(self) -> Sequence[Message]:
        """What was noticed before the scan began, and on reading the whole of it."""
        return self._notices

    def each_scan(self) -> Iterator[Recording]:
        """All scans of the file, in one pass; each is read before the next is asked for.

        Raises FormatError when there is none.
        """
        stream = ScanStream(self.messages())
        noticed = stream.advance()
        if stream.next is None:
            raise self._no_scan(noticed)
        yield from stream.each(noticed, self.numbered)

    def blocks(self, start: int, stop: int) -> Iterator[Block]:
        """Events of positions start..stop-1 of the scan; the caller releases them."""
        acquisition = self.acquisition
        stream = ScanStream(self.messages())
        noticed = skipped_to(stream, self._number, self.path)
        yield from stream.blocks(acquisition, noticed, start, stop)
        if start <= 0 and stop >= acquisition.scan.positions:
            self._notices = [*noticed, *stream.follower(self._number + 1)]

    def close(self) -> None:
        """Let go of the file."""
        self._records.close()


def _piece(reader: RecordReader, position: int, decoder: EventStream) -> NDArray[np.uint8]:
    return reader.piece(position, BLOCK_RECORDS * decoder.record_bytes)


def _ended(decoder: EventStream, now_ns: int) -> Generator[Message, None, int]:
    yield from decoder.finish("disconnected", now_ns)
    return 0


def _cut_off(count: int) -> Notice:
    return Notice("cut_off", f"{count} bytes at the end are no whole record")

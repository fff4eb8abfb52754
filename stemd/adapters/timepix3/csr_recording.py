"""Recorded sparse scans of SERVAL: the messages of the live stream, one behind the other."""

from __future__ import annotations

import copy
from collections.abc import Iterator, Sequence
from pathlib import Path

from stemd.acquisition import Acquisition, Scan
from stemd.adapters.base import Recording
from stemd.adapters.events.recording import SECTION_POOL_BYTES
from stemd.adapters.events.records import map_file
from stemd.adapters.events.scan_stream import ScanStream, skipped_to
from stemd.adapters.timepix3.csr import CsrDecoder
from stemd.adapters.timepix3.settings import Timepix3Settings
from stemd.blocks import Block, BlockPool, Message
from stemd.errors import FormatError


class CsrRecording:
    """Implements adapters.base.Recording for a .csr file, its first scan; `each_scan` gives all.

    The size of the scan stands in the file; `scan` has the rest. Raises CameraError for a file
    that cannot be read, FormatError for bytes that are no such stream.
    """

    splits = False

    def __init__(self, path: Path, settings: Timepix3Settings, scan: Scan | None = None) -> None:
        self.path = path
        self._settings, self._scan = settings, scan
        self._data = map_file(path)
        self._now_ns = path.stat().st_mtime_ns
        self._open(1)

    def _open(self, number: int) -> None:
        self._number = number
        stream = ScanStream(self.messages())
        self._notices: list[Message] = skipped_to(stream, number, self.path)
        if stream.next is None:
            last = self._notices[-1] if self._notices else None
            text = getattr(last, "text", "no scan begins in it")
            raise FormatError(f"{self.path}: {text}", "copy the file again")
        self._acquisition = stream.next.acquisition

    def messages(self) -> Iterator[Message]:
        """Started, blocks and Ended of every scan, and notices; the taker releases the blocks."""
        pool = BlockPool(SECTION_POOL_BYTES)
        decoder = CsrDecoder(self._settings, pool, scan=self._scan, source=str(self.path))
        position, size = 0, self._data.size
        try:
            while position < size:
                target = decoder.wants()[0]
                count = min(len(target), size - position)
                target[:count] = self._data[position : position + count].data
                position += count
                yield from decoder.fed(count, self._now_ns)
            yield from decoder.flush(self._now_ns, eof=True)
        except FormatError as error:
            raise FormatError(f"{self.path}: {error.message}", error.remedy) from error
        finally:
            pool.close()

    @property
    def acquisition(self) -> Acquisition:
        """The first scan of the file, or the numbered one."""
        return self._acquisition

    def numbered(self, number: int) -> CsrRecording:
        """Another scan of the file, from 1. Raises UsageError for a number too high."""
        other = copy.copy(self)
        other._open(number)
        return other

    @property
    def frames(self) -> int:
        """Probe positions of the scan."""
        return self._acquisition.scan.positions

    @property
    def notices(self) -> Sequence[Message]:
        """What was noticed before the scan began, and on reading the whole of it."""
        return self._notices

    def blocks(self, start: int, stop: int) -> Iterator[Block]:
        """Events of positions start..stop-1; the caller releases them."""
        stream = ScanStream(self.messages())
        noticed = skipped_to(stream, self._number, self.path)
        yield from stream.blocks(self._acquisition, noticed, start, stop)
        if start <= 0 and stop >= self.frames:
            self._notices = [*noticed, *stream.follower(self._number + 1)]

    def each_scan(self) -> Iterator[Recording]:
        """All scans of the file, in one pass; each is read before the next is asked for."""
        stream = ScanStream(self.messages())
        yield from stream.each(stream.advance(), self.numbered)

    def close(self) -> None:
        """The map goes with its last reader."""

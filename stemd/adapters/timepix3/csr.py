"""SERVAL's sparse stream: scans already sorted into positions, as CSR arrays.

Every message begins with 32 bytes, little-endian; the tag is byte 0. 0 acquisition start:
version, format (0 counts, 1 ToT), u16 scan shape (ny, nx), dtype of indptr, u16 detector shape,
dtype of indices, u32 sequence. 1 scan start: u32 sequence, u64 bytes of JSON that follow.
2 array chunk: dtype of values, u32 frames, u32 entries; indptr (frames + 1), indices (entries),
values (entries) follow. 3 scan end, 4 acquisition end: u32 sequence. A dtype is 2 u8, 3 u16,
4 u32, 5 u64. Layout after the public receiver of the LiberTEM project.
"""

from __future__ import annotations

import struct
from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from stemd.acquisition import MAX_POSITIONS, Acquisition, Detector, Scan
from stemd.adapters.events.front import BLOCK_RECORDS
from stemd.adapters.events.landing import EVENT_BYTES, OUTPUT_HITS, Held
from stemd.adapters.events.settings import EventSettings
from stemd.adapters.events.sync import Output
from stemd.adapters.silence import lacks_only_its_end
from stemd.blocks import BlockPool, Ended, EndReason, EventBlock, Message, Notice, Started
from stemd.compilation import njit
from stemd.errors import FormatError

HEADER_BYTES = 32
MAX_BODY_BYTES = 1 << 30
"""A chunk that claims to be longer is refused before memory is taken for it."""
FIRST_BYTES = 4 << 20
"""Memory taken for a message before it has come; beyond, it grows as the bytes arrive."""
_DTYPES = {code: np.dtype(name) for code, name in ((2, "u1"), (3, "u2"), (4, "u4"), (5, "u8"))}
_ACQUISITION, _SCAN, _CHUNK, _SCAN_END, _ACQUISITION_END = range(5)


def acquisition_start(shape: tuple[int, int], detector: tuple[int, int], *, tot: bool) -> bytes:
    """The message that begins an acquisition: u32 indptr and u32 indices."""
    return struct.pack("<BBBHHBHHBI15x", 0, 1, int(tot), *shape, 4, *detector, 4, 0)


def scan_start(sequence: int, metadata: bytes = b"") -> bytes:
    """The message that begins a scan."""
    return struct.pack("<BIQ19x", 1, sequence, len(metadata)) + metadata


def array_chunk(
    indptr: NDArray[np.integer], indices: NDArray[np.integer], values: NDArray[np.integer]
) -> bytes:
    """The patterns of some positions; values as u16."""
    head = struct.pack("<BBII22x", 2, 3, indptr.size - 1, indices.size)
    return (
        head
        + indptr.astype("<u4").tobytes()
        + indices.astype("<u4").tobytes()
        + values.astype("<u2").tobytes()
    )


def scan_end(sequence: int) -> bytes:
    """The message that ends a scan."""
    return struct.pack("<BI27x", 3, sequence)


@njit(nogil=True, cache=True)
def expand(
    indptr: NDArray[np.uint64],
    indices: NDArray[np.uint64],
    values: NDArray[np.uint64],
    tot: bool,
    width: int,
    pixels: int,
    positions: NDArray[np.int64],
    at: NDArray[np.int64],
    probe: NDArray[np.int32],
    yx: NDArray[np.uint32],
) -> int:
    """CSR rows to single hits: value v at index i is v hits (one with `tot`) at (i // width,
    i % width); returns hits written. `positions`: probe position of each row, negative to skip.
    `at` = (row, entry, copies done), where to go on when the output was full; row == rows when
    all is done. Entries outside the detector or the chunk are skipped.
    """
    n = 0
    base = indptr[0]
    while at[0] < positions.size:
        row = at[0]
        stop = min(np.int64(indptr[row + 1] - base), np.int64(indices.size))
        while positions[row] >= 0 and at[1] < stop:
            index = np.int64(indices[at[1]])
            copies = np.int64(1) if tot else np.int64(values[at[1]])
            while at[2] < copies and 0 <= index < pixels:
                if n == probe.size:
                    return n
                probe[n] = positions[row]
                yx[n] = (index // width) << 16 | index % width
                n += 1
                at[2] += 1
            at[1] += 1
            at[2] = 0
        at[0] += 1
        at[1] = max(at[1], stop)
    return n


class CsrDecoder:
    """Pure decoder of the sparse stream; the scan's size comes with it."""

    def __init__(
        self,
        settings: EventSettings,
        pool: BlockPool,
        *,
        scan: Scan | None = None,
        source: str = "",
    ) -> None:
        self._settings = settings
        self._pool = pool
        self._wanted_scan = scan or settings.scan
        self._source = source
        self.acquisition: Acquisition | None = None
        self.scans = 0
        """Scans that have begun."""
        self.undecided = False
        self._message = np.zeros(HEADER_BYTES, np.uint8)
        self._fill = 0
        self._size = HEADER_BYTES
        self._begin: NDArray[np.uint8] | None = None
        self._scan = Scan(shape=(1, 1))
        self._detector = Detector("Timepix3", (256, 256), "u2", 16)
        self._index_types = (np.dtype(np.uint32), np.dtype(np.uint32))
        self._tot = False
        self._frames = 0

    def set_scan(self, scan: Scan) -> None:
        """Step size, dwell time and so on from the next scan on; the shape comes with it."""
        self._wanted_scan = scan

    @property
    def at_the_end(self) -> bool:
        """The open scan lacks no more than its last line."""
        left, width = self._scan.positions - self._frames, self._scan.shape[1]
        return lacks_only_its_end(left, width, self._scan.positions)

    @property
    def change_waits(self) -> bool:
        """A message is a whole scan: nothing ever waits."""
        return False

    @property
    def garbage_bytes(self) -> int:
        """None: what is not this stream raises FormatError."""
        return 0

    def close(self) -> None:
        """Nothing is held between two calls."""

    def wants(self) -> Sequence[memoryview]:
        """The rest of the message that is being received."""
        return [self._message.data[self._fill :]]

    def fed(self, count: int, now_ns: int) -> Iterator[Message]:
        """`count` bytes have landed. Raises FormatError for what is not this stream."""
        self._fill += count
        if self._fill < self._message.size:
            return
        if self._fill == HEADER_BYTES:
            self._size = HEADER_BYTES + self._body_bytes()
        if self._fill < self._size:
            grown = np.empty(min(self._size, max(FIRST_BYTES, 2 * self._fill)), np.uint8)
            grown[: self._fill] = self._message
            self._message = grown
            return
        message, self._message = self._message, np.zeros(HEADER_BYTES, np.uint8)
        self._fill, self._size = 0, HEADER_BYTES
        yield from self._take(message, now_ns)

    def flush(self, now_ns: int, *, eof: bool) -> Iterator[Message]:
        """A message counts when it is whole; at `eof` the scan ends."""
        if eof:
            if self._fill:
                yield Notice("cut_off", f"the stream ends {self._fill} bytes into a message")
            yield from self.finish("disconnected", now_ns)

    def _dtype(self, code: int) -> np.dtype[Any]:
        if code not in _DTYPES:
            raise FormatError(
                f"sparse stream: element type {code} is not supported",
                "known are 2 (u8), 3 (u16), 4 (u32) and 5 (u64)",
            )
        return _DTYPES[code]

    def _body_bytes(self) -> int:
        head = self._message.tobytes()
        if head[0] == _SCAN:
            body = struct.unpack_from("<Q", head, 5)[0]
        elif head[0] == _CHUNK:
            frames, entries = struct.unpack_from("<II", head, 2)
            pointer, index = (kind.itemsize for kind in self._index_types)
            value = self._dtype(head[1]).itemsize
            body = (frames + 1) * pointer + entries * (index + value)
        elif head[0] in (_ACQUISITION, _SCAN_END, _ACQUISITION_END):
            body = 0
        else:
            raise FormatError(
                f"sparse stream: a message begins with {head[0]}",
                'is this SERVAL\'s sparse destination? For raw words set stream = "words"',
            )
        if body > MAX_BODY_BYTES:
            raise FormatError(f"sparse stream: a message of {body} bytes is over the limit")
        return int(body)

    def _take(self, message: NDArray[np.uint8], now_ns: int) -> Iterator[Message]:
        tag = int(message[0])
        if tag == _ACQUISITION:
            yield from self.finish("restarted", now_ns)
            self._start_acquisition(message)
        elif tag in (_SCAN, _SCAN_END) and self.acquisition is not None and self._between_frames:
            yield self._block(message, now_ns)
        elif tag == _SCAN:
            yield from self.finish("restarted", now_ns)
            yield from self._start_scan(message, now_ns)
        elif tag == _CHUNK:
            yield from self._chunk(message, now_ns)
        else:
            if self.acquisition is not None and tag == _SCAN_END:
                yield self._block(message, now_ns)
            yield from self.finish("restarted", now_ns)

    @property
    def _between_frames(self) -> bool:
        """Whether a frame of the open scan is over, and another to come."""
        done = self._frames
        return 0 < done < self._scan.positions and done % self._scan.once.positions == 0

    def _start_acquisition(self, message: NDArray[np.uint8]) -> None:
        head = message.tobytes()
        tot, ny, nx, pointer, height, width, index = struct.unpack_from("<BHHBHHB", head, 2)
        repeats = 1 if self._wanted_scan is None else self._wanted_scan.repeats
        if min(ny, nx, height, width) == 0 or repeats * ny * nx > MAX_POSITIONS:
            raise FormatError(
                f"sparse stream: scan {ny}x{nx}, {repeats} times, detector {height}x{width}"
            )
        self._tot = tot == 1
        self._index_types = (self._dtype(pointer), self._dtype(index))
        self._scan = (self._wanted_scan or Scan(shape=(ny, nx))).model_copy(
            update={"shape": (ny, nx), "flyback": 0, "leading": 0, "serpentine": False}
        )
        self._detector = Detector("Timepix3", (height, width), "u2", 16)
        self._begin = message

    def _start_scan(self, message: NDArray[np.uint8], now_ns: int) -> Iterator[Message]:
        if self._begin is None:
            yield Notice("sparse_order", "a sparse scan began before its acquisition")
            return
        self.acquisition = Acquisition(
            self._scan,
            self._detector,
            started_ns=now_ns,
            source=self._source,
            raw_name="raw.csr",
        )
        self._frames = 0
        self.scans += 1
        yield Started(self.acquisition)
        yield self._block(self._begin, now_ns)
        yield self._block(message, now_ns)

    def _block(self, wire: NDArray[np.uint8], now_ns: int) -> EventBlock:
        assert self.acquisition is not None
        none = Output.within(np.empty(0, np.uint8), 0)
        return EventBlock(self.acquisition, none.probe, none.yx, none.dwell_ns, 0, wire, now_ns)

    def _chunk(self, message: NDArray[np.uint8], now_ns: int) -> Iterator[Message]:
        if self.acquisition is None:
            yield Notice("sparse_order", "sparse data came before the start of a scan")
            return
        frames, entries = struct.unpack_from("<II", message.tobytes()[:HEADER_BYTES], 2)
        pointer, index = self._index_types
        first = HEADER_BYTES + (frames + 1) * pointer.itemsize
        second = first + entries * index.itemsize
        indptr = message[HEADER_BYTES:first].view(pointer).astype(np.uint64)
        indices = message[first:second].view(index).astype(np.uint64)
        values = message[second:].view(self._dtype(int(message[1]))).astype(np.uint64)
        total = self._scan.positions
        positions = np.arange(self._frames, self._frames + frames, dtype=np.int64)
        extra = int((positions >= total).sum())
        positions[positions >= total] = -1
        state = np.zeros(3, np.int64)
        wire = message
        width = self._detector.shape[1]
        pixels = self._detector.shape[0] * width
        while state[0] < frames:
            self._pool.configure(BLOCK_RECORDS * 8, OUTPUT_HITS * EVENT_BYTES)
            with Held(self._pool.take()) as held:
                out = Output.within(held.buffer.unpacked, OUTPUT_HITS)
                count = expand(
                    indptr,
                    indices,
                    values,
                    self._tot,
                    width,
                    pixels,
                    positions,
                    state,
                    out.probe,
                    out.yx,
                )
                out.dwell_ns[:count] = 0.0
                done = (self._frames, min(self._frames + frames, total))
                runs = [done] if state[0] == frames and done[0] < done[1] else []
                held.given()
                yield EventBlock(
                    self.acquisition,
                    out.probe,
                    out.yx,
                    out.dwell_ns,
                    int(count),
                    wire,
                    now_ns,
                    runs,
                    held.buffer,
                )
            wire = wire[:0]
        self._frames += frames
        if extra:
            yield Notice("extra_positions", f"{extra} patterns beyond the scan", count=extra)

    def finish(self, reason: EndReason, now_ns: int) -> Iterator[Message]:
        """End the open scan; "complete" when all its positions have come."""
        acquisition, self.acquisition = self.acquisition, None
        if acquisition is not None:
            whole = self._frames >= acquisition.scan.positions
            yield Ended(acquisition, "complete" if whole else reason)

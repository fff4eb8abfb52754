"""A record of a stream: its images' messages one behind the other, as they came."""

from __future__ import annotations

import threading
from collections.abc import Iterator, Sequence
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from stemd.acquisition import Acquisition, Detector, Scan
from stemd.adapters.dectris.camera import (
    START_NAME,
    DectrisCamera,
    layout_of,
    mask_of,
    read_message,
)
from stemd.adapters.dectris.expander import Expander
from stemd.adapters.dectris.kernels import scanning, table
from stemd.adapters.dectris.kernels.scanning import Rows, find_messages, parts_of
from stemd.adapters.dectris.series import SeriesStart
from stemd.adapters.dectris.slots import CompressedSlots
from stemd.adapters.frames import placing, placing_files
from stemd.adapters.frames.fitting import check_fit, first_of
from stemd.adapters.frames.numbers import Ends
from stemd.adapters.frames.scans import resolve
from stemd.adapters.frames.storage import POOL_BYTES, open_map
from stemd.adapters.recordings.mapped import Window
from stemd.blocks import BlockPool, FrameBlock, Message, Notice
from stemd.errors import FormatError

_ROWS = 8192
_START_SUFFIX = Path(START_NAME).suffix
_LIKE = [table.KIND, table.SERIES, table.HEIGHT, table.WIDTH, table.ITEM]


class DectrisRecording:
    """Implements adapters.base.Recording for a record of one series, or a part of one.

    `channel` as in the live camera. What the series' start said is read from the file beside it,
    where there is one. Raises FormatError when the file is empty, no such record, or does not fit
    the scan.
    """

    def __init__(self, path: Path, scan: Scan | None = None, channel: str = "") -> None:
        self.path = path
        self._notices: list[Message] = []
        self._lock = threading.Lock()
        self._map, _ = open_map(path)
        try:
            self._data = np.frombuffer(self._map, np.uint8)
            self._open(scan, channel)
        except BaseException:
            self.close()
            raise

    def _open(self, scan: Scan | None, channel: str) -> None:
        rows, rest = self._table(channel)
        if not len(rows):
            raise FormatError(
                f"{self.path}: there is no image in it"
                + (f" of the channel {channel!r}" if channel else ""),
                "check that it is the record of a DECTRIS stream; see also its channel",
            )
        alike = np.all(rows[:, _LIKE] == rows[0, _LIKE], axis=1)
        if not np.all(alike):
            other = int(np.count_nonzero(~alike))
            self._note("other_series", f"{other} images are of another series or size", other)
            rows = rows[alike]
        self._rows, self.layout = rows, layout_of(rows[0])
        start = self._start()
        numbers = rows[:, table.NUMBER]
        first, last = int(numbers.min()), int(numbers.max())
        ends = Ends(first + 1, last + 1, len(rows))
        resolved = resolve(scan, ends.span, None)
        check_fit(self.path, resolved, ends, start[0].frames if start else None, cut=bool(rest))
        self._sequence = numbers - (first_of(resolved, ends) - 1)
        self._place(resolved)
        beyond = int(np.count_nonzero(self._sequence >= resolved.frames))
        if beyond:
            self._note("extra_frames", f"{beyond} frames are beyond the scan", beyond)
        lost = ends.span - len(np.unique(numbers))
        if lost:
            self._note("missing_frames", f"{lost} frame numbers are not in the file", lost)
        layout, camera = self.layout, DectrisCamera
        mask = mask_of(start[0].masks, channel) if start else None
        self._acquisition = Acquisition(
            scan=resolved,
            detector=Detector(
                name=camera.name,
                shape=layout.shape,
                dtype=layout.dtype,
                bit_depth=layout.depth,
                header=start[0].text if start else "",
                mask=mask if mask is not None and mask.shape == layout.shape else None,
            ),
            source=str(self.path),
            raw_name=camera.raw_name,
            sidecars=((START_NAME, start[1]),) if start else (),
        )

    def _table(self, channel: str) -> tuple[Rows, int]:
        """The rows of all images, and how many bytes at the end are no whole message."""
        found, at, count = [], 0, _ROWS
        name = np.frombuffer(bytearray(channel.encode()), np.uint8)
        parts = np.zeros((scanning.MAX_PARTS, 2), np.int64)
        while count == _ROWS:
            rows = np.zeros((_ROWS, table.COLUMNS), np.int64)
            count, at, size = find_messages(self._data, at, self._data.size, name, rows, parts)
            found.append(rows[:count])
            if size < 0:
                raise FormatError(
                    f"{self.path}: byte {at} begins no message",
                    "check that it is the record of a DECTRIS stream; copy the file again",
                )
        messages = np.concatenate(found)
        images = messages[messages[:, table.KIND] == table.IMAGE]
        bad = len(messages) - len(images)
        if bad:
            self._note("bad_frame", f"{bad} messages are no images that can be read", bad)
        rest = self._data.size - at
        if rest:
            self._note("partial_frame", f"the last image is cut off after {rest} bytes")
        return images, rest

    def _start(self) -> tuple[SeriesStart, bytes] | None:
        """What the series' first message said, from the file beside this one."""
        try:
            message = self.path.with_suffix(_START_SUFFIX).read_bytes()
            said = read_message(parts_of(message))
        except (OSError, FormatError, IndexError):
            return None
        return (said, message) if isinstance(said, SeriesStart) else None

    def _place(self, scan: Scan) -> None:
        state = placing.new_state(DectrisCamera.first_number, DectrisCamera.turn)
        placing.set_scan(state, scan)
        self._probe = np.empty_like(self._sequence)
        seen = np.zeros(scan.positions, np.uint8)
        placing_files.place_numbers(self._sequence, state, self._probe, seen)

    def _note(self, kind: str, text: str, count: int = 1) -> None:
        with self._lock:
            self._notices.append(Notice(kind, text, count=count))

    @property
    def acquisition(self) -> Acquisition:
        """The scan that the file holds."""
        return self._acquisition

    @property
    def frames(self) -> int:
        """Images in the file."""
        return len(self._rows)

    @property
    def splits(self) -> bool:
        """Any range is read by itself."""
        return True

    @property
    def notices(self) -> Sequence[Message]:
        """What was noticed on opening, and on reading so far."""
        with self._lock:
            return tuple(self._notices)

    @property
    def numbers(self) -> NDArray[np.int64]:
        """Number of each image in the file, as sent."""
        return self._rows[:, table.NUMBER]

    @property
    def algorithms(self) -> NDArray[np.int64]:
        """How each image is compressed: places in `compression.ALGORITHMS`."""
        return self._rows[:, table.ALGORITHM]

    @property
    def series(self) -> int:
        """The number of the series."""
        return int(self._rows[0, table.SERIES])

    def messages(self, first: int, stop: int) -> memoryview:
        """The messages of images first..stop-1 as they came."""
        begin, end = self._rows[first, table.BEGIN], self._rows[stop - 1, table.END]
        return self._data.data[int(begin) : int(end)]

    def packed(self, begin: int, stop: int) -> Iterator[tuple[int, bytes]]:
        """(number, compressed bytes) of the images of the numbers begin..stop-1."""
        numbers = self.numbers
        for index in np.flatnonzero((numbers >= begin) & (numbers < stop)):
            at, end = self._rows[index, [table.DATA, table.DATA_END]]
            yield int(numbers[index]), self._data[at:end].tobytes()

    def blocks(self, start: int, stop: int) -> Iterator[FrameBlock]:
        """Blocks of images start..stop-1 in order; damaged ones are left out."""
        stop = min(stop, len(self._rows))
        if start >= stop:
            return
        pool = BlockPool(POOL_BYTES)
        slots = CompressedSlots(pool, self.layout, Expander())
        begin, end = self._rows[start, table.BEGIN], self._rows[stop - 1, table.END]
        window = Window(self._map, int(begin), int(end))
        try:
            while start < stop:
                rows = self._rows[start:stop]
                rows = rows[: slots.fits(rows)]
                window.at(int(rows[0, table.BEGIN]))
                damaged = slots.load(self._data, rows)
                if damaged:
                    self._note("bad_frame", f"{damaged} images are damaged", damaged)
                here = slice(start, start + len(rows))
                start += len(rows)
                if slots.buffer is None:
                    continue
                slots.buffer.sequence[: slots.capacity] = self._sequence[here][slots.kept]
                slots.buffer.probe[: slots.capacity] = self._probe[here][slots.kept]
                yield slots.block(
                    0, slots.capacity, self._acquisition, self._acquisition.started_ns
                )
        finally:
            slots.drop()
            pool.close()

    def close(self) -> None:
        """Unmap; where a block is still being read the map goes with its last reader."""
        self._data = np.zeros(0, np.uint8)
        try:
            self._map.close()
        except BufferError:
            return

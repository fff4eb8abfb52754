"""Recorded frames, one behind the other: mapped, checked and placed block by block."""

from __future__ import annotations

import contextlib
import threading
from collections.abc import Iterator, Sequence

import numpy as np
from numpy.typing import NDArray

from stemd.acquisition import Acquisition, Detector, Scan
from stemd.adapters.frames import placing, placing_files, steps
from stemd.adapters.frames.fitting import check_fit, doubtful, first_of, hinted, skips
from stemd.adapters.frames.format import Announcement, FrameFormat
from stemd.adapters.frames.joined import JoinedFiles
from stemd.adapters.frames.mending import mended
from stemd.adapters.frames.numbering import Numbered, sort_out
from stemd.adapters.frames.numbers import Ends, FrameTable, ends_of, resolve_file
from stemd.adapters.frames.promised import Opened, told
from stemd.adapters.frames.steps import step_of
from stemd.adapters.frames.storage import Bytes, Storage, open_storage
from stemd.adapters.recordings.address import RecordingPath
from stemd.blocks import Buffer, FrameBlock, Message, Notice
from stemd.errors import FormatError

_Table = tuple[NDArray[np.int64], NDArray[np.int64]]


class FrameRecording:
    """Implements adapters.base.Recording for a file of one camera's frames.

    Blocks are views of the map where the file is local, else copies in recycled memory, as are
    packed frames, which are unpacked; any number of threads may read disjoint ranges. `number`:
    which of the file's scans, from 1. `storage`: of the frames, where they are not one file. Raises
    FormatError when the file is empty, not of this format, or does not fit the scan, CameraError
    when a remote one cannot be read.
    """

    def __init__(
        self,
        path: RecordingPath,
        camera: FrameFormat,
        scan: Scan | None = None,
        announced: Announcement | None = None,
        *,
        number: int = 1,
        storage: Storage | None = None,
    ) -> None:
        self.path = path
        self._asked, self._number = scan, number
        self._format = camera
        self._notices: list[Message] = []
        self._lock = threading.Lock()
        self._storage: Storage = open_storage(path) if storage is None else storage
        try:
            self._open(self._storage.size, scan, announced or Announcement())
        except BaseException:
            self.close()
            raise

    def _open(self, size: int, scan: Scan | None, announced: Announcement) -> None:
        self._announced = announced
        try:
            self._first = self._format.file_frame(self._storage.head(self._format.head_bytes))
        except FormatError as error:
            raise FormatError(f"{self.path}: {error.message}", error.remedy) from error
        self.layout = self._first.layout
        found = mended(self._storage, self._format, self._first)
        if found is not None:
            self._storage, mending = found
            self._notices.append(mending)
            size = self._storage.size
        self._frames, rest = divmod(size, self.layout.frame_bytes)
        if not self._frames:
            raise FormatError(
                f"{self.path}: {size} bytes are less than one frame of {self.layout.frame_bytes}",
                "the file was cut off; copy it again",
            )
        if rest:
            self._note("partial_frame", f"the last frame is cut off after {rest} bytes")
        self._begin, self.scans = 0, 1
        self._step, self._origin = 1, 1
        self._turn = self._format.turn
        self._turn = self._headers().turn_of()
        table = self._headers()
        ends = ends_of(table)
        self._step = step_of(table, ends, scan)
        if self._step > 1:
            self._origin = ends.first
            self._notices.append(steps.told(self._step))
            table = self._headers()
            ends = ends_of(table)
        self._numbered: Numbered | None = None
        if doubtful(table, ends):
            frames = scan.frames if scan else announced.frames
            numbered = sort_out(table.read_all(), frames, announced.frames, self._same)
            self.scans = len(numbered.firsts)
            numbered, self._begin = numbered.part(min(self._number, self.scans))
            self._numbered, self._frames = numbered, numbered.numbers.size
            table, ends = self._headers(), numbered.ends
        resolved = resolve_file(table, ends, scan, hinted(announced, ends), announced.frames)
        declared = announced.frames
        if self._numbered is not None and self._numbered.by_order:
            declared = None  # of one of the parts that were joined
        check_fit(self.path, resolved, ends, declared, cut=bool(rest))
        self._state = placing.new_state(self._format.first_number, self._turn)
        placing.set_scan(self._state, resolved)
        self._state[placing.BASE] = first_of(resolved, ends) - 1
        self._start = ends.first
        self._skipping = skips(resolved, ends)
        if self.scans == 1:
            self._choose_by_number(resolved, ends)
        if self._number > self.scans:
            raise FormatError(
                f"{self.path} holds {self.scans} scans of {resolved.size}",
                f"give --scan-number from 1 to {self.scans}",
            )
        self._acquisition = Acquisition(
            scan=resolved,
            detector=Detector(
                name=self._format.name,
                shape=self.layout.shape,
                dtype=self.layout.dtype,
                bit_depth=self.layout.depth,
                header=announced.text,
            ),
            source=str(self.path),
            raw_name=self._format.raw_name,
            sidecars=announced.sidecars,
        )
        self._regular = self._step == 1 and (
            self._skipping or (ends.span == ends.count and self._numbered is None)
        )
        self._table: _Table | None = None
        if not self._regular:
            self._whole_table()
        self._notices += told(
            Opened(
                scan=resolved,
                ends=ends,
                announced=announced,
                asked=scan,
                base=int(self._state[placing.BASE]),
                number=self._number,
                scans=self.scans,
                skipping=self._skipping,
                sorted_out=self._numbered is not None or isinstance(self._storage, JoinedFiles),
            )
        )

    def _headers(self) -> FrameTable:
        return FrameTable(
            self._storage,
            self._format,
            self._first,
            self._frames,
            self._turn,
            self._begin,
            self._step,
            self._origin,
        )

    def _same(self, one: int, other: int) -> bool:
        """Whether two frames of the file have the same bytes."""
        size = self.layout.frame_bytes
        both = np.array([one, other], np.int64)
        data, stride, where = self._storage.headers(both, size, size)
        first, second = (data[at * stride : at * stride + size] for at in where.tolist())
        return bool(np.array_equal(first, second))

    def _choose_by_number(self, scan: Scan, ends: Ends) -> None:
        """One of several scans whose numbers go on from one to the next."""
        base = int(self._state[placing.BASE])
        whole, rest = divmod(ends.last - base, scan.frames)
        self.scans = max(1, whole + (rest >= scan.leading + scan.line_frames))
        declared = self._announced.frames or 0
        if ends.last <= declared:  # what is beyond its scans is none, as in a live one
            most, left = divmod(declared, scan.frames)
            most += left == scan.frames - scan.flyback_frames
            self.scans = min(self.scans, max(1, most))
        base += (self._number - 1) * scan.frames
        self._state[placing.BASE] = base
        if self.scans > 1 and ends.span == ends.count and self._numbered is None:
            self._begin = max(0, base + 1 - ends.first)
            stop = min(ends.count, base + 1 + scan.frames - ends.first)
            self._start, self._frames = ends.first + self._begin, max(0, stop - self._begin)

    def each_scan(self) -> Iterator[FrameRecording]:
        """All scans of the file; whoever opened it closes it."""
        yield self
        for number in range(2, self.scans + 1):
            yield FrameRecording(
                self.path,
                self._format,
                self._asked,
                self._announced,
                number=number,
                storage=self._storage,
            )

    def say(self, notice: Notice) -> None:
        """One more thing that people are told of this file."""
        with self._lock:
            self._notices.append(notice)

    def _note(self, kind: str, text: str, count: int = 1) -> None:
        with self._lock:
            self._notices.append(Notice(kind, text, count=count))

    def _whole_table(self) -> _Table:
        """Frame numbers and positions of a file with holes or repeats, found once.

        The first of equal numbers counts, but a frame that stands where its number says counts
        before others: so blocks of such frames need no table, whichever thread reads them.
        """
        with self._lock:
            if self._table is None:
                numbers = self._all_numbers()
                expected = np.zeros_like(numbers)
                if self._regular:
                    placing_files.regular_numbers(
                        self._start, self._skipping, self._state, expected
                    )
                sequence = np.where(numbers > 0, numbers - 1 - self._state[placing.BASE], -1)
                probe = np.full_like(sequence, -1)
                seen = np.zeros(self._acquisition.scan.positions, np.uint8)
                for chosen in (numbers == expected, numbers != expected):
                    placed = np.empty_like(probe)
                    part = np.where(chosen, sequence, -1)
                    placing_files.place_numbers(part, self._state, placed, seen)
                    probe[chosen] = placed[chosen]
                bad = int(np.count_nonzero(numbers == 0))
                if bad:
                    self._notices.append(_without_header(bad, int(np.flatnonzero(numbers == 0)[0])))
                repeated = numbers.size - bad - np.unique(numbers[numbers > 0]).size
                if repeated:
                    text = f"{repeated} frames have the number of another one and are left out"
                    self._notices.append(Notice("repeated_frames", text, count=repeated))
                self._table = sequence, probe
        return self._table

    def _all_numbers(self) -> NDArray[np.int64]:
        """The numbers of all frames, put right where they lie; what is wrong is told."""
        if self._numbered is None:
            found = self._headers().read_all(self._start)
            frames = self._acquisition.scan.frames
            self._numbered = sort_out(found, frames, same=self._same)
            if self._numbered.by_order or len(self._numbered.firsts) > 1:
                self._numbered = Numbered(found)  # at both ends they are as they should be
        self._notices += self._numbered.notices
        return self._numbered.numbers

    @property
    def acquisition(self) -> Acquisition:
        """The scan that the file holds."""
        return self._acquisition

    @property
    def frames(self) -> int:
        """Whole frames in the file."""
        return self._frames

    @property
    def splits(self) -> bool:
        """Any range is read by itself."""
        return True

    @property
    def has_table(self) -> bool:
        """Whether headers all over the file had to be read to place its frames."""
        return self._table is not None

    @property
    def notices(self) -> Sequence[Message]:
        """What was noticed on opening, and on reading so far."""
        with self._lock:
            return tuple(self._notices)

    def blocks(self, start: int, stop: int) -> Iterator[FrameBlock]:
        """Blocks of file frames start..stop-1 in order, some MiB each at most."""
        stop = min(stop, self._frames)
        begin = self._begin
        stretches = self._storage.stretches(
            start + begin, max(start, stop) + begin, self._format, self.layout
        )
        with contextlib.closing(stretches):
            for first, last, wire, buffer in stretches:
                yield self._block(first - begin, last - begin, wire, buffer)

    def _block(self, first: int, last: int, wire: Bytes, buffer: Buffer | None) -> FrameBlock:
        layout = self.layout
        sequence, probe = self._placed(first, last, wire)
        pixels, offset, stride = wire, layout.header_bytes, layout.frame_bytes
        if layout.packed:
            assert buffer is not None
            stride, offset = layout.unpacked_bytes, 0
            pixels = buffer.unpacked[: (last - first) * stride]
        return FrameBlock(
            acquisition=self._acquisition,
            pixels=pixels,
            pixel_offset=offset,
            stride=stride,
            count=last - first,
            shape=layout.shape,
            dtype=layout.dtype,
            big_endian=layout.big_endian,
            sequence=sequence,
            probe=probe,
            wire=wire,
            received_ns=self._acquisition.started_ns,
            buffer=buffer,
        )

    def _placed(
        self, first: int, last: int, wire: Bytes
    ) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
        if self._table is not None:
            return self._table[0][first:last], self._table[1][first:last]
        sequence = np.empty(last - first, np.int64)
        probe = np.empty(last - first, np.int64)
        numbers = np.empty(last - first, np.int64)
        indices = np.arange(last - first, dtype=np.int64)
        self._format.read_numbers(
            wire, self.layout.frame_bytes, indices, self._first.reference, numbers
        )
        bad, odd = placing_files.place_file(
            numbers,
            first,
            self._state,
            self._start,
            self._skipping,
            sequence,
            probe,
        )
        if odd:
            table = self._whole_table()
            return table[0][first:last], table[1][first:last]
        if bad:
            where = first + int(np.flatnonzero(numbers < 0)[0])
            self.say(_without_header(bad, where))
        return sequence, probe

    def close(self) -> None:
        """Close the file; where a block is still being read the map goes with its last reader."""
        self._storage.close()


def _without_header(count: int, first: int) -> Notice:
    """Frames of a file, counted from 0, that begin with other bytes than the first frame does."""
    text = (
        f"{count} frames have no header like that of the first frame, and are missing: frame "
        f"{first} of the file is the first"
    )
    remedy = "copy the file again if it was copied; what was written there is damaged or another's"
    return Notice("bad_header", text, count=count, remedy=remedy)

"""Files in which both counters of the detector were read: two images of every position."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from stemd.acquisition import Scan
from stemd.adapters.frames.format import Announcement, FrameStart
from stemd.adapters.frames.recording import FrameRecording
from stemd.adapters.merlin.geometry import geometry_of
from stemd.adapters.merlin.header import MAX_HEADER_BYTES, parse_frame_header
from stemd.adapters.merlin.stream import MerlinFormat
from stemd.blocks import Notice
from stemd.errors import FormatError

_COUNTER_FIELD = 11
"""Of a frame's header: which counter it is of."""


class _CounterFormat(MerlinFormat):
    """One of two counters that are read of every position: each frame is one of a pair of images.

    `halves`: images are numbered, not positions.
    """

    def __init__(self, counter: int, *, halves: bool) -> None:
        super().__init__()
        self._counter, self._halves = counter, halves

    def file_frame(self, data: bytes) -> FrameStart:
        """See `FrameFormat`: of the pair, the other image counts as a part of the header."""
        start = super().file_frame(data)
        one = start.layout
        if one.packed:
            raise FormatError(
                "both counters were read as raw frames",
                "export processed frames, or one counter, with the camera's software",
            )
        header = one.header_bytes + self._counter * one.frame_bytes
        pair = replace(one, header_bytes=header, pixel_bytes=2 * one.frame_bytes - header)
        return replace(start, layout=pair)

    def read_numbers(
        self,
        data: NDArray[np.uint8],
        stride: int,
        indices: NDArray[np.int64],
        reference: NDArray[np.uint8],
        out: NDArray[np.int64],
    ) -> None:
        """See `FrameFormat`: of pairs."""
        super().read_numbers(data, stride, indices, reference, out)
        if self._halves:
            out[:] = np.where(out > 0, (out + 1) // 2, out)


class BothCounters(FrameRecording):
    """A file of two images a position, of which this is the first; `each_scan` has the second."""

    def __init__(
        self, path: Path, scan: Scan | None, announced: Announcement, *, halves: bool
    ) -> None:
        self._halves = halves
        self._said = replace(announced, frames=None, frames_per_trigger=None)
        super().__init__(path, _CounterFormat(0, halves=halves), scan, self._said)
        self._say_which(self, 0)

    @staticmethod
    def _say_which(recording: FrameRecording, counter: int) -> None:
        text = f"both counters were read: these are the images of counter {counter}"
        remedy = "each counter's images are a scan of their own: --scan-number 1 or 2 chooses"
        recording.say(Notice("both_counters", text, level="info", remedy=remedy))

    def each_scan(self) -> Iterator[FrameRecording]:
        """See `SeveralScans`: those of the first counter, then those of the second."""
        yield from super().each_scan()
        camera = _CounterFormat(1, halves=self._halves)
        other = FrameRecording(self.path, camera, self._asked, self._said, storage=self._storage)
        self._say_which(other, 1)
        yield from other.each_scan()


def alternates(path: Path) -> tuple[bool, bool]:
    """Whether the first two frames are of two counters, and whether they have two numbers."""
    with path.open("rb") as file:
        data = file.read(MAX_HEADER_BYTES)
        first = parse_frame_header(data)
        file.seek(geometry_of(first).frame_bytes)
        again = file.read(MAX_HEADER_BYTES)
    try:
        second = parse_frame_header(again)
    except FormatError:
        return False, False
    counters = [_counter_of(text) for text in (data, again)]
    return sorted(counters) == ["0", "1"], first.sequence != second.sequence


def _counter_of(header: bytes) -> str:
    fields = header[:512].decode("latin-1").split(",")
    return fields[_COUNTER_FIELD].strip() if len(fields) > _COUNTER_FIELD else ""

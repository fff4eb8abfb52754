"""AdvaCam's .t3pa text, read as the records of a .t3p file, piece by piece."""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Iterator
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from stemd.adapters.advapix.lines import text_records
from stemd.adapters.advapix.records import RECORD
from stemd.adapters.events.records import RecordReader, map_file
from stemd.adapters.recordings.mapped import Window, map_of
from stemd.errors import CameraError, FormatError

PIECE_BYTES = 4 * 1024 * 1024
"""Of text that are made records at once."""
_LINE_ENDS = (10, 13)


class TextRecords:
    """Records of a .t3pa file, see `events.records.Records`.

    A first pass through the text counts the hits of each piece; each piece is read again when
    its records are wanted, so that memory does not grow with the file. Raises CameraError when the
    file cannot be read, FormatError when no line of it is a hit.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self._text = map_file(path)
        self._starts, self._firsts = [0], [0]
        self.unread = 0
        """Lines that cannot be read."""
        for stop, count in self._counted():
            self._starts.append(stop)
            self._firsts.append(self._firsts[-1] + count)
        self.size = self._firsts[-1] * RECORD.itemsize
        if self.size == 0:
            raise FormatError(
                f"{path} holds no hits as text ({self._text.size} bytes read)",
                "expected are lines of Index, Matrix Index, ToA, ToT, FToA, Overflow",
            )

    def _counted(self) -> Iterator[tuple[int, int]]:
        """End and hits of each piece of whole lines."""
        window = self.window(0)
        start, size = 0, self._text.size
        while start < size:
            window.at(start)
            stop = self._line_end(start)
            made, _, unread = text_records(self._text[start:stop])
            self.unread += unread
            yield stop, len(made)
            start = stop

    def _line_end(self, start: int) -> int:
        """Behind the last end of a line in a piece, which is longer where there is none."""
        size, count = self._text.size, PIECE_BYTES
        while start + count < size:
            ends = np.flatnonzero(np.isin(self._text[start : start + count], _LINE_ENDS))
            if ends.size:
                return int(start + ends[-1] + 1)
            count *= 2
        return int(size)

    def window(self, start: int) -> Window:
        """Holds the pages of one way through the text."""
        mapped = map_of(self._text)
        if mapped is None:
            raise CameraError(f"{self.path} has been closed")
        return Window(mapped, start, self._text.size)

    def holding(self, record: int) -> int:
        """The piece that holds a record."""
        return min(bisect_right(self._firsts, record), len(self._firsts) - 1) - 1

    def records(self, piece: int, window: Window) -> tuple[int, NDArray[np.uint8]]:
        """Number of the first record of a piece, and the piece's records as bytes."""
        start, stop = self._starts[piece : piece + 2]
        window.at(start)
        return self._firsts[piece], text_records(self._text[start:stop])[0].view(np.uint8)

    def start_of(self, record: int) -> int:
        """Byte of the text at which the piece with a record begins."""
        return self._starts[self.holding(record)]

    @property
    def modified_ns(self) -> int:
        """See `Records`."""
        return self.path.stat().st_mtime_ns

    def reader(self, position: int, stop: int) -> RecordReader:
        """See `Records`."""
        return _TextReader(self, position // RECORD.itemsize)

    def close(self) -> None:
        """See `Records`."""
        self._text = np.zeros(0, np.uint8)


class _TextReader:
    """Pieces are fresh memory: blocks of hits keep what they were made of."""

    def __init__(self, text: TextRecords, record: int) -> None:
        self._text = text
        self._window = text.window(text.start_of(record))
        self._piece, self._first = -1, 0
        self._held = np.zeros(0, np.uint8)

    def piece(self, position: int, count: int) -> NDArray[np.uint8]:
        made = []
        stop = min(position + count, self._text.size)
        while position < stop:
            piece = self._text.holding(position // RECORD.itemsize)
            if piece != self._piece:
                self._first, self._held = self._text.records(piece, self._window)
                self._piece = piece
            at = position - self._first * RECORD.itemsize
            part = self._held[at : at + stop - position]
            if not part.size:
                raise CameraError(
                    f"{self._text.path} has changed while it was read",
                    "read it when it is completely written",
                )
            made.append(part)
            position += part.size
        return np.concatenate(made) if made else self._held[:0]

    def __enter__(self) -> RecordReader:
        return self

    def __exit__(self, *error: object) -> None:
        pass

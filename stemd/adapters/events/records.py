"""The records of an event file, piece by piece: from its map, or from ranges of a remote one."""

from __future__ import annotations

from pathlib import Path
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from stemd.adapters.recordings.address import RecordingPath, RemoteFile
from stemd.adapters.recordings.mapped import Window, map_of
from stemd.adapters.recordings.remote import RemoteBytes, now_ns
from stemd.adapters.recordings.remote_stream import RangeStream
from stemd.errors import CameraError

Bytes = NDArray[np.uint8]


class RecordReader(Protocol):
    """Reads one way through the records; a context manager."""

    def piece(self, position: int, count: int) -> Bytes:
        """At most `count` bytes from `position` on, aligned for words; fewer at the end only.

        Each piece begins within the one before, or right behind it.
        """
        ...

    def __enter__(self) -> RecordReader: ...

    def __exit__(self, *error: object) -> None: ...


class Records(Protocol):
    """The bytes of an event stream; `size` of them. Any number of readers may be at work."""

    size: int

    @property
    def modified_ns(self) -> int:
        """When the stream was recorded (UTC, ns since 1970): the same for every reading."""
        ...

    def reader(self, position: int, stop: int) -> RecordReader:
        """Reads from `position` on, to about `stop`."""
        ...

    def close(self) -> None:
        """Let go of the file."""
        ...


def open_records(path: RecordingPath) -> Records:
    """Raises CameraError when the file cannot be read or is empty, FormatError when a remote one
    does not exist.
    """
    if isinstance(path, RemoteFile):
        return RangedRecords(path)
    return ArrayRecords(map_file(path), path)


def map_file(path: Path) -> Bytes:
    """The file's bytes; raises CameraError when it cannot be read or is empty."""
    try:
        size = path.stat().st_size
        if size == 0:
            raise CameraError(f"{path} is empty", "check that the recording was written")
        # copy on write: the kernels want writable arrays but nothing is written
        return np.asarray(np.memmap(path, np.uint8, mode="c"))
    except OSError as error:
        raise CameraError(f"{path} cannot be read: {error.strerror or error}") from error


class ArrayRecords:
    """Records in an array: the map of a file, or what was made of `path`."""

    def __init__(self, data: Bytes, path: Path) -> None:
        self.size = data.size
        self._data: Bytes | None = data
        self._path = path

    @property
    def modified_ns(self) -> int:
        """See `Records`."""
        return self._path.stat().st_mtime_ns

    def reader(self, position: int, stop: int) -> RecordReader:
        """See `Records`."""
        if self._data is None:
            raise CameraError(f"{self._path} has been closed")
        mapped = map_of(self._data)
        window = Window(mapped, position, self.size) if mapped is not None else None
        return _ArrayReader(self._data, window)

    def close(self) -> None:
        """See `Records`."""
        self._data = None


class _ArrayReader:
    def __init__(self, data: Bytes, window: Window | None) -> None:
        self._data, self._window = data, window

    def piece(self, position: int, count: int) -> Bytes:
        if self._window is not None:
            self._window.at(position)
        piece = self._data[position : position + count]
        return piece.copy() if piece.ctypes.data % 8 else piece

    def __enter__(self) -> RecordReader:
        return self

    def __exit__(self, *error: object) -> None:
        pass


class RangedRecords:
    """Records of a remote file."""

    def __init__(self, file: RemoteFile) -> None:
        self._source = RemoteBytes(file)
        self.size = self._source.size
        if self.size == 0:
            raise CameraError(f"{file} is empty", "check that the recording was written")
        self._modified_ns = now_ns(self._source)

    @property
    def modified_ns(self) -> int:
        """See `Records`."""
        return self._modified_ns

    def reader(self, position: int, stop: int) -> RecordReader:
        """See `Records`."""
        return _RangedReader(self._source.stream(position, stop), position, self.size)

    def close(self) -> None:
        """See `Records`."""
        self._source.close()


class _RangedReader:
    """Pieces are fresh memory: blocks of hits keep what they were made of."""

    def __init__(self, stream: RangeStream, position: int, size: int) -> None:
        self._stream = stream
        self._first, self._size = position, size
        self._last: Bytes = np.zeros(0, np.uint8)

    def piece(self, position: int, count: int) -> Bytes:
        count = min(count, self._size - position)
        kept = self._last[position - self._first :][:count]
        piece = np.empty(count, np.uint8)
        piece[: kept.size] = kept
        self._stream.read_into(piece[kept.size :])
        self._first, self._last = position, piece
        return piece

    def __enter__(self) -> RecordReader:
        return self

    def __exit__(self, *error: object) -> None:
        self._stream.close()

"""The bytes of a remote file one after the other, or as a Python file."""

from __future__ import annotations

import io
from collections import deque
from concurrent.futures import Future, ThreadPoolExecutor
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from stemd.adapters.recordings.address import RemoteFile
from stemd.errors import CameraError

CHUNK_BYTES = 4 * 1024 * 1024
"""A range that is asked for at a time: object stores answer after some ten milliseconds, so that
smaller ones wait more than they read."""
AHEAD = 3
"""Ranges of a stream that are on their way while the one before them is worked on."""


class Source(Protocol):
    """A remote file of `size` bytes, read by any number of threads."""

    file: RemoteFile
    size: int

    def read(self, first: int, stop: int) -> bytes:
        """Bytes first..stop-1. Raises CameraError."""
        ...


class RangeStream:
    """Consecutive bytes of a remote file; the next ranges come while one is worked on.

    For one thread. Holds at most AHEAD + 1 ranges. Bytes behind the planned end are read when
    they are asked for. A context manager: leaving it lets go of what is under way.
    """

    def __init__(self, source: Source, first: int, stop: int) -> None:
        self._source = source
        self._asked, self._stop = first, min(stop, source.size)
        self._threads = ThreadPoolExecutor(AHEAD, thread_name_prefix="ranges")
        self._coming: deque[Future[bytes]] = deque()
        self._here: NDArray[np.uint8] = np.zeros(0, np.uint8)
        for _ in range(AHEAD):
            self._ask(self._stop)

    def _ask(self, stop: int) -> None:
        first, last = self._asked, min(self._asked + CHUNK_BYTES, stop)
        if first < last:
            self._asked = last
            self._coming.append(self._threads.submit(self._source.read, first, last))

    def read_into(self, out: NDArray[np.uint8]) -> None:
        """Fill a flat array with the next bytes. Raises CameraError, also beyond the file."""
        filled = 0
        while filled < out.size:
            if not self._here.size:
                self._here = self._next()
            count = min(self._here.size, out.size - filled)
            out[filled : filled + count] = self._here[:count]
            self._here = self._here[count:]
            filled += count

    def _next(self) -> NDArray[np.uint8]:
        if not self._coming:
            self._ask(self._source.size)
        if not self._coming:
            raise CameraError(f"{self._source.file} has no bytes after {self._source.size}")
        data = self._coming.popleft().result()
        self._ask(self._stop)
        return np.frombuffer(data, np.uint8)

    def close(self) -> None:
        """No further range is asked for."""
        self._threads.shutdown(wait=False, cancel_futures=True)
        self._coming.clear()

    def __enter__(self) -> RangeStream:
        return self

    def __exit__(self, *error: object) -> None:
        self.close()


class RemoteReader(io.RawIOBase):
    """A remote file for libraries that want a Python file; wrap it in a `BufferedReader`."""

    def __init__(self, source: Source) -> None:
        self._source = source
        self._at = 0

    def readable(self) -> bool:
        """Always."""
        return True

    def seekable(self) -> bool:
        """Always."""
        return True

    def seek(self, offset: int, whence: int = io.SEEK_SET) -> int:
        """Where the next bytes are read."""
        base = {io.SEEK_SET: 0, io.SEEK_CUR: self._at, io.SEEK_END: self._source.size}[whence]
        self._at = base + offset
        return self._at

    def tell(self) -> int:
        """Where the next bytes are read."""
        return self._at

    def readinto(self, buffer: Any) -> int:
        """As many bytes as there are, at most as many as fit."""
        view = memoryview(buffer).cast("B")
        stop = min(self._source.size, self._at + len(view))
        data = self._source.read(self._at, max(stop, self._at))
        view[: len(data)] = data
        self._at += len(data)
        return len(data)

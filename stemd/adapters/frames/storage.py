"""Where the frames of a recorded file are: a map of a local file, or ranges of a remote one."""

from __future__ import annotations

import contextlib
import copy
import mmap
import sys
from collections.abc import Generator
from pathlib import Path
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from stemd.adapters.frames.format import FrameFormat, FrameLayout
from stemd.adapters.recordings.address import RecordingPath, RemoteFile
from stemd.adapters.recordings.mapped import Window
from stemd.adapters.recordings.remote import RemoteBytes
from stemd.blocks import BLOCK_BYTES, BlockPool, Buffer
from stemd.errors import FormatError

FILE_BLOCK_BYTES = 16 * 1024 * 1024
"""Larger than a block from a camera: these pixels come from memory in any case, and each block
costs 0.05 ms of Python, which is 3 % of the time of 4 MiB a core."""
POOL_BYTES = 16 * BLOCK_BYTES
_NORESERVE = 0x4000  # Linux; the mmap module names it from Python 3.13 on

Bytes = NDArray[np.uint8]
Stretch = tuple[int, int, Bytes, Buffer | None]
"""(first frame, frame behind the last, their wire bytes, who owns them)"""


class Storage(Protocol):
    """The bytes of one recorded file; `size` of them. Any number of threads may read."""

    size: int

    def head(self, count: int) -> bytes:
        """The first bytes of the file."""
        ...

    def headers(
        self, frames: NDArray[np.int64], stride: int, length: int
    ) -> tuple[Bytes, int, NDArray[np.int64]]:
        """(data, stride, indices): frame `frames[i]` begins at data[indices[i] * stride].

        At least `length` bytes of each are there.
        """
        ...

    def stretches(
        self, first: int, stop: int, camera: FrameFormat, layout: FrameLayout
    ) -> Generator[Stretch, None, None]:
        """Frames first..stop-1, some at a time. Packed ones are unpacked into the owner's
        `unpacked`. The caller releases the owner."""
        ...

    def close(self) -> None:
        """Close the file."""
        ...


def open_storage(path: RecordingPath) -> Storage:
    """Raises FormatError when the file is empty, OSError or CameraError when it is not read."""
    if isinstance(path, RemoteFile):
        return RangedFile(path)
    return MappedFile(path)


class MappedFile:
    """A local file: frames are views of its map, which is read ahead, and given back behind."""

    def __init__(self, path: Path) -> None:
        self._map, self.size = open_map(path)
        self._data: Bytes = np.frombuffer(self._map, np.uint8)
        self._begin = 0

    def piece(self, begin: int, stop: int) -> MappedFile:
        """Bytes begin..stop-1 of the same map, as if they were a file."""
        piece = copy.copy(self)
        piece._data, piece._begin = self._data[begin:stop], self._begin + begin
        piece.size = stop - begin
        return piece

    def find(self, pattern: bytes, at: int) -> int:
        """Where these bytes stand next, from byte `at` on; -1: nowhere."""
        found = self._map.find(pattern, self._begin + at, self._begin + self.size)
        return found - self._begin if found >= 0 else -1

    def head(self, count: int) -> bytes:
        """See `Storage`."""
        return self._data[:count].tobytes()

    def headers(
        self, frames: NDArray[np.int64], stride: int, length: int
    ) -> tuple[Bytes, int, NDArray[np.int64]]:
        """See `Storage`: the file itself."""
        return self._data, stride, frames

    def stretches(
        self, first: int, stop: int, camera: FrameFormat, layout: FrameLayout
    ) -> Generator[Stretch, None, None]:
        """See `Storage`."""
        size = layout.frame_bytes
        pool = None
        each = max(1, FILE_BLOCK_BYTES // size)
        if layout.packed:
            pool = BlockPool(POOL_BYTES)
            each = pool.configure(8, layout.unpacked_bytes)
        window = Window(self._map, self._begin + first * size, self._begin + stop * size)
        try:
            for low in range(first, stop, each):
                high = min(low + each, stop)
                window.at(self._begin + low * size)
                wire = self._data[low * size : high * size]
                buffer = None
                if pool is not None:
                    buffer = pool.take()
                    _unpack(wire, camera, layout, high - low, buffer)
                yield low, high, wire, buffer
        finally:
            if pool is not None:
                pool.close()

    def close(self) -> None:
        """Unmap; where a block is still being read the map goes with its last reader."""
        self._data = np.zeros(0, np.uint8)
        with contextlib.suppress(BufferError):
            self._map.close()


class RangedFile:
    """A remote file: frames are copied from the ranges that come into recycled memory."""

    def __init__(self, file: RemoteFile) -> None:
        self._source = RemoteBytes(file)
        self.size = self._source.size
        if not self.size:
            raise FormatError(f"{file} is empty", "copy the file again")

    def head(self, count: int) -> bytes:
        """See `Storage`."""
        return self._source.read(0, min(count, self.size))

    def headers(
        self, frames: NDArray[np.int64], stride: int, length: int
    ) -> tuple[Bytes, int, NDArray[np.int64]]:
        """See `Storage`: the headers alone, one behind the other."""
        ranges = [(int(frame) * stride, int(frame) * stride + length) for frame in frames]
        data = bytearray().join(self._source.read_many(ranges))
        return np.frombuffer(data, np.uint8), length, np.arange(frames.size, dtype=np.int64)

    def stretches(
        self, first: int, stop: int, camera: FrameFormat, layout: FrameLayout
    ) -> Generator[Stretch, None, None]:
        """See `Storage`."""
        size = layout.frame_bytes
        pool = BlockPool(POOL_BYTES)
        each = pool.configure(size, layout.unpacked_bytes if layout.packed else 0)
        try:
            with self._source.stream(first * size, stop * size) as stream:
                for low in range(first, stop, each):
                    high = min(low + each, stop)
                    buffer = pool.take()
                    wire = buffer.bytes[: (high - low) * size]
                    try:
                        stream.read_into(wire)
                        if layout.packed:
                            _unpack(wire, camera, layout, high - low, buffer)
                    except BaseException:
                        buffer.release()
                        raise
                    yield low, high, wire, buffer
        finally:
            pool.close()

    def close(self) -> None:
        """Nothing is held; whoever waits for the server gives up."""
        self._source.close()


def _unpack(
    wire: Bytes, camera: FrameFormat, layout: FrameLayout, count: int, buffer: Buffer
) -> None:
    camera.unpack(wire, layout, count, buffer.unpacked[: count * layout.unpacked_bytes])


def open_map(path: Path) -> tuple[mmap.mmap, int]:
    """A file's map and size. Raises FormatError, OSError.

    The map is private and writable: nothing is ever written, but kernels know one kind of array.
    """
    with path.open("rb") as file:
        size = file.seek(0, 2)
        if not size:
            raise FormatError(f"{path} is empty", "copy the file again")
        if sys.platform == "linux":
            flags = mmap.MAP_PRIVATE | _NORESERVE
            mapped = mmap.mmap(
                file.fileno(), size, flags=flags, prot=mmap.PROT_READ | mmap.PROT_WRITE
            )
        else:
            mapped = mmap.mmap(file.fileno(), size, access=mmap.ACCESS_COPY)
    return mapped, size

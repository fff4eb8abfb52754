"""Merlin messages ready to be sent: rendered ahead by a thread, or read from a recording."""

from __future__ import annotations

import contextlib
import queue
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from stemd.adapters.merlin.encoder import Batch, Camera, encode_hdr, message
from stemd.adapters.merlin.geometry import geometry_of
from stemd.adapters.merlin.header import FrameHeader, parse_frame_header
from stemd.errors import CameraError
from stemd.virtual.microscope import Microscope

CHUNK_BYTES = 2 * 1024 * 1024
"""Aim for the size of a batch of messages."""
BATCHES_AHEAD = 6


class Sending(Protocol):
    """Consecutive messages of one size."""

    message_bytes: int

    def views(self, first: int, period_ns: int, time_ns: int) -> memoryview:
        """The messages, numbered and dated: `first` counts frames of the acquisition from 0."""
        ...


class FrameSource(Protocol):
    """Where the messages of an acquisition come from."""

    @property
    def frames(self) -> int:
        """Frames of a scan."""
        ...

    @property
    def image_shape(self) -> tuple[int, int]:
        """(height, width) that the camera reports."""
        ...

    @property
    def depth(self) -> int:
        """Counter depth in bits."""
        ...

    def hdr(self, frames: int, time_ns: int) -> bytes:
        """Payload of the HDR message of an acquisition of so many frames."""
        ...

    def batches(self, number: int, frames: int, stop: threading.Event) -> Iterator[Sending]:
        """Batches of messages in order, of acquisition `number`, until `frames` or `stop`."""
        ...


class RenderedBatch:
    """A batch of the encoder, of which the first `count` messages are filled."""

    def __init__(self, camera: Camera, size: int, pad_space: bool) -> None:
        self.batch = Batch(camera, size)
        self.count = 0
        self.message_bytes = self.batch.message_bytes
        header = self.batch.bytes.reshape(size, -1)[:, : -self.batch.geometry.pixel_bytes]
        if pad_space:
            header[header == 0] = ord(" ")

    def fill(self, counts: NDArray[np.unsignedinteger]) -> None:
        """Write patterns (n, h, w) into the first n messages."""
        self.count = counts.shape[0]
        geometry = self.batch.geometry
        if geometry.packed:
            for index in range(self.count):
                self.batch.put(index, counts[index])
            return
        dtype = np.dtype(">" + geometry.dtype)
        height, width = geometry.shape
        np.copyto(
            np.ndarray(
                (self.count, height, width),
                dtype,
                buffer=self.batch.bytes.data,
                offset=self.message_bytes - geometry.pixel_bytes,
                strides=(self.message_bytes, width * dtype.itemsize, dtype.itemsize),
            ),
            counts,
            casting="unsafe",
        )

    def views(self, first: int, period_ns: int, time_ns: int) -> memoryview:
        """The filled messages, numbered from first + 1."""
        numbers = np.arange(first + 1, first + 1 + self.count, dtype=np.int64)
        self.batch.stamp(numbers, time_ns, period_ns)
        return self.batch.view(self.count)


class RenderedSource:
    """Frames of the virtual microscope, a bounded number of batches ahead of the sender.

    With `pool`, only that many patterns are rendered, once, and sent over and over: for speed
    tests, where the images mean nothing.
    """

    def __init__(
        self, microscope: Microscope, camera: Camera, pool: int = 0, pad_space: bool = False
    ) -> None:
        self.microscope = microscope
        self.camera = camera
        size = Batch(camera, 1).message_bytes
        self.batch_frames = max(1, min(256, CHUNK_BYTES // size))
        self.limit = 2**camera.depth - 1
        self.dtype: np.dtype[np.unsignedinteger] = np.dtype(camera.geometry().dtype)
        self._pool_frames = pool
        self._pool: list[RenderedBatch] = []
        self._pad_space = pad_space

    @property
    def frames(self) -> int:
        """Frames of a scan, flyback and leading ones included."""
        return self.microscope.setup.scan.frames

    @property
    def image_shape(self) -> tuple[int, int]:
        """(height, width) of a pattern."""
        return self.camera.shape

    @property
    def depth(self) -> int:
        """Counter depth in bits."""
        return self.camera.depth

    def hdr(self, frames: int, time_ns: int) -> bytes:
        """HDR text with the scan's shape."""
        scan = self.microscope.setup.scan
        return encode_hdr(self.camera, frames, time_ns=time_ns, scan_shape=scan.shape)

    def _render(self, number: int, frames: int) -> Iterator[NDArray[np.unsignedinteger]]:
        return self.microscope.counts(number, 0, frames, self.dtype, self.limit, self.batch_frames)

    def _fill_pool(self) -> None:
        for counts in self._render(0, self._pool_frames):
            batch = RenderedBatch(self.camera, counts.shape[0], self._pad_space)
            batch.fill(counts)
            self._pool.append(batch)

    def batches(self, number: int, frames: int, stop: threading.Event) -> Iterator[Sending]:
        """Batches of messages; a thread renders the next ones while one is sent."""
        if self._pool_frames:
            if not self._pool:
                self._fill_pool()
            left = frames
            while left > 0:
                for batch in self._pool:
                    batch.count = min(batch.batch.count, left)
                    left -= batch.count
                    if batch.count and not stop.is_set():
                        yield batch
            return
        free: queue.SimpleQueue[RenderedBatch] = queue.SimpleQueue()
        full: queue.SimpleQueue[RenderedBatch | BaseException | None] = queue.SimpleQueue()
        for _ in range(BATCHES_AHEAD):
            free.put(RenderedBatch(self.camera, self.batch_frames, self._pad_space))
        done = threading.Event()

        def work() -> None:
            try:
                for counts in self._render(number, frames):
                    batch = None
                    while batch is None:
                        if stop.is_set() or done.is_set():
                            return
                        with contextlib.suppress(queue.Empty):
                            batch = free.get(timeout=0.1)
                    batch.fill(counts)
                    full.put(batch)
                full.put(None)
            except BaseException as error:  # handed to the sender, whose error it becomes
                full.put(error)

        worker = threading.Thread(target=work, name="virtual-render", daemon=True)
        worker.start()
        try:
            while not stop.is_set():
                try:
                    item = full.get(timeout=0.1)
                except queue.Empty:
                    continue
                if item is None:
                    return
                if isinstance(item, BaseException):
                    raise item
                yield item
                free.put(item)
        finally:
            done.set()
            worker.join()


class FileBatch:
    """Messages copied from a recording, whose numbers and dates stay as they are."""

    def __init__(self, messages: NDArray[np.uint8]) -> None:
        self.message_bytes = messages.shape[1]
        self._bytes = messages

    def views(self, first: int, period_ns: int, time_ns: int) -> memoryview:
        """The messages as recorded."""
        return self._bytes.reshape(-1).data


class FileSource:
    """The frames of a .mib file, byte for byte, each with the prefix of a message.

    The .hdr file beside it is the HDR message; without one it is made up. A last frame that is
    cut off is left out. Raises CameraError when the file is not a .mib.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        try:
            self._data = np.memmap(path, np.uint8, "r")
        except (OSError, ValueError) as error:
            raise CameraError(
                f"{path} cannot be replayed: {error}", "name an existing .mib file"
            ) from error
        self.header: FrameHeader = parse_frame_header(bytes(self._data[:20_000]))
        self.geometry = geometry_of(self.header)
        self._frame = self.geometry.frame_bytes
        self.frames = self._data.size // self._frame
        if self.frames == 0:
            raise CameraError(
                f"{path} holds {self._data.size} bytes, less than one frame of {self._frame}",
                "the file is cut off: name a whole one",
            )
        last = parse_frame_header(bytes(self._data[(self.frames - 1) * self._frame :][:20_000]))
        self._left_out = max(0, last.sequence - self.header.sequence + 1 - self.frames)
        beside = path.with_suffix(".hdr")
        self._hdr = beside.read_bytes() if beside.is_file() else None

    @property
    def image_shape(self) -> tuple[int, int]:
        """(height, width) of a pattern."""
        return self.geometry.shape

    @property
    def depth(self) -> int:
        """Counter depth in bits."""
        return self.geometry.depth

    def hdr(self, frames: int, time_ns: int) -> bytes:
        """The .hdr file's bytes, or a made-up HDR text.

        A file may have been written without its flyback frames; the camera had counted them.
        """
        if self._hdr is not None:
            return self._hdr
        frames += self._left_out if frames == self.frames else 0
        depth = 12 if self.depth not in (1, 6, 12, 24) else self.depth
        camera = Camera(self.geometry.shape, depth, self.geometry.packed, self.geometry.chips)
        return encode_hdr(camera, frames, time_ns=time_ns)

    def batches(self, number: int, frames: int, stop: threading.Event) -> Iterator[Sending]:
        """Batches of messages; from the file's beginning again where `frames` is more."""
        prefix = np.frombuffer(message(bytes(self._frame))[:15], np.uint8)
        size = max(1, CHUNK_BYTES // self._frame)
        done = 0
        while done < frames and not stop.is_set():
            first = done % self.frames
            count = min(size, self.frames - first, frames - done)
            out = np.empty((count, 15 + self._frame), np.uint8)
            out[:, :15] = prefix
            start = first * self._frame
            out[:, 15:] = self._data[start : start + count * self._frame].reshape(count, -1)
            done += count
            yield FileBatch(out)

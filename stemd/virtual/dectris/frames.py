"""Messages of a DECTRIS stream, compressed and ready to be sent; only numbers are written later."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Literal, Protocol

import numpy as np
from numpy.typing import NDArray

from stemd.adapters.dectris import legacy, stream2, zmtp
from stemd.adapters.dectris.compression import Algorithm
from stemd.virtual.microscope import Microscope

Format = Literal["cbor", "legacy"]
Bytes = NDArray[np.uint8]

SERIES, NUMBER = (1 << 32) - 2, (1 << 32) - 1
"""Stand in the messages until the numbers are known: 4 bytes in stream2, 10 digits in legacy."""
BATCH_FRAMES = 256


class Stream(Protocol):
    """One of the two streams."""

    def start(self, series: int, frames: int, shape: tuple[int, int], dtype: str) -> bytes:
        """The message that begins a series."""
        ...

    def image(self, image: NDArray[np.unsignedinteger], algorithm: Algorithm) -> bytes:
        """The message of an image, with SERIES and NUMBER in it."""
        ...

    def end(self, series: int) -> bytes:
        """The message that ends a series."""
        ...

    def field(self, value: int) -> bytes:
        """What stands in an image's message for SERIES or NUMBER."""
        ...

    def write(self, data: Bytes, at: NDArray[np.int64], values: NDArray[np.int64]) -> None:
        """Write `values` (below 2^32) where such fields begin."""
        ...


class Stream2:
    """stream2, one channel."""

    channel = "threshold_1"

    def start(self, series: int, frames: int, shape: tuple[int, int], dtype: str) -> bytes:
        """See `Stream`."""
        mask = np.zeros(shape, np.uint32)
        begin = stream2.encode_start(
            series,
            shape,
            dtype,
            frames,
            channels=(self.channel,),
            mask=mask,
            detector_description="stemd virtual DECTRIS",
        )
        return zmtp.message(begin)

    def image(self, image: NDArray[np.unsignedinteger], algorithm: Algorithm) -> bytes:
        """See `Stream`."""
        data = {self.channel: stream2.encode_array(image, algorithm)}
        return zmtp.message(stream2.encode_image(SERIES, NUMBER, data))

    def end(self, series: int) -> bytes:
        """See `Stream`."""
        return zmtp.message(stream2.encode_end(series))

    def field(self, value: int) -> bytes:
        """See `Stream`."""
        return b"\x1a" + value.to_bytes(4, "big")

    def write(self, data: Bytes, at: NDArray[np.int64], values: NDArray[np.int64]) -> None:
        """See `Stream`."""
        for k in range(4):
            data[at + 1 + k] = values >> 8 * (3 - k) & 0xFF


class Legacy:
    """The legacy stream."""

    def start(self, series: int, frames: int, shape: tuple[int, int], dtype: str) -> bytes:
        """See `Stream`."""
        config = {
            "nimages": frames,
            "ntrigger": 1,
            "trigger_mode": "exts",
            "x_pixels_in_detector": shape[1],
            "y_pixels_in_detector": shape[0],
            "bit_depth_image": 8 * np.dtype(dtype).itemsize,
        }
        return zmtp.message(*legacy.encode_start(series, config, np.zeros(shape, np.uint32)))

    def image(self, image: NDArray[np.unsignedinteger], algorithm: Algorithm) -> bytes:
        """See `Stream`."""
        return zmtp.message(*legacy.encode_image(SERIES, NUMBER, image, algorithm))

    def end(self, series: int) -> bytes:
        """See `Stream`."""
        return zmtp.message(*legacy.encode_end(series))

    def field(self, value: int) -> bytes:
        """See `Stream`."""
        return b"%10d" % value

    def write(self, data: Bytes, at: NDArray[np.int64], values: NDArray[np.int64]) -> None:
        """See `Stream`: digits behind spaces, which JSON allows."""
        for k in range(10):
            power = 10 ** (9 - k)
            digit = values // power % 10 + ord("0")
            data[at + k] = np.where((values >= power) | (k == 9), digit, ord(" "))


STREAMS: dict[Format, type[Stream]] = {"cbor": Stream2, "legacy": Legacy}


class Batch(Protocol):
    """`count` messages of images, one behind the other."""

    count: int

    def stamp(self, series: int, first: int) -> None:
        """Number the images from `first` on."""
        ...

    def view(self, first: int, stop: int) -> memoryview:
        """Messages first..stop-1."""
        ...


class Source(Protocol):
    """Where the messages of a series come from: `frames` images of `shape` (height, width)."""

    @property
    def frames(self) -> int:
        """Images of a series."""
        ...

    @property
    def shape(self) -> tuple[int, int]:
        """(height, width) of an image."""
        ...

    def start(self, stream: Stream, series: int, frames: int) -> bytes:
        """The message that begins a series."""
        ...

    def end(self, stream: Stream, series: int) -> bytes:
        """The message that ends it."""
        ...

    def batches(self, stream: Stream, number: int, frames: int) -> Iterator[Batch]:
        """The images of scan `number`, `frames` of them or, at the end, a few more."""
        ...


class Messages:
    """Implements Batch: message i is bytes[ends[i]:ends[i + 1]].

    Their numbers are written by `stamp`, all else stays.
    """

    def __init__(self, stream: Stream, messages: list[bytes]) -> None:
        self.bytes: Bytes = np.frombuffer(bytearray(b"".join(messages)), np.uint8)
        self.ends = np.cumsum([0, *map(len, messages)], dtype=np.int64)
        self.count = len(messages)
        self._stream = stream
        series, number = stream.field(SERIES), stream.field(NUMBER)
        begins = self.ends[:-1]
        self._series_at = begins + np.array([m.index(series) for m in messages], np.int64)
        self._number_at = begins + np.array([m.index(number) for m in messages], np.int64)

    def stamp(self, series: int, first: int) -> None:
        """Number the images from `first` on."""
        numbers = first + np.arange(self.count, dtype=np.int64)
        self._stream.write(self.bytes, self._series_at, np.full(self.count, series, np.int64))
        self._stream.write(self.bytes, self._number_at, numbers)

    def view(self, first: int, stop: int) -> memoryview:
        """Messages first..stop-1."""
        return self.bytes.data[int(self.ends[first]) : int(self.ends[stop])]


class MessageSource:
    """The virtual microscope's images as messages of a stream.

    With `pool`, only that many images are rendered, once, and sent over and over: for speed
    tests, where the images mean nothing.
    """

    def __init__(
        self, microscope: Microscope, dtype: str, algorithm: Algorithm, pool: int = 0
    ) -> None:
        self.microscope = microscope
        self.dtype = dtype
        self._algorithm, self._pool = algorithm, pool
        self._kept: dict[type[Stream], list[Messages]] = {}

    @property
    def frames(self) -> int:
        """Images of a scan, flyback and leading ones included."""
        return self.microscope.setup.scan.frames

    @property
    def shape(self) -> tuple[int, int]:
        """(height, width) of an image."""
        return self.microscope.setup.camera.shape

    def start(self, stream: Stream, series: int, frames: int) -> bytes:
        """See `Source`."""
        return stream.start(series, frames, self.shape, self.dtype)

    def end(self, stream: Stream, series: int) -> bytes:
        """See `Source`."""
        return stream.end(series)

    def _made(self, stream: Stream, number: int, frames: int) -> Iterator[Messages]:
        dtype: np.dtype[np.unsignedinteger] = np.dtype(self.dtype)
        most = int(np.iinfo(dtype).max) - 1
        parts = self.microscope.counts(number, 0, frames, dtype, most, BATCH_FRAMES)
        for counts in parts:
            yield Messages(stream, [stream.image(image, self._algorithm) for image in counts])

    def batches(self, stream: Stream, number: int, frames: int) -> Iterator[Messages]:
        """The images of scan `number`, `frames` of them or, at the end, a few more."""
        if not self._pool:
            yield from self._made(stream, number, frames)
            return
        kept = self._kept.get(type(stream))
        if kept is None:
            kept = self._kept[type(stream)] = list(self._made(stream, 0, self._pool))
        while frames > 0:
            for batch in kept:
                if frames > 0:
                    yield batch
                    frames -= batch.count

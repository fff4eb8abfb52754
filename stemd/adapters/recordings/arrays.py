"""Arrays of patterns in .npy and HDF5 files as recordings.

Not a camera: a module without a PLUGIN, used by files.py.
"""

from __future__ import annotations

import io
import threading
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from tokenize import TokenError
from typing import Any, Literal, cast

import numpy as np
from numpy.typing import NDArray

from stemd.acquisition import Acquisition, Detector, Scan
from stemd.adapters.recordings import hdf5
from stemd.adapters.recordings.address import RecordingPath, RemoteFile
from stemd.adapters.recordings.mapped import Window, map_of
from stemd.adapters.recordings.remote import RemoteBytes, pieces
from stemd.blocks import BLOCK_BYTES, FrameBlock, Message, Notice
from stemd.errors import FormatError

Patterns = NDArray[Any]
Fetch = Callable[[int, int, int], Iterator[Patterns]]
"""(first, stop, each) -> the patterns first..stop-1, (n, height, width) of the stored type, at most
`each` at a time; views where possible."""

_NPY_HEAD_BYTES = 64 * 1024
_EXACT = 2.0**24  # above it float32 no longer holds every whole number


class ArrayRecording:
    """Implements adapters.base.Recording for an array of patterns.

    `fetch` gives patterns by their numbers, `shape` is (ny, nx, height, width), or (n, height,
    width) which needs `scan` or a square number of patterns. Unsigned integers are passed on as
    stored; signed integers and floats must be whole, not negative counts and are converted.
    """

    def __init__(
        self,
        path: RecordingPath,
        shape: tuple[int, ...],
        dtype: np.dtype[Any],
        fetch: Fetch,
        scan: Scan | None,
        close: Callable[[], None],
    ) -> None:
        self.path = path
        self._fetch = fetch
        self._close = close
        self._stored = dtype
        self._plain = dtype.kind == "u" or dtype.kind == "b"
        if dtype.kind not in "uifb":
            raise FormatError(
                f"{path}: patterns of type {dtype} are not counts", "store unsigned integers"
            )
        self._type = cast(
            Literal["u1", "u2", "u4", "u8"], f"u{dtype.itemsize if self._plain else 4}"
        )
        self._frames = int(np.prod(shape[:-2]))
        self._scan = _fit(path, shape, scan)
        self._acquisition = Acquisition(
            scan=self._scan,
            detector=Detector(
                name="array",
                shape=(shape[-2], shape[-1]),
                dtype=self._type,
                bit_depth=8 * int(self._type[1]),
            ),
            source=str(path),
            raw_name="raw" + path.suffix,
        )
        self.notices: Sequence[Message] = _notices(self._scan, self._frames)
        self.splits = True

    @property
    def acquisition(self) -> Acquisition:
        """The scan that the file holds."""
        return self._acquisition

    @property
    def frames(self) -> int:
        """Patterns in the file."""
        return self._frames

    def blocks(self, start: int, stop: int) -> Iterator[FrameBlock]:
        """Blocks of patterns start..stop-1, of the stored bytes where they are contiguous."""
        height, width = self._acquisition.detector.shape
        size = height * width * int(self._type[1])
        each = max(1, BLOCK_BYTES // size)
        stop = min(stop, self._frames)
        for (first, last), stored in zip(
            pieces(start, stop, each), self._fetch(start, stop, each), strict=True
        ):
            patterns = self._counts(stored, first)
            numbers = np.arange(first, last, dtype=np.int64)
            data = np.ascontiguousarray(patterns).reshape(-1).view(np.uint8)
            yield FrameBlock(
                acquisition=self._acquisition,
                pixels=data,
                pixel_offset=0,
                stride=size,
                count=last - first,
                shape=(height, width),
                dtype=self._type,
                big_endian=patterns.dtype.newbyteorder("=") != patterns.dtype,
                sequence=numbers,
                probe=self._scan.probes(numbers),
                wire=data,
                received_ns=self._acquisition.started_ns,
            )

    def _counts(self, patterns: Patterns, first: int) -> Patterns:
        if self._plain:
            return patterns
        with np.errstate(invalid="ignore"):
            counts = patterns.astype(np.uint32)
        exact = patterns.dtype.kind == "i" or float(np.max(patterns, initial=0.0)) <= _EXACT
        if not exact or not np.array_equal(counts, patterns):
            raise FormatError(
                f"{self.path}: near pattern {first} there are values of type {patterns.dtype} "
                "that are not counts (negative, fractions, not finite or above 2^24)",
                "give counts as unsigned integers, for example "
                "numpy.rint(patterns / gain).clip(0).astype(numpy.uint16)",
            )
        return counts

    def close(self) -> None:
        """Close the file."""
        self._close()


def _fit(path: RecordingPath, shape: tuple[int, ...], scan: Scan | None) -> Scan:
    """The scan of an array: the configured one, its own first axes, or a square."""
    frames = int(np.prod(shape[:-2]))
    if scan is None:
        if len(shape) == 4:
            return Scan(shape=(shape[0], shape[1]), flyback=0)
        side = int(np.sqrt(frames))
        return Scan(shape=(side, side) if side * side == frames else (1, frames), flyback=0)
    if scan.flyback is None:
        lines, rest = divmod(frames - scan.leading, scan.shape[0])
        found = lines - scan.shape[1] if not rest else 0
        scan = scan.model_copy(update={"flyback": max(0, found)})
    if not scan.frames - scan.flyback_frames <= frames <= scan.frames:
        ny, nx = scan.shape
        raise FormatError(
            f"{path}: {frames} patterns do not fit a scan of {ny}x{nx} with flyback "
            f"{scan.flyback_frames} and {scan.leading} leading frames, which takes {scan.frames}",
            f"set the scan's shape; the array's is {shape}",
        )
    return scan


def _notices(scan: Scan, frames: int) -> Sequence[Message]:
    missing = scan.last_position_frame + 1 - frames
    return (Notice("missing_frames", f"{missing} missing", count=missing),) if missing > 0 else ()


def open_array(path: RecordingPath, scan: Scan | None = None) -> ArrayRecording:
    """Open a .npy file (mapped where it is local) or the largest 3-D or 4-D dataset of an HDF5
    file.

    Raises FormatError when there is no such array, it is not of counts, or does not fit the scan.
    """
    if path.suffix.lower() != ".npy":
        dataset, close = hdf5.open_dataset(path)
        try:
            _check(path, dataset.shape, f"the dataset {dataset.name}")
            return ArrayRecording(
                path, dataset.shape, dataset.dtype, _by_position(dataset), scan, close
            )
        except FormatError:
            close()
            raise
    return _open_npy(path, scan) if isinstance(path, Path) else _open_remote_npy(path, scan)


def _open_npy(path: Path, scan: Scan | None) -> ArrayRecording:
    try:
        # copy-on-write: kernels know writable arrays only, the file stays as it is
        array = np.load(path, mmap_mode="c", allow_pickle=False)
    except (ValueError, SyntaxError, EOFError, TokenError, MemoryError, OverflowError) as error:
        raise FormatError(
            f"{path} is not a .npy file: {error}", "save it with numpy.save"
        ) from error
    _check(path, array.shape, "the array")
    flat = np.asarray(array).reshape(-1, *array.shape[-2:])
    size = flat[0].nbytes
    memory: Any = array
    mapped, begin = map_of(array), memory.offset

    def fetch(first: int, stop: int, each: int) -> Iterator[Patterns]:
        window = None
        if array.flags.c_contiguous:
            assert mapped is not None
            window = Window(mapped, begin + first * size, begin + stop * size)
        for low, high in pieces(first, stop, each):
            if window is not None:
                window.at(begin + low * size)
            yield flat[low:high]

    return ArrayRecording(
        path,
        array.shape,
        array.dtype,
        fetch,
        scan,
        close=lambda: None,
    )


def _open_remote_npy(path: RemoteFile, scan: Scan | None) -> ArrayRecording:
    source = RemoteBytes(path)
    head = io.BytesIO(source.read(0, min(source.size, _NPY_HEAD_BYTES)))
    try:
        major, _ = np.lib.format.read_magic(head)
        read = {1: np.lib.format.read_array_header_1_0, 2: np.lib.format.read_array_header_2_0}
        shape, fortran, dtype = read[major](head)
        start = head.tell()
        if fortran or dtype.hasobject:
            raise ValueError("its patterns are not in C order")
        if source.size < start + int(np.prod(shape)) * dtype.itemsize:
            raise ValueError("it is shorter than its header says")
    except (ValueError, KeyError) as error:
        raise FormatError(
            f"{path} is not a .npy file that can be read remotely: {error}",
            "save it with numpy.save from an array in C order",
        ) from error
    _check(path, shape, "the array")
    size = int(np.prod(shape[-2:])) * dtype.itemsize

    def fetch(first: int, stop: int, each: int) -> Iterator[Patterns]:
        with source.stream(start + first * size, start + stop * size) as stream:
            for low, high in pieces(first, stop, each):
                data = np.empty((high - low) * size, np.uint8)
                stream.read_into(data)
                yield data.view(dtype).reshape(-1, *shape[-2:])

    return ArrayRecording(path, shape, dtype, fetch, scan, source.close)


def _check(path: RecordingPath, shape: tuple[int, ...], what: str) -> None:
    if len(shape) not in (3, 4) or 0 in shape:
        raise FormatError(
            f"{path}: {what} has the shape {shape}",
            "patterns are (ny, nx, height, width) or (n, height, width)",
        )


def _by_position(array: Any) -> Fetch:
    """Patterns by number from anything that is indexed like an array (n or ny, nx, ...)."""
    # HDF5 has one lock for all; its objects are not to be used by two threads at a time.
    lock = threading.Lock()

    def fetch(first: int, stop: int, each: int) -> Iterator[Patterns]:
        return (some(low, high) for low, high in pieces(first, stop, each))

    def some(first: int, stop: int) -> Patterns:
        with lock:
            if array.ndim == 3:
                return np.asarray(array[first:stop])
            parts = []
            while first < stop:
                y, x = divmod(first, int(array.shape[1]))
                count = min(stop - first, int(array.shape[1]) - x)
                parts.append(array[y, x : x + count])
                first += count
            return np.concatenate(parts)

    return fetch

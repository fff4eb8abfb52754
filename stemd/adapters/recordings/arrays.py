"""Arrays of patterns as recordings, and those of .npy files.

Not a camera: a module without a PLUGIN, used by files.py.
"""

from __future__ import annotations

import io
import math
import mmap
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from tokenize import TokenError
from typing import Any, BinaryIO

import numpy as np
from numpy.typing import NDArray
from pydantic import ValidationError

from stemd.acquisition import Acquisition, Detector, Scan
from stemd.adapters.recordings.address import RecordingPath, RemoteFile
from stemd.adapters.recordings.bands import Fetch, Patterns
from stemd.adapters.recordings.calibration import Calibration
from stemd.adapters.recordings.counts import SAMPLES, Counts
from stemd.adapters.recordings.mapped import Window, map_of
from stemd.adapters.recordings.remote import RemoteBytes, pieces
from stemd.blocks import BLOCK_BYTES, FrameBlock, Message, Notice
from stemd.errors import FormatError, StemdError

_NPY_HEAD_BYTES = 64 * 1024


@dataclass(frozen=True, slots=True)
class About:
    """What a file says of its patterns beside the patterns.

    `mask` (height, width) is True where a pixel is to be left out, `unwritten` (n,) where a
    pattern was never written, which the file's reader gives as zeros. `lines` is the scan's shape
    where only the file's numbers say it, `expected` how many patterns there should be, `detector`
    the camera's name, `notices` what was found on opening. `look`: read some patterns on opening,
    to find pixels without data, and the steps of real numbers. `marks`: whoever wrote it gives
    pixels without data the largest value of their type.
    """

    calibration: Calibration = field(default_factory=Calibration)
    mask: NDArray[np.bool_] | None = None
    unwritten: NDArray[np.bool_] | None = None
    lines: tuple[int, int] | None = None
    expected: int | None = None
    detector: str = "array"
    notices: Sequence[Message] = field(default=())
    look: bool = True
    marks: bool = False


class ArrayRecording:
    """Implements adapters.base.Recording for an array of patterns.

    `fetch` gives patterns by their numbers, `shape` is (ny, nx, height, width), or (n, height,
    width) which needs `scan` or a square number of patterns. How values become counts:
    `stemd.adapters.recordings.counts`. The acquisition has what the file says of the optics, its
    detector the mask of pixels without a value.
    """

    def __init__(
        self,
        path: RecordingPath,
        shape: tuple[int, ...],
        dtype: np.dtype[Any],
        fetch: Fetch,
        scan: Scan | None,
        close: Callable[[], None],
        about: About | None = None,
    ) -> None:
        about = about or About()
        self.path = path
        self._fetch = fetch
        self._close = close
        self._frames = int(np.prod(shape[:-2]))
        self._scan = _calibrated(_fit(path, shape, scan, about), about.calibration)
        sample = self._sample if about.look else None
        self._counts = Counts(dtype, str(path), sample, about.mask, marks=about.marks)
        self._type = self._counts.type
        self._acquisition = Acquisition(
            scan=self._scan,
            detector=Detector(
                name=about.detector,
                shape=(shape[-2], shape[-1]),
                dtype=self._type,
                bit_depth=8 * int(self._type[1]),
                mask=self._counts.mask,
                scale=self._counts.scale,
            ),
            source=str(path),
            raw_name="raw" + path.suffix,
            optics=about.calibration.optics(),
        )
        self._unwritten = about.unwritten
        guessed = scan is not None and scan.flyback is None
        self._told = (
            *about.notices,
            *_notices(self._scan, shape, about),
            *(_guessed(self._scan, shape) if guessed else ()),
            *(_size_guessed(self._scan) if scan is None and _says_nothing(shape, about) else ()),
        )
        self.splits = True

    @property
    def acquisition(self) -> Acquisition:
        """The scan that the file holds."""
        return self._acquisition

    @property
    def frames(self) -> int:
        """Patterns in the file."""
        return self._frames

    @property
    def notices(self) -> Sequence[Message]:
        """What was noticed on opening, and on reading so far."""
        return (*self._told, *self._counts.notices)

    def _sample(self) -> Patterns:
        count = min(SAMPLES, self._frames)
        numbers = np.unique(np.linspace(0, self._frames - 1, count).astype(np.int64))
        found = [next(self._read(int(n), int(n) + 1, 1)) for n in numbers]
        return np.concatenate(found)

    def _read(self, start: int, stop: int, each: int) -> Iterator[Patterns]:
        """Raises FormatError whatever a broken file makes its reader raise."""
        try:
            yield from self._fetch(start, stop, each)
        except (StemdError, MemoryError, GeneratorExit):
            raise
        except Exception as error:
            text = " ".join(str(error).split())[:200] or type(error).__name__
            raise FormatError(
                f"{self.path} cannot be read between patterns {start} and {stop}: {text}",
                "the file is cut off or damaged: copy it again",
            ) from error

    def blocks(self, start: int, stop: int) -> Iterator[FrameBlock]:
        """Blocks of patterns start..stop-1, of the stored bytes where they are contiguous."""
        height, width = self._acquisition.detector.shape
        size = height * width * int(self._type[1])
        each = max(1, BLOCK_BYTES // size)
        stop = min(stop, self._frames)
        for (first, last), stored in zip(
            pieces(start, stop, each), self._read(start, stop, each), strict=True
        ):
            patterns, empty = self._counts.of(stored, first)
            numbers = np.arange(first, last, dtype=np.int64)
            probe = self._scan.probes(numbers)
            if empty is not None:
                probe[empty] = -1
            if self._unwritten is not None:
                probe[self._unwritten[first:last]] = -1
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
                probe=probe,
                wire=data,
                received_ns=self._acquisition.started_ns,
            )

    def close(self) -> None:
        """Close the file."""
        self._close()


def _calibrated(scan: Scan, known: Calibration) -> Scan:
    """What nobody has told of a scan is taken from the file."""
    file = {"step_size_angstrom": known.step_size_angstrom, "dwell_time_us": known.dwell_time_us}
    fresh = {key: value for key, value in file.items() if value and getattr(scan, key) is None}
    return scan.model_copy(update=fresh)


def _fit(path: RecordingPath, shape: tuple[int, ...], scan: Scan | None, about: About) -> Scan:
    """The scan of an array: the configured one, its own first axes, the file's, or a square."""
    frames = int(np.prod(shape[:-2]))
    if scan is None:
        if len(shape) == 4:
            return scan_of(path, (shape[0], shape[1]), frames)
        side = int(np.sqrt(frames))
        if about.lines is not None:
            return scan_of(path, about.lines, frames)
        return scan_of(path, (side, side) if side * side == frames else (1, frames), frames)
    if scan.flyback is None:
        lines, rest = divmod(frames - scan.leading, scan.lines)
        found = lines - scan.shape[1] if not rest else 0
        scan = scan.model_copy(update={"flyback": max(0, found)})
    if not scan.frames - scan.flyback_frames <= frames <= scan.frames:
        raise FormatError(
            f"{path}: {frames} patterns do not fit a scan of {scan.size} with flyback "
            f"{scan.flyback_frames} and {scan.leading} leading frames, which takes {scan.frames}",
            f"set the scan's shape; the array's is {shape}",
        )
    return scan


def scan_of(path: RecordingPath, shape: tuple[int, int], frames: int) -> Scan:
    """A scan of this shape. Raises FormatError where it is larger than any."""
    try:
        return Scan(shape=shape, flyback=0)
    except ValidationError as error:
        ny, nx = shape
        raise FormatError(
            f"{path}: {frames:,} patterns as {ny:,} x {nx:,} are larger than any scan",
            "a scan has at most 65536 lines of 65536 positions, 8192 x 8192 in all: tell it with "
            "--scan YxX, or cut the file",
        ) from error


def _notices(scan: Scan, shape: tuple[int, ...], about: About) -> Iterator[Message]:
    frames = int(np.prod(shape[:-2]))
    needed, promised = scan.last_position_frame + 1, about.expected or 0
    missing = max(needed, promised) - frames
    if missing > 0:
        who = "the file tells of" if promised > needed else "the scan takes"
        text = f"{missing:,} patterns are missing: {who} {max(needed, promised):,}"
        yield Notice("missing_frames", text, count=missing)
    unwritten = 0 if about.unwritten is None else int(about.unwritten.sum())
    if unwritten:
        text = f"{unwritten:,} of {frames:,} patterns were never written: they count as missing"
        remedy = "the acquisition was broken off, or the file was copied too early"
        yield Notice("unwritten_patterns", text, count=unwritten, remedy=remedy)
    plane = len(shape) == 4 and min(shape[:2]) > 1
    if plane and shape[:2] != scan.shape and shape[1] != scan.line_frames:
        text = (
            f"the file holds {shape[0]} x {shape[1]} patterns, the scan has {scan.line_frames} "
            "frames a line"
        )
        remedy = (
            "if the file is right, the scan's shape or flyback is wrong: is it lines x columns?"
        )
        yield Notice("scan_shape", text, remedy=remedy)


def _says_nothing(shape: tuple[int, ...], about: About) -> bool:
    """Whether the file tells of patterns only, and of no lines."""
    return len(shape) == 3 and shape[0] > 1 and about.lines is None


def _size_guessed(scan: Scan) -> Iterator[Message]:
    """Patterns one after the other are taken for a square where they can be, else for one line."""
    ny, nx = scan.shape
    yield Notice(
        "size_guessed",
        f"the file tells of {ny * nx:,} patterns and not of the scan's size: they are taken for "
        + (f"{ny} lines of {nx}" if ny > 1 else "a single line"),
        level="info" if ny > 1 else "warning",
        remedy="tell the scan's size with --scan YxX",
    )


def _guessed(scan: Scan, shape: tuple[int, ...]) -> Iterator[Message]:
    """What was left out because the scan has fewer patterns than there are, and fits with flyback.

    Where the array's own axes say how long a line is, they say it.
    """
    if not scan.flyback_frames or (len(shape) == 4 and shape[1] == scan.line_frames):
        return
    left_out = scan.lines * scan.flyback_frames
    yield Notice(
        "flyback_guessed",
        f"{left_out:,} patterns are left out as flyback, {scan.flyback_frames} after each line of "
        f"{scan.shape[1]}: only their number tells of it",
        count=left_out,
        remedy="tell scan.flyback (--flyback); 0 where all patterns are of the scan",
    )


def open_npy(path: RecordingPath, scan: Scan | None = None) -> ArrayRecording:
    """Open a .npy file, mapped where it is local.

    Raises FormatError when there is no array of patterns in it, or it does not fit the scan.
    """
    return _open_npy(path, scan) if isinstance(path, Path) else _open_remote_npy(path, scan)


def _open_npy(path: Path, scan: Scan | None) -> ArrayRecording:
    try:
        # copy-on-write: kernels know writable arrays only, the file stays as it is
        array = np.load(path, mmap_mode="c", allow_pickle=False)
    except (ValueError, SyntaxError, EOFError, TokenError, MemoryError, OverflowError) as error:
        raise _shorter(path) or FormatError(
            f"{path} is not a .npy file: {error}", "save it with numpy.save"
        ) from error
    check_shape(path, array.shape, "the array")
    about = About(notices=_behind(path.stat().st_size - array.offset - array.nbytes))
    return ArrayRecording(
        path, array.shape, array.dtype, mapped_fetch(array), scan, lambda: None, about
    )


def _head_of(file: BinaryIO) -> tuple[tuple[int, ...], bool, np.dtype[Any]]:
    """Shape, Fortran order and type; the file stands at the array then.

    Raises ValueError, and KeyError for a version of the format that is not known.
    """
    major, _ = np.lib.format.read_magic(file)
    read = {1: np.lib.format.read_array_header_1_0, 2: np.lib.format.read_array_header_2_0}
    shape, fortran, dtype = read[major](file)
    return tuple(map(int, shape)), bool(fortran), dtype


def _shorter(path: Path) -> FormatError | None:
    """The error for an array that is shorter than its header says; None for what is none."""
    try:
        with path.open("rb") as file:
            shape, _, dtype = _head_of(file)
            there, whole = path.stat().st_size - file.tell(), math.prod(shape) * dtype.itemsize
    except (ValueError, KeyError, SyntaxError, EOFError, TokenError, OSError):
        return None
    if dtype.hasobject or there >= whole:
        return None
    return FormatError(
        f"{path} is cut off: it has {there:,} of the {whole:,} bytes of an array of {shape}",
        "copy it again; if it was never longer, the array was not written to its end",
    )


def _behind(left: int) -> Sequence[Message]:
    """What to say of bytes behind an array."""
    if left <= 0:
        return ()
    text = f"{left:,} bytes behind the array are not read"
    remedy = "if they are a second array, save each in a file of its own"
    return (Notice("bytes_behind", text, count=left, remedy=remedy),)


def mapped_fetch(array: Any) -> Fetch:
    """Patterns of a memory map (n or ny, nx, height, width), read ahead and released behind."""
    flat = np.asarray(array).reshape(-1, *array.shape[-2:])
    size = flat[0].nbytes
    # a map begins at a page of the file
    mapped, begin = map_of(array), array.offset % mmap.ALLOCATIONGRANULARITY

    def fetch(first: int, stop: int, each: int) -> Iterator[Patterns]:
        window = None
        if array.flags.c_contiguous and mapped is not None:
            window = Window(mapped, begin + first * size, begin + stop * size)
        for low, high in pieces(first, stop, each):
            if window is not None:
                window.at(begin + low * size)
            yield flat[low:high]

    return fetch


def _open_remote_npy(path: RemoteFile, scan: Scan | None) -> ArrayRecording:
    source = RemoteBytes(path)
    head = io.BytesIO(source.read(0, min(source.size, _NPY_HEAD_BYTES)))
    try:
        shape, fortran, dtype = _head_of(head)
        start = head.tell()
        if fortran or dtype.hasobject:
            raise ValueError("its patterns are not in C order")
        left = source.size - start - math.prod(shape) * dtype.itemsize
        if left < 0:
            raise ValueError("it is shorter than its header says")
    except (ValueError, KeyError) as error:
        raise FormatError(
            f"{path} is not a .npy file that can be read remotely: {error}",
            "save it with numpy.save from an array in C order",
        ) from error
    check_shape(path, shape, "the array")
    size = int(np.prod(shape[-2:])) * dtype.itemsize

    def fetch(first: int, stop: int, each: int) -> Iterator[Patterns]:
        with source.stream(start + first * size, start + stop * size) as stream:
            for low, high in pieces(first, stop, each):
                data = np.empty((high - low) * size, np.uint8)
                stream.read_into(data)
                yield data.view(dtype).reshape(-1, *shape[-2:])

    about = About(notices=_behind(left))
    return ArrayRecording(path, shape, dtype, fetch, scan, source.close, about)


def check_shape(path: RecordingPath, shape: tuple[int, ...], what: str) -> None:
    """Raise FormatError for what is no array of patterns."""
    if len(shape) not in (3, 4) or 0 in shape:
        raise FormatError(
            f"{path}: {what} has the shape {shape}",
            "patterns are (ny, nx, height, width) or (n, height, width)",
        )

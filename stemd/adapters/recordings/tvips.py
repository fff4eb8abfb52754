"""Series of a TVIPS camera: `NAME_000.tvips`, `NAME_001.tvips`, ..., mapped.

The first file begins with a header of 256 bytes; then in every file frame headers and frames.
Fields as public readers know them (rosettasciio, whose reader takes the whole file into memory).
"""

from __future__ import annotations

import mmap
import struct
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from stemd.acquisition import Scan
from stemd.adapters.recordings.array_facts import ArrayFacts
from stemd.adapters.recordings.arrays import ArrayRecording
from stemd.adapters.recordings.bands import Fetch, Patterns
from stemd.adapters.recordings.calibration import Axis, Calibration, calibration_of
from stemd.adapters.recordings.mapped import Window, map_of
from stemd.adapters.recordings.remote import pieces
from stemd.blocks import Notice
from stemd.errors import FormatError

_HEAD = struct.Struct("<13I")
_OLD_FRAME_HEADER = 12
_MODE_AT, _DIFFRACTION = 24, 2
MOST_FILES = 1000


@dataclass(frozen=True, slots=True)
class Series:
    """What the first file says: where frames begin, their headers' bytes, shape and type."""

    start: int
    frame_header: int
    shape: tuple[int, int]
    dtype: np.dtype[Any]
    pixel_size: float
    energy_kev: float

    @property
    def stride(self) -> int:
        """Bytes from one frame to the next."""
        return self.frame_header + self.shape[0] * self.shape[1] * self.dtype.itemsize


def series_of(path: Path) -> Series:
    """The header of a series. Raises FormatError for what is none, or of an unknown version."""
    with path.open("rb") as file:
        head = file.read(_HEAD.size)
    if len(head) < _HEAD.size:
        raise FormatError(f"{path} is shorter than a TVIPS header", "copy the file again")
    size, version, nx, ny, bits, *_, pixel, kev, _, frame_header = _HEAD.unpack(head)
    sound = version in (1, 2) and bits in (8, 16, 32) and 0 < nx <= 65536 and 0 < ny <= 65536
    if not sound or not _HEAD.size <= size <= 65536 or frame_header > 65536:
        raise FormatError(
            f"{path} is no TVIPS series: version {version}, {ny} x {nx} pixels of {bits} bits",
            "name the first file, NAME_000.tvips",
        )
    before = _OLD_FRAME_HEADER if version == 1 else frame_header
    return Series(size, before, (ny, nx), np.dtype(f"<u{bits // 8}"), float(pixel), float(kev))


def open_tvips(path: Path, scan: Scan | None = None) -> ArrayRecording:
    """Open a series by its first file.

    Raises FormatError when it is none, has no whole frame, or does not fit the scan.
    """
    series = series_of(path)
    maps: list[NDArray[Any]] = []
    notices: list[Notice] = []
    number = 0
    for number, each in enumerate(_files(path)):
        start = 0 if number else series.start
        frames, rest = divmod(max(0, each.stat().st_size - start), series.stride)
        if rest:
            text = f"the last frame of {each.name} is cut off after {rest} bytes"
            notices.append(Notice("partial_frame", text))
        if frames:
            # copy-on-write: kernels know writable arrays only, the file stays as it is
            maps.append(np.memmap(each, np.uint8, "c", start, (frames, series.stride)))
    if later := _behind_a_gap(path, number):
        text = f"{later} is not read: files of the series before it are not there"
        notices.append(Notice("files_missing", text, remedy="copy them beside the others"))
    if not maps:
        raise FormatError(f"{path} holds no whole frame", "the file was cut off; copy it again")
    facts = ArrayFacts(_calibration(series, maps[0]), detector="tvips", notices=notices)
    shape = (sum(len(each) for each in maps), *series.shape)
    return ArrayRecording(
        path, shape, series.dtype, _patterns(series, maps), scan, lambda: None, facts
    )


def _files(path: Path) -> Iterator[Path]:
    yield path
    stem = path.stem.removesuffix("_000")
    for number in range(1, MOST_FILES):
        following = path.with_name(f"{stem}_{number:03d}{path.suffix}")
        if stem == path.stem or not following.is_file():
            return
        yield following


def _behind_a_gap(path: Path, last: int) -> str:
    """The name of the first file of a series behind one that is not there, "" for none.

    `last`: the number of the last file of those that follow each other.
    """
    stem = path.stem.removesuffix("_000")
    if stem == path.stem:
        return ""
    for number in range(last + 2, MOST_FILES):
        following = path.with_name(f"{stem}_{number:03d}{path.suffix}")
        if following.is_file():
            return following.name
    return ""


def _calibration(series: Series, frames: NDArray[Any]) -> Calibration:
    """Pixels are in inverse nanometres where the first frame says that it is of diffraction."""
    known = Calibration(energy_ev=series.energy_kev * 1e3 if series.energy_kev else None)
    mode = 0
    if series.frame_header >= _MODE_AT + 4:
        (mode,) = struct.unpack("<I", bytes(frames[0, _MODE_AT : _MODE_AT + 4]))
    units = "1/nm" if mode == _DIFFRACTION else ""
    return calibration_of((), (Axis(scale=series.pixel_size, units=units),), known)


def _patterns(series: Series, maps: list[NDArray[Any]]) -> Fetch:
    ends = np.cumsum([len(each) for each in maps])
    height, width = series.shape
    item, stride = series.dtype.itemsize, series.stride
    views = [
        np.ndarray(
            (len(each), height, width), series.dtype, each, series.frame_header,
            (stride, width * item, item),
        )
        for each in maps
    ]  # fmt: skip

    def fetch(first: int, stop: int, each: int) -> Iterator[Patterns]:
        windows: dict[int, tuple[Window, int]] = {}
        for low, high in pieces(first, stop, each):
            parts = []
            while low < high:
                number = int(np.searchsorted(ends, low, side="right"))
                before = int(ends[number - 1]) if number else 0
                last = min(high, int(ends[number]))
                if number not in windows:
                    windows = {number: _window(maps[number], low - before, stop - before, stride)}
                window, begin = windows[number]
                window.at(begin + (low - before) * stride)
                parts.append(views[number][low - before : last - before])
                low = last
            yield parts[0] if len(parts) == 1 else np.concatenate(parts)

    return fetch


def _window(frames: Any, first: int, stop: int, stride: int) -> tuple[Window, int]:
    """The pages of frames first..stop-1 of a map, and where frame 0 begins in it."""
    mapped = map_of(frames)
    assert mapped is not None
    begin = frames.offset % mmap.ALLOCATIONGRANULARITY
    stop = min(stop, len(frames))
    return Window(mapped, begin + first * stride, begin + stop * stride), begin

"""One scan: its geometry, the optics it was taken with, the detector that saw it."""

from __future__ import annotations

import secrets
import time
from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Annotated, Any, Literal, Self

import numpy as np
from numpy.typing import NDArray
from pydantic import ConfigDict, Field, field_validator, model_validator

from stemd.pixels import Mask, rectangles_of
from stemd.typed import Angle, Length, PositiveFloat, Signed, Table

_Pixel = Annotated[int, Field(ge=0, le=65536)]
Pixels = tuple[_Pixel, _Pixel] | tuple[_Pixel, _Pixel, _Pixel, _Pixel]
"""A detector pixel (y, x), or a rectangle (y_first, x_first, y_stop, x_stop)."""
MAX_POSITIONS = 1 << 26
"""Of one scan: 8192 x 8192. The maps take some 50 bytes a position; a size from the wire beyond
this is a mistake and must not become an allocation."""


class Scan(Table):
    """Scan geometry. Frame number n (from 0) is mapped to a probe position, (y, x) row-major.

    `leading` frames come before the first position; after each scan line come `flyback` frames
    that belong to no position (None: detected from the recording or the camera's frame count,
    0 where nothing tells). With `serpentine`, odd lines run backwards. `repeats`: the same place is
    scanned so many times, one after the other; positions are counted on, and images are those of
    the one place, with all frames where they belong.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    shape: tuple[
        Annotated[int, Field(ge=1, le=65536)],
        Annotated[int, Field(ge=1, le=65536)],
    ]
    flyback: Annotated[int, Field(ge=0, le=65536)] | None = None
    leading: Annotated[int, Field(ge=0, le=1_000_000)] = 0
    serpentine: bool = False
    repeats: Annotated[int, Field(ge=1, le=65536)] = 1
    step_size_angstrom: PositiveFloat | None = None
    dwell_time_us: PositiveFloat | None = None

    @model_validator(mode="after")
    def _fits_into_memory(self) -> Self:
        if self.positions > MAX_POSITIONS:
            raise ValueError(f"a scan has at most {MAX_POSITIONS} positions (8192 x 8192)")
        if self.serpentine and self.repeats > 1 and self.shape[0] % 2:
            raise ValueError("serpentine scans that are repeated have an even number of lines")
        return self

    @property
    def lines(self) -> int:
        """Number of scan lines of all repeats, ny * repeats."""
        return self.shape[0] * self.repeats

    @property
    def positions(self) -> int:
        """Number of probe positions of all repeats, ny * nx * repeats."""
        return self.lines * self.shape[1]

    @property
    def size(self) -> str:
        """In words: 256x256, or 16 times 256x256."""
        size = f"{self.shape[0]}x{self.shape[1]}"
        return size if self.repeats == 1 else f"{self.repeats} times {size}"

    @property
    def once(self) -> Scan:
        """The place that is scanned: the same without repeats."""
        return self if self.repeats == 1 else self.model_copy(update={"repeats": 1})

    @property
    def flyback_frames(self) -> int:
        """Frames after each line that belong to no position, 0 while undetected."""
        return self.flyback or 0

    @property
    def line_frames(self) -> int:
        """Frames a scan line takes, flyback included."""
        return self.shape[1] + self.flyback_frames

    @property
    def frames(self) -> int:
        """Frames of the whole scan, leading and trailing flyback frames included."""
        return self.leading + self.lines * self.line_frames

    @property
    def last_position_frame(self) -> int:
        """Frame number (from 0) of the last probe position."""
        return self.frames - self.flyback_frames - 1

    def probes(self, frames: NDArray[np.int64]) -> NDArray[np.int64]:
        """Probe position of each frame number, -1 where there is none.

        Flat index y*nx + x, y over the lines of all repeats.
        """
        nx = self.shape[1]
        n = frames - self.leading
        line, column = n // self.line_frames, n % self.line_frames
        valid = (n >= 0) & (line < self.lines) & (column < nx)
        if self.serpentine:
            column = np.where(line % 2 == 1, nx - 1 - column, column)
        return np.where(valid, line * nx + column, -1).astype(np.int64)


class Optics(Table):
    """Electron optics and the relation of detector to scan; see docs/conventions.md for signs.

    `rotation_deg` turns detector axes into scan axes (positive: counter-clockwise as displayed
    with y down), after the optional transpose `flip`. `center` is the zero of the centre of
    mass in detector pixels (y, x), or "auto": the mean centre of mass of the positions so far.
    `acceptance_time_ns`: of an event camera's electrons only those count that come so soon after
    the beam reached their position (dose slicing); frames know no such time.
    `mask`: detector pixels that do not count, as a list of pixels [y, x] and rectangles [y_first,
    x_first, y_stop, x_stop], as a file (.npy or TIFF, not 0 where masked), or "auto": hot, dead
    and saturated ones, found in the first patterns of each scan. What the camera itself masks
    never counts, unless the mask is "none". A new mask holds from the next scan on.

    The lens, for every phase engine, with the signs of `stemd.aberrations`: `defocus_nm`
    (underfocus positive), two-fold astigmatism A1, coma B2 and three-fold astigmatism A2 as a
    length and an azimuth in the scan's axes, and `cs_mm`. `measured`: whether the optics are
    measured in the data: "off", "report" (told, and said where they differ from these), or "use"
    (then taken into these settings, and the finished images made again).
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    energy_ev: PositiveFloat | None = None
    convergence_semi_angle_mrad: PositiveFloat | None = None
    pixel_size_mrad: PositiveFloat | None = None
    rotation_deg: Angle = 0.0
    flip: bool = False
    center: Literal["auto"] | tuple[Signed, Signed] = "auto"
    acceptance_time_ns: PositiveFloat | None = None
    defocus_nm: Signed = 0.0
    astigmatism_nm: Length = 0.0
    astigmatism_deg: Angle = 0.0
    coma_nm: Length = 0.0
    coma_deg: Angle = 0.0
    threefold_nm: Length = 0.0
    threefold_deg: Angle = 0.0
    cs_mm: Signed = 0.0
    measured: Literal["off", "report", "use"] = "report"
    mask: Annotated[str, Field(min_length=1)] | tuple[Pixels, ...] | None = None

    @field_validator("mask", mode="before")
    @classmethod
    def _array_of_a_mask(cls, value: Any) -> Any:
        if _are_rows_of_booleans(value):
            value = np.array(value)
        if isinstance(value, np.ndarray):
            if value.ndim != 2:
                raise ValueError("a mask is an array (y, x)")
            return rectangles_of(value != 0)
        return value

    @field_validator("mask", mode="after")
    @classmethod
    def _rectangles_are_not_empty(cls, value: Any) -> Any:
        if isinstance(value, str) and "\0" in value:
            raise ValueError("holds the character \\u0000, which no file's name does")
        for entry in value if isinstance(value, tuple) else ():
            if len(entry) == 4 and not (entry[0] < entry[2] and entry[1] < entry[3]):
                raise ValueError(
                    f"{list(entry)} holds no pixel: it is [y_first, x_first, y_stop, x_stop]"
                )
        return value

    @model_validator(mode="after")
    def _beam_smaller_than_half_circle(self) -> Self:
        if (self.convergence_semi_angle_mrad or 0.0) >= 1000.0:
            raise ValueError("convergence_semi_angle_mrad must be below 1000 (it is in mrad)")
        return self


def _are_rows_of_booleans(value: Any) -> bool:
    if not (isinstance(value, list) and value and isinstance(value[0], list) and value[0]):
        return False
    return all(isinstance(pixel, bool) for pixel in value[0])


@dataclass(frozen=True, slots=True)
class Detector:
    """The camera as its stream describes it.

    `shape` is (height, width) of one decoded pattern in pixels, `dtype` the pixel type of the
    decoded pattern ("u1", "u2", "u4", "u8", "i4"; big-endian when the block says so), `bit_depth`
    the counter depth. `header` is the camera's own description, kept for the record. `mask` (y, x)
    is true where the camera says that a pixel has no value; None where it says nothing. One count
    is worth `scale` of the source's own unit: a power of two, other than 1 only for real numbers.
    """

    name: str
    shape: tuple[int, int]
    dtype: str
    bit_depth: int
    header: str = ""
    mask: Mask | None = field(default=None, compare=False, repr=False)
    scale: float = 1.0


def new_scan_id(time_ns: int | None = None) -> str:
    """A scan id: UTC time to the millisecond and 4 random hex digits, safe as a folder name."""
    moment = datetime.fromtimestamp((time_ns or time.time_ns()) / 1e9, UTC)
    return f"{moment:%Y%m%dT%H%M%S}{moment.microsecond // 1000:03d}Z-{secrets.token_hex(2)}"


@dataclass(frozen=True, slots=True)
class Acquisition:
    """One scan by one camera. `started_ns` is UTC since the epoch in nanoseconds."""

    scan: Scan
    detector: Detector
    id: str = field(default_factory=new_scan_id)
    started_ns: int = field(default_factory=time.time_ns)
    source: str = ""
    raw_name: str = "raw.bin"
    sidecars: tuple[tuple[str, bytes], ...] = ()
    """(file name, content) of small files that belong to the raw record, e.g. raw.hdr."""
    optics: Mapping[str, float] = field(default_factory=dict)
    """What the recording says of `Optics`, by its keys: used where nobody else says it."""


_FIRST_NS, _LAST_NS = -62_135_596_800 * 10**9, 253_402_300_800 * 10**9 - 1


def iso_utc(time_ns: int) -> str:
    """ISO 8601 in UTC with microseconds and a Z; of a time outside the years 1 to 9999, theirs."""
    seconds, rest = divmod(min(max(time_ns, _FIRST_NS), _LAST_NS), 1_000_000_000)
    moment = datetime.fromtimestamp(seconds, UTC)
    return f"{moment:%Y-%m-%dT%H:%M:%S}.{rest // 1000:06d}Z"

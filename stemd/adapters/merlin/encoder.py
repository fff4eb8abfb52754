"""What a Merlin camera sends: messages on the data port, one by one or a batch at a time.

A message is "MPX,", ten digits, ",", payload. The digits count the payload and the comma before
it. An acquisition is one HDR message, then one message a frame.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime

import numpy as np
from numpy.typing import NDArray

from stemd.adapters.merlin import hdr as hdr_text
from stemd.adapters.merlin.geometry import Geometry, geometry_of, wire_size
from stemd.adapters.merlin.header import (
    FrameHeader,
    encode_frame_header,
    header_length,
)
from stemd.adapters.merlin.packing import pack_frame
from stemd.compilation import njit

PREFIX_BYTES = 15
_CODES = {1: "U08", 6: "U08", 12: "U16", 24: "U32", 48: "U64"}


def message(payload: bytes, *, counts_comma: bool = True) -> bytes:
    """Payload with the prefix of a message. `counts_comma=False` leaves the +1 out."""
    return f"MPX,{len(payload) + counts_comma:010d},".encode() + payload


@dataclass(frozen=True, slots=True)
class Camera:
    """What a virtual camera sends for one detector setting.

    `shape` is (height, width) of a pattern, `depth` the counter depth in bits (1, 6, 12, 24, 48),
    `raw` sends packed R64 frames, `chips` is 1 or 4.
    """

    shape: tuple[int, int] = (256, 256)
    depth: int = 12
    raw: bool = False
    chips: int = 1
    exposure_ns: int = 1_000_000
    threshold_kev: float = 20.0

    @property
    def code(self) -> str:
        """The pixel code of the frame header."""
        return "R64" if self.raw else _CODES[self.depth]

    def header(self, sequence: int = 1, time_ns: int = 0) -> FrameHeader:
        """The header of frame `sequence`, taken at `time_ns` (UTC since the epoch)."""
        width, height = wire_size(self.shape, self.code, self.depth, self.chips)
        moment = datetime.fromtimestamp(time_ns // 10**9, UTC)
        return FrameHeader(
            sequence=sequence,
            length=header_length(self.chips),
            chips=self.chips,
            width=width,
            height=height,
            code=self.code,
            layout=_layout(self.shape, self.chips),
            chip_mask=f"{(1 << self.chips) - 1:02X}",
            depth=self.depth,
            local_time=f"{moment:%Y-%m-%d %H:%M:%S}.{time_ns % 10**9 // 1000:06d}",
            utc_time=f"{moment:%Y-%m-%dT%H:%M:%S}.{time_ns % 10**9:09d}Z",
            exposure_ns=self.exposure_ns,
            thresholds_kev=(self.threshold_kev, 511.0, *(0.0,) * 6),
        )

    def geometry(self) -> Geometry:
        """Layout of a frame in bytes."""
        return geometry_of(self.header())


def _layout(shape: tuple[int, int], chips: int) -> str:
    if chips == 1:
        return "1x1"
    return "2x2G" if shape[0] % 256 else "2x2"


def encode_hdr(
    camera: Camera,
    frames: int,
    *,
    time_ns: int = 0,
    frames_per_trigger: int | None = None,
    scan_shape: tuple[int, int] | None = None,
    trigger: str = "Internal",
    extra: Mapping[str, str] | None = None,
) -> bytes:
    """The HDR text of an acquisition of `frames` frames (0: endless), 2048 bytes.

    `scan_shape` (ny, nx) adds ScanX and ScanY, as newer software does.
    """
    moment = datetime.fromtimestamp(time_ns // 10**9, UTC)
    values = {
        "Time and Date Stamp (day, mnth, yr, hr, min, s)": f"{moment:%d/%m/%Y %H:%M:%S}",
        "Chip ID": ",".join(["virtual"] * camera.chips + [" - "] * (4 - camera.chips)),
        "Chip Type (Medipix 3.0, Medipix 3.1, Medipix 3RX)": "Medipix 3RX",
        "Assembly Size (NX1, 2X2)": f"{_layout(camera.shape, camera.chips):>6}",
        "Chip Mode  (SPM, CSM, CM, CSCM)": "SPM",
        "Counter Depth (number)": str(camera.depth),
        "Gain": "SLGM",
        "Active Counters": "Counter 0",
        "Thresholds (keV)": f"{camera.threshold_kev:.6E}",
        "Gap Fill Mode": "None",
        "Flat Field File": "None",
        "Acquisition Type (Normal, Th_scan, Config)": "Normal",
        hdr_text.FRAMES_KEY: str(frames),
        "Frames per Trigger (Number)": str(
            frames if frames_per_trigger is None else frames_per_trigger
        ),
        "Trigger Start (Positive, Negative, Internal)": trigger,
        "Trigger Stop (Positive, Negative, Internal)": "Internal",
        "Sensor Bias (V)": "120 V",
        "Sensor Polarity (Positive, Negative)": "Positive",
        "Readout System": "Merlin Quad",
        "Software Version": "0.77",
    }
    if scan_shape is not None:
        values |= {"ScanX": str(scan_shape[1]), "ScanY": str(scan_shape[0])}
    return hdr_text.encode_hdr(values | dict(extra or {}))


def encode_pixels(pattern: NDArray[np.unsignedinteger], camera: Camera) -> bytes:
    """A pattern (height, width) as its wire bytes."""
    out = np.zeros(camera.geometry().pixel_bytes, np.uint8)
    _put_pixels(pattern, camera, camera.geometry(), out)
    return out.tobytes()


def encode_frame(
    pattern: NDArray[np.unsignedinteger], camera: Camera, sequence: int, time_ns: int = 0
) -> bytes:
    """Header and pixels of one frame: the payload of its message, and its bytes in a .mib file."""
    header = encode_frame_header(camera.header(sequence, time_ns))
    return header + encode_pixels(pattern, camera)


def _put_pixels(
    pattern: NDArray[np.unsignedinteger],
    camera: Camera,
    geometry: Geometry,
    out: NDArray[np.uint8],
) -> None:
    if camera.raw:
        plain = np.ascontiguousarray(pattern, np.uint32)
        pack_frame(plain, geometry.wire_rows, geometry.chips, geometry.depth, out)
    else:
        wire = np.ndarray(geometry.shape, np.dtype(">" + geometry.dtype), buffer=out)
        np.copyto(wire, pattern, casting="unsafe")


@njit(inline="always")
def _digits(out: NDArray[np.uint8], at: int, value: int, count: int) -> None:
    for k in range(count):
        out[at + count - 1 - k] = 48 + value % 10
        value //= 10


@njit(inline="always")
def _put_time(out: NDArray[np.uint8], at: int, time_ns: int, decimals: int) -> None:
    """YYYY-MM-DD?HH:MM:SS.decimals; days to civil date after the proleptic Gregorian calendar."""
    days, ns = time_ns // 86_400_000_000_000, time_ns % 86_400_000_000_000
    z = days + 719_468  # days since 0000-03-01, so that the leap day ends a year
    era = z // 146_097
    day = z - era * 146_097
    year = (day - day // 1_460 + day // 36_524 - day // 146_096) // 365
    day -= 365 * year + year // 4 - year // 100
    shifted = (5 * day + 2) // 153
    _digits(out, at + 8, day - (153 * shifted + 2) // 5 + 1, 2)
    month = shifted + 3 if shifted < 10 else shifted - 9
    _digits(out, at + 5, month, 2)
    _digits(out, at, year + era * 400 + (1 if month <= 2 else 0), 4)
    seconds = ns // 1_000_000_000
    _digits(out, at + 11, seconds // 3600, 2)
    _digits(out, at + 14, seconds // 60 % 60, 2)
    _digits(out, at + 17, seconds % 60, 2)
    fraction = ns % 1_000_000_000
    _digits(out, at + 20, fraction if decimals == 9 else fraction // 1000, decimals)


@njit(nogil=True, cache=True)
def _stamp(
    out: NDArray[np.uint8],
    stride: int,
    sequences: NDArray[np.int64],
    local: int,
    utc: int,
    time_ns: int,
    period_ns: int,
) -> None:
    """Write sequence number and both times into the headers of consecutive messages."""
    for i in range(sequences.size):
        at = i * stride + 15
        _digits(out, at + 4, sequences[i] % 1_000_000, 6)
        _put_time(out, at + local, time_ns + i * period_ns, 6)
        _put_time(out, at + utc, time_ns + i * period_ns, 9)


class Batch:
    """A preallocated buffer of consecutive frame messages, ready to be sent in one piece.

    `bytes` holds `count` messages of `message_bytes` each. Fill patterns with `put`, then `stamp`
    numbers and times: patterns stay, so a recording or a fixed specimen is filled in once and
    only stamped again. Sequence numbers wrap at a million, as six digits do.
    """

    def __init__(self, camera: Camera, count: int) -> None:
        self.camera = camera
        self.geometry = camera.geometry()
        self.count = count
        self.message_bytes = PREFIX_BYTES + self.geometry.frame_bytes
        self.bytes: NDArray[np.uint8] = np.zeros(count * self.message_bytes, np.uint8)
        header = encode_frame_header(camera.header())
        self._local = header.index(camera.header().local_time.encode())
        self._utc = header.index(camera.header().utc_time.encode())
        start = message(header + bytes(self.geometry.pixel_bytes))[: PREFIX_BYTES + len(header)]
        rows = self.bytes.reshape(count, self.message_bytes)
        rows[:, : len(start)] = np.frombuffer(start, np.uint8)

    def put(self, index: int, pattern: NDArray[np.unsignedinteger]) -> None:
        """Write the pixels of message `index` from a pattern (height, width)."""
        _put_pixels(pattern, self.camera, self.geometry, self.pixels(index))

    def pixels(self, index: int) -> NDArray[np.uint8]:
        """The wire bytes of the pixels of message `index`, to be written by the caller."""
        end = (index + 1) * self.message_bytes
        return self.bytes[end - self.geometry.pixel_bytes : end]

    def stamp(self, sequences: NDArray[np.int64], time_ns: int = 0, period_ns: int = 0) -> None:
        """Number the first messages (numbers from 1) and write their times, UTC in ns."""
        _stamp(
            self.bytes,
            self.message_bytes,
            sequences[: self.count],
            self._local,
            self._utc,
            time_ns,
            period_ns,
        )

    def view(self, count: int | None = None) -> memoryview:
        """The first `count` messages, to be sent."""
        used = self.count if count is None else count
        return self.bytes.data[: used * self.message_bytes]

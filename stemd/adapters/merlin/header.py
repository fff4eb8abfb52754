"""The MQ1 header in front of every Merlin frame: text fields in, a frozen record out, and back.

Fields are separated by commas and padded with NULs or spaces to the header length of field 2
(256 + 128 * chips bytes). Up to the chip mask (field 8) they stand at fixed indices; the extended
part is found by its name, MQ1A, since the number of threshold and DAC fields before it varies
with the camera's software.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from stemd.errors import FormatError

MAX_HEADER_BYTES = 16_384
MAX_CHIPS = 64
MAX_SIDE_PIXELS = 16_384
MAX_FRAME_BYTES = 64 * 1024 * 1024
PIXEL_BYTES = {"U08": 1, "U16": 2, "U32": 4, "U64": 8}
"""Bytes of a processed pixel by pixel code, big-endian on the wire."""
_USUAL_DEPTH = {"U08": 6, "U16": 12, "U32": 24, "U64": 48}
_DACS = (
    "011,511,000,000,000,000,000,000,175,010,200,125,100,100,093,"
    "100,099,030,128,004,255,140,128,191,179,511,511"
)


@dataclass(frozen=True, slots=True)
class FrameHeader:
    """One MQ1 header.

    `sequence` counts from 1 (as sent, not unwrapped). `width` and `height` are the wire layout
    in pixels. `code` is U08, U16, U32, U64 or R64 (raw, packed). `layout` ("1x1", "2x2", "2x2G",
    "Nx1") cannot be trusted for one chip. `depth` is the counter depth in bits. `local_time` and
    `utc_time` are the camera's texts. `exposure_ns` is the exposure in nanoseconds.
    """

    sequence: int
    length: int
    chips: int
    width: int
    height: int
    code: str
    layout: str
    chip_mask: str
    depth: int
    local_time: str = ""
    utc_time: str = ""
    exposure_ns: int = 1_000_000
    gain: int = 0
    thresholds_kev: tuple[float, ...] = (0.0,) * 8


def header_length(chips: int) -> int:
    """Bytes of the header of a frame from this many chips."""
    return 256 + 128 * chips


def _bad(what: str) -> FormatError:
    return FormatError(
        f"Merlin frame header: {what}",
        "the bytes are not an MQ1 frame: check that this is the camera's data port, or a .mib file",
    )


def _integer(fields: Sequence[str], index: int, name: str, low: int, high: int) -> int:
    text = fields[index].strip() if index < len(fields) else ""
    if not _is_number(text):
        raise _bad(f"{name} (field {index}) is {text[:20]!r}, not a number")
    value = int(text[:20])
    if not low <= value <= high:
        raise _bad(f"{name} (field {index}) is {value}, allowed are {low} to {high}")
    return value


def _is_number(text: str) -> bool:
    """Whether int() takes it: Latin-1 has superscript digits, which isdigit() alone lets pass."""
    return text.isascii() and text.isdigit()


def _depth(extended: Sequence[str], code: str) -> int:
    # The depth is the last field that is not empty: its index differs between software versions.
    digits = [f.strip() for f in extended if _is_number(f.strip())]
    if digits:
        depth = int(digits[-1][:4])
        if 1 <= depth <= 64:
            return depth
        raise _bad(f"counter depth is {depth}, allowed are 1 to 64")
    if code == "R64":
        raise _bad("there is no counter depth after MQ1A, which raw (R64) frames need")
    return _USUAL_DEPTH[code]


def _exposure_ns(extended: Sequence[str]) -> int:
    for text in extended[2:3]:
        number = text.strip().lower().removesuffix("ns")
        if _is_number(number):
            return int(number[:18])
    return 0


def _gain(fields: Sequence[str]) -> int:
    text = fields[13].strip() if len(fields) > 13 else ""
    return int(text[:9]) if _is_number(text) else 0


def _float(text: str) -> float:
    try:
        return float(text)
    except ValueError:
        return 0.0


def declared_header_length(start: bytes) -> int:
    """Header length in bytes that the first 40 bytes of a frame declare.

    Raises FormatError if they do not begin a frame or the length is beyond MAX_HEADER_BYTES.
    """
    fields = start[:40].decode("latin-1").split(",")
    if fields[0] != "MQ1" or len(fields) < 4:
        raise _bad(f"it begins with {start[:16]!r}, not with MQ1")
    return _integer(fields, 2, "header length", 64, MAX_HEADER_BYTES)


def parse_frame_header(data: bytes) -> FrameHeader:
    """Parse the header at the start of `data` (which may go on with pixels).

    Raises FormatError that names the field which is missing, not a number, or beyond its limit.
    """
    length = declared_header_length(data)
    if len(data) < length:
        raise _bad(f"it is cut off after {len(data)} of {length} bytes")
    fields = data[:length].rstrip(b"\0 ").decode("latin-1").split(",")
    code = fields[6].strip().upper() if len(fields) > 6 else ""
    if code != "R64" and code not in PIXEL_BYTES:
        raise _bad(
            f"pixel code (field 6) is {code[:10]!r}, known are {', '.join(PIXEL_BYTES)}, R64"
        )
    at = fields.index("MQ1A") if "MQ1A" in fields else len(fields)
    extended = fields[at : at + 8]
    width = _integer(fields, 4, "width", 1, MAX_SIDE_PIXELS)
    height = _integer(fields, 5, "height", 1, MAX_SIDE_PIXELS)
    if width * height * PIXEL_BYTES.get(code, 2) > MAX_FRAME_BYTES:
        raise _bad(
            f"{width} x {height} {code} is beyond the limit of {MAX_FRAME_BYTES} bytes a frame"
        )
    return FrameHeader(
        sequence=_integer(fields, 1, "sequence number", 0, 10**12),
        length=length,
        chips=_integer(fields, 3, "number of chips", 1, MAX_CHIPS),
        width=width,
        height=height,
        code=code,
        layout=fields[7].strip() if len(fields) > 7 else "",
        chip_mask=fields[8].strip() if len(fields) > 8 else "",
        depth=_depth(extended, code),
        local_time=fields[9].strip() if len(fields) > 9 else "",
        utc_time=extended[1].strip() if len(extended) > 1 else "",
        exposure_ns=_exposure_ns(extended),
        gain=_gain(fields),
        thresholds_kev=tuple(_float(text) for text in fields[14 : min(22, at)]),
    )


def encode_frame_header(header: FrameHeader, *, pad: bytes = b"\0") -> bytes:
    """The header as the camera writes it, padded to `header.length` bytes.

    A sequence number beyond 999,999 takes a seventh digit; cameras that wrap are given it modulo
    a million. Raises FormatError when the text does not fit into the length.
    """
    thresholds = ",".join(_scientific(value) for value in header.thresholds_kev)
    text = (
        f"MQ1,{header.sequence:06d},{header.length:05d},{header.chips:02d},"
        f"{header.width:04d},{header.height:04d},{header.code},{header.layout:>6},"
        f"{header.chip_mask},{header.local_time},{header.exposure_ns / 1e9:.6f},0,0,{header.gain},"
        f"{thresholds},{f'3RX,{_DACS},' * header.chips}"
        f"MQ1A,{header.utc_time},{header.exposure_ns}ns,{header.depth},"
    ).encode("latin-1")
    if len(text) > header.length:
        raise _bad(f"{len(text)} bytes of text do not fit into {header.length}")
    return text + pad * (header.length - len(text))


def _scientific(value: float) -> str:
    """The camera's own way to write a number: 2.000000E+0."""
    mantissa, exponent = f"{value:.6E}".split("E")
    return f"{mantissa}E{int(exponent):+d}"

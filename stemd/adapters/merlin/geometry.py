"""What the pixels behind a MQ1 header are: processed values as they stand, or packed raw words.

Raw (R64) frames are 8-byte words in wire rows of 256 pixels a chip. Inside a word the order of
the pixels is reversed:

- 1 bit: 64 pixels, pixel k is bit k of the big-endian word;
- 6 bit: 8 pixels of one byte, 12 bit: 4 pixels of two big-endian bytes, last pixel first;
- 24 bit: two whole 12-bit planes one after the other, value = (first << 12) + second.

A quad's wire row r holds the chips [Q4 | Q3 | Q2 | Q1], 256 pixels each. With H = 2 * wire rows:
Q1 -> (r, c), Q2 -> (r, 256 + c), Q3 -> (H-1-r, 255-c), Q4 -> (H-1-r, 511-c), as (y, x).
The two lower chips are turned by 180 degrees. A gap exists in processed frames only.
"""

from __future__ import annotations

from dataclasses import dataclass

from stemd.adapters.frames.format import FrameLayout, PixelType
from stemd.adapters.merlin.header import PIXEL_BYTES, FrameHeader
from stemd.errors import FormatError

CHIP_PIXELS = 256
RAW_DEPTHS = (1, 6, 12, 24)
_RAW_BITS = {1: 1, 6: 8, 12: 16, 24: 32}

_RAW_DTYPE: dict[int, PixelType] = {1: "u1", 6: "u1", 12: "u2", 24: "u4"}
_DTYPE: dict[str, PixelType] = {"U08": "u1", "U16": "u2", "U32": "u4", "U64": "u8"}


@dataclass(frozen=True, slots=True, kw_only=True)
class Geometry(FrameLayout):
    """FrameLayout of a Merlin frame. `wire_rows` counts rows as sent, by `chips` chips."""

    chips: int
    wire_rows: int


def geometry_of(header: FrameHeader) -> Geometry:
    """The geometry that a header describes.

    Raises FormatError for raw frames of a chip arrangement that is not known.
    """
    if header.code != "R64":
        return Geometry(
            header_bytes=header.length,
            pixel_bytes=header.width * header.height * PIXEL_BYTES[header.code],
            shape=(header.height, header.width),
            dtype=_DTYPE[header.code],
            depth=header.depth,
            chips=header.chips,
            wire_rows=header.height,
            big_endian=True,
        )
    row = CHIP_PIXELS * header.chips
    widths = (row, 2 * row) if header.depth == 24 else (row,)
    known = header.chips in (1, 4) and header.depth in RAW_DEPTHS and header.width in widths
    if not known or header.length % 8:
        raise FormatError(
            f"Merlin raw frame (R64) of {header.chips} chips, {header.depth} bit, "
            f"{header.width} pixels a row: this arrangement is not known",
            "set the camera's file format to processed (FILEFORMAT 0); raw frames of 1 or 4 chips "
            "at 1, 6, 12 or 24 bit can be read",
        )
    quad = header.chips == 4
    rows = header.height
    return Geometry(
        header_bytes=header.length,
        pixel_bytes=rows * row * _RAW_BITS[header.depth] // 8,
        shape=(2 * rows, 2 * CHIP_PIXELS) if quad else (rows, CHIP_PIXELS),
        dtype=_RAW_DTYPE[header.depth],
        depth=header.depth,
        chips=header.chips,
        wire_rows=rows,
        packed=True,
    )


def wire_size(shape: tuple[int, int], code: str, depth: int, chips: int) -> tuple[int, int]:
    """(width, height) that a header declares for a pattern of `shape` sent with this code.

    Raises FormatError when a raw frame of this shape does not exist.
    """
    height, width = shape
    if code != "R64":
        return width, height
    expected = CHIP_PIXELS * (2 if chips == 4 else 1)
    if (
        chips not in (1, 4)
        or depth not in RAW_DEPTHS
        or width != expected
        or (chips == 4 and height % 2)
    ):
        raise FormatError(
            f"a raw (R64) Merlin frame of {height} x {width} pixels, {chips} chips, "
            f"{depth} bit does not exist",
            "raw frames are rows x 256 (1 chip) or 2*rows x 512 (4 chips) at 1, 6, 12 or 24 bit",
        )
    row = CHIP_PIXELS * chips * (2 if depth == 24 else 1)
    return row, height // 2 if chips == 4 else height

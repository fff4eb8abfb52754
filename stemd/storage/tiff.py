"""An image as TIFF: for MQTT as small and quick as possible, for disk calibrated for readers.

The writer puts the few fixed tags down by hand: a general TIFF library takes several times as
long for a live image as copying its pixels does. Both kinds are baseline, uncompressed,
little-endian, float32, one page, one strip.

On disk two descriptions stand in one file, because no reader understands both and each finds
its own: OME readers (Bio-Formats, tifffile) take the first ImageDescription tag, ImageJ the last.
"""

from __future__ import annotations

import io
import itertools
import struct
from collections.abc import Iterator, Mapping, Sequence
from fractions import Fraction
from pathlib import Path
from typing import Any

import numpy as np

from stemd.acquisition import iso_utc
from stemd.documents import to_json
from stemd.errors import FormatError, SinkError, StemdError
from stemd.plugins import NoSettings
from stemd.results import Result, Snapshot
from stemd.storage.files import FileRecord, result_file_name, write_atomic
from stemd.storage.writers import Written

_ASCII, _SHORT, _LONG, _RATIONAL = 2, 3, 4, 5
_NO_UNIT, _CENTIMETRE = 1, 3
_ANGSTROM_PER_CM = 1e8
_DESCRIPTION, _X_RESOLUTION, _Y_RESOLUTION = 270, 282, 283
_PIXELS_ALIGNED_TO = 16
_MAX_TIFF_BYTES = 2**32 - 1
_TYPE_BYTES = {_ASCII: 1, _SHORT: 2, _LONG: 4, _RATIONAL: 8}


def describe(result: Result, snapshot: Snapshot) -> dict[str, Any]:
    """The fields that go with every published image, in the order of the contract.

    `shape` is (y, x) in pixels of the image. `pixel_size_angstrom` is null for an image of the
    detector plane, which has `pixel_size_mrad` instead.
    """
    in_scan_plane = result.axes == "scan"
    fields = {
        "name": result.name,
        "units": result.units,
        "scan": snapshot.acquisition.id,
        "shape": list(result.shape),
        "pixel_size_angstrom": result.pixel_size if in_scan_plane else None,
        "positions_done": snapshot.positions_done,
        "positions_total": snapshot.positions_total,
        "final": snapshot.final,
        "sequence": snapshot.sequence,
        "time": iso_utc(snapshot.time_ns),
        "time_ns": snapshot.time_ns,
        "settings_revision": snapshot.settings_revision,
        "axes": result.axes,
    }
    if not in_scan_plane:
        fields["pixel_size_mrad"] = result.pixel_size
    return fields | {key: value for key, value in result.extra.items() if key not in fields}


def encode_tiff(result: Result, snapshot: Snapshot) -> bytes:
    """The image as published: TIFF with `describe` as JSON (ASCII) in its ImageDescription.

    Resolution is in pixels per centimetre where the pixel size is known. A space stands before
    each colon: tifffile takes JSON with `"shape":` in it for its own, and warns that the axes do
    not match.
    """
    text = to_json(describe(result, snapshot), ascii_only=True, colon=" : ")
    description = text.encode("ascii")
    resolution, unit = Fraction(1), _NO_UNIT
    if result.axes == "scan" and result.pixel_size:
        resolution, unit = Fraction(_ANGSTROM_PER_CM / result.pixel_size), _CENTIMETRE
    file = io.BytesIO()
    for part in tiff_parts(result, [description], resolution, unit):
        file.write(part)
    return file.getvalue()  # not copied


class TiffWriter:
    """A `stemd.storage.writers.ResultWriter`: `<name>.tif` for each image."""

    def __init__(self, settings: NoSettings) -> None:
        """Without settings."""

    def write(self, folder: Path, snapshot: Snapshot, settings: Mapping[str, Any]) -> Written:
        """Write every image; one that fails does not keep the others from being written."""
        files: list[FileRecord] = []
        errors: list[StemdError] = []
        for result in snapshot.results:
            try:
                path = folder / result_file_name(result.name)
                files.append(write_tiff(path, result, snapshot, settings))
            except SinkError as error:
                errors.append(error)
        return Written(files, errors)


def write_tiff(
    path: Path, result: Result, snapshot: Snapshot, settings: Mapping[str, Any] | None = None
) -> FileRecord:
    """Write the image calibrated for ImageJ and OME readers: nm, or mrad in the detector plane.

    `describe` and the settings are in the OME description and, as one line `stemd=`, in
    ImageJ's. The file appears under its name only when it is whole and on the disk.
    Raises SinkError.
    """
    result = result.made()  # looked at twice: the header has its range
    description = describe(result, snapshot) | {"settings": settings or {}}
    text = to_json(description, ascii_only=True)
    unit, size = _calibration(result)
    descriptions = [
        _ome_xml(result, snapshot, text, size if unit == "nm" else None).encode("ascii"),
        _imagej_lines(result, text, unit).encode("ascii"),
    ]
    resolution = Fraction(1 / size) if size else Fraction(1)
    return write_atomic(path, tiff_parts(result, descriptions, resolution, _NO_UNIT))


def _calibration(result: Result) -> tuple[str, float | None]:
    """(unit, size of a pixel in it) as a scientist wants to read it off the image."""
    if not result.pixel_size:
        return "pixel", None
    if result.axes == "scan":
        return "nm", result.pixel_size / 10
    return "mrad", result.pixel_size


def _imagej_lines(result: Result, description: str, unit: str) -> str:
    """ImageJ's own description. It reads `unit` here and the size of a pixel from XResolution."""
    low, high = _finite_range(result)
    lines = ["ImageJ=1.54f", "images=1", f"unit={unit}", f"min={low:.9g}", f"max={high:.9g}"]
    return "\n".join([*lines, f"stemd={description}"]) + "\n"


def _finite_range(result: Result) -> tuple[float, float]:
    ranges = []
    for lines in result.parts():
        finite = lines[np.isfinite(lines)]
        if finite.size:
            ranges.append((float(finite.min()), float(finite.max())))
    lows, highs = zip(*ranges, strict=True) if ranges else ((0.0,), (0.0,))
    return min(lows), max(highs)


def _ome_xml(result: Result, snapshot: Snapshot, description: str, size_nm: float | None) -> str:
    """OME-XML (schema 2016-06) for one float image; ASCII, so that no reader guesses wrong."""
    height, width = result.shape
    physical = "".join(
        f' PhysicalSize{axis}="{size_nm:.9g}" PhysicalSize{axis}Unit="nm"'
        for axis in "XY"
        if size_nm
    )
    name = _quoted(result.name.encode("ascii", "replace").decode())
    return (
        '<?xml version="1.0" encoding="UTF-8"?>'
        '<OME xmlns="http://www.openmicroscopy.org/Schemas/OME/2016-06"'
        ' xmlns:xsi="http://www.w3.org/2001/XMLSchema-instance"'
        ' xsi:schemaLocation="http://www.openmicroscopy.org/Schemas/OME/2016-06'
        ' http://www.openmicroscopy.org/Schemas/OME/2016-06/ome.xsd" Creator="stemd">'
        f'<Image ID="Image:0" Name={name}>'
        f"<AcquisitionDate>{iso_utc(snapshot.acquisition.started_ns)}</AcquisitionDate>"
        f"<Description>{_escaped(description)}</Description>"
        '<Pixels ID="Pixels:0" DimensionOrder="XYCZT" Type="float" BigEndian="false"'
        f' SizeX="{width}" SizeY="{height}" SizeC="1" SizeZ="1" SizeT="1"{physical}>'
        '<Channel ID="Channel:0:0" SamplesPerPixel="1"/>'
        '<TiffData IFD="0" PlaneCount="1"/></Pixels></Image></OME>'
    )


def tiff_parts(
    result: Result,
    descriptions: Sequence[bytes],
    resolution: Fraction,
    resolution_unit: int,
) -> Iterator[bytes | memoryview]:
    """The bytes of a one-page float32 TIFF: everything before the pixels, then the pixels.

    These come some lines at a time, so that an image that is drawn is never there as a whole.
    `descriptions` become ImageDescription tags in this order; `resolution` is pixels per
    `resolution_unit` (1: none, 3: centimetre). Layout after TIFF 6.0: header, directory (tags
    ascending), values longer than four bytes, pixels in one strip.
    """
    if len(result.shape) != 2 or 0 in result.shape:
        raise FormatError(f"an image has two axes (y, x) and a pixel, not the shape {result.shape}")
    height, width = result.shape
    tags: list[tuple[int, int, int | bytes]] = [
        (256, _LONG, width),
        (257, _LONG, height),
        (258, _SHORT, 32),  # bits a sample
        (259, _SHORT, 1),  # no compression
        (262, _SHORT, 1),  # black is zero
        *((_DESCRIPTION, _ASCII, text + b"\0") for text in descriptions),
        (273, _LONG, 0),  # where the pixels begin, known below
        (277, _SHORT, 1),  # samples a pixel
        (278, _LONG, height),  # rows a strip
        (279, _LONG, result.nbytes),
        (_X_RESOLUTION, _RATIONAL, _rational(resolution)),
        (_Y_RESOLUTION, _RATIONAL, _rational(resolution)),
        (296, _SHORT, resolution_unit),
        (305, _ASCII, b"stemd\0"),
        (339, _SHORT, 3),  # IEEE floating point
    ]
    values_at = 8 + 2 + 12 * len(tags) + 4
    longer = [value for _, _, value in tags if isinstance(value, bytes)]
    pixels_at = values_at + sum(len(value) + len(value) % 2 for value in longer)
    pixels_at += -pixels_at % _PIXELS_ALIGNED_TO
    if pixels_at + result.nbytes > _MAX_TIFF_BYTES:
        raise FormatError(
            f"an image of {height} x {width} pixels does not fit into a TIFF file (4 GiB)"
        )
    head = bytearray(struct.pack("<2sHIH", b"II", 42, 8, len(tags)))
    values = bytearray()
    for tag, kind, value in tags:
        if isinstance(value, bytes):
            count = len(value) // _TYPE_BYTES[kind]
            head += struct.pack("<HHII", tag, kind, count, values_at + len(values))
            values += value + b"\0" * (len(value) % 2)
        else:
            head += struct.pack("<HHII", tag, kind, 1, pixels_at if tag == 273 else value)
    head += struct.pack("<I", 0) + values
    head += b"\0" * (pixels_at - len(head))
    pixels = (np.ascontiguousarray(part, "<f4").data.cast("B") for part in result.parts())
    return itertools.chain([bytes(head)], pixels)


def _rational(value: Fraction) -> bytes:
    """A TIFF RATIONAL: two unsigned 32-bit integers, as near to the value as they get."""
    limit = 2**32 - 1
    if value > limit:
        return struct.pack("<II", limit, 1)
    scale = max(1, value.__ceil__())
    near = value.limit_denominator(max(1, limit // scale))
    return struct.pack("<II", near.numerator or 1, near.denominator)


def _escaped(text: str) -> str:
    """As `xml.sax.saxutils`, which reads urllib for it."""
    return text.replace("&", "&amp;").replace(">", "&gt;").replace("<", "&lt;")


def _quoted(text: str) -> str:
    return f'"{_escaped(text).replace(chr(34), "&quot;")}"'

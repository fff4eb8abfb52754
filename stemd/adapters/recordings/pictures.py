"""Single images in files, read within bounds: what a file says of its size is judged first."""

from __future__ import annotations

import base64
import binascii
import importlib
import importlib.util
import io
import traceback
import warnings
import zlib
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from stemd.acquisition import new_scan_id
from stemd.adapters.recordings.hdf5.walk import refuse_foreign_bytes
from stemd.errors import CameraError, FormatError

TIFF_SUFFIXES = (".tif", ".tiff")
READERS: Mapping[str, str] = {
    ".dm3": "digitalmicrograph",
    ".dm4": "digitalmicrograph",
    ".emd": "emd",
    ".ser": "tia",
    ".mrc": "mrc",
}
"""rosettasciio's module for each suffix."""
ANGSTROM = {"pm": 0.01, "A": 1.0, "Å": 1.0, "angstrom": 1.0, "nm": 10.0, "um": 1e4, "µm": 1e4}
ANGSTROM |= {"μm": 1e4, "mm": 1e7, "m": 1e10}
MAX_PIXELS = 8192 * 8192
"""As many as a scan may have positions; a quarter of a gigabyte in float32."""
MAX_FILE_BYTES = 1024**3
_PLAIN, _DEFLATE, _BOUNDED = (1,), (8, 32946), (5, 32773)  # TIFF compressions; LZW, PackBits


@dataclass(frozen=True, slots=True)
class Picture:
    """An image (y, x), the size of its pixels in angstrom where known, and its file's bytes."""

    pixels: NDArray[np.float32]
    pixel_size_angstrom: float | None
    source: str
    wire: NDArray[np.uint8]
    suffix: str
    id: str


def read_image(path: Path) -> Picture:
    """The image of a file, its first one if there are several. Raises FormatError."""
    suffix = path.suffix.lower()
    try:
        size_bytes = path.stat().st_size
        if size_bytes > MAX_FILE_BYTES:
            raise FormatError(
                f"has {size_bytes:,} bytes, too many", f"at most {MAX_FILE_BYTES:,}: save one image"
            )
        data = path.read_bytes()
        if suffix in TIFF_SUFFIXES:
            pixels, size = _tiff(data)
        else:
            pixels, size = _by_rosettasciio(path, suffix)
        return _picture(pixels, size, str(path), data, suffix, new_scan_id())
    except FormatError as error:
        raise FormatError(f"{path}: {error.message}", error.remedy) from error
    except Exception as error:  # readers raise whatever a broken file makes them raise
        text = " ".join(str(error).split())[:200] or type(error).__name__
        raise FormatError(f"{path} cannot be read: {text}", "check the file") from error


def _picture(
    pixels: Any, size: float | None, source: str, data: bytes, suffix: str, scan_id: str
) -> Picture:
    array = np.asarray(pixels)
    while array.ndim > 2:
        array = array[0]
    if array.ndim != 2 or 0 in array.shape or array.dtype.kind not in "uifb":
        raise FormatError(
            f"holds {array.dtype} of shape {np.shape(pixels)}, not a grey image", "save one image"
        )
    _refuse_large(array.shape)
    image = np.ascontiguousarray(array, np.float32)
    return Picture(image, size, source, np.frombuffer(data, np.uint8), suffix, scan_id)


def decoded(text: Any, scan_id: str) -> Picture:
    """The image of a TIFF file in base64, as a command sends it. Raises CameraError."""
    try:
        if not isinstance(text, str):
            raise ValueError("it is not text")
        data = base64.b64decode(text, validate=True)
        pixels, size = _tiff(data)
    except (ValueError, binascii.Error, FormatError) as error:
        raise CameraError(
            f"args.tiff is not a TIFF file in base64: {error}", "send one grey image"
        ) from error
    except Exception as error:  # a broken TIFF
        raise CameraError(f"args.tiff cannot be read: {error}", "send one grey image") from error
    try:
        return _picture(pixels, size, "command", data, ".tif", scan_id)
    except FormatError as error:
        raise CameraError(f"args.tiff {error.message}", error.remedy) from error


def _tiff(data: bytes) -> tuple[Any, float | None]:
    import tifffile

    with tifffile.TiffFile(io.BytesIO(data)) as file:
        page = file.pages.first
        _refuse_large((page.imagelength, page.imagewidth))
        if page.samplesperpixel > 1:
            raise FormatError("is a colour image", "save one grey image")
        size = None
        about = file.imagej_metadata or {}
        resolution = page.tags.get("XResolution")
        unit = str(about.get("unit", "")).encode().decode("unicode_escape", "replace")
        if resolution is not None and unit in ANGSTROM and resolution.value[0]:
            size = ANGSTROM[unit] * resolution.value[1] / resolution.value[0]
        _refuse_bomb(page, data)
        return page.asarray(), size


def _refuse_large(shape: tuple[int, ...]) -> None:
    pixels = shape[-1] * shape[-2]
    if pixels > MAX_PIXELS or max(shape[-2:]) > 65536:
        raise FormatError(
            f"has {shape[-2]} x {shape[-1]} pixels, too many",
            f"cut or bin it to at most {MAX_PIXELS:,} pixels",
        )


def _refuse_bomb(page: Any, data: bytes) -> None:
    """Raises FormatError where a strip or tile unpacks to more than its part of the image."""
    kind = int(page.compression)
    if kind in _PLAIN:
        return
    if kind not in (*_DEFLATE, *_BOUNDED):
        raise FormatError(
            f"is compressed by method {kind}, whose size cannot be known beforehand",
            "save it uncompressed, or with deflate or LZW",
        )
    height = page.tilelength if page.is_tiled else page.rowsperstrip
    width = page.tilewidth if page.is_tiled else page.imagewidth
    most = min(int(height), 65536) * int(width) * max(1, page.bitspersample // 8)
    if most > 8 * MAX_PIXELS:
        raise FormatError("has strips or tiles that are too large", "save it uncompressed")
    if kind in _DEFLATE:
        for first, count in zip(page.dataoffsets, page.databytecounts, strict=True):
            unpacker = zlib.decompressobj()
            if len(unpacker.decompress(data[first : first + count], most + 1)) > most:
                raise FormatError(
                    f"has a strip or tile that unpacks to more than its {most:,} bytes",
                    "save it again, uncompressed",
                )


def _by_rosettasciio(path: Path, suffix: str) -> tuple[Any, float | None]:
    if importlib.util.find_spec("rsciio") is None:
        raise FormatError(
            f"reading {suffix} needs rosettasciio, which is not installed",
            "pip install 'stemd[images]'",
        )
    if suffix == ".emd":
        refuse_foreign_bytes(path)
    reader = importlib.import_module(f"rsciio.{READERS[suffix]}")
    with warnings.catch_warnings():
        # some readers leave their file to be closed when it is forgotten: forget it here
        warnings.simplefilter("ignore", ResourceWarning)
        try:
            found = [each for each in reader.file_reader(str(path)) if np.ndim(each["data"]) >= 2]
        except Exception as error:
            traceback.clear_frames(error.__traceback__)
            raise
        for each in found:
            _refuse_large(np.shape(each["data"]))
            each["data"] = np.array(each["data"])
    if not found:
        raise FormatError("holds no image", "check the file")
    axes = [axis for axis in found[0]["axes"] if not axis.get("navigate")]
    axis = axes[-1] if axes else {}
    unit, scale = str(axis.get("units", "")), float(axis.get("scale", 0.0))
    return found[0]["data"], ANGSTROM[unit] * scale if unit in ANGSTROM and scale > 0 else None

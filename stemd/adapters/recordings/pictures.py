"""Images in files, read within bounds: what a file says of its size is judged first."""

from __future__ import annotations

import base64
import binascii
import importlib.util
import io
import logging
import threading
import zlib
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from stemd.acquisition import new_scan_id
from stemd.adapters.recordings.calibration import ANGSTROM
from stemd.adapters.recordings.scan_times import ScanTimes, of_stemd
from stemd.adapters.recordings.signals import MODULES, Stack, read_stacks
from stemd.errors import CameraError, FormatError

TIFF_SUFFIXES = (".tif", ".tiff")
IMAGE_SUFFIXES = (*TIFF_SUFFIXES, *MODULES)
MAX_PIXELS = 8192 * 8192
"""As many as a scan may have positions; a quarter of a gigabyte in float32."""
MAX_STACK_PIXELS = 4 * MAX_PIXELS
_LISTED = 20
MAX_FILE_BYTES = 1024**3
_LZW, _MINISWHITE = 5, 0
_FEW, _MANY = 16, 64
"""Lines or columns of a stack's images, and images, that are more likely its images, and lines."""
_PLAIN, _DEFLATE, _BOUNDED = (1,), (8, 32946), (5, 32773)  # TIFF compressions; LZW, PackBits


@dataclass(frozen=True, slots=True)
class Picture:
    """An image (y, x), the size of its pixels in angstrom and its times where known, its bytes.

    Of a file of several images each has a `name`, and as its bytes a TIFF file of its own.
    """

    pixels: NDArray[np.float32]
    pixel_size_angstrom: float | None
    source: str
    wire: NDArray[np.uint8]
    suffix: str
    id: str
    name: str = ""
    times: ScanTimes | None = None


def read_image(path: Path, name: str | None = None) -> Picture:
    """The image of a file; of several, the one of this `name`, of a stack `NAME[n]`.

    Raises FormatError, also where a file holds several images and none is named.
    """
    pictures = list(read_images(path))
    named = [picture for picture in pictures if name is None or picture.name == name]
    if len(named) == 1:
        return named[0]
    names = [picture.name for picture in pictures]
    listed = ", ".join(names[:_LISTED]) + (", ..." if len(names) > _LISTED else "")
    if not named:
        raise FormatError(f"{path} holds no image {name!r}", f"one of: {listed or 'its only one'}")
    raise FormatError(f"{path} holds {len(names)} images", f"name one of them: {listed}")


def read_images(path: Path) -> Iterator[Picture]:
    """All images of a file, those of a stack one after the other. Raises FormatError."""
    suffix = path.suffix.lower()
    try:
        size_bytes = path.stat().st_size
        if size_bytes > MAX_FILE_BYTES:
            raise FormatError(
                f"has {size_bytes:,} bytes, too many", f"at most {MAX_FILE_BYTES:,}: save one image"
            )
        data = path.read_bytes()
        stacks = read_tiff(data) if suffix in TIFF_SUFFIXES else read_stacks(path)
        yield from _pictures(path, stacks, data, suffix)
    except FormatError as error:
        about = error.message.removeprefix(str(path)).removeprefix(": ").strip()
        raise FormatError(f"{path}: {about}", error.remedy) from error
    except Exception as error:  # readers raise whatever a broken file makes them raise
        text = " ".join(str(error).split())[:200] or type(error).__name__
        raise FormatError(f"{path} cannot be read: {text}", "check the file") from error


def _pictures(path: Path, stacks: Sequence[Stack], data: bytes, suffix: str) -> Iterator[Picture]:
    for stack in stacks:
        _refuse_large(stack.shape)
    several = len(stacks) > 1 or stacks[0].shape[0] > 1
    for stack in stacks:
        for number, image in enumerate(stack.images):
            name = f"{stack.name}[{number}]" if stack.shape[0] > 1 else stack.name
            size, scan_id = stack.pixel_size_angstrom, new_scan_id()
            if not several:
                picture = _picture(image, size, str(path), data, suffix, scan_id)
                yield replace(picture, times=stack.times)
                continue
            picture = _picture(image, size, f"{path}: {name}", b"", ".tif", scan_id)
            file = io.BytesIO()
            _write_tiff(file, picture.pixels)
            wire = np.frombuffer(file.getvalue(), np.uint8)
            yield replace(picture, wire=wire, name=name, times=stack.times)


def _write_tiff(file: io.BytesIO, image: NDArray[np.float32]) -> None:
    """One image as a plain TIFF file."""
    import tifffile

    tifffile.imwrite(file, image)


def _picture(
    pixels: Any, size: float | None, source: str, data: bytes, suffix: str, scan_id: str
) -> Picture:
    array = np.asarray(pixels)
    if array.ndim != 2 or 0 in array.shape or array.dtype.kind not in "uifb":
        raise FormatError(
            f"holds {array.dtype} of shape {np.shape(pixels)}, not a grey image", "save one image"
        )
    _refuse_large(array.shape)
    image = _of_32_bits(array)
    return Picture(image, size, source, np.frombuffer(data, np.uint8), suffix, scan_id)


def _of_32_bits(array: NDArray[Any]) -> NDArray[np.float32]:
    """The image (y, x) in float32. Raises FormatError where that cannot hold its values."""
    with np.errstate(over="ignore", under="ignore"):
        image = np.ascontiguousarray(array, np.float32)
    if array.dtype.kind != "f" or array.dtype.itemsize <= image.itemsize:
        return image
    limits = np.finfo(np.float32)
    if np.count_nonzero(np.isfinite(array)) > np.count_nonzero(np.isfinite(image)):
        largest = np.abs(array[np.isfinite(array)]).max()
        raise FormatError(
            f"values up to {largest:.3g} are more than {limits.max:.3g}",
            "is it an image? Divide it by a number",
        )
    if array.any() and not image.any():
        raise FormatError(
            f"all values are below {limits.smallest_subnormal:.1g}, which 32 bits do not hold",
            "multiply it by a number",
        )
    return image


def decoded(text: Any, scan_id: str) -> Picture:
    """The image of a TIFF file in base64, as a command sends it. Raises CameraError."""
    try:
        if not isinstance(text, str):
            raise ValueError("it is not text")
        data = base64.b64decode(text, validate=True)
        (stack,) = read_tiff(data)
        if stack.shape[0] > 1:
            raise ValueError(f"it holds {stack.shape[0]} images")
        pixels, size = stack.images[0], stack.pixel_size_angstrom
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


def read_tiff(data: bytes) -> list[Stack]:
    """The images of a TIFF file: its first page, and those of the same size and type behind it.

    Smaller copies and thumbnails are left out. Raises FormatError for colours, for files that
    would take too much memory, and where pages are missing.
    """
    import tifffile

    with _Complaints() as complaints, tifffile.TiffFile(io.BytesIO(data)) as file:
        first = file.pages.first
        _refuse_large((first.imagelength, first.imagewidth))
        if first.samplesperpixel > 1:
            raise FormatError("is a colour image", "save one grey image")
        about = file.imagej_metadata or {}
        resolution = first.tags.get("XResolution")
        unit = str(about.get("unit", "")).encode().decode("unicode_escape", "replace")
        size = None
        if resolution is not None and unit in ANGSTROM and resolution.value[0]:
            size = ANGSTROM[unit] * resolution.value[1] / resolution.value[0]
        kind = (first.shape, first.dtype)
        pages = [page for page in file.pages if (page.shape, page.dtype) == kind]
        if complaints.said:
            raise FormatError(
                f"is cut off or damaged after {len(pages)} images: {complaints.said[0]}",
                "copy it again, or save the images that are whole",
            )
        _refuse_large((len(pages), *first.shape[-2:]))
        for page in pages:
            _refuse_bomb(page, data)
        images = np.stack([_grey(page) for page in pages])
        _refuse_order(images.shape)
        times = of_stemd(about.get("stemd"), (images.shape[-2], images.shape[-1]))
        return [Stack("image", images.reshape(-1, *images.shape[-2:]), size, times)]


def _grey(page: Any) -> NDArray[Any]:
    """A page's values, bright where it is shown bright."""
    image: NDArray[Any] = page.asarray()
    if int(page.photometric) == _MINISWHITE and image.dtype.kind in "ub":
        return ~image
    return image


def _refuse_order(shape: tuple[int, ...]) -> None:
    """Raises FormatError for a stack whose images, by its shape, are behind y and x."""
    if len(shape) == 3 and shape[0] >= _MANY and shape[2] < _FEW and shape[1] >= _MANY:
        raise FormatError(
            f"holds {shape[0]} images of {shape[1]} x {shape[2]} pixels: its axes seem to be y, x, "
            "image",
            "save it with the image's axis first",
        )


class _Complaints(logging.Handler):
    """What the reader of TIFF files logs instead of raising, in this thread."""

    def __init__(self) -> None:
        super().__init__(logging.ERROR)
        self.said: list[str] = []
        self._thread = threading.get_ident()

    def __enter__(self) -> _Complaints:
        logging.getLogger("tifffile").addHandler(self)
        return self

    def __exit__(self, *error: object) -> None:
        logging.getLogger("tifffile").removeHandler(self)

    def emit(self, record: logging.LogRecord) -> None:
        """See `logging.Handler`."""
        if record.thread == self._thread:
            self.said.append(record.getMessage())


def _refuse_large(shape: tuple[int, ...]) -> None:
    pixels = shape[-1] * shape[-2]
    if pixels > MAX_PIXELS or max(shape[-2:]) > 65536:
        raise FormatError(
            f"has {shape[-2]} x {shape[-1]} pixels, too many",
            f"cut or bin it to at most {MAX_PIXELS:,} pixels",
        )
    if len(shape) > 2 and pixels * shape[0] > MAX_STACK_PIXELS:
        raise FormatError(
            f"has {shape[0]} images of {shape[-2]} x {shape[-1]} pixels, too many",
            f"save fewer of them: at most {MAX_STACK_PIXELS:,} pixels",
        )


def _refuse_bomb(page: Any, data: bytes) -> None:
    """Raises FormatError where a strip or tile unpacks to more than its part of the image."""
    kind = int(page.compression)
    if kind in _PLAIN:
        return
    if kind == _LZW and not importlib.util.find_spec("imagecodecs"):
        raise FormatError(
            "is compressed by LZW, which needs the package imagecodecs",
            "save it uncompressed, or with deflate",
        )
    if kind not in (*_DEFLATE, *_BOUNDED):
        raise FormatError(
            f"is compressed by method {kind}, whose size cannot be known beforehand",
            "save it uncompressed, or with deflate",
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

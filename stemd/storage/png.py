"""An image as a PNG picture with a scale bar, for slides and messages.

Of a scale of grey between the darkest and brightest 0.1 % of the pixels, or of a circle of colours
where the values are angles. PNG 1.2 (ISO/IEC 15948): palette of 256 colours, 8 bits, no interlace.
"""

from __future__ import annotations

import colorsys
import math
import struct
import zlib
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from stemd.documents import to_json
from stemd.drawing import parts_of
from stemd.errors import StemdError
from stemd.image_frames import is_angle
from stemd.plugins import NoSettings
from stemd.results import Result, Snapshot
from stemd.storage.files import FileRecord, result_file_name, write_atomic
from stemd.storage.letters import HEIGHT, written
from stemd.storage.tiff import describe
from stemd.storage.writers import Written

SIGNATURE = b"\x89PNG\r\n\x1a\n"
LEAST_SIDE = 512
"""Smaller images are enlarged, each pixel a square: a scale bar needs room."""
PREVIEW_SIDE = 512
"""Pixels of a preview's longer side, at most."""
CLIPPED = 0.1
"""Per cent of the pixels at either end of the grey scale."""
BLACK, WHITE, SHADES = 254, 255, 254
BAR_PART = 0.25
"""Length of the scale bar, at most, in widths of the picture."""


class PngWriter:
    """A `stemd.storage.writers.ResultWriter`: `<name>.png` for each image."""

    def __init__(self, settings: NoSettings) -> None:
        """Without settings."""

    def write(self, folder: Path, snapshot: Snapshot, settings: Mapping[str, Any]) -> Written:
        """Write every image; one that fails does not keep the others from being written."""
        files: list[FileRecord] = []
        errors: list[StemdError] = []
        for result in snapshot.results:
            try:
                path = (folder / result_file_name(result.name)).with_suffix(".png")
                about = describe(result, snapshot)
                files.append(write_atomic(path, [encode_png(_known(result, snapshot), about)]))
            except StemdError as error:
                errors.append(error)
        return Written(files, errors)


def encode_png(result: Result, about: Mapping[str, Any] | None = None) -> bytes:
    """The image of a result as a PNG file; `about` is put into its Description as JSON."""
    enlarged = max(1, -(-LEAST_SIDE // max(result.shape)))
    return _encoded(result, about or {}, enlarged)


def encode_preview(result: Result, snapshot: Snapshot) -> bytes:
    """A PNG file of 512 x 512 pixels at most: reduced or enlarged by a whole number.

    What is not scanned yet, or is missing, is dark, and does not choose the shades.
    """
    factor = -(-max(result.shape) // PREVIEW_SIDE)
    about = {**describe(result, snapshot), "reduced": factor}
    result = _reduced(result, snapshot, factor) if factor > 1 else _known(result, snapshot)
    return _encoded(result, about, max(1, PREVIEW_SIDE // max(result.shape)))


def _known(result: Result, snapshot: Snapshot) -> Result:
    """The image with NaN for pixels of exactly 0, where positions have no data (yet)."""
    if result.axes != "scan" or snapshot.positions_done >= snapshot.positions_total:
        return result
    image = result.image
    known = np.where(image == 0.0, np.nan, image)
    return Result(result.name, known, result.units, result.axes, result.pixel_size, result.extra)


def _reduced(result: Result, snapshot: Snapshot, factor: int) -> Result:
    """Means of `factor` x `factor` pixels, of those that are known; of angles one of them.

    Some lines at a time: the image may be large.
    """
    rows = []
    for first, stop in parts_of(result.shape, factor):
        part = _known(Result("", result.lines(first, stop), result.units, result.axes), snapshot)
        lines = part.image
        rows.append(lines[::factor, ::factor] if is_angle(result) else _means(lines, factor))
    size = result.pixel_size * factor if result.pixel_size else None
    image = np.concatenate(rows)
    return Result(result.name, image, result.units, result.axes, size, result.extra)


def _means(lines: NDArray[np.float32], factor: int) -> NDArray[np.float32]:
    rows, columns = lines.shape
    rim = ((0, -rows % factor), (0, -columns % factor))
    lines = np.pad(lines, rim, constant_values=np.nan)
    cells = lines.reshape(lines.shape[0] // factor, factor, -1, factor)
    known = np.isfinite(cells)
    count = known.sum(axis=(1, 3), dtype=np.float32)
    total = np.where(known, cells, np.float32(0.0)).sum(axis=(1, 3))
    means: NDArray[np.float32] = np.full_like(total, np.nan)
    np.divide(total, count, out=means, where=count > 0)
    return means


def _encoded(result: Result, about: Mapping[str, Any], enlarged: int) -> bytes:
    codes, low, high = shaded(result)
    picture = np.repeat(np.repeat(codes, enlarged, axis=0), enlarged, axis=1)
    size = result.pixel_size
    if size:
        unit = "nm" if result.axes == "scan" else "mrad"
        draw_bar(picture, size / (10.0 if unit == "nm" else 1.0) / enlarged, unit)
    said = {**about, "shown_from": low, "shown_to": high, "enlarged": enlarged}
    text = to_json(said, ascii_only=True).encode("ascii")
    height, width = picture.shape
    rows = np.zeros((height, width + 1), np.uint8)  # each begins with its filter, 0: none
    rows[:, 1:] = picture
    chunks = [
        _chunk(b"IHDR", struct.pack(">IIBBBBB", width, height, 8, 3, 0, 0, 0)),
        _chunk(b"PLTE", _palette(circle=is_angle(result))),
        _chunk(b"tEXt", b"Software\0stemd"),
        _chunk(b"tEXt", b"Description\0" + text),
        _chunk(b"IDAT", zlib.compress(rows.tobytes(), 6)),
        _chunk(b"IEND", b""),
    ]
    return SIGNATURE + b"".join(chunks)


def shaded(result: Result) -> tuple[NDArray[np.uint8], float, float]:
    """Shades (y, x) from 0 to 253, and the values of the first and the last one."""
    image = result.image
    finite = image[np.isfinite(image)]
    if is_angle(result):
        half = 180.0 if result.units in ("deg", "°") else math.pi
        low, high = -half, half
    elif finite.size:
        low, high = (float(v) for v in np.percentile(finite, (CLIPPED, 100.0 - CLIPPED)))
    else:
        low, high = 0.0, 0.0
    span = high - low
    part = (image.astype(np.float64) - low) / span if span > 0.0 else np.zeros(image.shape)
    part = np.clip(np.nan_to_num(part, nan=0.0, posinf=1.0, neginf=0.0), 0.0, 1.0)
    return np.rint(part * (SHADES - 1)).astype(np.uint8), low, high


def bar_length(pixel: float, width: int) -> tuple[float, int]:
    """A round length for the scale bar in the unit of a pixel's size, and in pixels.

    The largest of 1, 2 and 5 times a power of ten that is at most a quarter of the width.
    """
    most = BAR_PART * width * pixel
    power = 10.0 ** math.floor(math.log10(most))
    length = max(power * step for step in (1.0, 2.0, 5.0) if power * step <= most * (1 + 1e-9))
    return length, max(1, round(length / pixel))


def draw_bar(picture: NDArray[np.uint8], pixel: float, unit: str) -> None:
    """Draw a white bar with its length, on black, into the lower left of a picture (y, x)."""
    height, width = picture.shape
    length, pixels = bar_length(pixel, width)
    dots = max(1, width // 256)
    text = np.repeat(np.repeat(written(f"{length:.12g} {unit}"), dots, axis=0), dots, axis=1)
    margin, thick = 2 * dots, 2 * dots
    tall, wide = HEIGHT * dots + thick + 3 * margin, max(pixels, text.shape[1]) + 2 * margin
    if tall > height or wide > width:
        return  # an image of a few lines
    box = picture[height - tall :, :wide]
    box[:] = BLACK
    at = box[margin : margin + text.shape[0], margin : margin + text.shape[1]]
    at[text] = WHITE
    box[tall - margin - thick : tall - margin, margin : margin + pixels] = WHITE


def _palette(*, circle: bool) -> bytes:
    shades = np.arange(SHADES) / (SHADES - 1)
    if circle:
        colours = [colorsys.hsv_to_rgb(shade, 1.0, 1.0) for shade in shades]
    else:
        colours = [(shade, shade, shade) for shade in shades]
    table = np.rint(np.array([*colours, (0, 0, 0), (1, 1, 1)]) * 255)
    return bytes(table.astype(np.uint8).tobytes())


def _chunk(kind: bytes, data: bytes) -> bytes:
    return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))

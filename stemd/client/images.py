"""An image as it comes over MQTT, decoded. Pure; the encoder is `stemd.storage.tiff`."""

from __future__ import annotations

import io
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from stemd.calibrated import Calibrated
from stemd.documents import Json, object_from_json
from stemd.errors import FormatError

_FIELDS = (
    *("name", "units", "scan", "shape", "axes", "pixel_size_angstrom", "pixel_size_mrad"),
    *("positions_done", "positions_total", "final", "sequence", "time", "time_ns"),
    "settings_revision",
)


@dataclass(frozen=True, slots=True, eq=False)
class Image(Calibrated):
    """One published image; NumPy and matplotlib take it as the array that it holds.

    `image` is float32 (y, x), read-only; positions that are not scanned yet are 0. `axes`: "scan"
    (a pixel is a probe position, or a part of one) or "detector" (a pattern). `pixel_size` is in
    `pixel_units`: angstrom for "scan", mrad for "detector"; None where nobody has told it. `scan`
    is the scan's id; `time_ns`, UTC since the epoch, is when the newest of its positions was
    received. `details` are settings and findings of the engine that made it.
    """

    name: str
    image: NDArray[np.float32]
    units: str
    scan: str
    positions_done: int
    positions_total: int
    final: bool
    axes: Literal["scan", "detector"] = "scan"
    pixel_size: float | None = None
    sequence: int = 0
    time_ns: int = 0
    settings_revision: int = 0
    details: Mapping[str, Any] = field(default_factory=dict)

    def __repr__(self) -> str:
        part = "" if self.final else f", {self.positions_done} of {self.positions_total} positions"
        return self.in_words(part)


def decode_image(payload: bytes) -> Image:
    """An image from the payload of an image topic. Raises FormatError."""
    import tifffile  # a client that takes no images does not need it

    try:
        with tifffile.TiffFile(io.BytesIO(payload)) as tiff:
            page = tiff.pages.first
            about = object_from_json(str(page.description))
            pixels = np.asarray(page.asarray(), np.float32)
    except FormatError as error:
        raise FormatError(f"the description of an image {error.message}") from error
    except Exception as error:  # whatever bytes make a reader raise
        raise FormatError(
            f"an image is no TIFF: {error}", "is this the topic of an image?"
        ) from None
    if pixels.ndim != 2:
        raise FormatError(f"an image has the shape {pixels.shape}, not (y, x)")
    pixels.flags.writeable = False
    try:
        return _described(pixels, about)
    except (KeyError, TypeError, ValueError, ArithmeticError) as error:
        raise FormatError(f"the description of an image lacks {error}") from error


def _described(pixels: NDArray[np.float32], about: Json) -> Image:
    axes: Literal["scan", "detector"] = "detector" if about.get("axes") == "detector" else "scan"
    size = about.get("pixel_size_angstrom" if axes == "scan" else "pixel_size_mrad")
    return Image(
        name=str(about["name"]),
        image=pixels,
        units=str(about["units"]),
        scan=str(about["scan"]),
        positions_done=int(about["positions_done"]),
        positions_total=int(about["positions_total"]),
        final=bool(about["final"]),
        axes=axes,
        pixel_size=None if size is None else float(size),
        sequence=int(about["sequence"]),
        time_ns=int(about["time_ns"]),
        settings_revision=int(about["settings_revision"]),
        details={key: value for key, value in about.items() if key not in _FIELDS},
    )

"""Binary image frames, pure: how an image travels to a browser.

An image frame is a 16-byte little-endian header, JSON, and pixels::

    0  4s  magic "STEI"
    4  u8  version, 1
    5  u8  flags: bit 0 = final image of its scan
    6  u16 0
    8  u32 bytes of JSON, padded with spaces so that pixels start at a multiple of 4
    12 u32 bytes of pixels: row-major (y, x), float32 or, where the JSON has `code`, uint16

Frames may follow each other in one message: each tells its own length. docs/page.md describes
every field of the JSON.
"""

from __future__ import annotations

import math
import struct
import threading
from collections.abc import Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray

from stemd.documents import Json, compact_json, object_from_json
from stemd.drawing import LineChanges, parts_of
from stemd.errors import StemdError
from stemd.results import Result, Snapshot

VERSION = 1
MAGIC = b"STEI"
HEADER = struct.Struct("<4sBBHII")


def reduction(shape: tuple[int, ...], max_side: int) -> int:
    """The power of two by which an image (y, x) is reduced to fit a longest side in pixels."""
    step = 1
    while max_side and max(shape) > max_side * step:
        step *= 2
    return step


def reduced(image: NDArray[np.float32], step: int, *, mean: bool) -> NDArray[np.float32]:
    """The image (y, x) reduced by `step`: mean of step x step boxes, or every step-th pixel.

    Angles have no plain mean, so they are picked. A remainder at the far edges is dropped.
    """
    if step == 1:
        return image
    height, width = reduced_shape(image.shape, step)
    if not mean or min(image.shape) < step:
        return image[::step, ::step][:height, :width]
    boxes = image[: height * step, : width * step].reshape(height, step, width, step)
    return np.asarray(boxes.mean(axis=(1, 3)), np.float32)


def reduced_shape(shape: tuple[int, ...], step: int) -> tuple[int, int]:
    """Pixels (y, x) of an image that is reduced by `step`."""
    height, width = (max(1, side // step) for side in shape)
    return height, width


class ReducedImage:
    """A result's image reduced by `step`, a part at a time. By any thread.

    Of one that grows it is kept, and only lines that have changed since are reduced again.
    """

    def __init__(self, step: int) -> None:
        self._step = step
        self._lock = threading.Lock()
        self._image: NDArray[np.float32] = np.zeros((0, 0), np.float32)
        self._changes: LineChanges | None = None
        self._then = 0

    def of(self, result: Result) -> NDArray[np.float32]:
        """As it is now, in an array that nobody writes to any more."""
        if self._step == 1:
            return np.asarray(result.image, np.float32)
        changes = result.changes
        with self._lock:
            if changes is None:
                self._changes = None
                self._image = np.zeros((0, 0), np.float32)
                return self._made(result)
            then, now = self._then, changes.now
            if changes is not self._changes:
                self._image, self._changes = self._made(result), changes
            else:
                for first, stop in changes.since(then):
                    self._reduce(result, self._image, first, stop)
            self._then = now
            return self._image.copy()

    def _made(self, result: Result) -> NDArray[np.float32]:
        image = np.zeros(reduced_shape(result.shape, self._step), np.float32)
        self._reduce(result, image, 0, result.shape[0])
        return image

    def _reduce(self, result: Result, image: NDArray[np.float32], first: int, stop: int) -> None:
        """Lines first..stop-1, and those that are in the same boxes; of many some at a time."""
        (ny, nx), step = result.shape, self._step
        mean = not is_angle(result) and min(ny, nx) >= step
        start = first // step * step
        for above, below in parts_of((stop - start, nx), step):
            row, end = (start + above) // step, min(image.shape[0], -(-(start + below) // step))
            if row >= end:
                return  # of the remainder at the far edge
            lines = result.lines(row * step, min(ny, end * step))
            if mean:
                image[row:end] = reduced(lines, step, mean=True)
            else:
                image[row:end] = lines[::step, ::step][: end - row, : image.shape[1]]


def is_angle(result: Result) -> bool:
    """Whether a result's values are directions, which wrap and must not be averaged.

    A phase is in rad, too, but an image like any other: picking pixels would alias its lattice.
    """
    return result.units in ("rad", "deg", "°") and "phase" not in result.name


def image_meta(pipeline: str, snapshot: Snapshot, result: Result, step: int) -> Json:
    """The JSON of an image frame. `shape` is (y, x) as sent, `full_shape` before reduction.

    `pixel_size` is that of a pixel as sent, in angstrom ("scan" axes) or mrad ("detector").
    """
    full = result.shape
    return {
        "pipeline": pipeline,
        "name": result.name,
        "units": result.units,
        "axes": result.axes,
        "pixel_size": None if result.pixel_size is None else result.pixel_size * step,
        "shape": list(reduced_shape(full, step)),
        "full_shape": list(full),
        "step": step,
        "scan": snapshot.acquisition.id,
        "scan_shape": list(snapshot.acquisition.scan.shape),
        "positions_done": snapshot.positions_done,
        "positions_total": snapshot.positions_total,
        "final": snapshot.final,
        "sequence": snapshot.sequence,
        "time_ns": str(snapshot.time_ns),  # beyond the 53 bits of a browser's numbers
        "settings_revision": snapshot.settings_revision,
        "extra": dict(result.extra),
    }


def shortened(
    image: NDArray[np.float32],
) -> tuple[NDArray[np.uint16], dict[str, float]] | None:
    """An image (y, x) as 16-bit codes, and `code`: value = offset + scale * code.

    The 65536 codes span the image's range; whole numbers of no larger range stay exact, and so
    does 0, which may mean that nothing is there. None for an image with values that are not finite,
    or of a range beyond reason.
    """
    low, high = (float(image.min()), float(image.max())) if image.size else (0.0, 0.0)
    span, scale = high - low, 1.0
    if not (span == 0.0 or 1e-30 < span < 1e30):  # float32 can compute with these
        return None
    if low.is_integer() and high.is_integer() and span < 65536:
        codes = image - np.float32(low)
        if np.array_equal(np.rint(codes), codes):
            return codes.astype("<u2"), {"offset": low, "scale": scale}
    if span > 0.0:
        scale = span / 65534
    if low < 0.0 < high:
        low = -math.ceil(-low / scale) * scale
    codes = image - np.float32(low)
    codes *= np.float32(1 / scale)
    return np.rint(codes, out=codes).astype("<u2"), {"offset": low, "scale": scale}


def encode_short_image(
    meta: Mapping[str, Any], image: NDArray[np.float32], *, final: bool
) -> bytes:
    """One image frame of 16-bit pixels where the image (y, x) allows it, else as `encode_image`."""
    short = shortened(image)
    if short is None:
        return encode_image(meta, image, final=final)
    codes, code = short
    return _frame({**meta, "code": code}, codes.tobytes() + b"\0\0" * (codes.size % 2), final)


def encode_image(meta: Mapping[str, Any], image: NDArray[np.float32], *, final: bool) -> bytes:
    """One image frame; `image` is (y, x), stored as little-endian float32."""
    pixels = np.ascontiguousarray(image, "<f4")
    return _frame(meta, pixels.data.cast("B") if pixels.size else b"", final)


def _frame(meta: Mapping[str, Any], pixels: bytes | memoryview, final: bool) -> bytes:
    text = compact_json(meta).encode()
    text += b" " * (-(HEADER.size + len(text)) % 4)
    header = HEADER.pack(MAGIC, VERSION, int(final), 0, len(text), len(pixels))
    return b"".join((header, text, pixels))


def decode_image(data: bytes) -> tuple[Json, NDArray[np.float32]]:
    """The JSON and the image (y, x) of a frame of either kind. Raises ValueError."""
    if len(data) < HEADER.size:
        raise ValueError(f"an image frame of {len(data)} bytes has no header")
    magic, version, _flags, _zero, meta_bytes, pixel_bytes = HEADER.unpack_from(data)
    if magic != MAGIC or version != VERSION:
        raise ValueError(f"not an image frame of version {VERSION}")
    if HEADER.size + meta_bytes + pixel_bytes != len(data):
        raise ValueError(f"an image frame of {len(data)} bytes has other lengths in its header")
    start = HEADER.size + meta_bytes
    try:
        meta = object_from_json(data[HEADER.size : start])
        return meta, _pixels(meta, data, start)
    except (StemdError, TypeError, KeyError, IndexError, OverflowError) as error:
        raise ValueError(f"the JSON of an image frame does not describe it: {error}") from error


def _pixels(meta: Json, data: bytes, start: int) -> NDArray[np.float32]:
    shape = meta["shape"]
    if "code" not in meta:
        return np.frombuffer(data, "<f4", offset=start).reshape(shape).astype(np.float32)
    codes = np.frombuffer(data, "<u2", shape[0] * shape[1], start).reshape(shape)
    image = codes * float(meta["code"]["scale"]) + float(meta["code"]["offset"])
    return np.asarray(image, np.float32)

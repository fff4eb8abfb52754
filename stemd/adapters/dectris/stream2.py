"""stream2: one CBOR map a message. https://github.com/dectris/documentation, stream_v2.

Arrays are tag 40 ([[rows, columns], typed array]), typed arrays tags 64 (u1), 69 (<u2) and 70
(<u4); compressed bytes are tag 56500 ([algorithm, bytes of a value, bytes]).
"""

from __future__ import annotations

import json
import math
from collections.abc import Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray

from stemd.adapters.dectris import cbor
from stemd.adapters.dectris.cbor import SELF_DESCRIBED, Tag
from stemd.adapters.dectris.compression import ALGORITHMS, Algorithm, compress_image, expand_array
from stemd.adapters.dectris.series import PixelMask, Said, SeriesEnd, SeriesStart, Unknown, whole
from stemd.adapters.frames.format import MAX_FRAME_BYTES

ARRAY, COMPRESSED = 40, 56500
TYPES = {64: "u1", 69: "<u2", 70: "<u4"}
_TAGS = {1: 64, 2: 69, 4: 70}
TIME_BASE_HZ = 50_000_000


def array_of(item: Any) -> NDArray[np.unsignedinteger] | None:
    """A 2-D array of unsigned numbers, None where the item is none that is known."""
    try:
        shape, typed = item.value
        rows, columns = (int(n) for n in shape)
        dtype = np.dtype(TYPES[typed.number])
        size = rows * columns * dtype.itemsize
        if item.number != ARRAY or not 0 < size <= MAX_FRAME_BYTES or min(rows, columns) < 1:
            return None
        data: Any = typed.value
        if isinstance(data, Tag):
            algorithm, value_bytes, packed = data.value
            if data.number != COMPRESSED or algorithm not in ALGORITHMS:
                return None
            data = expand_array(packed, algorithm, int(value_bytes) or dtype.itemsize, size)
        if data is None or len(data) != size:
            return None
        return np.frombuffer(data, dtype).reshape(rows, columns)
    except (AttributeError, KeyError, TypeError, ValueError, ZeroDivisionError):
        return None


def read_message(body: bytes) -> Said:
    """A message that is no image. Raises FormatError when it is no CBOR."""
    found = cbor.decode(body)
    kind = found.get("type") if isinstance(found, dict) else None
    series = whole(found.get("series_id")) if isinstance(found, dict) else None
    if series is None or kind not in ("start", "end"):
        return Unknown(str(kind))
    if kind == "end":
        return SeriesEnd(series)
    channels = found.get("channels")
    names = [c for c in channels if isinstance(c, str)] if isinstance(channels, list) else []
    text = json.dumps(_plain(found), ensure_ascii=False, indent=1)
    masks = _masks(found)
    return SeriesStart(series, whole(found.get("number_of_images")), tuple(names), masks, text)


def _masks(found: Mapping[str, Any]) -> dict[str, PixelMask]:
    masks = found.get("pixel_mask")
    if not isinstance(masks, dict):
        return {}
    read = {str(name): array_of(item) for name, item in masks.items()}
    return {name: mask.astype(np.uint32) for name, mask in read.items() if mask is not None}


def _plain(item: Any) -> Any:
    """What JSON can say of an item: arrays are left out."""
    if isinstance(item, Tag):
        return _plain(item.value) if item.number < ARRAY else None
    if isinstance(item, dict):
        return {str(key): _plain(value) for key, value in item.items()}
    if isinstance(item, list):
        return [_plain(value) for value in item]
    if isinstance(item, bytes) or (isinstance(item, float) and not math.isfinite(item)):
        return None
    return item


def encode_array(
    image: NDArray[np.unsignedinteger], algorithm: Algorithm = "none", packed: bytes | None = None
) -> Tag:
    """The item of a 2-D array; `packed` is its compressed bytes, where they are known already."""
    data = compress_image(image, algorithm) if packed is None else packed
    size = image.dtype.itemsize
    value_bytes = size if algorithm == "bslz4" else 0
    item = data if algorithm == "none" else Tag(COMPRESSED, [algorithm, value_bytes, data])
    return Tag(ARRAY, [[int(n) for n in image.shape], Tag(_TAGS[size], item)])


def encode_start(
    series: int,
    shape: tuple[int, int],
    dtype: str,
    frames: int,
    *,
    channels: tuple[str, ...] = ("threshold_1",),
    mask: PixelMask | None = None,
    **more: Any,
) -> bytes:
    """The message that begins a series of images of `shape` (height, width)."""
    said: dict[str, Any] = {
        "type": "start",
        "series_id": series,
        "series_unique_id": f"{series:026d}",
        "channels": list(channels),
        "image_size_x": shape[1],
        "image_size_y": shape[0],
        "image_dtype": np.dtype(dtype).name,
        "number_of_images": frames,
        **more,
    }
    if mask is not None:
        said["pixel_mask"] = {name: encode_array(mask.astype("<u4")) for name in channels}
    return SELF_DESCRIBED + cbor.encode(said)


def encode_image(
    series: int, number: int, data: Mapping[str, Tag], start_ticks: int = 0, ticks: int = 500
) -> bytes:
    """The message of image `number` (from 0); `data` are its channels, see `encode_array`."""
    time = [start_ticks, TIME_BASE_HZ]
    return SELF_DESCRIBED + cbor.encode(
        {
            "type": "image",
            "series_id": series,
            "series_unique_id": f"{series:026d}",
            "image_id": number,
            "real_time": [ticks, TIME_BASE_HZ],
            "series_date": Tag(0, "2026-01-01T00:00:00.000Z"),
            "start_time": time,
            "stop_time": [start_ticks + ticks, TIME_BASE_HZ],
            "user_data": None,
            "data": dict(data),
        }
    )


def encode_end(series: int) -> bytes:
    """The message that ends a series."""
    said = {"type": "end", "series_id": series, "series_unique_id": f"{series:026d}"}
    return SELF_DESCRIBED + cbor.encode(said)

"""The legacy stream: messages of several parts, JSON and bytes (SIMPLON API 1.8, "stream").

A header: dheader-1.0 and the detector's configuration, with header_detail "all" also arrays, each
after a part that describes it. An image: dimage-1.0, dimage_d-1.0 (shape is [x, y]), the bytes,
dconfig-1.0. The end: dseries_end-1.0. A part more, the appendix, may follow each. Simulators send
the parts of the header as messages of their own.
"""

from __future__ import annotations

import itertools
import json
from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from stemd.adapters.dectris.compression import Algorithm, compress_image, compress_plain_lz4
from stemd.adapters.dectris.series import PixelMask, Said, SeriesEnd, SeriesStart, Unknown, whole
from stemd.adapters.frames.format import MAX_FRAME_BYTES
from stemd.documents import from_json
from stemd.errors import FormatError

IMAGE = "dimage-1.0"


def _object(part: bytes) -> dict[str, Any]:
    """The JSON object that a part is, {} where it is none."""
    try:
        found = from_json(part.decode("utf-8", "replace"))
    except FormatError:
        return {}
    return found if isinstance(found, dict) else {}


def read_message(parts: Sequence[bytes]) -> Said:
    """A message that is no image."""
    head = _object(parts[0])
    kind = str(head.get("htype"))
    series = whole(head.get("series"))
    if series is None:
        return Unknown(kind, nameless="htype" not in head)
    if kind.startswith("dseries_end-"):
        return SeriesEnd(series)
    if not kind.startswith("dheader-"):
        return Unknown(kind)
    config = _object(parts[1]) if len(parts) > 1 else {}
    masks = _masks(parts[1:])
    text = json.dumps({"header": head, "config": config}, ensure_ascii=False, indent=1)
    return SeriesStart(series, _frames(config), (), masks, text)


def _frames(config: dict[str, Any]) -> int | None:
    """Frames of the series: an external gate or trigger makes one for each trigger."""
    triggers, images = whole(config.get("ntrigger")), whole(config.get("nimages"))
    if triggers is None:
        return None
    each = 1 if config.get("trigger_mode") in ("exte", "inte") else images
    return None if each is None else triggers * each


def _masks(parts: Sequence[bytes]) -> dict[str, PixelMask]:
    for described, data in itertools.pairwise(parts):
        said = _object(described[:4096])
        if not str(said.get("htype")).startswith("dpixelmask-"):
            continue
        shape = said.get("shape")
        if isinstance(shape, list) and len(shape) == 2 and all(whole(n) for n in shape):
            size = 4 * shape[0] * shape[1]
            if size == len(data) <= MAX_FRAME_BYTES:
                return {"": np.frombuffer(data, "<u4").reshape(shape[1], shape[0])}
    return {}


def _json(**said: Any) -> bytes:
    return json.dumps(said, separators=(",", ":")).encode()


def encode_start(
    series: int, config: dict[str, Any], mask: PixelMask | None = None, *, detail: bool = True
) -> list[bytes]:
    """The parts of the header of a series; `config` is the detector's, as REST names it."""
    if not detail:
        return [_json(htype="dheader-1.0", series=series, header_detail="none")]
    kind = "basic" if mask is None else "all"
    parts = [_json(htype="dheader-1.0", series=series, header_detail=kind), _json(**config)]
    if mask is not None:
        shape = [mask.shape[1], mask.shape[0]]
        parts += [
            _json(htype="dpixelmask-1.0", shape=shape, type="uint32"),
            mask.astype("<u4").tobytes(),
        ]
    return parts


def encode_image(
    series: int,
    number: int,
    image: NDArray[np.unsignedinteger],
    algorithm: Algorithm,
    packed: bytes | None = None,
) -> list[bytes]:
    """The parts of image `number` (from 0), (height, width)."""
    bits = 8 * image.dtype.itemsize
    names = {"none": "<", "lz4": "lz4<", "bslz4": f"bs{bits}-lz4<"}
    data = packed
    if data is None:
        plain = algorithm == "lz4"
        data = compress_plain_lz4(image) if plain else compress_image(image, algorithm)
    return [
        _json(htype=IMAGE, series=series, frame=number, hash=""),
        _json(
            htype="dimage_d-1.0",
            shape=[image.shape[1], image.shape[0]],
            type=f"uint{bits}",
            encoding=names[algorithm],
            size=len(data),
        ),
        data,
        _json(htype="dconfig-1.0", start_time=0, stop_time=0, real_time=0),
    ]


def encode_end(series: int) -> list[bytes]:
    """The part of the end of a series."""
    return [_json(htype="dseries_end-1.0", series=series)]

"""Streams with known contents, and what a decoder makes of them, for the DECTRIS tests."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from stemd.acquisition import Scan
from stemd.adapters.dectris import legacy, stream2, zmtp
from stemd.adapters.dectris.compression import Algorithm
from stemd.adapters.dectris.decoder import StreamDecoder
from stemd.blocks import BlockPool, Message
from tests.merlin.streams import Outcome

Kind = Literal["cbor", "legacy"]
SCAN = Scan(shape=(2, 3), flyback=1)  # images 0 1 2 (3) 4 5 6 (7)
SHAPE = (6, 10)
HELLO = zmtp.greeting() + zmtp.ready("PUSH")


def image(
    number: int, dtype: str = "u2", shape: tuple[int, int] = SHAPE
) -> NDArray[np.unsignedinteger]:
    """An image that only frame `number` has; no value is the type's maximum."""
    rng = np.random.default_rng(number)
    made = rng.poisson(3.0, shape)
    made[0, 0] = np.iinfo(dtype).max - 1
    return made.astype(dtype)


def frame(
    number: int,
    *,
    kind: Kind = "cbor",
    series: int = 1,
    dtype: str = "u2",
    algorithm: Algorithm = "bslz4",
    shape: tuple[int, int] = SHAPE,
) -> bytes:
    """The message of an image."""
    picture = image(number, dtype, shape)
    if kind == "legacy":
        return zmtp.message(*legacy.encode_image(series, number, picture, algorithm))
    data = {"threshold_1": stream2.encode_array(picture, algorithm)}
    return zmtp.message(stream2.encode_image(series, number, data))


def start(frames: int = 8, *, kind: Kind = "cbor", series: int = 1, **more: Any) -> bytes:
    """The message that begins a series."""
    if kind == "legacy":
        config = {"nimages": 1, "ntrigger": frames, "trigger_mode": "exte"}
        return zmtp.message(*legacy.encode_start(series, config, **more))
    return zmtp.message(stream2.encode_start(series, SHAPE, "u2", frames, **more))


def end(*, kind: Kind = "cbor", series: int = 1) -> bytes:
    """The message that ends a series."""
    if kind == "legacy":
        return zmtp.message(*legacy.encode_end(series))
    return zmtp.message(stream2.encode_end(series))


def series(numbers: Iterable[int] = range(8), frames: int = 8, **more: Any) -> bytes:
    """A whole series."""
    which = {key: more[key] for key in ("kind", "series") if key in more}
    images = b"".join(frame(n, **more) for n in numbers)
    return start(frames, **which) + images + end(**which)


def feed(
    decoder: StreamDecoder, data: bytes, cuts: Iterator[int] | None = None
) -> Iterator[Message]:
    """Give `data` to a decoder as a socket would, at most `next(cuts)` bytes at a time."""
    at = 0
    while at < len(data):
        most = len(data) - at if cuts is None else next(cuts)
        view = decoder.wants()[0]
        assert len(view) > 0
        size = min(len(view), len(data) - at, most)
        view[:size] = data[at : at + size]
        at += size
        yield from decoder.fed(size, at)


def decode(
    data: bytes,
    scan: Scan | None = SCAN,
    cuts: Iterator[int] | None = None,
    channel: str = "",
    reason: str = "disconnected",
) -> Outcome:
    """Everything a decoder makes of a stream behind its greeting, that then ends."""
    decoder = StreamDecoder(BlockPool(1 << 14), scan, "test", channel)  # blocks of some images
    outcome = Outcome()
    outcome.take(feed(decoder, HELLO + data, cuts))
    outcome.take(decoder.flush(len(data), eof=True))
    outcome.take(decoder.end(reason, len(data)))  # type: ignore[arg-type]
    return outcome

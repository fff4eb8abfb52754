"""Decoding a tiny scan before a camera's first hits, so that the kernels are compiled by then."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from typing import Protocol, TypeVar

import numpy as np
from numpy.typing import NDArray

from stemd.acquisition import Scan
from stemd.adapters.events.layout import Layout
from stemd.adapters.events.settings import EventSettings
from stemd.blocks import EndReason, Message

S = TypeVar("S", bound=EventSettings)

DWELL_US = 10.0
TINY = Scan(shape=(16, 16), flyback=0, step_size_angstrom=1.0, dwell_time_us=DWELL_US)
"""The scan that `tiny` settings decode."""
HITS, RADIUS_PX = 8, 30
"""Hits in a position, and how far from the detector's middle."""


class WarmDecoder(Protocol):
    """Any decoder of an event camera."""

    def wants(self) -> Sequence[memoryview]:
        """See `adapters.base.Decoder`."""
        ...

    def fed(self, count: int, now_ns: int) -> Iterable[Message]:
        """See `adapters.base.Decoder`."""
        ...

    def flush(self, now_ns: int, *, eof: bool) -> Iterable[Message]:
        """See `adapters.base.Decoder`."""
        ...

    def finish(self, reason: EndReason, now_ns: int) -> Iterable[Message]:
        """End the scan with what has come."""
        ...

    def close(self) -> None:
        """Give every block back."""
        ...


def tiny(settings: S) -> S:
    """The settings for the tiny scan; what decides which kernels are called stays."""
    return settings.model_copy(update={"scan": TINY})


def hits(layout: Layout, chip: int) -> NDArray[np.int64]:
    """(4, hits): time in dwell times from the first position, y and x on the chip, line.

    Some in the middle of each position, on pixels of this chip around the detector's middle, for
    engines that look for a bright field before they compute.
    """
    random = np.random.default_rng(0)
    offset = random.integers(-RADIUS_PX, RADIUS_PX, (2, 8 * HITS * TINY.positions))
    middle = np.array(layout.shape)[:, None] // 2
    of_chip, y, x = layout.chip_coordinates(*(middle + offset))
    mine = np.flatnonzero(of_chip == chip)[: HITS * TINY.positions]
    position = np.arange(mine.size) * TINY.positions // max(1, mine.size)
    return np.stack([position, y[mine], x[mine], position // TINY.shape[1]])


def decoded(decoder: WarmDecoder, data: bytes) -> Iterator[Message]:
    """All messages of a stream. Whoever takes a block releases it."""
    rest = memoryview(data)
    try:
        while rest:
            view = decoder.wants()[0]
            size = min(len(view), len(rest))
            view[:size] = rest[:size]
            rest = rest[size:]
            yield from decoder.fed(size, 0)
        yield from decoder.flush(0, eof=False)
        yield from decoder.finish("complete", 0)
    finally:
        decoder.close()

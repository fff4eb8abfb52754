"""A tiny scan as Pixet would write it, decoded, so that the kernels are compiled by then."""

from __future__ import annotations

from collections.abc import Iterator

from stemd.adapters.advapix.adapter import make_front
from stemd.adapters.advapix.records import SHORT_RECORD, records
from stemd.adapters.advapix.settings import AdvapixSettings
from stemd.adapters.events.decoder import EventDecoder
from stemd.adapters.events.ticks import TICKS_PER_US
from stemd.adapters.events.warm import DWELL_US, TINY, decoded, hits, tiny
from stemd.blocks import BlockPool, Message


def warm(settings: AdvapixSettings) -> Iterator[Message]:
    """The messages of the tiny scan, by the way that the camera's own records go."""
    decoder = EventDecoder(
        tiny(settings),
        make_front(settings),
        BlockPool(),
        scan=TINY,
        name="AdvaPix",
        raw_name="raw.t3p",
    )
    dwell = int(DWELL_US * TICKS_PER_US)
    start = max(0, int(settings.clock_origin_us * TICKS_PER_US)) + dwell // 2
    position, y, x, _ = hits(settings.detector_layout, 0)
    made = records(start + position * dwell, y, x)
    if settings.record_bytes == SHORT_RECORD.itemsize:
        made = made.astype(SHORT_RECORD)
    return decoded(decoder, made.tobytes())

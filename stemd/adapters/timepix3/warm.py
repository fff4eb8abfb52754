"""A tiny scan as SERVAL would send it, decoded, so that the kernels are compiled by then."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np

from stemd.adapters.events.decoder import EventDecoder
from stemd.adapters.events.layout import Layout
from stemd.adapters.events.ticks import TICKS_PER_US
from stemd.adapters.events.warm import DWELL_US, TINY, decoded, hits, tiny
from stemd.adapters.timepix3 import csr
from stemd.adapters.timepix3.csr import CsrDecoder
from stemd.adapters.timepix3.front import WordsFront
from stemd.adapters.timepix3.settings import Timepix3Settings
from stemd.adapters.timepix3.words import NAME, RAW_NAME, Words, chunk, pixel_words, tdc_words
from stemd.blocks import BlockPool, Message


def warm(settings: Timepix3Settings) -> Iterator[Message]:
    """The messages of the tiny scan, by the way that the camera's own bytes go."""
    if settings.stream == "csr":
        return decoded(CsrDecoder(tiny(settings), BlockPool(), scan=TINY), _sparse())
    front = WordsFront(
        settings.detector_layout,
        back_limit_us=settings.back_limit_ms * 1000.0,
        headers_required=True,
        correction=settings.time_correction,
    )
    decoder = EventDecoder(
        tiny(settings), front, BlockPool(), scan=TINY, name=NAME, raw_name=RAW_NAME
    )
    chip = settings.tdc.chip or 0
    return decoded(decoder, chunk(_words(settings, chip), chip))


def _words(settings: Timepix3Settings, chip: int) -> Words:
    """Hits in the middle of each position; each line begins, and ends, with its pulses."""
    ny, nx = TINY.shape
    dwell = int(DWELL_US * TICKS_PER_US)
    start = max(0, int(settings.clock_origin_us * TICKS_PER_US)) + dwell
    delay = int(settings.tdc.line_delay_us * TICKS_PER_US) + dwell // 2
    edges = settings.tdc
    position, y, x, line = hits(settings.detector_layout, chip)
    words = []
    if edges.frame_edge >= 0:
        words.append(tdc_words(start - 1, 1, edges.frame_edge))
    for row in range(ny):
        begin = start + row * (nx + 1) * dwell
        mine = line == row
        words.append(tdc_words(begin, row + 1, edges.start_edge))
        times = begin + delay + (position[mine] - row * nx) * dwell
        words.append(pixel_words(times, y[mine], x[mine]))
        if edges.stop_edge >= 0:
            words.append(tdc_words(begin + nx * dwell, row + 1, edges.stop_edge))
    return np.concatenate(words)


def _sparse() -> bytes:
    """The same scan as SERVAL's sparse stream, as of one chip."""
    position, y, x, _ = hits(Layout("single"), 0)
    indptr = np.searchsorted(position, np.arange(TINY.positions + 1))
    return (
        csr.acquisition_start(TINY.shape, (256, 256), tot=False)
        + csr.scan_start(0)
        + csr.array_chunk(indptr, y * 256 + x, np.ones_like(y))
        + csr.scan_end(0)
    )

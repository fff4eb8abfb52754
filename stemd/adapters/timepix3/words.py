"""Timepix3 words as SERVAL sends them (.tpx3 and raw TCP): bit layout, and the encoder.

A stream is little-endian 64-bit words: chunk headers, each followed by the words of one chip;
some readouts leave the headers out. Time is counted in ticks of 1.5625 ns (the fine time of a
pixel). Sources: SERVAL manual (raw file format), Poikela et al., JINST 9 (2014) C05013.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from stemd.adapters.events.layout import Layout
from stemd.adapters.events.ticks import TDC1_RISE

NAME = "Timepix3"
RAW_NAME = "raw.tpx3"

Words = NDArray[np.uint64]

TDC_CLOCK_BITS = 36
"""The TDC time wraps after 2^36 ticks (2^35 of 3.125 ns), 107.37 s."""
MAGIC = 0x33585054
"""The letters TPX3, the low half of a chunk header."""
MAX_CHUNK_WORDS = 8191
"""A chunk's size field has 16 bits and counts bytes."""

KIND_PIXEL = 0xB
KIND_INTEGRATED = 0xA
KIND_TDC = 0x6
KIND_GLOBAL_TIME = 0x4


def address_of(y: Any, x: Any) -> Any:
    """Address of a pixel: double column, super pixel of 2 x 4, pixel within."""
    return (x >> 1) << 9 | (y >> 2) << 3 | (x & 1) << 2 | (y & 3)


def pixel_words(time_ticks: ArrayLike, y: ArrayLike, x: ArrayLike, tot: ArrayLike = 1) -> Words:
    """Words of hits on one chip: time in ticks (any epoch), chip coordinates, ToT in 25 ns."""
    fine = -np.asarray(time_ticks, np.int64) % 16
    coarse = (np.asarray(time_ticks, np.int64) + fine) >> 4
    address = address_of(np.asarray(y, np.int64), np.asarray(x, np.int64))
    word = (
        KIND_PIXEL << 60
        | address.astype(np.uint64) << np.uint64(44)
        | (coarse & 0x3FFF).astype(np.uint64) << np.uint64(30)
        | (np.asarray(tot).astype(np.uint64) & np.uint64(0x3FF)) << np.uint64(20)
        | fine.astype(np.uint64) << np.uint64(16)
        | (coarse >> 14 & 0xFFFF).astype(np.uint64)
    )
    return np.atleast_1d(word).astype(np.uint64)


def tdc_words(time_ticks: ArrayLike, counter: ArrayLike, edge: int = TDC1_RISE) -> Words:
    """Words of TDC edges: time in ticks (fractions are kept to 1/6 tick), counter modulo 4096."""
    sixths = np.round(np.asarray(time_ticks, np.float64) * 6).astype(np.int64)
    coarse = sixths // 12 & (1 << 35) - 1
    word = (
        (KIND_TDC << 4 | edge) << 56
        | (np.asarray(counter, np.int64) & 0xFFF).astype(np.uint64) << np.uint64(44)
        | coarse.astype(np.uint64) << np.uint64(9)
        | (sixths % 12 + 1).astype(np.uint64) << np.uint64(5)
    )
    return np.atleast_1d(word).astype(np.uint64)


def global_time_words(time_ticks: int) -> Words:
    """The pair of words (low, high) that tells the 48-bit time of the readout, in 25 ns."""
    coarse = int(time_ticks) >> 4
    spidr = coarse >> 14 & 0xFFFF
    low = 0x44 << 56 | (coarse & 0xFFFFFFFF) << 16 | spidr
    high = 0x45 << 56 | (coarse >> 32 & 0xFFFF) << 16 | spidr
    return np.array([low, high], np.uint64)


def heartbeat_word(time_ticks: int) -> Words:
    """The word a readout sends when it has nothing else to send."""
    return np.array([0x5C << 56 | (int(time_ticks) >> 4 & (1 << 34) - 1) << 12], np.uint64)


def chunk(words: Words, chip: int = 0) -> bytes:
    """One chunk: header and the words of a chip."""
    header = MAGIC | chip << 32 | words.size * 8 << 48
    return np.concatenate([np.array([header], np.uint64), words]).astype("<u8").tobytes()


def chunks(words: Words, chip: int = 0, size: int = 246) -> Iterable[bytes]:
    """Words of a chip in chunks of at most `size` words (real ones hold up to 246)."""
    for start in range(0, words.size, size):
        yield chunk(words[start : start + size], chip)


def address_mask(layout: Layout, pixels: Iterable[tuple[int, int]]) -> NDArray[np.uint8]:
    """A bit for each address (chip << 16 | address), set for these detector pixels.

    Empty where there are none. Pixels outside the detector are left out.
    """
    height, width = layout.shape
    inside = [(y, x) for y, x in pixels if y < height and x < width]
    if not inside:
        return np.zeros(0, np.uint8)
    bits = np.zeros(layout.chips << 16, np.uint8)
    for chip, y, x in zip(*layout.chip_coordinates(*np.array(inside).T), strict=True):
        if chip >= 0:
            bits[chip << 16 | address_of(y, x)] = 1
    return np.packbits(bits, bitorder="little")

"""Timepix3 words as SERVAL sends them (.tpx3 and raw TCP): bit layout, and the encoder.

A stream is little-endian 64-bit words: chunk headers, each followed by the words of one chip;
some readouts leave the headers out. Time is counted in ticks of 1.5625 ns (the fine time of a
pixel). Sources: SERVAL manual (raw file format), Poikela et al., JINST 9 (2014) C05013.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

Words = NDArray[np.uint64]
Coordinates = NDArray[np.int64]

TICK_NS = 1.5625
"""One tick: 1/16 of the 40 MHz clock of the pixel."""
TICKS_PER_US = 640
PIXEL_CLOCK_BITS = 34
"""The pixel time wraps after 2^34 ticks, 26.84 s."""
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

TDC1_RISE, TDC1_FALL, TDC2_RISE, TDC2_FALL = 0xF, 0xA, 0xE, 0xB
TDC_NAMES = {
    TDC1_RISE: "TDC1 rising",
    TDC1_FALL: "TDC1 falling",
    TDC2_RISE: "TDC2 rising",
    TDC2_FALL: "TDC2 falling",
}
CLOCK_RESET = 0x10
"""Not a word: the decoder's mark that the camera's clock has begun again."""


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


@dataclass(frozen=True, slots=True)
class Layout:
    """How chips form the detector: "single", "quad" (2 x 2, as SERVAL numbers them) or "row".

    `gap` pixels lie between the chips of a quad: 0, 2 (ASI) or 4. A row has `count` chips.
    """

    name: str
    gap: int = 0
    count: int = 1

    @property
    def chips(self) -> int:
        """Number of chips."""
        return {"quad": 4, "row": self.count}.get(self.name, 1)

    @property
    def shape(self) -> tuple[int, int]:
        """(height, width) in pixels."""
        if self.name == "quad":
            return 512 + self.gap, 512 + self.gap
        return 256, 256 * self.chips

    def place(self, chip: ArrayLike, y: ArrayLike, x: ArrayLike) -> tuple[Coordinates, Coordinates]:
        """Detector (y, x) of chip coordinates; in a quad chips 1 and 2 stand upside down, below."""
        number, row, column = np.broadcast_arrays(
            np.asarray(chip, np.int64), np.asarray(y, np.int64), np.asarray(x, np.int64)
        )
        if self.name != "quad":
            return row.copy(), column + 256 * number
        right = 256 + self.gap
        low = (number == 1) | (number == 2)
        return (
            np.where(low, 511 + self.gap - row, row),
            np.choose(number, [column + right, 255 - column + right, 255 - column, column]),
        )

    def chip_coordinates(
        self, y: ArrayLike, x: ArrayLike
    ) -> tuple[Coordinates, Coordinates, Coordinates]:
        """(chip, y, x on the chip) of detector pixels; chip -1 for pixels in the gap."""
        row, column = np.asarray(y, np.int64), np.asarray(x, np.int64)
        if self.name != "quad":
            return column // 256, row, column % 256
        right, low = column >= 256 + self.gap, row >= 256 + self.gap
        in_gap = (~right & (column > 255)) | (~low & (row > 255))
        chip = np.where(low, np.where(right, 1, 2), np.where(right, 0, 3))
        column = np.where(right, column - 256 - self.gap, column)
        column = np.where(low, 255 - column, column)
        row = np.where(low, 511 + self.gap - row, row)
        return np.where(in_gap, -1, chip), row, column

    def orientation(self) -> NDArray[np.int64]:
        """(chips, 4): flip of y, first y, flip of x, first x; y = (chip y ^ flip) + first."""
        chip = np.arange(self.chips)
        y0, x0 = self.place(chip, 0, 0)
        y1, x1 = self.place(chip, 255, 255)
        flips = np.where(y1 < y0, 255, 0), np.where(x1 < x0, 255, 0)
        made = np.stack([flips[0], np.minimum(y0, y1), flips[1], np.minimum(x0, x1)], axis=1)
        return np.ascontiguousarray(made)

    def address_mask(self, pixels: Iterable[tuple[int, int]]) -> NDArray[np.uint8]:
        """A bit for each address (chip << 16 | address), set for these detector pixels.

        Empty where there are none. Pixels outside the detector are left out.
        """
        height, width = self.shape
        inside = [(y, x) for y, x in pixels if y < height and x < width]
        if not inside:
            return np.zeros(0, np.uint8)
        bits = np.zeros(self.chips << 16, np.uint8)
        for chip, y, x in zip(*self.chip_coordinates(*np.array(inside).T), strict=True):
            if chip >= 0:
                bits[chip << 16 | address_of(y, x)] = 1
        return np.packbits(bits, bitorder="little")

    def table(
        self, y: Coordinates, x: Coordinates, masked: Iterable[tuple[int, int]] = ()
    ) -> NDArray[np.uint32]:
        """y << 16 | x on the detector of chip coordinates (65536 each), chip after chip."""
        chip = np.arange(self.chips)[:, np.newaxis]
        row, column = self.place(chip, y, x)
        table = (row << 16 | column).astype(np.uint32).ravel()
        hidden = [y << 16 | x for y, x in masked]
        table[np.isin(table, np.array(hidden, np.uint32))] = MASKED
        return table


MASKED = 0xFFFFFFFF
"""The place of a pixel that is not to be counted."""

"""What a stream of Timepix3 words tells to whoever has to choose the size of its scan."""

from __future__ import annotations

from collections import Counter
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from stemd.adapters.events.records import map_file
from stemd.adapters.events.ticks import TDC1_FALL, TDC1_RISE, TDC2_FALL, TDC2_RISE
from stemd.adapters.timepix3.words import KIND_PIXEL, KIND_TDC, MAGIC

MOST_BYTES = 512 * 1024 * 1024
"""Of a file that are looked at."""
_PIECE = 1 << 22
_TDC_SECONDS = 3.125e-9
EDGES = {
    TDC1_RISE: ("TDC1 rising", 'input = 1, edge = "rise"'),
    TDC1_FALL: ("TDC1 falling", 'input = 1, edge = "fall"'),
    TDC2_RISE: ("TDC2 rising", 'input = 2, edge = "rise"'),
    TDC2_FALL: ("TDC2 falling", 'input = 2, edge = "fall"'),
}

Words = NDArray[np.uint64]


def survey(path: Path) -> list[str]:
    """Lines of text: hits, pulses of each input and edge, their period, and the numbers of lines.

    Raises CameraError when the file cannot be read.
    """
    data = map_file(path)
    size = min(data.size, MOST_BYTES) // 8 * 8
    words = data[:size].view("<u8")
    hits: Counter[int] = Counter()
    pulses: list[Words] = []
    chips: list[NDArray[np.int64]] = []
    chip = -1
    for first in range(0, words.size, _PIECE):
        piece = np.asarray(words[first : first + _PIECE])
        of_chip, chip = _chips(piece, chip)
        kind = piece >> np.uint64(60)
        header = (piece & np.uint64(0xFFFFFFFF)) == MAGIC
        is_hit = (kind == KIND_PIXEL) & ~header
        hits.update(dict(zip(*np.unique(of_chip[is_hit], return_counts=True), strict=True)))
        is_pulse = (kind == KIND_TDC) & ~header
        pulses.append(piece[is_pulse])
        chips.append(of_chip[is_pulse])
    found = [f"{sum(hits.values()):,} hits" + _on_chips(hits)]
    if size < data.size:
        found[0] += f", in the first {size / 2**20:.0f} MiB"
    found += _lines(np.concatenate([*pulses, np.zeros(0, np.uint64)]),
                    np.concatenate([*chips, np.zeros(0, np.int64)]))  # fmt: skip
    return found


def _chips(piece: Words, before: int) -> tuple[NDArray[np.int64], int]:
    """The chip of each word by the chunk header before it, -1 where there is none."""
    headers = np.flatnonzero((piece & np.uint64(0xFFFFFFFF)) == MAGIC)
    named = (piece[headers] >> np.uint64(32) & np.uint64(0xFF)).astype(np.int64)
    edges = [0, *headers.tolist(), piece.size]
    each = np.diff(edges)
    return np.repeat([before, *named.tolist()], each), int(named[-1]) if named.size else before


def _on_chips(hits: Counter[int]) -> str:
    named = sorted(chip for chip in hits if chip >= 0)
    if not named:
        return ""
    return f" on chip{'s' * (len(named) > 1)} " + ", ".join(map(str, named))


def _lines(words: Words, chips: NDArray[np.int64]) -> list[str]:
    edge = (words >> np.uint64(56) & np.uint64(0xF)).astype(np.int64)
    found = []
    for code, (name, setting) in EDGES.items():
        for chip in np.unique(chips[edge == code]).tolist():
            mine = words[(edge == code) & (chips == chip)]
            found.append(f"{name}{f', chip {chip}' if chip >= 0 else ''}: {_pulses(mine)}"
                         f" (tdc = {{ {setting} }})")  # fmt: skip
    return found or ["no pulse on TDC1 or TDC2: only a dwell time places the hits"]


def _pulses(words: Words) -> str:
    times = (words >> np.uint64(9) & np.uint64(0x7FFFFFFFF)).astype(np.int64)
    counter = (words >> np.uint64(44) & np.uint64(0xFFF)).astype(np.int64)
    text = f"{words.size} pulse{'s' * (words.size != 1)}"
    if words.size < 2:
        return text
    steps = np.diff(times) % (1 << 35)
    period = float(np.median(steps))
    like = int(np.count_nonzero(np.abs(steps - period) < 0.02 * period))
    lost = int((np.diff(counter) % 4096 != np.median(np.diff(counter) % 4096)).sum())
    text += f", one in {_time(period * _TDC_SECONDS)} (median), {like} of {steps.size} intervals so"
    return text + (f", the counter jumps {_times(lost)}" if lost else "")


def _times(count: int) -> str:
    return "once" if count == 1 else f"{count} times"


def _time(seconds: float) -> str:
    for unit, size in (("s", 1.0), ("ms", 1e-3), ("µs", 1e-6)):
        if seconds >= size:
            return f"{seconds / size:.4g} {unit}"
    return f"{seconds * 1e9:.4g} ns"

"""Electrons of the virtual microscope as Timepix3 words, in the order a readout sends them."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from stemd.adapters.events.layout import Layout
from stemd.adapters.events.ticks import TDC1_FALL, TDC1_RISE, TICK_NS, TICKS_PER_US
from stemd.adapters.timepix3.words import MAGIC, chunk, global_time_words, pixel_words, tdc_words
from stemd.compilation import njit
from stemd.errors import CameraError, UsageError
from stemd.virtual.microscope import Microscope

GROUP_WORDS = 400
"""Words that a readout gathers before it sends a chunk for each chip."""
BATCH_FRAMES = 256
GLOBAL_TIME_TICKS = 20_000 * TICKS_PER_US
FILE_PIECE_BYTES = 256 * 1024

Piece = tuple[bytes, int]
"""Bytes to send, and how many dwell times they stand for."""


@dataclass(frozen=True, slots=True)
class Signals:
    """How the camera turns electrons into words.

    `start_s`: what the camera's clock shows when the first scan begins (26.8 s and 107 s are
    rollovers). `pulse_jitter_ns`: standard deviation. `disorder_us`: a word arrives up to this
    much later than its time. `fall`: the end of each line is marked too. `all_chips`: pulses
    come on every chip. `split`: probability that an electron lights a second pixel. `hot`: hot
    pixels, each firing at `hot_hz`. `drop_pulses`: probability that a pulse is counted but not
    sent. `reset_after`: the clock begins again before this line (counted from the first scan).
    """

    layout: Layout
    start_s: float = 0.5
    pulse_jitter_ns: float = 0.0
    disorder_us: float = 0.0
    fall: bool = False
    all_chips: bool = False
    split: float = 0.0
    hot: int = 0
    hot_hz: float = 10_000.0
    drop_pulses: float = 0.0
    reset_after: int | None = None
    seed: int = 1


class EventSource(Protocol):
    """Where the stream of a scan comes from."""

    def pieces(self, number: int, stop: threading.Event) -> Iterator[Piece]:
        """The stream of scan `number` in order."""
        ...


@dataclass(slots=True)
class _Pending:
    """Words not sent yet: when they arrive, the word, its chip."""

    due: NDArray[np.float64]
    words: NDArray[np.uint64]
    chips: NDArray[np.int64]

    def add(
        self, due: NDArray[np.float64], words: NDArray[np.uint64], chips: NDArray[np.int64]
    ) -> None:
        self.due = np.concatenate([self.due, due])
        self.words = np.concatenate([self.words, words])
        self.chips = np.concatenate([self.chips, chips])

    def take(self, before: float) -> bytes:
        """Chunks of the words that have arrived before a time."""
        order = np.argsort(self.due, kind="stable")
        ready = int(np.searchsorted(self.due[order], before))
        now, later = order[:ready], order[ready:]
        parts = []
        for start in range(0, ready, GROUP_WORDS):
            group = now[start : start + GROUP_WORDS]
            chips = self.chips[group]
            parts += [
                chunk(self.words[group[chips == number]], int(number))
                for number in np.unique(chips)
            ]
        self.due, self.words, self.chips = self.due[later], self.words[later], self.chips[later]
        return b"".join(parts)


class RenderedEvents:
    """The microscope's electrons, each at a random moment of its dwell time.

    Patterns smaller than the detector stand in its middle. Hits of flyback are sent as well.
    """

    def __init__(self, microscope: Microscope, signals: Signals, gap_s: float = 0.0) -> None:
        height, width = microscope.setup.camera.shape
        rows, columns = signals.layout.shape
        if height > rows or width > columns:
            raise UsageError(
                f"patterns of {height}x{width} do not fit a detector of {rows}x{columns} pixels",
                "choose a smaller --detector, or --layout quad",
            )
        self.microscope = microscope
        self.signals = signals
        scan = microscope.setup.scan
        self.dwell = max(1, round(microscope.setup.frame_time_s * 1e9 / TICK_NS))
        self.scan_ticks = scan.frames * self.dwell + int(gap_s * 1e9 / TICK_NS)
        self._corner = (rows - height) // 2, (columns - width) // 2
        self._lines_done = 0
        self._random = np.random.default_rng([signals.seed, 3])
        self._hot = self._random.integers(0, (rows, columns), (signals.hot, 2))
        self._counter = 0
        self._reset_at: float | None = None

    def begin_of(self, number: int) -> int:
        """Camera time in ticks, not wrapped, at which a scan begins."""
        return int(self.signals.start_s * 1e9 / TICK_NS) + number * self.scan_ticks

    def pieces(self, number: int, stop: threading.Event) -> Iterator[Piece]:
        """See `EventSource`."""
        scan, begin = self.microscope.setup.scan, self.begin_of(number)
        pending = _Pending(np.zeros(0), np.zeros(0, np.uint64), np.zeros(0, np.int64))
        done = 0
        for counts in self.microscope.counts(number, 0, scan.frames, part=BATCH_FRAMES):
            if stop.is_set():
                return
            frames = counts.shape[0]
            first = begin + done * self.dwell
            last = first + frames * self.dwell
            self._pulses(pending, begin, done, done + frames)
            self._electrons(pending, counts, first)
            self._noise(pending, first, last)
            if first // GLOBAL_TIME_TICKS != last // GLOBAL_TIME_TICKS:
                words = global_time_words(int(self._stamp(np.array([last]))[0]))
                pending.add(np.full(2, last, float), words, np.zeros(2, np.int64))
            done += frames
            yield pending.take(last), frames
        yield pending.take(np.inf), 0

    def _stamp(self, times: NDArray[np.int64]) -> NDArray[np.int64]:
        """What the camera's clock shows."""
        if self._reset_at is None:
            return times
        return np.where(times >= self._reset_at, times - int(self._reset_at), times)

    def _pulses(self, pending: _Pending, begin: int, first: int, stop: int) -> None:
        scan, signals = self.microscope.setup.scan, self.signals
        nx = scan.shape[1]
        starts = scan.leading + np.arange(scan.lines) * scan.line_frames
        edges = [(start, TDC1_RISE) for start in starts]
        edges += [(start + nx, TDC1_FALL) for start in starts] if signals.fall else []
        chips = range(signals.layout.chips) if signals.all_chips else range(1)
        for frame, edge in sorted(edges):
            if not first <= frame < stop:
                continue
            time = begin + int(frame) * self.dwell
            if edge == TDC1_RISE and self._lines_done == signals.reset_after:
                self._reset_at = time - 1000.0
            self._lines_done += edge == TDC1_RISE
            jitter = self._random.normal(0.0, signals.pulse_jitter_ns / TICK_NS)
            stamp = float(self._stamp(np.array([time]))[0]) + jitter
            self._counter += 1
            if self._random.random() < signals.drop_pulses:
                continue
            word = tdc_words(max(stamp, 0.0), self._counter, edge)
            for chip in chips:
                late = self._random.random() * signals.disorder_us * TICKS_PER_US
                pending.add(np.array([time + late]), word, np.array([chip]))

    def _electrons(
        self, pending: _Pending, counts: NDArray[np.unsignedinteger], first: int
    ) -> None:
        places = np.repeat(np.argwhere(counts), counts[counts > 0], axis=0)
        within = self._random.integers(0, self.dwell, len(places))
        times = first + places[:, 0] * self.dwell + within
        y, x = places[:, 1] + self._corner[0], places[:, 2] + self._corner[1]
        self._hits(pending, times, y, x)
        split = self._random.random(times.size) < self.signals.split
        if split.any():
            width = self.signals.layout.shape[1]
            late = self._random.integers(0, 32, int(split.sum()))
            self._hits(pending, times[split] + late, y[split], np.minimum(x[split] + 1, width - 1))

    def _noise(self, pending: _Pending, first: int, last: int) -> None:
        seconds = (last - first) * TICK_NS * 1e-9
        for y, x in self._hot:
            count = int(self._random.poisson(self.signals.hot_hz * seconds))
            times = self._random.integers(first, last, count)
            self._hits(pending, times, np.full(count, y), np.full(count, x))

    def _hits(
        self,
        pending: _Pending,
        times: NDArray[np.int64],
        y: NDArray[np.int64],
        x: NDArray[np.int64],
    ) -> None:
        chip, row, column = self.signals.layout.chip_coordinates(y, x)
        real = chip >= 0
        times, chip, row, column = times[real], chip[real], row[real], column[real]
        tot = self._random.integers(4, 40, times.size)
        late = self._random.random(times.size) * self.signals.disorder_us * TICKS_PER_US
        words = pixel_words(self._stamp(times), row, column, tot)[: times.size]
        pending.add(times + late, words, chip)


@njit(nogil=True, cache=True)
def shift_time(words: NDArray[np.uint64], ticks: int, pulses: int) -> None:
    """Move hits and pulses of a stream by so many ticks (even) and counts, in place."""
    for i in range(words.size):
        word = np.int64(words[i])
        kind = word >> 60 & 15
        if kind == 0xB:
            fine = word >> 16 & 15
            coarse = ((word & 0xFFFF) << 14 | (word >> 30 & 0x3FFF)) + (ticks >> 4)
            kept = word & ~(np.int64(0x3FFF) << 30 | np.int64(0xFFFF))
            moved = (coarse & 0x3FFF) << 30 | (coarse >> 14 & 0xFFFF) | fine << 16
            words[i] = np.uint64(kept | moved)
        elif kind == 0x6:
            time = ((word >> 9 & (1 << 35) - 1) + (ticks >> 1)) & (1 << 35) - 1
            counter = ((word >> 44 & 0xFFF) + pulses) & 0xFFF
            kept = (word & np.int64(0x1FF)) | (word >> 56 << 56)
            words[i] = np.uint64(kept | counter << 44 | time << 9)


class RepeatedEvents:
    """One rendered scan over and over, only its times moved on: for tests of speed."""

    def __init__(self, rendered: RenderedEvents) -> None:
        self._rendered = rendered
        pieces = list(rendered.pieces(0, threading.Event()))
        self._frames = [frames for _, frames in pieces]
        # what a readout adds by itself cannot be moved: only hits and pulses stay
        self._words = [np.frombuffer(data, np.uint64).copy() for data, _ in pieces]
        for words in self._words:
            control = ((words >> np.uint64(60)) == 4) & ((words & np.uint64(0xFFFFFFFF)) != MAGIC)
            words[control] = np.uint64(0x5C << 56)
        scan = rendered.microscope.setup.scan
        self._pulses = scan.lines * (2 if rendered.signals.fall else 1)
        self._number = 0

    def pieces(self, number: int, stop: threading.Event) -> Iterator[Piece]:
        """See `EventSource`."""
        steps = number - self._number
        ticks = steps * (self._rendered.scan_ticks + 15 & ~15)
        for words in self._words:
            shift_time(words, ticks, steps * self._pulses)
        self._number = number
        for words, frames in zip(self._words, self._frames, strict=True):
            if stop.is_set():
                return
            yield words.tobytes(), frames


class FileEvents:
    """A recording, byte for byte; it stands for `frames` dwell times."""

    def __init__(self, path: Path, frames: int) -> None:
        try:
            self._size = path.stat().st_size
        except OSError as error:
            raise CameraError(f"{path} cannot be read: {error.strerror}") from error
        self._path, self._total = path, frames

    def pieces(self, number: int, stop: threading.Event) -> Iterator[Piece]:
        """See `EventSource`."""
        with self._path.open("rb") as file:
            done = 0
            while (data := file.read(FILE_PIECE_BYTES)) and not stop.is_set():
                upto = round(self._total * file.tell() / self._size)
                yield data, upto - done
                done = upto

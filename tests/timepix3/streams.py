"""Streams of known content: what a Timepix3 camera would send for electrons that we chose."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from stemd.acquisition import Scan
from stemd.adapters.events.decoder import EventDecoder
from stemd.adapters.events.layout import Layout
from stemd.adapters.events.ticks import TDC1_FALL, TDC1_RISE
from stemd.adapters.timepix3.front import WordsFront
from stemd.adapters.timepix3.settings import Timepix3Settings
from stemd.adapters.timepix3.words import chunk, pixel_words, tdc_words
from stemd.blocks import BlockPool, EventBlock, Message, Started

Ints = NDArray[np.int64]
QUAD = Layout("quad")


@dataclass
class Electrons:
    """Hits in order of time, with the probe position that is true for each (-1: in no line)."""

    time: Ints
    y: Ints
    x: Ints
    probe: Ints
    line_starts: Ints

    @property
    def counted(self) -> Electrons:
        """Only those that belong to a position."""
        keep = self.probe >= 0
        return Electrons(
            self.time[keep], self.y[keep], self.x[keep], self.probe[keep], self.line_starts
        )


def electrons(
    scan: Scan,
    hits: int,
    *,
    layout: Layout = QUAD,
    dwell: int = 640,
    start: int = 1_000_000,
    seed: int = 0,
) -> Electrons:
    """Random hits over the whole time of a scan, flyback included; dwell in ticks."""
    random = np.random.default_rng(seed)
    ny, nx = scan.shape
    line = scan.line_frames * dwell
    offset = np.sort(random.integers(0, ny * line, hits))
    row, within = offset // line, offset % line
    column = within // dwell
    shown = np.where(row % 2 == 1, nx - 1 - column, column) if scan.serpentine else column
    probe = np.where(column < nx, row * nx + shown, -1)
    side = layout.shape[0]
    y, x = random.integers(0, side, hits), random.integers(0, side, hits)
    chip, _, _ = layout.chip_coordinates(y, x)
    y, x = np.where(chip < 0, 0, y), np.where(chip < 0, 0, x)
    return Electrons(start + offset, y, x, probe, start + np.arange(ny) * line)


@dataclass
class Camera:
    """Turns electrons and pulses into chunks, each chip's words in order of time."""

    layout: Layout = QUAD
    chunk_hits: int = 64
    edges: Sequence[tuple[int, int]] = ((TDC1_RISE, 0),)  # (edge, ticks after the line's start)
    counter: int = 4090
    pulse_chips: Sequence[int] = (0,)
    drop: Sequence[int] = ()  # numbers of pulses that are counted but not sent
    unseen: Sequence[int] = ()  # numbers of pulses that the input never saw
    late_words: int = 0  # pulses arrive this many hits late

    def chunks(self, sent: Electrons) -> list[bytes]:
        """The stream."""
        chip, y, x = self.layout.chip_coordinates(sent.y, sent.x)
        words = pixel_words(sent.time, y, x, 5)
        pulses = []
        for number, begin in enumerate(sent.line_starts):
            for edge, after in self.edges:
                if number in self.unseen:
                    continue
                if number not in self.drop:
                    pulses.append((begin + after, edge, self.counter))
                self.counter += 1
        at = np.searchsorted(sent.time, [time for time, _, _ in pulses]) + self.late_words
        at = np.minimum(at, sent.time.size)
        stream: list[bytes] = []
        done = 0
        for (time, edge, counter), upto in zip(
            [*pulses, (0, 0, 0)], [*at, sent.time.size], strict=True
        ):
            for begin in range(done, upto, self.chunk_hits):
                piece = slice(begin, min(begin + self.chunk_hits, upto))
                for number in range(self.layout.chips):
                    mine = words[piece][chip[piece] == number]
                    if mine.size:
                        stream.append(chunk(mine, number))
            done = max(done, upto)
            if edge:
                stream.extend(
                    chunk(tdc_words(time, counter, edge), number) for number in self.pulse_chips
                )
        return stream

    def stream(self, *sent: Electrons) -> bytes:
        """The chunks of one scan after the other as bytes."""
        return b"".join(part for each in sent for part in self.chunks(each))


BOTH_EDGES = ((TDC1_RISE, 0), (TDC1_FALL, 0))


@dataclass
class Received:
    """What a decoder made of a stream."""

    messages: list[Message] = field(default_factory=list)
    probe: list[Ints] = field(default_factory=list)
    y: list[Ints] = field(default_factory=list)
    x: list[Ints] = field(default_factory=list)
    dwell_ns: list[NDArray[np.float32]] = field(default_factory=list)
    scan_of_hit: list[Ints] = field(default_factory=list)
    complete: dict[str, list[tuple[int, int]]] = field(default_factory=dict)
    wire: dict[str, bytes] = field(default_factory=dict)
    ids: list[str] = field(default_factory=list)

    def take(self, message: Message) -> None:
        """One message; blocks are copied and released."""
        if not isinstance(message, EventBlock):
            self.messages.append(message)
            if isinstance(message, Started):
                self.ids.append(message.acquisition.id)
            return
        n, name = message.count, message.acquisition.id
        self.probe.append(message.probe[:n].astype(np.int64))
        self.y.append(message.y.astype(np.int64))
        self.x.append(message.x.astype(np.int64))
        self.dwell_ns.append(message.dwell_ns[:n].copy())
        self.scan_of_hit.append(np.full(n, self.ids.index(name)))
        self.complete.setdefault(name, []).extend(message.complete)
        self.wire[name] = self.wire.get(name, b"") + message.wire.tobytes()
        message.release()

    def hits(self, scan: int | None = None) -> NDArray[np.int64]:
        """Rows (probe, y, x), sorted: the multiset of hits (of one scan)."""
        rows = np.stack(
            [
                np.concatenate([*part, np.zeros(0, np.int64)])
                for part in (self.probe, self.y, self.x)
            ]
        ).T.astype(np.int64)
        if scan is not None:
            rows = rows[np.concatenate([*self.scan_of_hit, np.zeros(0, np.int64)]) == scan]
        return rows[np.lexsort(rows.T[::-1])]

    def of(self, kind: type[Message]) -> list[Message]:
        """Messages of a kind."""
        return [message for message in self.messages if isinstance(message, kind)]

    def notices(self) -> dict[str, str]:
        """Text of the last notice of each kind."""
        return {m.kind: m.text for m in self.messages if hasattr(m, "kind")}


def expected(sent: Electrons) -> NDArray[np.int64]:
    """The rows that `Received.hits` must give."""
    seen = sent.counted
    rows = np.stack([seen.probe, seen.y, seen.x]).T.astype(np.int64)
    return rows[np.lexsort(rows.T[::-1])]


def settings(scan: Scan, **changes: object) -> Timepix3Settings:
    """Settings as a config would give them."""
    values: dict[str, object] = {"scan": scan, "reorder_window_us": 500.0, **changes}
    return Timepix3Settings.model_validate(values)


def decoder(
    chosen: Timepix3Settings, pool: BlockPool | None = None, **more: object
) -> EventDecoder:
    """A decoder of words."""
    front = WordsFront(
        chosen.detector_layout,
        back_limit_us=chosen.back_limit_ms * 1000,
        window_us=chosen.reorder_window_us,
        correction=chosen.time_correction,
        headers_required=bool(more.pop("headers_required", False)),
    )
    more = {"name": "Timepix3", "raw_name": "raw.tpx3", **more}
    return EventDecoder(chosen, front, pool or BlockPool(8 << 20), **more)  # type: ignore[arg-type]


def receive(
    stream: bytes,
    made: EventDecoder,
    cuts: Iterable[int] = (),
    flush: Callable[[int], bool] = lambda _: False,
    *,
    eof: bool = True,
) -> Received:
    """Feed a stream to a decoder in pieces of these sizes (the rest at once)."""
    got = Received()
    view, position, sizes = memoryview(stream), 0, iter(cuts)
    number = 0
    while position < len(stream):
        target = made.wants()[0]
        count = min(len(target), len(stream) - position, next(sizes, len(target)))
        target[:count] = view[position : position + count]
        position += count
        for message in made.fed(count, 1):
            got.take(message)
        if flush(number):
            for message in made.flush(1, eof=False):
                got.take(message)
        number += 1
    for message in made.flush(1, eof=eof):
        got.take(message)
    return got

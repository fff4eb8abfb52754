"""Streams with known contents, and what a decoder makes of them, for the Merlin tests."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from stemd.acquisition import Acquisition, Scan
from stemd.adapters.frames.decoder import FrameDecoder
from stemd.adapters.merlin.encoder import Camera, encode_frame, encode_hdr, message
from stemd.adapters.merlin.stream import MerlinFormat
from stemd.blocks import BlockPool, Ended, FrameBlock, Link, Message, Notice, Started

SMALL = Camera((6, 10), 12)


def pattern(camera: Camera, number: int) -> NDArray[np.uint64]:
    """A pattern that only frame `number` has, up to the full count of the depth."""
    rng = np.random.default_rng(number)
    return rng.integers(0, 1 << camera.depth, camera.shape, np.uint64)


def frame(camera: Camera, number: int, raw_sequence: int | None = None) -> bytes:
    """The message of frame `number` (from 1)."""
    shown = number if raw_sequence is None else raw_sequence
    return message(encode_frame(pattern(camera, number), camera, shown))


def hdr(camera: Camera, frames: int, **more: object) -> bytes:
    return message(encode_hdr(camera, frames, **more))  # type: ignore[arg-type]


def acquisition(camera: Camera, numbers: Iterable[int], frames: int) -> bytes:
    """HDR and these frames."""
    return hdr(camera, frames) + b"".join(frame(camera, n) for n in numbers)


@dataclass
class Seen:
    """One scan as it came out of a decoder or an adapter."""

    acquisition: Acquisition
    reason: str = ""
    patterns: dict[int, NDArray[np.uint64]] = field(default_factory=dict)
    sequence: list[int] = field(default_factory=list)
    probe: list[int] = field(default_factory=list)
    wire: bytes = b""

    def key(self) -> tuple[object, ...]:
        """Everything that must not depend on how the stream was cut."""
        images = tuple((p, self.patterns[p].tobytes()) for p in sorted(self.patterns))
        where = (self.acquisition.scan, self.acquisition.detector, self.acquisition.sidecars)
        return (*where, self.reason, tuple(self.sequence), tuple(self.probe), images, self.wire)


@dataclass
class Outcome:
    """All that came, in order."""

    scans: list[Seen] = field(default_factory=list)
    notices: Counter[str] = field(default_factory=Counter)
    texts: list[str] = field(default_factory=list)
    links: list[Link] = field(default_factory=list)

    def take(self, messages: Iterable[Message]) -> None:
        """Take messages in, check their order, release their blocks."""
        for item in messages:
            match item:
                case Started():
                    assert not self.scans or self.scans[-1].reason
                    self.scans.append(Seen(item.acquisition))
                case FrameBlock():
                    self._block(item)
                    item.release()
                case Ended():
                    assert item.acquisition is self.scans[-1].acquisition
                    assert not self.scans[-1].reason
                    self.scans[-1].reason = item.reason
                case Notice():
                    self.notices[item.kind] += item.count
                    self.texts.append(item.text)
                case Link():
                    self.links.append(item)

    def _block(self, block: FrameBlock) -> None:
        scan = self.scans[-1]
        assert block.acquisition is scan.acquisition
        assert block.count == len(block.sequence) == len(block.probe)
        scan.sequence += block.sequence.tolist()
        scan.probe += block.probe.tolist()
        scan.wire += block.wire.tobytes()
        for probe, image in zip(block.probe.tolist(), block.patterns(), strict=True):
            if probe >= 0:
                assert probe not in scan.patterns
                scan.patterns[probe] = image.astype(np.uint64)

    def key(self) -> tuple[object, ...]:
        return tuple(scan.key() for scan in self.scans), tuple(sorted(self.notices.items()))


def feed(
    decoder: FrameDecoder, data: bytes, cuts: Iterator[int] | None = None
) -> Iterator[Message]:
    """Give `data` to a decoder as a socket would, at most `next(cuts)` bytes at a time.

    A negative cut flushes instead.
    """
    source, at = memoryview(data), 0
    while at < len(source):
        most = len(source) - at if cuts is None else next(cuts)
        if most <= 0:
            yield from decoder.flush(at, eof=False)
            continue
        got = 0
        for view in decoder.wants():
            assert len(view) > 0
            size = min(len(view), len(source) - at - got, most - got)
            if not size:
                break
            view[:size] = source[at + got : at + got + size]
            got += size
        at += got
        yield from decoder.fed(got, at)


def decode(
    data: bytes,
    scan: Scan | None,
    cuts: Iterator[int] | None = None,
    block_bytes: int = 2048,
    reason: str = "disconnected",
) -> Outcome:
    """Everything a decoder makes of a stream that then ends."""
    decoder = FrameDecoder(MerlinFormat(), BlockPool(1 << 20, block_bytes), scan, "test")
    outcome = Outcome()
    outcome.take(feed(decoder, data, cuts))
    outcome.take(decoder.flush(len(data), eof=True))
    outcome.take(decoder.end(reason, len(data)))  # type: ignore[arg-type]
    return outcome

"""What is fuzzed: every decoder of bytes from outside, with valid messages to begin from.

A target takes bytes and either comes through, or raises StemdError: that is a refusal. Anything
else is a defect, and so is a block that points outside of its scan or its detector.
"""

from __future__ import annotations

import random
import tempfile
import zlib
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np

from stemd.acquisition import Scan
from stemd.adapters.advapix.adapter import make_front
from stemd.adapters.advapix.lines import text_records
from stemd.adapters.advapix.records import records
from stemd.adapters.advapix.settings import AdvapixSettings
from stemd.adapters.dectris import cbor, legacy, stream2, zmtp
from stemd.adapters.dectris.compression import ALGORITHMS, compress_image, expand_array
from stemd.adapters.dectris.decoder import StreamDecoder
from stemd.adapters.dectris.recording import DectrisRecording
from stemd.adapters.events.decoder import EventDecoder
from stemd.adapters.frames.decoder import FrameDecoder
from stemd.adapters.merlin.control import (
    ControlServerProtocol,
    Reply,
    Request,
    encode_reply,
    encode_request,
    parse_reply,
    take_body,
)
from stemd.adapters.merlin.encoder import Camera, encode_frame, encode_hdr, message
from stemd.adapters.merlin.geometry import geometry_of
from stemd.adapters.merlin.hdr import hdr_file, parse_hdr
from stemd.adapters.merlin.header import parse_frame_header
from stemd.adapters.merlin.packing import unpack_frames
from stemd.adapters.merlin.recording import open_recording
from stemd.adapters.merlin.stream import MerlinFormat
from stemd.adapters.timepix3 import csr
from stemd.adapters.timepix3.csr import CsrDecoder
from stemd.adapters.timepix3.front import WordsFront
from stemd.adapters.timepix3.settings import Timepix3Settings
from stemd.adapters.timepix3.words import (
    chunk,
    global_time_words,
    heartbeat_word,
    pixel_words,
    tdc_words,
)
from stemd.blocks import BlockPool, EventBlock, FrameBlock, Message

SCAN = Scan(shape=(3, 5), flyback=1, dwell_time_us=10.0)
SMALL = Camera((6, 10), 12)
RAW = Camera((256, 256), 1, raw=True)
T3P = AdvapixSettings.model_validate({"scan": SCAN, "hold_hits": 1024})
TICKS = 640
"""Of 1.5625 ns in a microsecond."""


@dataclass(frozen=True)
class Target:
    """One decoder: `run` on any bytes; `seeds` are valid inputs; `pure`: made of Python alone."""

    run: Callable[[bytes], None]
    seeds: Callable[[], list[bytes]]
    pure: tuple[str, ...] = ()


def _cuts(data: bytes) -> random.Random:
    """The same cuts for the same bytes, so that a finding can be repeated."""
    return random.Random(zlib.crc32(data))


def _check(messages: Iterable[Message]) -> None:
    for item in messages:
        if isinstance(item, FrameBlock):
            probe = item.probe[: item.count]
            assert ((probe >= -1) & (probe < item.acquisition.scan.positions)).all(), "probe"
            item.release()
        elif isinstance(item, EventBlock):
            probe, (height, width) = item.probe[: item.count], item.acquisition.detector.shape
            assert ((probe >= 0) & (probe < item.acquisition.scan.positions)).all(), "probe"
            assert (item.y[: item.count] < height).all(), "y"
            assert (item.x[: item.count] < width).all(), "x"
            item.release()


def _stream(decoder: Any, data: bytes) -> None:
    """Feed a decoder as a socket would, in random pieces."""
    cuts, source, at = _cuts(data), memoryview(data), 0
    while at < len(source):
        most = cuts.choice((1, 7, 15, 64, 400, 5000, 100_000))
        got = 0
        for view in decoder.wants():
            size = min(len(view), len(source) - at - got, most - got)
            assert len(view) > 0, "an empty view"
            view[:size] = source[at + got : at + got + size]
            got += size
            if got == most or at + got == len(source):
                break
        at += got
        _check(decoder.fed(got, 1))
        if cuts.random() < 0.05:
            _check(decoder.flush(1, eof=False))
    _check(decoder.flush(1, eof=True))


def _frames(camera: Camera, numbers: Iterable[int]) -> Iterator[bytes]:
    for number in numbers:
        rng = np.random.default_rng(number)
        image = rng.integers(0, 1 << camera.depth, camera.shape, np.uint32)
        yield encode_frame(image, camera, number)


def merlin_stream(data: bytes) -> None:
    """The data port of a Merlin camera."""
    scan = SCAN if _cuts(data).random() < 0.7 else None
    decoder = FrameDecoder(MerlinFormat(), BlockPool(1 << 18, 2048), scan, "fuzz")
    _stream(decoder, data)
    _check(decoder.end("disconnected", 1))


def merlin_stream_seeds() -> list[bytes]:
    """A scan, two scans at once, packed frames."""
    small = [message(frame) for frame in _frames(SMALL, range(1, 37))]
    scan = message(encode_hdr(SMALL, 18)) + b"".join(small[:18])
    quad = Camera((24, 20), 6, chips=4)
    raw = [message(encode_hdr(RAW, 2)), *(message(f) for f in _frames(RAW, (1, 2)))]
    return [
        scan,
        scan + message(encode_hdr(SMALL, 18)) + b"".join(small[:9]),
        message(encode_hdr(SMALL, 36)) + b"".join(small),
        message(encode_hdr(quad, 3)) + b"".join(message(f) for f in _frames(quad, (1, 2, 3))),
        b"".join(raw),
    ]


def merlin_header(data: bytes) -> None:
    """One frame header."""
    geometry = geometry_of(parse_frame_header(data))
    assert 0 < geometry.frame_bytes <= 80 << 20


def merlin_hdr(data: bytes) -> None:
    """A HDR text."""
    hdr = parse_hdr(data)
    assert len(hdr_file(data)) >= 4
    _ = hdr.frames, hdr.scan_shape, hdr.text, dict(hdr)


def merlin_file(data: bytes) -> None:
    """A .mib file."""
    with tempfile.TemporaryDirectory(dir="/dev/shm" if Path("/dev/shm").is_dir() else None) as d:
        path = Path(d) / "scan.mib"
        path.write_bytes(data)
        recording = open_recording(path, SCAN if _cuts(data).random() < 0.7 else None)
        try:
            _check(recording.blocks(0, recording.frames))
        finally:
            recording.close()


def _dectris_images(numbers: Iterable[int]) -> Iterator[bytes]:
    """Messages of images, of both streams and every compression in turn."""
    for number in numbers:
        image = (
            np.random.default_rng(number)
            .poisson(2.0, (6, 10))
            .astype(["u1", "u2", "u4"][number % 3])
        )
        algorithm = ALGORITHMS[number // 3 % 3]
        if number % 2:
            yield zmtp.message(*legacy.encode_image(1, number, image, algorithm))
        else:
            data = {"threshold_1": stream2.encode_array(image, algorithm)}
            yield zmtp.message(stream2.encode_image(1, number, data))


def dectris_stream(data: bytes) -> None:
    """A control unit's stream behind its greeting, or with it."""
    cuts = _cuts(data)
    scan = SCAN if cuts.random() < 0.7 else None
    greets = cuts.random() < 0.1
    decoder = StreamDecoder(BlockPool(1 << 18, 2048), scan, "fuzz", greets=greets)
    _stream(decoder, data)
    decoder.outgoing()
    _check(decoder.end("disconnected", 1))


def dectris_stream_seeds() -> list[bytes]:
    """Series of both streams, commands, and a greeting."""
    mask = np.zeros((6, 10), np.uint32)
    config = {"nimages": 18, "ntrigger": 1, "trigger_mode": "exts"}
    ping = zmtp.frame(b"\x04PING\x00\x0ahello", command=True)
    images = list(_dectris_images(range(18)))
    new = zmtp.message(stream2.encode_start(1, (6, 10), "u2", 18, mask=mask))
    old = zmtp.message(*legacy.encode_start(1, config, mask))
    end = zmtp.message(stream2.encode_end(1))
    return [
        new + b"".join(images) + ping + end,
        old + b"".join(images[1::2]) + zmtp.message(*legacy.encode_end(1)),
        zmtp.greeting() + zmtp.ready("PUSH") + new + images[0],
    ]


def dectris_file(data: bytes) -> None:
    """A raw.dectris with what began its series beside it."""
    with tempfile.TemporaryDirectory(dir="/dev/shm" if Path("/dev/shm").is_dir() else None) as d:
        path = Path(d) / "raw.dectris"
        path.write_bytes(data)
        path.with_suffix(".start").write_bytes(data[: _cuts(data).randrange(500)])
        recording = DectrisRecording(path, SCAN)
        try:
            _check(recording.blocks(0, recording.frames))
        finally:
            recording.close()


def dectris_cbor(data: bytes) -> None:
    """A message of stream2 that is no image."""
    cbor.decode(data)
    stream2.read_message(data)


def dectris_compression(data: bytes) -> None:
    """Compressed bytes of an image."""
    for algorithm in ALGORITHMS:
        expand_array(data, algorithm, 2, 4096)


def packing(data: bytes) -> None:
    """Packed pixels: any bytes are counts, and none is written beyond its frame."""
    cuts = _cuts(data)
    camera = Camera((256, 256), cuts.choice((1, 6, 12, 24)), raw=True)
    if cuts.random() < 0.2:
        camera = Camera((512, 512), cuts.choice((1, 6)), raw=True, chips=4)
    header = next(iter(_frames(camera, (1,))))[:1024]
    geometry = geometry_of(parse_frame_header(header))
    frame = np.resize(np.frombuffer(data or b"\0", np.uint8), geometry.frame_bytes)
    out = np.full(geometry.unpacked_bytes + 64, 0xA5, np.uint8)
    unpack_frames(frame, geometry, 1, out)
    assert (out[geometry.unpacked_bytes :] == 0xA5).all(), "written beyond the frame"


def _hits(count: int, seed: int) -> tuple[Any, Any, Any]:
    rng = np.random.default_rng(seed)
    time = np.sort(rng.integers(1000, 1000 + 18 * TICKS * 10, count))
    return time, rng.integers(0, 256, count), rng.integers(0, 256, count)


@cache
def _tpx3_settings(sync: str, cluster: bool) -> Timepix3Settings:
    values: dict[str, object] = {"scan": SCAN, "sync": sync, "layout": "single"}
    values |= {"hold_hits": 1024, "cluster": {} if cluster else None}
    return Timepix3Settings.model_validate(values)


def tpx3(data: bytes) -> None:
    """Timepix3 words from a single chip, by line pulses or by the clock."""
    cuts = _cuts(data)
    made = _tpx3_settings(cuts.choice(("tdc", "dwell")), cuts.random() < 0.5)
    front = WordsFront(made.detector_layout, back_limit_us=made.back_limit_ms * 1000.0)
    _stream(EventDecoder(made, front, BlockPool(4 << 20), name="", raw_name=""), data)


def tpx3_seeds() -> list[bytes]:
    """Hits, pulses, heartbeats, in chunks and bare."""
    time, y, x = _hits(200, 1)
    words = pixel_words(time, y, x, 5)
    parts = [chunk(heartbeat_word(1000)), chunk(global_time_words(1000))]
    for line in range(3):
        parts.append(chunk(tdc_words(1000 + line * 6 * TICKS * 10, 10 + line)))
        parts.append(chunk(words[line * 66 : line * 66 + 66]))
    return [b"".join(parts), words.tobytes(), b"".join(parts * 2)]


def sparse(data: bytes) -> None:
    """SERVAL's sparse stream."""
    _stream(CsrDecoder(_tpx3_settings("tdc", False), BlockPool(4 << 20)), data)


def sparse_seeds() -> list[bytes]:
    """One scan in two chunks."""
    indptr = np.arange(0, 9, dtype=np.uint32)
    body = csr.array_chunk(indptr, np.arange(8), np.ones(8, np.uint16))
    start = csr.acquisition_start((4, 4), (256, 256), tot=False) + csr.scan_start(0, b"{}")
    return [start + body + body + csr.scan_end(0), csr.acquisition_start((4, 4), (8, 8), tot=True)]


def t3p(data: bytes) -> None:
    """AdvaCam's binary records."""
    _stream(EventDecoder(T3P, make_front(T3P), BlockPool(4 << 20), name="", raw_name=""), data)


def t3pa(data: bytes) -> None:
    """AdvaCam's text records."""
    made, used, _ = text_records(np.frombuffer(bytearray(data), np.uint8))
    assert used <= len(data)
    if made.size:
        t3p(made.tobytes())


def t3pa_seeds() -> list[bytes]:
    """A heading and lines."""
    lines = [f"{i}\t{i * 97 % 65536}\t{i * 40}\t5\t3\t0\r\n" for i in range(40)]
    return [("Index\tMatrix Index\tToA\tToT\tFToA\tOverflow\r\n" + "".join(lines)).encode()]


def control_reply(data: bytes) -> None:
    """What a client makes of a control port's replies, in pieces."""
    cuts, buffer = _cuts(data), bytearray()
    at = 0
    while at < len(data):
        size = cuts.choice((1, 5, 30, 400))
        buffer += data[at : at + size]
        at += size
        while (body := take_body(buffer, reply=True)) is not None:
            parse_reply(body)
        assert len(buffer) <= 8192 + size, "the buffer grows"


def control_reply_seeds() -> list[bytes]:
    """Replies of each kind, with both ways to count."""
    replies = [Reply("GET", "TEMPERATURE", "25.1", 0), Reply("SET", "GAIN", "", 3)]
    replies.append(Reply("CMD", "STARTACQUISITION", "", 0))
    return [b"".join(encode_reply(r, counts_comma=c) for r in replies) for c in (True, False)]


def control_request(data: bytes) -> None:
    """What a camera makes of requests."""
    server = ControlServerProtocol({"GAIN": "0"}, lambda name: 0)
    server.feed(data)


def control_request_seeds() -> list[bytes]:
    """Requests of each kind."""
    kinds = [Request("GET", "GAIN"), Request("SET", "GAIN", "2"), Request("CMD", "RESET")]
    return [b"".join(map(encode_request, kinds))]


_FRAMING = (
    "merlin.framing",
    "merlin.stream",
    "frames.decoder",
    "merlin.header",
    "merlin.hdr",
    "frames.tally",
)
TARGETS: dict[str, Target] = {
    "merlin-stream": Target(
        merlin_stream,
        merlin_stream_seeds,
        tuple(f"stemd.adapters.{name}" for name in _FRAMING),
    ),
    "merlin-header": Target(
        merlin_header,
        lambda: [f[:768] for camera in (SMALL, RAW) for f in _frames(camera, (1,))],
        ("stemd.adapters.merlin.header",),
    ),
    "merlin-hdr": Target(
        merlin_hdr, lambda: [encode_hdr(SMALL, 18)], ("stemd.adapters.merlin.hdr",)
    ),
    "merlin-file": Target(merlin_file, lambda: [b"".join(_frames(SMALL, range(1, 19)))]),
    "dectris-stream": Target(dectris_stream, dectris_stream_seeds),
    "dectris-file": Target(
        dectris_file,
        lambda: [b"".join(_dectris_images(range(k, 36, 6))) for k in range(6)],
    ),
    "dectris-cbor": Target(
        dectris_cbor,
        lambda: [stream2.encode_start(1, (6, 10), "u2", 18, mask=np.ones((6, 10), np.uint32))],
        ("stemd.adapters.dectris.cbor", "stemd.adapters.dectris.stream2"),
    ),
    "dectris-compression": Target(
        dectris_compression,
        lambda: [
            compress_image(np.arange(2048, dtype=np.uint16) % k, a)
            for k in (2, 7, 2000)
            for a in ALGORITHMS
        ],
    ),
    "packing": Target(packing, lambda: [bytes(range(256)) * 8]),
    "tpx3": Target(tpx3, tpx3_seeds),
    "csr": Target(sparse, sparse_seeds),
    "t3p": Target(t3p, lambda: [records(*_hits(200, 2)).tobytes()]),
    "t3pa": Target(t3pa, t3pa_seeds),
    "control-reply": Target(control_reply, control_reply_seeds, ("stemd.adapters.merlin.control",)),
    "control-request": Target(
        control_request, control_request_seeds, ("stemd.adapters.merlin.control",)
    ),
}

"""When a stream without frames is one, and when it is not: by a clock of the test's own."""

from __future__ import annotations

import numpy as np

from stemd.acquisition import Scan
from stemd.adapters.events.received import Received
from stemd.adapters.frames.decoder import FrameDecoder
from stemd.adapters.merlin.encoder import Camera, encode_frame, encode_hdr, message
from stemd.adapters.merlin.stream import MerlinFormat
from stemd.blocks import BlockPool
from stemd.daemon.pipeline.fruitless import FRUITLESS_BYTES, FRUITLESS_S, SILENT_S, Fruit, Listening

A, B = object(), object()
STEP_S = 0.5


def look(fruit: Fruit, begin: float, seconds: float, rate: float, source: object = A) -> bool:
    """Bytes at this rate for so long, and no block; what is found at the end."""
    found, received = False, fruit._bytes if source is fruit._source else 0
    for number in range(int(seconds / STEP_S)):
        received += int(rate * STEP_S)
        found = fruit.look(begin + number * STEP_S, source, received, 0)
    return found


def test_bytes_without_a_frame_for_ten_seconds_are_fruitless_and_a_frame_heals_them() -> None:
    fruit = Fruit()
    assert not look(fruit, 100.0, FRUITLESS_S - 1.0, 1e6)
    assert look(fruit, 100.0 + FRUITLESS_S - 1.0, 2.0, 1e6)
    assert not fruit.look(200.0, A, 10**9, 1)
    assert not look(fruit, 201.0, 0.0, 1e6)


def test_frames_among_them_make_any_stream_a_good_one() -> None:
    fruit = Fruit()
    assert not any(fruit.look(n * 1.0, A, n * 10**6, n // 9) for n in range(100))


def test_headers_now_and_then_and_a_burst_that_is_over_are_no_stream() -> None:
    assert not look(Fruit(), 0.0, 20.0, FRUITLESS_BYTES / 40)
    fruit = Fruit()
    assert not fruit.look(0.0, A, 10**9, 0)
    assert not any(fruit.look(at * 1.0, A, 10**9, 0) for at in range(1, 59))


def test_it_outlives_pauses_between_connections_and_adapters_and_ends_in_silence() -> None:
    fruit = Fruit()
    assert look(fruit, 0.0, 12.0, 1e6)
    assert look(fruit, 40.0, 1.0, 1e6), "a pause of 28 s"
    assert look(fruit, 60.0, 1.0, 1e6, B), "an adapter that was made anew"
    assert fruit.look(61.0 + SILENT_S - 2.0, B, fruit._bytes, 0)
    assert not fruit.look(62.0 + SILENT_S, B, fruit._bytes, 0)


def test_bytes_that_wait_while_nobody_listens_are_no_trouble() -> None:
    fruit, listening = Fruit(), Listening()
    assert not fruit.look(listening.now(0.0, 0.0), A, 0, 0)
    for at in (0.5, 1.0):
        assert not fruit.look(listening.now(at, 0.1), A, 10**6, 0), "the first bytes of a scan"
    for half in range(60):  # for 30 s the scan waits to begin, or a kernel is compiled
        assert not fruit.look(listening.now(1.5 + half / 2, 0.5 + half / 2), A, 10**6, 0)
    for at in (31.5, 32.0, 32.5):
        assert not fruit.look(listening.now(at, 0.0), A, int(at * 10**6), 0)
    assert not fruit.look(listening.now(60.0, 0.0), A, 10**8, 0), "nobody looked"
    for half in range(20):
        told = fruit.look(listening.now(60.5 + half / 2, 0.1), A, 10**8 + half * 10**5, 0)
    assert told, "it listens, and nothing comes of it"


def test_hits_between_two_scans_are_nothing_amiss_but_nonsense_is() -> None:
    received = Received()
    received.began()
    received.came(1000, 0, 0)
    assert received.bytes == 1000, "nobody knows whether a scan can begin"
    received.came(1000, 0, 1)
    assert received.bytes == 1000
    received.came(1000, 600, 1)
    assert received.bytes == 1600
    received.began()
    received.came(100, 0, 0)
    assert received.bytes == 1700


def test_headers_alone_are_of_no_use_until_a_frame_comes() -> None:
    camera = Camera((2, 2), 12)
    decoder = FrameDecoder(MerlinFormat(), BlockPool(1 << 20, 700), Scan(shape=(1, 1)))
    head = message(encode_hdr(camera, 1))

    def feed(data: bytes) -> None:
        while data:
            view = decoder.wants()[0]
            size = min(len(view), len(data))
            view[:size] = data[:size]
            data = data[size:]
            list(decoder.fed(size, 0))

    feed(head * 3)
    assert decoder.useless_bytes == 3 * len(head)
    feed(message(encode_frame(np.zeros((2, 2), np.uint16), camera, 1)))
    assert decoder.useless_bytes == 0

"""Whatever ends a stream, every block is back in its pool; garbage is told, not shouted."""

from __future__ import annotations

import socket
import threading
import time
from collections.abc import Iterator

import numpy as np
import pytest
from hypothesis import given
from hypothesis import settings as hypothesis_settings
from hypothesis import strategies as st

from stemd.acquisition import Scan
from stemd.adapters import connection
from stemd.adapters.advapix.records import RecordsFront, records
from stemd.adapters.events.decoder import EventDecoder
from stemd.adapters.events.history import History, Wire
from stemd.adapters.events.layout import Layout
from stemd.adapters.timepix3.adapter import Timepix3Adapter
from stemd.adapters.timepix3.words import chunk, pixel_words
from stemd.blocks import BlockPool, Ended, EventBlock, Link, Message, Notice

from .streams import Camera, decoder, electrons, expected, receive, settings

SCAN = Scan(shape=(12, 17), flyback=3, dwell_time_us=1.0)
STREAM = Camera().stream(electrons(SCAN, 3000), electrons(SCAN, 3000, start=3_000_000))
POOL = BlockPool(8 << 20)


class FaultError(Exception):
    """Something unforeseen."""


def release(message: Message) -> None:
    if isinstance(message, EventBlock):
        message.release()


def feed(made: EventDecoder, stream: bytes, cuts: list[int], flushes: int) -> Iterator[Message]:
    view, position, number = memoryview(stream), 0, 0
    while position < len(stream):
        target = made.wants()[0]
        count = min(len(target), len(stream) - position, cuts[number % len(cuts)])
        target[:count] = view[position : position + count]
        position, number = position + count, number + 1
        yield from made.fed(count, 1)
        if flushes and number % flushes == 0:
            yield from made.flush(1, eof=False)
    yield from made.flush(1, eof=True)


@given(
    cuts=st.lists(st.integers(1, 30_000), min_size=1, max_size=5),
    flushes=st.integers(0, 3),
    garbage=st.binary(max_size=300),
    at=st.integers(0, len(STREAM)),
    give_up=st.one_of(st.none(), st.integers(0, 40)),
    fails=st.one_of(st.none(), st.integers(0, 30)),
)
@hypothesis_settings(max_examples=60, deadline=None)
def test_all_blocks_are_back_after_any_end(
    cuts: list[int],
    flushes: int,
    garbage: bytes,
    at: int,
    give_up: int | None,
    fails: int | None,
) -> None:
    made = decoder(settings(SCAN), POOL, headers_required=True)
    calls = 0
    assign = made._stream.placer.sync.assign

    def sometimes(*args: object) -> tuple[int, int, int, int]:
        nonlocal calls
        calls += 1
        if calls == fails:
            raise FaultError
        return assign(*args)  # type: ignore[arg-type]

    made._stream.placer.sync.assign = sometimes  # type: ignore[method-assign,assignment]
    messages = feed(made, STREAM[:at] + garbage + STREAM[at:], [max(8, c) for c in cuts], flushes)
    try:
        for number, message in enumerate(messages):
            release(message)
            if number == give_up:
                break
    except FaultError:
        pass
    messages.close()  # type: ignore[attr-defined]
    made.close()
    assert POOL.buffers > 0
    assert POOL.free == POOL.buffers
    assert POOL.oldest_s == 0.0


def test_connections_that_end_one_after_the_other_lose_no_block() -> None:
    pool = BlockPool(4 << 20)
    with socket.create_server(("127.0.0.1", 0)) as server:
        server.settimeout(60)
        port = server.getsockname()[1]
        adapter, stop = Timepix3Adapter(settings(SCAN, port=port)), threading.Event()
        ends: list[str] = []

        def run() -> None:
            for message in adapter.read(pool, stop):
                release(message)
                if isinstance(message, Ended):
                    ends.append(message.reason)

        thread = threading.Thread(target=run, daemon=True)
        thread.start()
        count = 30
        for _ in range(count):
            client, _ = server.accept()
            with client:
                client.sendall(Camera().stream(electrons(SCAN, 500)))
        end = time.monotonic() + 60
        while len(ends) < count and time.monotonic() < end:
            time.sleep(0.01)
        stop.set()
        adapter.close()
        thread.join(5)
        assert not thread.is_alive()
    assert ends == ["complete"] * count
    assert count > pool.buffers / 2
    assert pool.free == pool.buffers


def test_a_buffer_that_is_out_is_reported_with_its_age() -> None:
    pool = BlockPool(1 << 20, 4096)
    pool.configure(1024)
    assert pool.oldest_s == 0.0
    buffer = pool.take()
    time.sleep(0.02)
    assert 0.02 <= pool.oldest_s < 10.0
    buffer.release()
    assert pool.oldest_s == 0.0


@pytest.mark.parametrize(
    "junk",
    [
        np.random.default_rng(1).bytes(1 << 16),
        b"TPX3\0\0\x08\0" + b"\1" * 8 + b"TPX3\0\0\0\0" + b"\2" * 8,
        b"TPX3\0\0\x03\0",
        b"TPX3\x09\0\x08\0" + b"\1" * 8,
    ],
    ids=["noise", "short chunks", "lying headers", "foreign chips"],
)
def test_a_flood_of_garbage_is_told_in_a_few_sentences_and_given_up(
    junk: bytes, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(connection, "SENSE_S", 1.0)
    pool = BlockPool(16 << 20)
    with socket.create_server(("127.0.0.1", 0)) as server:
        server.settimeout(60)
        port = server.getsockname()[1]
        adapter, stop = Timepix3Adapter(settings(SCAN, port=port)), threading.Event()
        told: list[Message] = []

        def run() -> None:
            for message in adapter.read(pool, stop):
                release(message)
                if not isinstance(message, EventBlock):
                    told.append(message)

        thread = threading.Thread(target=run, daemon=True)
        thread.start()
        client, _ = server.accept()
        sent = 0
        with client:
            client.settimeout(60)
            piece = junk * ((1 << 18) // len(junk))
            given_up = False
            while not given_up:
                try:
                    client.sendall(piece)
                    sent += len(piece)
                except ConnectionError:
                    given_up = True
        server.settimeout(0.1)
        with pytest.raises(TimeoutError):
            server.accept()[0].close()  # not asked again at once
        stop.set()
        adapter.close()
        thread.join(5)
        assert not thread.is_alive()
    links = [m for m in told if isinstance(m, Link)]
    assert [link.connected for link in links] == [True, False]
    assert "makes no sense" in links[1].text
    notices = [m for m in told if isinstance(m, Notice)]
    assert 0 < len(notices) < 30
    assert sent > 1 << 20


def test_the_counts_of_a_flood_stay_exact() -> None:
    stream = Camera().stream(electrons(SCAN, 3000))
    junk = (b"TPX3\0\0\0\0" + b"\2" * 8) * 500
    got = receive(junk + stream, decoder(settings(SCAN), headers_required=True))
    counts = [m.count for m in got.of(Notice) if m.kind == "skipped_bytes"]
    assert sum(counts) == 500 * 8
    assert (got.hits() == expected(electrons(SCAN, 3000))).all()


def test_a_camera_that_closes_in_its_last_position_ends_a_complete_scan() -> None:
    sent = electrons(SCAN, 200_000)  # a thousand hits a position
    keep = sent.probe >= 0
    last = sent.time[keep][-1]
    hits = slice(0, int(np.searchsorted(sent.time, last, side="right")))
    sent.time, sent.y, sent.x, sent.probe = (
        part[hits] for part in (sent.time, sent.y, sent.x, sent.probe)
    )
    got = receive(Camera().stream(sent), decoder(settings(SCAN)))
    assert [m.reason for m in got.of(Ended)] == ["complete"]


@pytest.mark.parametrize("kind", ["tpx3", "t3p"])
def test_a_first_hit_slightly_below_zero_does_not_move_the_others(kind: str) -> None:
    scan = Scan(shape=(8, 8), flyback=0, dwell_time_us=2.0)
    time_ticks = np.concatenate([[-3], np.arange(64) * 1280 + 600])
    zeros = np.zeros(time_ticks.size, np.int64)
    chosen = settings(scan, sync="dwell", layout="single")
    if kind == "tpx3":
        words = pixel_words(time_ticks, zeros, zeros, 5)
        made = decoder(chosen)
        stream = chunk(words, 0)
    else:
        front = RecordsFront(Layout("single"), clock_bits=30)
        made = EventDecoder(
            chosen, front, BlockPool(8 << 20), name="AdvaPix", raw_name="raw.t3p", scan=scan
        )
        stream = records(time_ticks, zeros, zeros).tobytes()
    got = receive(stream, made)
    assert np.concatenate(got.probe).tolist() == list(range(64))
    assert [m.reason for m in got.of(Ended)] == ["complete"]


def test_what_is_remembered_of_the_stream_holds_no_memory_for_hits() -> None:
    pool = BlockPool(total_bytes=1 << 16)
    pool.configure(1 << 10, 1 << 13)  # eight times as much for hits: few blocks may have it
    history = History()
    for tick in range(4 * pool.buffers):
        assert pool.free, "the next bytes would wait for ever"
        buffer = pool.take()
        wire = Wire(buffer.bytes[:512], buffer, tick)
        history.keep(wire, blocks=pool.buffers // 4, small=0, before=0, everything=False)
        buffer.release()
    history.clear()
    assert pool.free == pool.buffers

"""Several connections give the bytes of one, however their messages and receives are dealt out."""

from __future__ import annotations

import threading

import pytest
import zmq
from hypothesis import given, settings
from hypothesis import strategies as st
from zmq.utils.monitor import recv_monitor_message

from stemd.adapters.dectris import joining, legacy, zmtp
from stemd.adapters.dectris.joining import PATIENCE_S, Joined
from stemd.adapters.dectris.kernels.scanning import parts_of
from tests.dectris.streams import HELLO, Kind, decode, end, frame, image, start
from tests.dectris.test_adapter import Running

PING = zmtp.frame(b"\x04PING\x00\x0ahello", command=True)


def give(joined: Joined, which: int, data: bytes) -> None:
    """Bytes from one connection."""
    at = 0
    while at < len(data):
        room = joined.pulls[which].room()
        size = min(len(room), len(data) - at)
        room[:size] = data[at : at + size]
        joined.came(which, size)
        at += size


def greeted(count: int) -> Joined:
    """So many connections, each behind its greeting."""
    joined = Joined(count)
    for which in range(count):
        give(joined, which, HELLO)
    assert joined.line(0.0) == HELLO
    return joined


def whole(number: int, kind: Kind, images: int) -> list[bytes]:
    """The messages of a series."""
    made = [frame(n, kind=kind, series=number) for n in range(images)]
    return [start(images, kind=kind, series=number), *made, end(kind=kind, series=number)]


@settings(deadline=None, max_examples=30)
@given(st.data())
def test_any_dealing_and_any_cut_give_the_bytes_of_one_connection(data: st.DataObject) -> None:
    kind = data.draw(st.sampled_from(["cbor", "legacy"]))
    count = data.draw(st.integers(1, 4))
    messages = [
        message
        for number in range(1, data.draw(st.integers(1, 3)) + 1)
        for message in whole(number, kind, data.draw(st.integers(0, 5)))
    ]
    left = [HELLO + data.draw(st.sampled_from([b"", PING])) for _ in range(count)]
    for message in messages:
        left[data.draw(st.integers(0, count - 1))] += message
    joined, got = Joined(count), b""
    while any(left):
        which = data.draw(st.sampled_from([i for i in range(count) if left[i]]))
        size = data.draw(st.integers(1, 3000))
        give(joined, which, left[which][:size])
        left[which] = left[which][size:]
        got += joined.line(0.0)
    assert got + joined.line(0.0, over=True) == HELLO + b"".join(messages)
    assert not joined.waiting


def test_a_lost_image_is_not_waited_for_once_all_connections_are_past_it() -> None:
    joined = greeted(2)
    give(joined, 0, start() + frame(0))
    assert joined.line(0.0) == b""  # a series before may be on its way through the other
    give(joined, 1, frame(1))
    assert joined.line(0.0) == start() + frame(0) + frame(1)
    give(joined, 1, frame(3))
    assert joined.line(0.0) == b""
    give(joined, 0, frame(4))
    assert joined.line(0.0) == frame(3) + frame(4)
    give(joined, 0, frame(6))
    assert joined.line(PATIENCE_S - 0.01) == b""
    assert joined.line(PATIENCE_S) == frame(6)


def test_an_end_waits_for_the_images_of_the_others() -> None:
    joined = greeted(2)
    give(joined, 0, start() + frame(0) + end())
    give(joined, 1, frame(1))
    assert joined.line(0.0) == start() + frame(0) + frame(1)
    give(joined, 1, start(series=2))
    assert joined.line(0.0) == end() + start(series=2)


def test_images_that_come_when_nobody_waits_any_more_end_no_scan() -> None:
    joined = greeted(2)
    give(joined, 0, start() + frame(0) + end())
    assert joined.line(0.0) == b""
    assert joined.line(PATIENCE_S) == start() + frame(0) + end()
    give(joined, 1, frame(1) + start(series=2))
    give(joined, 0, frame(0, series=2))
    assert joined.line(PATIENCE_S) == start(series=2) + frame(0, series=2)
    give(joined, 0, start() + frame(0))  # the control unit was started anew
    give(joined, 1, frame(1))
    assert joined.line(2 * PATIENCE_S) == start() + frame(0) + frame(1)


def test_a_part_that_says_nothing_of_itself_stays_behind_what_its_connection_brought() -> None:
    nameless = zmtp.message(b'{"nimages": 8}')
    began = zmtp.message(*legacy.encode_start(7, {}, detail=False))
    for between in (b"", PING, PING + PING):
        for at_once in (False, True):
            joined = greeted(2)
            give(joined, 1, frame(1, kind="legacy", series=7))
            received = [began + between, nameless + frame(0, kind="legacy", series=7)]
            for part in [b"".join(received)] if at_once else received:
                give(joined, 0, part)
            assert joined.line(0.0) == (
                began + nameless + b"".join(frame(n, kind="legacy", series=7) for n in (0, 1))
            )


def test_a_connection_that_brings_no_stream_is_passed_on_to_be_told() -> None:
    joined = Joined(2)
    give(joined, 0, HELLO)
    give(joined, 1, b"HTTP/1.1 400 Bad Request\r\n")
    assert joined.line(0.0).endswith(b"HTTP/1.1 400 Bad Request\r\n")
    joined = greeted(2)
    give(joined, 1, frame(0) + b"\xff" * 40)
    told = decode(joined.line(0.0))
    assert told.notices["bad_stream"] == 1
    assert len(told.scans) == 1


def test_what_waits_has_a_bound(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(joining, "MOST_BYTES", 4000)
    joined = greeted(2)
    images = [frame(n) for n in range(1, 40)]
    give(joined, 0, b"".join(images))
    assert joined.line(0.0) == b"".join(images)


@pytest.mark.parametrize("kind", ["cbor", "legacy"])
def test_three_connections_to_the_librarys_socket_record_what_one_would(kind: Kind) -> None:
    with zmq.Context() as context, context.socket(zmq.PUSH) as socket:
        socket.setsockopt(zmq.LINGER, 0)
        watch = socket.get_monitor_socket(zmq.EVENT_HANDSHAKE_SUCCEEDED)
        port = socket.bind_to_random_port("tcp://127.0.0.1")
        running = Running(port, connections=3)
        for _ in range(3):
            assert watch.poll(20_000), "three connections"
            recv_monitor_message(watch)
        for number in (1, 2):
            for message in whole(number, kind, 8):
                socket.send_multipart(parts_of(message))
            running.reasons(*["complete"] * number)
        threads = threading.active_count()
        running.close()
        assert threading.active_count() < threads
        socket.disable_monitor()
        watch.close()
    for seen, number in zip(running.outcome.scans, (1, 2), strict=True):
        assert seen.wire == b"".join(frame(n, kind=kind, series=number) for n in range(8))
        assert (seen.patterns[5] == image(6)).all()
    assert not running.outcome.notices

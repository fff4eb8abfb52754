"""The control protocol: both length conventions, states, refusals, a peer that is not a camera."""

from __future__ import annotations

import socket
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager

import pytest
from hypothesis import given
from hypothesis import strategies as st

from stemd.adapters.merlin.control import (
    BUSY,
    OK,
    OUT_OF_RANGE,
    UNKNOWN,
    ControlServerProtocol,
    MerlinControl,
    Reply,
    Request,
    encode_reply,
    encode_request,
    parse_reply,
    take_body,
)
from stemd.errors import CameraError


def camera(**more: object) -> ControlServerProtocol:
    return ControlServerProtocol(
        {"IMAGEX": "256", "COUNTERDEPTH": "12"},
        command=lambda name: {"STARTACQUISITION": OK, "STOPACQUISITION": BUSY}.get(name, UNKNOWN),
        check=lambda name, value: OK if value in ("1", "6", "12", "24") else OUT_OF_RANGE,
        **more,  # type: ignore[arg-type]
    )


def test_requests_and_replies_are_the_observed_bytes() -> None:
    assert encode_request(Request("GET", "IMAGEX")) == b"MPX,0000000013,GET,IMAGEX,0"
    reply = encode_reply(Reply("GET", "IMAGEX", "256", OK))
    assert reply == b"MPX,0000000017,GET,IMAGEX,256,0"
    without = encode_reply(Reply("GET", "IMAGEX", "256", OK), counts_comma=False)
    assert without == b"MPX,0000000016,GET,IMAGEX,256,0"


@pytest.mark.parametrize("counts_comma", [True, False])
@given(cuts=st.lists(st.integers(1, 9), min_size=1))
def test_replies_of_either_length_convention_are_read_from_any_cut(
    counts_comma: bool, cuts: list[int]
) -> None:
    replies = [Reply("GET", "IMAGEX", "256", 0), Reply("SET", "X", "", 3), Reply("CMD", "Y", "", 0)]
    stream = b"".join(encode_reply(r, counts_comma=counts_comma) for r in replies)
    data, got, at = bytearray(), [], 0
    while at < len(stream):
        for cut in cuts:
            data += stream[at : at + cut]
            at += cut
            while (body := take_body(data, reply=True)) is not None:
                got.append(parse_reply(body))
    assert got == replies
    assert not data


def test_a_camera_answers_and_keeps_what_was_set() -> None:
    peer = camera()
    ask = lambda *request: peer.feed(encode_request(Request(*request)))  # noqa: E731
    assert ask("GET", "IMAGEX").endswith(b",GET,IMAGEX,256,0")
    assert ask("SET", "COUNTERDEPTH", "6").endswith(b",SET,COUNTERDEPTH,0")
    assert ask("GET", "COUNTERDEPTH").endswith(b",GET,COUNTERDEPTH,6,0")
    assert ask("SET", "COUNTERDEPTH", "7").endswith(b",SET,COUNTERDEPTH,3")
    assert ask("SET", "NONSENSE", "7").endswith(b",SET,NONSENSE,2")
    assert ask("CMD", "STARTACQUISITION").endswith(b",CMD,STARTACQUISITION,0")
    assert ask("CMD", "STOPACQUISITION").endswith(b",CMD,STOPACQUISITION,1")
    assert peer.values["COUNTERDEPTH"] == "6"


def test_a_camera_survives_garbage_and_lengths_that_lie() -> None:
    peer = camera()
    good = encode_request(Request("GET", "IMAGEX"))
    assert peer.feed(b"hello MPX,9999999999," + good).endswith(b"GET,IMAGEX,256,0")
    assert peer.feed(b"MPX,0000000005,XYZ," + good).endswith(b"GET,IMAGEX,256,0")


@contextmanager
def server(answer: Callable[[bytes], bytes | None]) -> Iterator[int]:
    """A control port that answers what it receives; None hangs up."""
    with socket.create_server(("127.0.0.1", 0)) as listener:

        def serve() -> None:
            while True:
                try:
                    peer, _ = listener.accept()
                except OSError:
                    return
                with peer:
                    while data := peer.recv(4096):
                        said = answer(data)
                        if said is None:
                            break
                        peer.sendall(said)

        thread = threading.Thread(target=serve, daemon=True)
        thread.start()
        try:
            yield listener.getsockname()[1]
        finally:
            listener.shutdown(socket.SHUT_RDWR)
            thread.join(5)


@pytest.mark.parametrize("counts_comma", [True, False])
def test_the_client_gets_sets_and_commands(counts_comma: bool) -> None:
    peer = camera(counts_comma=counts_comma)
    with server(peer.feed) as port:
        control = MerlinControl("127.0.0.1", port)
        assert control.get("IMAGEX") == "256"
        control.set("COUNTERDEPTH", True)
        assert peer.values["COUNTERDEPTH"] == "1"
        control.cmd("STARTACQUISITION")
        for ask, what in (
            (lambda: control.set("COUNTERDEPTH", 99), "COUNTERDEPTH 99: .*out of range"),
            (lambda: control.get("NONSENSE"), "does not know"),
            (lambda: control.cmd("STOPACQUISITION"), "busy"),
        ):
            with pytest.raises(CameraError, match=what) as caught:
                ask()
            assert caught.value.remedy
        control.close()


def test_the_client_names_the_address_of_a_camera_that_is_not_there() -> None:
    with socket.create_server(("127.0.0.1", 0)) as gone:
        port = gone.getsockname()[1]
    with pytest.raises(CameraError, match=f"127.0.0.1:{port}.*refused") as caught:
        MerlinControl("127.0.0.1", port).get("IMAGEX")
    assert "control_port" in caught.value.remedy


def test_the_client_connects_again_after_silence_and_after_being_hung_up_on() -> None:
    answers = iter([b"", None, encode_reply(Reply("GET", "IMAGEX", "9", OK))])
    with server(lambda _: next(answers)) as port:
        control = MerlinControl("127.0.0.1", port, timeout=0.2)
        with pytest.raises(CameraError, match="no answer within"):
            control.get("IMAGEX")
        with pytest.raises(CameraError, match="closed"):
            control.get("IMAGEX")
        assert control.get("IMAGEX") == "9"
        control.close()


def test_a_peer_that_speaks_otherwise_is_named_as_such() -> None:
    with server(lambda _: b"MPX,0000000012,GET,IMAGEX,") as port:
        control = MerlinControl("127.0.0.1", port, timeout=0.2)
        with pytest.raises(CameraError):
            control.get("IMAGEX")
        control.close()
    with pytest.raises(CameraError, match="control port"):
        parse_reply("GET,IMAGEX,what")

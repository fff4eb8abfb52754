"""The live camera over loopback TCP, SERVAL's REST interface, and its sparse stream."""

from __future__ import annotations

import json
import socket
import struct
import threading
import time
from collections.abc import Generator, Iterator
from http.server import BaseHTTPRequestHandler, HTTPServer

import numpy as np
import pytest

from stemd.acquisition import Scan
from stemd.adapters.timepix3 import csr
from stemd.adapters.timepix3.adapter import Timepix3Adapter
from stemd.blocks import BlockPool, Ended, Link, Notice, Started
from stemd.errors import CameraError, FormatError

from .streams import Camera, Received, electrons, expected, settings

SCAN = Scan(shape=(12, 17), flyback=3, dwell_time_us=1.0)
pytestmark = pytest.mark.waits


class Reading:
    """An adapter that reads in a thread of its own."""

    def __init__(self, **changes: object) -> None:
        self.stop = threading.Event()
        self.got = Received()
        self.error: BaseException | None = None
        self.adapter = Timepix3Adapter(settings(SCAN, **{"idle_timeout_s": 60.0, **changes}))
        self.thread = threading.Thread(target=self._run, daemon=True)
        self.thread.start()

    def _run(self) -> None:
        try:
            for message in self.adapter.read(BlockPool(16 << 20), self.stop):
                self.got.take(message)
        except BaseException as error:
            self.error = error

    def until(self, kind: type, count: int = 1) -> None:
        end = time.monotonic() + 60
        while len(self.got.of(kind)) < count:
            assert time.monotonic() < end, f"waited in vain for {count} {kind.__name__}"
            assert self.error is None or len(self.got.of(kind)) >= count, self.error
            time.sleep(0.005)

    def end(self) -> float:
        begin = time.monotonic()
        self.stop.set()
        self.adapter.close()
        self.thread.join(5)
        assert not self.thread.is_alive()
        return time.monotonic() - begin


@pytest.fixture
def server() -> Iterator[socket.socket]:
    with socket.create_server(("127.0.0.1", 0)) as made:
        made.settimeout(60)
        yield made


@pytest.mark.parametrize("apart", [False, True])
def test_a_camera_that_comes_goes_and_comes_back_gives_every_scan(
    server: socket.socket, apart: bool
) -> None:
    port = server.getsockname()[1]
    reading = Reading(port=port, decode_apart=apart)
    sent = [electrons(SCAN, 6000, seed=seed) for seed in range(2)]
    random = np.random.default_rng(0)
    for scan in sent:
        client, _ = server.accept()
        with client:
            stream = Camera().stream(scan)
            while stream:
                size = int(random.integers(1, 20_000))
                client.sendall(stream[:size])
                stream = stream[size:]
    reading.until(Ended, 2)
    reading.until(Link, 4)
    reading.end()
    assert [message.reason for message in reading.got.of(Ended)] == ["complete"] * 2
    assert [message.connected for message in reading.got.of(Link)][:4] == [True, False] * 2
    for number, scan in enumerate(sent):
        assert (reading.got.hits(number) == expected(scan)).all()
        assert reading.got.wire[reading.got.ids[number]] == Camera().stream(scan)


def test_the_adapter_can_wait_for_serval_to_connect() -> None:
    with socket.create_server(("127.0.0.1", 0)) as probe:
        port = probe.getsockname()[1]
    reading = Reading(port=port, mode="listen")
    reading.until(Link)
    sent = electrons(SCAN, 6000)
    with socket.create_connection(("127.0.0.1", port)) as client:
        client.sendall(Camera().stream(sent))
    reading.until(Ended)
    assert reading.thread.is_alive()
    reading.end()
    assert (reading.got.hits() == expected(sent)).all()


def test_who_reads_apart_can_leave_a_camera_that_sends_nothing(server: socket.socket) -> None:
    adapter = Timepix3Adapter(
        settings(SCAN, port=server.getsockname()[1], mode="connect", decode_apart=True)
    )
    messages = adapter.read(BlockPool(16 << 20), threading.Event())
    assert isinstance(next(messages), Link)
    client, _ = server.accept()
    with client:
        assert isinstance(messages, Generator)
        messages.close()
    assert not [thread for thread in threading.enumerate() if thread.name == "ahead"]


def test_a_scan_that_stops_in_silence_ends_as_idle(server: socket.socket) -> None:
    reading = Reading(port=server.getsockname()[1], idle_timeout_s=0.3, pause_timeout_s=0.4)
    sent = electrons(SCAN, 6000)
    stream = Camera().stream(sent)
    client, _ = server.accept()
    with client:
        client.sendall(stream[: len(stream) // 2])
        reading.until(Ended)
        assert reading.got.of(Ended)[0].reason == "idle"
        reading.end()


def test_a_scan_whose_stream_pauses_in_its_middle_is_one_scan(server: socket.socket) -> None:
    reading = Reading(port=server.getsockname()[1], idle_timeout_s=0.3)
    sent = electrons(SCAN, 6000)
    stream = Camera().stream(sent)
    client, _ = server.accept()
    with client:
        client.sendall(stream[: len(stream) // 2])
        reading.until(Notice)
        time.sleep(0.3)
        client.sendall(stream[len(stream) // 2 :])
    reading.until(Ended)
    reading.end()
    assert [message.reason for message in reading.got.of(Ended)] == ["complete"]
    assert [message.kind for message in reading.got.of(Notice)] == ["pause"]
    assert (reading.got.hits() == expected(sent)).all()


def test_stop_ends_a_scan_that_pauses_at_once(server: socket.socket, serval: str) -> None:
    reading = Reading(port=server.getsockname()[1], serval_url=serval)
    client, _ = server.accept()
    with client:
        client.sendall(Camera().stream(electrons(SCAN, 6000))[:40_000])
        reading.until(Started)
        reading.adapter.command("stop", {})
        reading.until(Ended)
        reading.end()
    assert reading.got.of(Ended)[0].reason == "stopped"


def test_slow_hits_do_not_wait_for_a_full_block(server: socket.socket) -> None:
    reading = Reading(port=server.getsockname()[1])
    client, _ = server.accept()
    with client:
        client.sendall(Camera().stream(electrons(SCAN, 50)))
        reading.until(Started)
        reading.end()


def test_reading_ends_within_a_second_whatever_it_waits_for(server: socket.socket) -> None:
    reading = Reading(port=server.getsockname()[1])
    client, _ = server.accept()
    with client:
        client.sendall(Camera().stream(electrons(SCAN, 6000))[:40_000])
        reading.until(Started)
        assert reading.end() < 1.0
    nobody = Reading(port=1, host="127.0.0.1")
    nobody.until(Link)
    assert "no connection to the Timepix3 camera at 127.0.0.1:1" in nobody.got.of(Link)[0].text
    assert nobody.end() < 1.0


def test_a_connection_that_is_reset_is_a_lost_link(server: socket.socket) -> None:
    reading = Reading(port=server.getsockname()[1])
    client, _ = server.accept()
    client.sendall(Camera().stream(electrons(SCAN, 6000))[:40_000])
    reading.until(Started)
    client.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    client.close()
    reading.until(Link, 2)
    reading.end()
    assert reading.got.of(Ended)[0].reason == "disconnected"


def test_a_port_in_use_is_explained(server: socket.socket) -> None:
    reading = Reading(port=server.getsockname()[1], mode="listen")
    reading.thread.join(5)
    assert isinstance(reading.error, CameraError)
    assert "cannot listen" in str(reading.error)


def sparse_stream(tot: bool = False) -> tuple[bytes, np.ndarray]:
    """A sparse scan of 3 x 4 positions in three chunks, and its hits as rows."""
    random = np.random.default_rng(7)
    parts = [csr.acquisition_start((3, 4), (256, 256), tot=tot), csr.scan_start(0, b'{"a": 1}')]
    rows = []
    for line in range(3):
        counts = random.integers(0, 9, 4)
        indptr = np.concatenate([[0], np.cumsum(counts)])
        indices = random.integers(0, 65536, counts.sum())
        values = random.integers(1, 4, counts.sum())
        parts.append(csr.array_chunk(indptr, indices, values))
        for entry, (index, value) in enumerate(zip(indices, values, strict=True)):
            probe = line * 4 + int(np.searchsorted(indptr, entry, side="right")) - 1
            rows.extend([(probe, index // 256, index % 256)] * (1 if tot else int(value)))
    parts.append(csr.scan_end(0))
    table = np.array(rows, np.int64)
    return b"".join(parts), table[np.lexsort(table.T[::-1])]


@pytest.mark.parametrize("tot", [False, True])
@pytest.mark.parametrize("cut", [1, 7, 4096])
def test_servals_sparse_scans_are_read_for_any_cut(tot: bool, cut: int) -> None:
    stream, rows = sparse_stream(tot)
    made = csr.CsrDecoder(settings(SCAN), BlockPool(8 << 20))
    got = Received()
    for start in range(0, len(stream), cut):
        piece = stream[start : start + cut]
        while piece:
            target = made.wants()[0]
            count = min(len(target), len(piece))
            target[:count] = piece[:count]
            for message in made.fed(count, 1):
                got.take(message)
            piece = piece[count:]
    assert (got.hits() == rows).all()
    assert got.of(Started)[0].acquisition.scan.shape == (3, 4)
    assert got.of(Ended)[0].reason == "complete"
    (name,) = got.wire
    assert got.wire[name] == stream
    assert got.complete[name] == [(0, 4), (4, 8), (8, 12)]


@pytest.mark.parametrize(
    ("head", "said"),
    [
        (b"\x09" + bytes(31), "begins with 9"),
        (struct.pack("<BIQ19x", 1, 0, 1 << 50), "over the limit"),
        (struct.pack("<BBII22x", 2, 0, 1, 1), "element type 0"),
    ],
)
def test_bytes_that_are_no_sparse_stream_are_refused(head: bytes, said: str) -> None:
    made = csr.CsrDecoder(settings(SCAN), BlockPool(8 << 20))
    made.wants()[0][:] = head
    with pytest.raises(FormatError, match=said):
        list(made.fed(len(head), 1))


class FakeServal(BaseHTTPRequestHandler):
    """Answers like SERVAL for the paths that the client uses."""

    seen: list[tuple[str, str, object]] = []  # noqa: RUF012
    config: dict[str, object] = {"BiasVoltage": 100, "ExposureTime": 1.0}  # noqa: RUF012

    def do_GET(self) -> None:
        self._reply("GET", None)

    def do_PUT(self) -> None:
        body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
        if self.path == "/detector/config":
            type(self).config = body
        self._reply("PUT", body)

    def _reply(self, method: str, body: object) -> None:
        self.seen.append((method, self.path, body))
        known = {
            "/dashboard": {"Measurement": {"Status": "DA_IDLE"}},
            "/detector/health": [{"LocalTemperature": 40.0}],
            "/detector/config": self.config,
        }
        ok = self.path in known or method == "PUT" or self.path.startswith(("/meas", "/config"))
        text = json.dumps(known.get(self.path)) if self.path in known else "done"
        payload = (text if ok else "not known here").encode()
        self.send_response(200 if ok else 404)
        self.send_header("Content-Length", str(len(payload)))
        self.end_headers()
        self.wfile.write(payload)

    def log_message(self, *_: object) -> None:
        pass


@pytest.fixture
def serval() -> Iterator[str]:
    FakeServal.seen.clear()
    with HTTPServer(("127.0.0.1", 0), FakeServal) as made:
        thread = threading.Thread(target=made.serve_forever, args=(0.01,), daemon=True)
        thread.start()
        yield f"http://127.0.0.1:{made.server_port}"
        made.shutdown()
        thread.join()


def test_commands_go_to_serval(serval: str) -> None:
    adapter = Timepix3Adapter(settings(SCAN, serval_url=serval))
    assert adapter.command("start", {}) == {}
    assert adapter.command("stop", {}) == {}
    assert adapter.command("dashboard", {})["Measurement"] == {"Status": "DA_IDLE"}
    assert adapter.command("health", {}) == {"detector": [{"LocalTemperature": 40.0}]}
    changed = adapter.command("configure", {"ExposureTime": 2.0})
    assert changed == {"BiasVoltage": 100, "ExposureTime": 2.0}
    assert FakeServal.seen[0] == ("GET", "/measurement/start", None)


def test_what_serval_refuses_is_told(serval: str) -> None:
    adapter = Timepix3Adapter(settings(SCAN, serval_url=serval))
    with pytest.raises(CameraError, match="no command 'dance'"):
        adapter.command("dance", {})
    client = Timepix3Adapter(settings(SCAN, serval_url=serval + "/wrong"))
    with pytest.raises(CameraError, match="404 not known here"):
        client.command("health", {})
    gone = Timepix3Adapter(settings(SCAN, serval_url="http://127.0.0.1:1"))
    with pytest.raises(CameraError, match="does not answer"):
        gone.command("start", {})
    alone = Timepix3Adapter(settings(SCAN))
    with pytest.raises(CameraError, match="serval_url"):
        alone.command("start", {})


def test_a_serval_that_sends_a_byte_at_a_time_is_given_up_in_seconds() -> None:
    over = threading.Event()
    with socket.create_server(("127.0.0.1", 0)) as listener:

        def drip() -> None:
            peer, _ = listener.accept()
            with peer:
                try:
                    for byte in b"HTTP/1.0 200 OK\r\nContent-Length: 9999\r\n\r\n" * 9:
                        peer.sendall(bytes([byte]))
                        if over.wait(0.3):
                            return
                except OSError:
                    return

        thread = threading.Thread(target=drip, daemon=True)
        thread.start()
        url = f"http://127.0.0.1:{listener.getsockname()[1]}"
        began = time.monotonic()
        with pytest.raises(CameraError, match="no whole answer within"):
            Timepix3Adapter(settings(SCAN, serval_url=url)).command("start", {})
        assert time.monotonic() - began < 8.0
        over.set()
        thread.join(5)
        assert not thread.is_alive()


def test_reconnect_makes_a_new_connection_of_timepix3_too(server: socket.socket) -> None:
    reading = Reading(port=server.getsockname()[1])
    first, _ = server.accept()
    with first:
        reading.until(Link)
        reading.adapter.reconnect()
        second, _ = server.accept()
        with second:
            reading.until(Link, 3)
            reading.end()
    assert [link.connected for link in reading.got.of(Link)] == [True, False, True]

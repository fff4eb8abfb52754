"""The adapter against a camera on loopback that does what real ones have been seen to do."""

from __future__ import annotations

import queue
import socket
import threading
import time
from collections.abc import Callable, Iterator
from typing import Any

import pytest

from stemd.acquisition import Scan
from stemd.adapters import connection
from stemd.adapters.merlin import PLUGIN, MerlinAdapter, MerlinSettings
from stemd.adapters.merlin.control import BUSY, OK, ControlServerProtocol
from stemd.adapters.merlin.encoder import Camera
from stemd.blocks import BlockPool
from stemd.errors import CameraError
from tests.merlin.streams import SMALL, Outcome, acquisition, frame, hdr

SCAN = Scan(shape=(2, 3), flyback=1)
SECONDS = 20.0
pytestmark = pytest.mark.waits


class FakeCamera:
    """A listening data port; `accept` gives the next connection of the adapter."""

    def __init__(self, port: int = 0) -> None:
        self._listener = socket.create_server(("127.0.0.1", port))
        self._listener.settimeout(SECONDS)
        self.port: int = self._listener.getsockname()[1]

    def accept(self) -> socket.socket:
        peer, _ = self._listener.accept()
        return peer

    def close(self) -> None:
        self._listener.close()


class Running:
    """An adapter in its reader thread; what it says is waited for with `until`."""

    def __init__(self, port: int, scan: Scan | None = SCAN, **more: Any) -> None:
        settings = MerlinSettings(data_port=port, scan=scan, **({"idle_timeout_s": 30.0} | more))
        self.adapter = MerlinAdapter(settings)
        self.pool = BlockPool(1 << 20, 4096)
        self.stop = threading.Event()
        self.outcome = Outcome()
        self._queue: queue.Queue[BaseException | None] = queue.Queue()
        self.thread = threading.Thread(target=self._run, daemon=True)
        self.thread.start()

    def _run(self) -> None:
        try:
            self.outcome.take(self.adapter.read(self.pool, self.stop))
            self._queue.put(None)
        except BaseException as error:
            self._queue.put(error)

    def until(self, condition: Callable[[Outcome], object]) -> Outcome:
        end = time.monotonic() + SECONDS
        while not condition(self.outcome):
            if not self._queue.empty() and (error := self._queue.get()) is not None:
                raise error
            if time.monotonic() > end:
                pytest.fail(f"waited in vain: {self.outcome}")
            time.sleep(0.002)
        return self.outcome

    def reasons(self, *expected: str) -> Outcome:
        return self.until(lambda o: [s.reason for s in o.scans] == list(expected))

    def close(self) -> float:
        """Stop as the daemon does; returns how long it took in seconds."""
        began = time.monotonic()
        self.stop.set()
        self.pool.close()
        self.adapter.close()
        self.thread.join(SECONDS)
        assert not self.thread.is_alive()
        return time.monotonic() - began


@pytest.fixture
def camera() -> Iterator[FakeCamera]:
    made = FakeCamera()
    yield made
    made.close()


@pytest.fixture
def start(camera: FakeCamera) -> Iterator[Callable[..., Running]]:
    started: list[Running] = []

    def make(**more: Any) -> Running:
        started.append(Running(camera.port, **more))
        return started[-1]

    yield make
    for running in started:
        running.close()


Start = Callable[..., Running]


def test_two_scans_back_to_back_and_another_detector_size_come_through(
    camera: FakeCamera, start: Start
) -> None:
    running = start()
    with camera.accept() as peer:
        other = Camera((12, 4), 6)
        sizes = (SMALL, SMALL, other)
        peer.sendall(b"".join(acquisition(c, range(1, 9), 8) for c in sizes))
        outcome = running.reasons("complete", "complete", "complete")
    assert [len(s.patterns) for s in outcome.scans] == [6, 6, 6]
    assert [s.acquisition.detector.shape for s in outcome.scans] == [(6, 10), (6, 10), (12, 4)]
    assert outcome.scans[0].acquisition.source == f"127.0.0.1:{camera.port}"


def test_single_frames_are_given_out_without_waiting_for_a_full_block(
    camera: FakeCamera, start: Start
) -> None:
    running = start()
    with camera.accept() as peer:
        peer.sendall(hdr(SMALL, 8))
        for n in (1, 2, 3):
            peer.sendall(frame(SMALL, n))
            running.until(lambda o, n=n: o.scans and len(o.scans[0].patterns) == n)


def test_a_camera_that_is_not_there_is_told_once_and_found_when_it_comes() -> None:
    reserved = FakeCamera()
    port = reserved.port
    reserved.close()
    running = Running(port)
    running.until(lambda o: o.links)
    time.sleep(0.5)
    assert [link.connected for link in running.outcome.links] == [False]
    assert f"127.0.0.1:{port}" in running.outcome.links[0].text
    assert "refused" in running.outcome.links[0].text
    assert running.outcome.links[0].remedy
    late = FakeCamera(port)
    with late.accept() as peer:
        peer.sendall(acquisition(SMALL, range(1, 9), 8))
        running.reasons("complete")
    assert [link.connected for link in running.outcome.links][:2] == [False, True]
    running.close()
    late.close()


def test_a_lost_camera_ends_the_scan_and_is_connected_to_again(
    camera: FakeCamera, start: Start
) -> None:
    running = start()
    with camera.accept() as peer:
        peer.sendall(acquisition(SMALL, range(1, 6), 8) + frame(SMALL, 6)[:99])
    running.reasons("disconnected")
    with camera.accept() as peer:
        peer.sendall(acquisition(SMALL, range(1, 9), 8))
        outcome = running.reasons("disconnected", "complete")
    assert len(outcome.scans[0].patterns) == 4
    assert outcome.notices == {"partial_frame": 1}
    assert [link.connected for link in outcome.links][:3] == [True, False, True]


def test_a_reset_connection_is_as_good_as_a_closed_one(camera: FakeCamera, start: Start) -> None:
    running = start()
    peer = camera.accept()
    peer.sendall(acquisition(SMALL, range(1, 4), 8))
    running.until(lambda o: o.scans and len(o.scans[0].patterns) == 3)
    peer.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, b"\1\0\0\0\0\0\0\0")
    peer.close()
    running.reasons("disconnected")


def test_the_end_of_the_stream_between_hdr_and_frame_leaves_no_scan(
    camera: FakeCamera, start: Start
) -> None:
    running = start()
    with camera.accept() as peer:
        peer.sendall(hdr(SMALL, 8))
    running.until(lambda o: len(o.links) == 2)
    with camera.accept() as peer:
        peer.sendall(acquisition(SMALL, range(1, 9), 8))
        running.reasons("complete")


def test_a_restart_in_mid_scan_and_garbage_do_not_stop_the_next_scan(
    camera: FakeCamera, start: Start
) -> None:
    running = start()
    with camera.accept() as peer:
        peer.sendall(acquisition(SMALL, range(1, 4), 8))
        running.until(lambda o: o.scans and len(o.scans[0].patterns) == 3)
        peer.sendall(b"\xffjunk" * 9 + acquisition(SMALL, range(1, 9), 8))
        outcome = running.reasons("restarted", "complete")
    assert outcome.notices == {"skipped_bytes": 45, "restarted": 1}


@pytest.mark.parametrize(("sent", "reason"), [(7, "complete"), (4, "idle")])
def test_a_scan_that_goes_quiet_is_ended_after_the_idle_timeout(
    camera: FakeCamera, start: Start, sent: int, reason: str
) -> None:
    running = start(idle_timeout_s=0.2, pause_timeout_s=0.4)
    with camera.accept() as peer:
        peer.sendall(acquisition(SMALL, range(1, sent + 1), 8))
        running.reasons(reason)
        peer.sendall(acquisition(SMALL, range(1, 9), 8))
        running.reasons(reason, "complete")


def test_a_scan_that_pauses_in_its_middle_is_one_scan(camera: FakeCamera, start: Start) -> None:
    running = start(idle_timeout_s=0.2, pause_timeout_s=30.0)
    with camera.accept() as peer:
        peer.sendall(acquisition(SMALL, range(1, 5), 8))
        running.until(lambda o: o.notices == {"pause": 1})
        time.sleep(0.3)
        peer.sendall(b"".join(frame(SMALL, n) for n in range(5, 9)))
        outcome = running.reasons("complete")
    assert len(outcome.scans[0].patterns) == 6
    assert outcome.notices == {"pause": 1}


@pytest.mark.parametrize("sent", [7, 8])
def test_a_camera_that_closes_after_its_last_position_ends_a_complete_scan(
    camera: FakeCamera, start: Start, sent: int
) -> None:
    running = start()
    with camera.accept() as peer:
        peer.sendall(acquisition(SMALL, range(1, sent + 1), 8))
    running.until(lambda o: o.links and not o.links[-1].connected)
    outcome = running.reasons("complete")
    assert len(outcome.scans[0].patterns) == 6


def test_a_server_that_hangs_up_on_everybody_is_told_once(camera: FakeCamera, start: Start) -> None:
    running = start()
    end, visits = time.monotonic() + 3.0, 0
    while time.monotonic() < end:
        camera.accept().close()
        visits += 1
    assert 2 <= visits < 12
    assert [link.connected for link in running.outcome.links] == [True, False]
    with camera.accept() as peer:
        peer.sendall(acquisition(SMALL, range(1, 9), 8))
        outcome = running.reasons("complete")
        assert [link.connected for link in outcome.links] == [True, False, True]


def test_reconnect_makes_the_connection_anew_at_once(camera: FakeCamera, start: Start) -> None:
    running = start()
    with camera.accept():
        running.until(lambda o: o.links)
        began = time.monotonic()
        running.adapter.reconnect()
        with camera.accept() as peer:
            assert time.monotonic() - began < 1.0
            peer.sendall(acquisition(SMALL, range(1, 9), 8))
            outcome = running.reasons("complete")
    assert "as was asked for" in outcome.links[1].text


def test_a_stream_of_garbage_is_given_up_with_one_sentence(
    camera: FakeCamera, start: Start, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(connection, "SENSE_S", 1.0)
    running = start()
    with camera.accept() as peer:
        given_up = False
        while not given_up:
            try:
                peer.sendall(b"MPX,0000000009,nonsense" * 10_000)
            except ConnectionError:
                given_up = True
    outcome = running.until(lambda o: len(o.links) == 2)
    assert "makes no sense" in outcome.links[1].text
    assert sum(outcome.notices.values()) > 0
    assert len(outcome.texts) < 6


@pytest.mark.parametrize("sent", [b"", hdr(SMALL, 8), acquisition(SMALL, range(1, 4), 8)[:-7]])
def test_closing_wakes_a_blocked_receive_within_a_second(camera: FakeCamera, sent: bytes) -> None:
    running = Running(camera.port)
    with camera.accept() as peer:
        peer.sendall(sent)
        running.until(lambda o: o.links)
        time.sleep(0.3)
        assert running.close() < 1.0
    assert all(scan.reason == "stopped" for scan in running.outcome.scans)


def test_closing_while_waiting_for_a_camera_takes_less_than_a_second() -> None:
    gone = FakeCamera()
    gone.close()
    running = Running(gone.port)
    running.until(lambda o: o.links)
    time.sleep(1.0)
    assert running.close() < 1.0


def test_a_slow_consumer_makes_the_camera_wait_and_loses_nothing(camera: FakeCamera) -> None:
    adapter = MerlinAdapter(
        MerlinSettings(data_port=camera.port, scan=Scan(shape=(20, 20)), receive_buffer=65536)
    )
    stop, outcome = threading.Event(), Outcome()
    data = acquisition(SMALL, range(1, 401), 400)

    def send() -> None:
        with camera.accept() as peer:
            peer.sendall(data)
            peer.recv(1)

    sender = threading.Thread(target=send, daemon=True)
    sender.start()
    for message in adapter.read(BlockPool(1, 4096), stop):
        time.sleep(0.001)
        outcome.take([message])
        if outcome.scans and outcome.scans[0].reason:
            stop.set()
    sender.join(SECONDS)
    assert (outcome.scans[0].reason, len(outcome.scans[0].patterns)) == ("complete", 400)


def test_a_scan_set_while_running_counts_from_the_next_scan_on(
    camera: FakeCamera, start: Start
) -> None:
    running = start()
    with camera.accept() as peer:
        peer.sendall(acquisition(SMALL, range(1, 9), 8))
        running.reasons("complete")
        running.adapter.set_scan(Scan(shape=(2, 2), flyback=0))
        peer.sendall(acquisition(SMALL, range(1, 5), 4))
        outcome = running.reasons("complete", "complete")
    assert outcome.scans[1].acquisition.scan.shape == (2, 2)


@pytest.fixture
def control() -> Iterator[tuple[int, list[str], dict[str, str]]]:
    """A control port; gives its port, the commands it got, its values."""
    commands: list[str] = []
    values = {"NUMFRAMESTOACQUIRE": "1", "COUNTERDEPTH": "12", "CONTINUOUSRW": "0"}

    def command(name: str) -> int:
        commands.append(name)
        return BUSY if name == "STOPACQUISITION" and len(commands) == 1 else OK

    listener = socket.create_server(("127.0.0.1", 0))
    over = threading.Event()

    def serve() -> None:
        while not over.is_set():
            try:
                peer, _ = listener.accept()
            except OSError:
                return
            peer.settimeout(0.05)
            protocol = ControlServerProtocol(values, command=command)
            with peer:
                while not over.is_set():
                    try:
                        data = peer.recv(4096)
                    except TimeoutError:
                        continue
                    if not data:
                        break
                    peer.sendall(protocol.feed(data))

    thread = threading.Thread(target=serve, daemon=True)
    thread.start()
    yield listener.getsockname()[1], commands, values
    over.set()
    listener.shutdown(socket.SHUT_RDWR)
    listener.close()
    thread.join(SECONDS)
    assert not thread.is_alive()


def test_commands_arm_start_and_stop_the_camera(
    camera: FakeCamera, start: Start, control: tuple[int, list[str], dict[str, str]]
) -> None:
    port, commands, values = control
    running = start(control_port=port, camera={"COUNTERDEPTH": 6, "CONTINUOUSRW": True})
    with camera.accept() as peer:
        running.until(lambda o: values["CONTINUOUSRW"] == "1")
        assert (values["COUNTERDEPTH"], commands) == ("6", [])
        with pytest.raises(CameraError, match="busy"):
            running.adapter.command("stop", {})
        assert running.adapter.command("start", {"scans": 3}) == {"frames": 24}
        assert values["NUMFRAMESTOACQUIRE"] == "24"
        peer.sendall(acquisition(SMALL, range(1, 4), 24))
        running.until(lambda o: o.scans and len(o.scans[0].patterns) == 3)
        running.adapter.command("abort", {})
        running.reasons("stopped")
        assert commands[1:] == ["STARTACQUISITION", "STOPACQUISITION"]
        with pytest.raises(CameraError, match="cannot 'dance'"):
            running.adapter.command("dance", {})
        with pytest.raises(CameraError, match="cannot start"):
            running.adapter.command("start", {"scans": -1})


def test_an_acquisition_is_started_on_connecting_where_so_configured(
    camera: FakeCamera, start: Start, control: tuple[int, list[str], dict[str, str]]
) -> None:
    port, commands, values = control
    running = start(control_port=port, start="connect")
    with camera.accept():
        running.until(lambda o: commands == ["STARTACQUISITION"])
        assert values["NUMFRAMESTOACQUIRE"] == "8"


def test_a_set_up_that_the_camera_refuses_is_told_and_frames_are_still_read(
    camera: FakeCamera, start: Start, control: tuple[int, list[str], dict[str, str]]
) -> None:
    running = start(control_port=control[0], camera={"NONSENSE": 1})
    with camera.accept() as peer:
        peer.sendall(acquisition(SMALL, range(1, 9), 8))
        outcome = running.reasons("complete")
    assert outcome.notices == {"camera_control": 1}
    assert "NONSENSE" in outcome.texts[0]


def test_commands_without_a_control_port_say_what_to_configure(camera: FakeCamera) -> None:
    adapter = PLUGIN.build(PLUGIN.settings(data_port=camera.port))
    with pytest.raises(CameraError, match="cannot be told to start") as caught:
        adapter.command("start", {})
    assert "control_port = 6341" in caught.value.remedy


@pytest.fixture
def mute_control() -> Iterator[int]:
    """A control port that takes requests and never answers."""
    with socket.create_server(("127.0.0.1", 0)) as made:
        yield made.getsockname()[1]


def test_a_stop_does_not_wait_behind_a_start_that_gets_no_answer(
    camera: FakeCamera, start: Start, mute_control: int
) -> None:
    running = start(control_port=mute_control, control_timeout_s=5.0)
    with camera.accept():
        said: list[str] = []

        def send(name: str) -> None:
            try:
                running.adapter.command(name, {})
            except CameraError:
                said.append(name)

        threads = [threading.Thread(target=send, args=(name,)) for name in ("start", "stop")]
        for thread in threads:
            thread.start()
            time.sleep(0.3)
        threads[0].join(1.0)
        assert said == ["start"]
        running.close()
        threads[1].join(2.0)
        assert said == ["start", "stop"]


def test_a_control_port_that_never_answers_is_told_in_seconds(
    camera: FakeCamera, start: Start, mute_control: int
) -> None:
    running = start(control_port=mute_control, control_timeout_s=0.5)
    with camera.accept():
        began = time.monotonic()
        with pytest.raises(CameraError, match="no answer within"):
            running.adapter.command("start", {})
        assert time.monotonic() - began < 2.0


def test_the_control_connection_is_closed_when_idle(camera: FakeCamera, start: Start) -> None:
    protocol = ControlServerProtocol({"NUMFRAMESTOACQUIRE": "0"}, command=lambda name: OK)
    with socket.create_server(("127.0.0.1", 0)) as listener:
        running = start(control_port=listener.getsockname()[1])
        listener.settimeout(SECONDS)
        with camera.accept():
            told: list[Any] = []
            thread = threading.Thread(
                target=lambda: told.append(running.adapter.command("start", {"scans": 2}))
            )
            thread.start()
            peer, _ = listener.accept()
            peer.settimeout(SECONDS)
            with peer:
                while data := peer.recv(4096):
                    peer.sendall(protocol.feed(data))
            thread.join(SECONDS)
            assert told == [{"frames": 16}]

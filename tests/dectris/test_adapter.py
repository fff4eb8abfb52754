"""The adapter against sockets of ZeroMQ's own library, and against the virtual camera."""

from __future__ import annotations

import threading
import time
from collections.abc import Iterator
from pathlib import Path
from socket import create_server
from typing import Any

import numpy as np
import pytest
import zmq

from stemd.acquisition import Scan
from stemd.adapters.base import CameraReading
from stemd.adapters.dectris import PLUGIN, status
from stemd.adapters.dectris.kernels.scanning import parts_of
from stemd.adapters.dectris.recording import DectrisRecording
from stemd.adapters.dectris.simplon import Simplon
from stemd.beam import Beam
from stemd.blocks import BlockPool
from stemd.errors import CameraError, FormatError
from stemd.virtual.dectris.camera import DectrisCamera, DectrisRunning
from stemd.virtual.dectris.frames import MessageSource, Source
from stemd.virtual.dectris.recorded import RecordSource
from stemd.virtual.dectris.simplon import ControlUnit
from stemd.virtual.diffraction import Camera
from stemd.virtual.faults import Faults
from stemd.virtual.microscope import Microscope, Setup
from tests.conftest import free_port, patience, wait_until
from tests.dectris.streams import SCAN, Kind, end, frame, image, series, start
from tests.merlin.streams import Outcome

pytestmark = pytest.mark.waits


class Running:
    """An adapter in its reader thread."""

    def __init__(self, port: int, scan: Scan | None = SCAN, **more: Any) -> None:
        table = {"data_port": port, "scan": scan, "idle_timeout_s": 30.0} | more
        self.adapter = PLUGIN.build(PLUGIN.settings.model_validate(table))
        self.pool, self.stop, self.outcome = BlockPool(1 << 20), threading.Event(), Outcome()
        self.error: BaseException | None = None
        self.thread = threading.Thread(target=self._run, daemon=True)
        self.thread.start()

    def _run(self) -> None:
        try:
            self.outcome.take(self.adapter.read(self.pool, self.stop))
        except BaseException as error:
            self.error = error

    def reasons(self, *expected: str) -> Outcome:
        def came() -> bool:
            assert self.error is None, self.error
            return [s.reason for s in self.outcome.scans][: len(expected)] == list(expected)

        wait_until(came, f"scans ended {expected}: {self.outcome}")
        return self.outcome

    def close(self) -> None:
        self.stop.set()
        self.pool.close()
        self.adapter.close()
        self.thread.join(20.0)
        assert not self.thread.is_alive()


@pytest.fixture
def push() -> Iterator[tuple[zmq.Socket[bytes], int]]:
    """A PUSH socket of the library, as in a control unit."""
    context = zmq.Context()
    socket = context.socket(zmq.PUSH)
    socket.setsockopt(zmq.LINGER, 0)
    socket.setsockopt(zmq.HEARTBEAT_IVL, 50)
    socket.setsockopt(zmq.HEARTBEAT_TIMEOUT, 5000)
    port = socket.bind_to_random_port("tcp://127.0.0.1")
    yield socket, port
    socket.close()
    context.term()


def send(socket: zmq.Socket[bytes], message: bytes) -> None:
    """A message, given as on the wire, by the library."""
    socket.send_multipart(parts_of(message))


@pytest.mark.parametrize("kind", ["cbor", "legacy"])
def test_the_librarys_socket_is_understood_and_understands(
    push: tuple[zmq.Socket[bytes], int], kind: Kind
) -> None:
    socket, port = push
    running = Running(port)
    for number in (1, 2):
        send(socket, start(kind=kind, series=number))
        for n in range(8):
            send(socket, frame(n, kind=kind, series=number))
            time.sleep(0.02)  # some of its heartbeats come between the images
        send(socket, end(kind=kind, series=number))
    outcome = running.reasons("complete", "complete")
    running.close()
    for seen in outcome.scans:
        numbers = [n for n, p in zip(seen.sequence, seen.probe, strict=True) if p >= 0]
        for number, probe in zip(numbers, sorted(seen.patterns), strict=True):
            np.testing.assert_array_equal(seen.patterns[probe], image(number))
    assert [link.connected for link in outcome.links] == [True]
    assert not outcome.notices


def test_a_socket_of_another_kind_is_told() -> None:
    with zmq.Context() as context, context.socket(zmq.PUB) as socket:
        port = socket.bind_to_random_port("tcp://127.0.0.1")
        running = Running(port)
        wait_until(lambda: running.outcome.notices["bad_stream"], "the kind of socket was told")
        running.close()
        assert "PUB" in running.outcome.texts[0]


def test_a_control_unit_that_comes_back_is_heard_again() -> None:
    port = free_port()
    running = Running(port)
    wait_until(lambda: running.outcome.links, "its absence was told")
    for number in (1, 2):
        with zmq.Context() as context, context.socket(zmq.PUSH) as socket:
            socket.bind(f"tcp://127.0.0.1:{port}")
            send(socket, start(series=number))
            for n in range(8):
                send(socket, frame(n, series=number))
            running.reasons(*["complete"] * number)
    running.close()
    assert [link.connected for link in running.outcome.links][:4] == [False, True, False, True]


def test_an_armed_camera_that_waits_for_its_trigger_is_no_stream_without_frames(
    push: tuple[zmq.Socket[bytes], int],
) -> None:
    socket, port = push
    running = Running(port)
    send(socket, start(user_data="x" * 200_000))
    wait_until(lambda: running.adapter._received_bytes > 200_000, "the start came")
    wait_until(lambda: running.adapter.received_bytes < 1000, "nothing that ought to be a frame")
    for n in range(8):
        send(socket, frame(n))
    running.reasons("complete")
    running.close()


# The virtual camera


def setup(shape: tuple[int, int] = (4, 6)) -> Setup:
    return Setup(
        scan=Scan(shape=shape, flyback=1, step_size_angstrom=0.3, dwell_time_us=100.0),
        specimen="nanoparticle",
        thickness_angstrom=7.81,
        beam=Beam(300e3, 20.0, 0.0, 0.0),
        camera=Camera((16, 16), 5.0, 0.0, False, (0.0, 0.0), (0.0, 0.0)),
        dose=200.0,
        seed=1,
        frame_time_s=1e-4,
        drift_angstrom_per_s=(0.0, 0.0),
        jitter=0.0,
    )


class Virtual:
    """A virtual camera in a thread; without a `source`, of the virtual microscope."""

    def __init__(self, source: Source | None = None, **how: Any) -> None:
        self.microscope = Microscope(setup())
        source = source or MessageSource(self.microscope, "u2", "bslz4")
        usual: dict[str, Any] = {"port": 0, "control_port": 0, "rate": 2000.0, "gap_s": 0.1}
        self.camera = DectrisCamera(source, DectrisRunning(**{**usual, **how}))
        self.thread = threading.Thread(target=self.camera.run, daemon=True)
        self.thread.start()

    def patterns(self, number: int) -> np.ndarray[Any, Any]:
        return np.concatenate(list(self.microscope.counts(number, 0, 28)))

    def close(self) -> None:
        self.camera.close()
        self.thread.join(20.0)


@pytest.mark.parametrize("kind", ["cbor", "legacy"])
def test_the_virtual_cameras_images_arrive(kind: Kind) -> None:
    virtual = Virtual(stream_format=kind)
    running = Running(virtual.camera.data_port, Scan(shape=(4, 6)))
    outcome = running.reasons("complete", "complete")
    running.close()
    virtual.close()
    expected = virtual.patterns(1).reshape(4, 7, 16, 16)[:, :6].reshape(24, 16, 16)
    seen = outcome.scans[1]
    assert seen.acquisition.scan.flyback == 1
    for probe in range(24):
        np.testing.assert_array_equal(seen.patterns[probe], expected[probe])


@pytest.mark.parametrize(
    ("fault", "reason", "notice"),
    [
        ({"steal": True}, "complete", "missing_frames"),
        ({"damage": 0.5}, "", "missing_frames"),
        ({"no_start": True}, "complete", "no_start"),
        ({"no_end": True}, "complete", ""),
        ({"faults": Faults(stop_early=10)}, "stopped", ""),
        ({"faults": Faults(drop=0.4)}, "", "missing_frames"),
        ({"faults": Faults(garbage=0.2)}, "disconnected", "bad_stream"),
        ({"disconnect_after": 10}, "disconnected", ""),
    ],
    ids=str,
)
def test_faults_of_the_virtual_camera_are_told(
    fault: dict[str, Any], reason: str, notice: str
) -> None:
    virtual = Virtual(**fault)
    running = Running(virtual.camera.data_port, SCAN_28)
    wait_until(lambda: len(running.outcome.scans) > 1, "scans came")
    running.close()
    virtual.close()
    assert running.error is None
    assert reason in ("", running.outcome.scans[0].reason)
    assert not notice or running.outcome.notices[notice]


SCAN_28 = Scan(shape=(4, 6), flyback=1)


# Control


@pytest.mark.parametrize("mode", ["exts", "exte", "ints", "inte"])
def test_a_series_is_armed_made_and_stopped_by_command(mode: str) -> None:
    virtual = Virtual(wait_for_start=True, stream_format=None, rate=0.0)
    camera = virtual.camera
    running = Running(
        camera.data_port,
        SCAN_28,
        control_port=camera.control_port,
        camera={"trigger_mode": mode, "count_time": 2e-5},
    )
    wait_until(lambda: running.outcome.notices["camera_status"], "its state was told")
    assert "th0_humidity" in running.outcome.texts[0].replace(" ", "_")
    told = running.adapter.command("start", {})
    assert (told["frames"], told["series"]) == (28, 1)
    config = camera.unit.config["detector"]
    counts = (1, 28) if mode in ("exte", "inte") else (28, 1)
    assert (config["nimages"], config["ntrigger"]) == counts
    if mode != "inte":
        running.reasons("complete")
    assert camera.unit.config["detector"]["count_time"] == 2e-5
    assert camera.unit.config["stream"]["format"] == "cbor"
    running.adapter.command("abort", {})
    with pytest.raises(CameraError, match="dance"):
        running.adapter.command("dance", {})
    with pytest.raises(CameraError, match="1 or more"):
        running.adapter.command("start", {"scans": 0})
    running.close()
    virtual.close()


def test_an_abort_ends_the_series_and_the_scan() -> None:
    virtual = Virtual(wait_for_start=True, rate=20.0)
    camera = virtual.camera
    running = Running(camera.data_port, SCAN_28, control_port=camera.control_port)
    wait_until(lambda: running.outcome.notices["camera_status"], "its state was told")
    running.adapter.command("start", {})
    wait_until(lambda: running.outcome.scans and running.outcome.scans[0].patterns, "it came")
    with pytest.raises(CameraError, match="acquiring"):
        running.adapter.command("start", {})
    running.adapter.command("abort", {})
    running.reasons("stopped")
    running.close()
    virtual.close()


def test_a_detector_that_is_not_initialised_and_another_version_are_told() -> None:
    virtual = Virtual(wait_for_start=True)
    camera = virtual.camera
    camera.unit.lose()
    running = Running(camera.data_port, SCAN_28, control_port=camera.control_port)
    with pytest.raises(CameraError, match="not initialised"):
        running.adapter.command("start", {})
    wait_until(lambda: running.outcome.notices["camera_control"], "it was told")
    running.close()
    with pytest.raises(CameraError, match=r'api_version = "1\.8\.0"'):
        Simplon("127.0.0.1", camera.control_port, "1.6.0").status()
    simplon = Simplon("127.0.0.1", camera.control_port, "1.8.0")
    for name, value in (("nimages", 0), ("trigger_mode", "x"), ("nosuch", 1)):
        with pytest.raises(CameraError, match=name):
            simplon.set("detector", name, value)
    virtual.close()
    with pytest.raises(CameraError, match="does not answer"):
        simplon.status()


def test_what_the_detector_says_of_itself_is_kept_up_to_date(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(status, "PERIOD_S", 0.05)
    virtual = Virtual(wait_for_start=True)
    camera = virtual.camera
    running = Running(camera.data_port, SCAN_28, control_port=camera.control_port)

    def told() -> dict[str, Any]:
        return {reading.name: reading for reading in running.adapter.camera_status}

    wait_until(lambda: len(told()) == 4, "it was told")
    assert told()["state"].value == "idle"
    assert told()["high_voltage/state"].value == "READY"
    warm = told()["board_000/th0_temp"]
    assert (warm.value, warm.unit, warm.critical) == (24.5, "C", False)
    camera.unit.sense("board_000/th0_temp", 41.0)
    wait_until(lambda: told()["board_000/th0_temp"].critical, "it is too warm")
    running.close()
    virtual.close()
    watch = status.StatusWatch(Simplon("127.0.0.1", camera.control_port, "1.8.0"), 0.05)
    watch.begin()
    wait_until(lambda: watch.readings == status.NO_ANSWER, "it does not answer")
    watch.close()


def test_a_status_that_cannot_be_read_for_any_reason_is_not_taken_for_the_last_one() -> None:
    answers: list[Any] = [[CameraReading("state", "idle")], RuntimeError("of a new unit"), []]

    class Unit:
        def readings(self) -> list[CameraReading]:
            answer = answers.pop(0) if len(answers) > 1 else answers[0]
            if isinstance(answer, Exception):
                raise answer
            seen.append(watch.readings)
            return list(answer)

    seen: list[Any] = []
    watch = status.StatusWatch(Unit(), 0.01)  # type: ignore[arg-type]
    watch.begin()
    wait_until(lambda: len(seen) > 2, "it asks again")
    watch.close()
    assert seen[:3] == [(), status.NO_ANSWER, ()]


@pytest.mark.filterwarnings("ignore::pytest.PytestUnhandledThreadExceptionWarning")
def test_the_thread_that_asks_for_the_status_is_begun_again_when_it_has_died() -> None:
    class Unit:
        deadly = True

        def readings(self) -> list[CameraReading]:
            if self.deadly:
                raise KeyboardInterrupt  # no part of stemd expects it
            return [CameraReading("state", "idle")]

    unit = Unit()
    watch = status.StatusWatch(unit, 0.01)  # type: ignore[arg-type]
    watch.begin()
    wait_until(lambda: not status_threads(), "it has died")
    unit.deadly = False
    wait_until(lambda: watch.readings, "it asks again")
    watch.close()


def status_threads() -> list[threading.Thread]:
    """Those that ask a control unit."""
    return [each for each in threading.enumerate() if each.name == "dectris-status"]


class OlderUnit(ControlUnit):
    """A control unit without stream2, without the mask, and one that tells no state."""

    def answer(self, method: str, path: str, body: bytes) -> tuple[int, Any]:
        told = path.endswith(("/status/state", "/status/keys", "/config/format"))
        if told or (path.endswith("header_detail") and b"all" in body):
            return 404 if told else 500, {"error": "not implemented"}
        if path == "/detector/api/version":
            return 308, {}
        return super().answer(method, path, body)


def test_a_control_unit_that_knows_less_is_set_up_as_far_as_it_goes() -> None:
    virtual = Virtual(wait_for_start=True, stream_format="legacy")
    camera = virtual.camera
    camera.unit.__class__ = OlderUnit
    running = Running(camera.data_port, SCAN_28, control_port=camera.control_port)
    wait_until(lambda: running.outcome.notices["camera_status"], "its state was told")
    said = running.outcome.texts[0]
    assert "state unknown" in said
    assert "no stream2" in said
    assert "pixel mask does not come" in said
    assert camera.unit.config["stream"]["header_detail"] == "basic"
    assert running.adapter.command("start", {})["frames"] == 28
    running.reasons("complete")
    running.close()
    virtual.close()


def test_a_control_unit_that_never_answers_keeps_nobody_from_stopping() -> None:
    with zmq.Context() as context, context.socket(zmq.PUSH) as socket:
        port = socket.bind_to_random_port("tcp://127.0.0.1")
        with create_server(("127.0.0.1", 0)) as silent:
            running = Running(port, control_port=silent.getsockname()[1])
            silent.settimeout(20.0)
            peer, _ = silent.accept()
            began = time.monotonic()
            running.close()
            assert time.monotonic() - began < patience(1.0)
            peer.close()


def test_without_a_control_port_commands_are_refused_in_words() -> None:
    adapter = PLUGIN.build(PLUGIN.settings())
    with pytest.raises(CameraError, match="control_port = 80"):
        adapter.command("start", {})


# Records


def record(folder: Path, stream: bytes, **more: Any) -> Path:
    path = folder / "raw.dectris"
    path.write_bytes(stream)
    mask = np.zeros((6, 10), np.uint32)
    mask[1, 2] = 1
    (folder / "raw.start").write_bytes(start(mask=mask, **more))
    return path


def read(path: Path, scan: Scan | None = SCAN, channel: str = "") -> tuple[DectrisRecording, Any]:
    recording = DectrisRecording(path, scan, channel)
    patterns: dict[int, Any] = {}
    for block in recording.blocks(0, recording.frames):
        for probe, picture in zip(block.probe.tolist(), block.patterns(), strict=True):
            if probe >= 0:
                patterns[probe] = picture.copy()
        block.release()
    return recording, patterns


@pytest.mark.parametrize("kind", ["cbor", "legacy"])
def test_a_record_gives_what_came_live(tmp_path: Path, kind: Kind) -> None:
    stream = b"".join(frame(n, kind=kind) for n in (0, 1, 2, 3, 5, 6, 7))
    recording, patterns = read(record(tmp_path, stream))
    assert sorted(patterns) == [0, 1, 2, 4, 5]
    np.testing.assert_array_equal(patterns[4], image(5))
    assert recording.acquisition.detector.mask is not None
    assert recording.acquisition.detector.mask[1, 2]
    assert [n.kind for n in recording.notices] == ["missing_frames"]
    recording.close()


def test_images_of_another_series_or_size_in_a_record_are_told_and_left_out(
    tmp_path: Path,
) -> None:
    stream = b"".join(frame(n) for n in range(8))
    other = frame(0, series=2) + frame(1, shape=(4, 4))
    recording, patterns = read(record(tmp_path, stream + other))
    assert (len(patterns), recording.frames) == (6, 8)
    assert [(n.kind, n.count) for n in recording.notices] == [("other_series", 2)]  # type: ignore[union-attr]
    recording.close()


def test_a_record_that_is_cut_off_or_damaged_gives_what_is_whole(tmp_path: Path) -> None:
    broken = bytearray(frame(2))
    head = broken.index(b"bslz4") + 8
    broken[head : head + 4] = b"\xff" * 4
    stream = frame(0) + frame(1) + bytes(broken) + frame(4) + frame(5)[:50]
    recording, patterns = read(record(tmp_path, stream))
    assert sorted(patterns) == [0, 1, 3]
    kinds = {n.kind for n in recording.notices}
    assert {"bad_frame", "partial_frame", "missing_frames"} == kinds
    recording.close()


@pytest.mark.parametrize(
    ("stream", "words"),
    [
        (b"", "empty"),
        (b"\xff" * 100, "begins no message"),
        (start(), "no image"),
        (series(range(4)), "do not fit"),
    ],
)
def test_what_is_no_record_is_refused_in_words(tmp_path: Path, stream: bytes, words: str) -> None:
    with pytest.raises(FormatError, match=words):
        read(record(tmp_path, stream), Scan(shape=(2, 3), flyback=5))


@pytest.mark.parametrize("kind", ["cbor", "legacy"])
@pytest.mark.parametrize("with_start", [False, True])
def test_a_record_is_served_again_as_it_came(tmp_path: Path, kind: Kind, with_start: bool) -> None:
    stream = b"".join(frame(n, kind=kind) for n in (0, 1, 2, 4, 5, 6, 7))
    path = record(tmp_path, stream, kind=kind)
    if not with_start:
        (tmp_path / "raw.start").unlink()
    virtual = Virtual(RecordSource(path))
    running = Running(virtual.camera.data_port)
    outcome = running.reasons("complete", "complete", "complete")
    running.close()
    virtual.close()
    assert outcome.scans[1].wire == stream
    assert len(outcome.scans[1].acquisition.sidecars) == with_start
    with pytest.raises(CameraError, match="raw"):
        RecordSource(tmp_path / "nothing.dectris")

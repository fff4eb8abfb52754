"""The virtual Merlin camera over real sockets, and each fault it can have."""

from __future__ import annotations

import itertools
import json
import os
import signal
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import tifffile

from stemd.acquisition import Scan
from stemd.adapters.merlin import encoder
from stemd.cli.main import main
from stemd.errors import CameraError
from stemd.virtual.diffraction import Camera
from stemd.virtual.faults import Faults
from stemd.virtual.merlin.camera import MerlinCamera, MerlinRunning
from stemd.virtual.merlin.frames import FileSource, RenderedSource
from stemd.virtual.microscope import Microscope, Setup
from tests.virtual.client import Client, ask, eventually

SETUP = Setup(
    Scan(shape=(3, 4), flyback=1, step_size_angstrom=0.5),
    specimen="mos2",
    dose=500.0,
    camera=Camera((16, 24), 4.0),
)
FRAMES = 15
FAST = MerlinRunning(port=0, control_port=0, rate=0.0, scans=1, gap_s=0.0)

Start = Callable[..., MerlinCamera]


def source(depth: int = 12, **options: object) -> RenderedSource:
    camera = encoder.Camera(SETUP.camera.shape, depth)
    return RenderedSource(Microscope(SETUP), camera, **options)  # type: ignore[arg-type]


@pytest.fixture
def start() -> Iterator[Start]:
    begun: list[tuple[MerlinCamera, threading.Thread]] = []

    def make(running: MerlinRunning = FAST, frames: object = None) -> MerlinCamera:
        camera = MerlinCamera(frames or source(), running)  # type: ignore[arg-type]
        thread = threading.Thread(target=camera.run, daemon=True)
        thread.start()
        begun.append((camera, thread))
        return camera

    yield make
    for camera, thread in begun:
        camera.close()
        thread.join(10)
        assert not thread.is_alive()


def frames_of(client: Client, count: int) -> list[bytes]:
    got = [client.message() for _ in range(count)]
    return [payload for payload in got if payload is not None]


def number(frame: bytes) -> int:
    assert frame[:4] == b"MQ1,"
    return int(frame[4:10])


@pytest.mark.parametrize(("depth", "dtype"), [(6, ">u1"), (12, ">u2"), (24, ">u4")])
def test_a_scan_is_a_hdr_and_numbered_frames_that_hold_the_rendered_counts(
    start: Start, depth: int, dtype: str
) -> None:
    camera = start(FAST, source(depth))
    client = Client(camera.data_port)
    hdr = client.message()
    assert hdr is not None
    assert hdr.startswith(b"HDR,")
    assert b"Frames in Acquisition (Number):\t15" in hdr
    frames = frames_of(client, FRAMES)
    assert [number(frame) for frame in frames] == list(range(1, FRAMES + 1))
    seen = np.array([np.frombuffer(f[384:], dtype).reshape(16, 24) for f in frames])
    expected = np.concatenate(list(Microscope(SETUP).counts(0, 0, FRAMES, np.uint32, 2**depth - 1)))
    assert np.array_equal(seen, expected)
    assert client.message() is None
    client.close()


def test_raw_frames_hold_the_same_counts_in_packed_words(start: Start) -> None:
    setup = replace(
        SETUP, scan=Scan(shape=(1, 2), step_size_angstrom=1.0), camera=Camera((256, 256), 0.4)
    )
    raw = encoder.Camera((256, 256), 12, raw=True)
    camera = start(FAST, RenderedSource(Microscope(setup), raw))
    client = Client(camera.data_port)
    client.message()
    expected = np.concatenate(list(Microscope(setup).counts(0, 0, 2)))
    for frame, counts in zip(frames_of(client, 2), expected, strict=True):
        words = np.frombuffer(frame[384:], ">u2").reshape(256, 64, 4)
        assert np.array_equal(words[:, :, ::-1].reshape(256, 256), counts)
    client.close()


def test_scans_follow_each_other_with_a_new_hdr_and_new_noise(start: Start) -> None:
    camera = start(replace(FAST, scans=2))
    client = Client(camera.data_port)
    scans = []
    for _ in range(2):
        hdr = client.message()
        assert hdr is not None
        assert hdr.startswith(b"HDR,")
        scans.append(b"".join(frame[384:] for frame in frames_of(client, FRAMES)))
    assert client.message() is None
    assert scans[0] != scans[1]
    client.close()


def test_a_pool_of_patterns_is_sent_over_and_over_with_running_numbers(start: Start) -> None:
    camera = start(FAST, source(pool=4))
    client = Client(camera.data_port)
    client.message()
    frames = frames_of(client, FRAMES)
    assert [number(frame) for frame in frames] == list(range(1, FRAMES + 1))
    assert all(frames[i][384:] == frames[i % 4][384:] for i in range(FRAMES))
    assert client.message() is None
    client.close()


def test_a_second_client_gets_nothing_until_the_first_has_gone(start: Start) -> None:
    camera = start(replace(FAST, scans=0, wait_for_start=True))
    first, second = Client(camera.data_port), Client(camera.data_port)
    assert ask(camera.control_port, "CMD,STARTACQUISITION,0").endswith(",0")
    served, idle = first, second
    for client, other in ((first, second), (second, first)):
        try:
            client.more(0.5)
            served, idle = client, other
        except TimeoutError:
            continue
    assert served.message() is not None
    with pytest.raises(TimeoutError):
        idle.more(0.3)
    frames_of(served, FRAMES)
    served.close()
    assert eventually(lambda: ask(camera.control_port, "CMD,STARTACQUISITION,0").endswith(",0"))
    assert idle.message() is not None
    idle.close()


def test_a_client_may_leave_in_mid_scan_and_the_next_one_gets_a_whole_scan(start: Start) -> None:
    camera = start(replace(FAST, scans=2, rate=100.0))
    first = Client(camera.data_port)
    first.message()
    frames_of(first, 2)
    first.close()
    second = Client(camera.data_port)
    hdr = second.message()
    assert hdr is not None
    assert hdr.startswith(b"HDR,")
    assert [number(frame) for frame in frames_of(second, FRAMES)] == list(range(1, FRAMES + 1))
    second.close()


def test_commands_start_trigger_and_stop_acquisitions(start: Start) -> None:
    camera = start(replace(FAST, scans=0, wait_for_start=True, rate=50.0))
    port = camera.control_port
    client = Client(camera.data_port)
    with pytest.raises(TimeoutError):
        client.more(0.4)
    assert ask(port, "GET,IMAGEX,0") == "GET,IMAGEX,24,0"
    assert ask(port, "GET,IMAGEY,0") == "GET,IMAGEY,16,0"
    assert ask(port, "SET,NUMFRAMESTOACQUIRE,2") == "SET,NUMFRAMESTOACQUIRE,0"
    assert ask(port, "SET,NUMFRAMESTOACQUIRE,-2") == "SET,NUMFRAMESTOACQUIRE,3"
    assert ask(port, "SET,NOSUCHTHING,2") == "SET,NOSUCHTHING,2"
    assert ask(port, "SET,TRIGGERSTART,5") == "SET,TRIGGERSTART,0"
    assert ask(port, "CMD,STARTACQUISITION,0") == "CMD,STARTACQUISITION,0"
    hdr = client.message()
    assert hdr is not None
    assert b"Frames in Acquisition (Number):\t2\r\n" in hdr
    with pytest.raises(TimeoutError):
        client.more(0.4)
    assert ask(port, "CMD,STARTACQUISITION,0") == "CMD,STARTACQUISITION,1"
    assert ask(port, "CMD,SOFTTRIGGER,0") == "CMD,SOFTTRIGGER,0"
    assert len(frames_of(client, 2)) == 2
    with pytest.raises(TimeoutError):
        client.more(0.4)
    assert ask(port, "SET,TRIGGERSTART,0") == "SET,TRIGGERSTART,0"
    assert ask(port, "SET,NUMFRAMESTOACQUIRE,0") == "SET,NUMFRAMESTOACQUIRE,0"  # endless
    assert ask(port, "CMD,STARTACQUISITION,0") == "CMD,STARTACQUISITION,0"
    client.message()
    frames_of(client, FRAMES + 3)
    assert ask(port, "CMD,STOPACQUISITION,0") == "CMD,STOPACQUISITION,0"
    client.until_silent()
    last = [number(frame) for frame in frames_of(client, client.data.count(b"MQ1,"))]
    assert last == sorted(last)
    assert client.data == b""  # stopped between two messages, not within one
    client.close()


def test_the_rate_is_kept(start: Start) -> None:
    camera = start(replace(FAST, rate=100.0))
    client = Client(camera.data_port)
    client.message()
    frames = frames_of(client, FRAMES)

    def stamp(frame: bytes) -> int:
        return int(np.datetime64(frame.split(b"MQ1A,")[1][:29].decode(), "ns").astype(np.int64))

    times = np.array([stamp(frame) for frame in frames])
    assert np.all(np.diff(times) == 10_000_000)
    client.close()


def test_a_recording_is_replayed_byte_for_byte(start: Start, tmp_path: Path) -> None:
    camera_shape = encoder.Camera((16, 24), 12)
    counts = np.concatenate(list(Microscope(SETUP).counts(0, 0, 5)))
    recorded = b"".join(
        encoder.encode_frame(pattern, camera_shape, 7 + i) for i, pattern in enumerate(counts)
    )
    file = tmp_path / "scan.mib"
    file.write_bytes(recorded + recorded[:100])
    file.with_suffix(".hdr").write_bytes(b"HDR,\t\r\nFrames in Acquisition (Number):\t5\r\nEnd\t")
    client = Client(start(FAST, FileSource(file)).data_port)
    assert client.message() == file.with_suffix(".hdr").read_bytes()
    assert b"".join(frames_of(client, 5)) == recorded
    assert client.message() is None
    client.close()


def test_a_file_that_is_no_recording_is_refused(tmp_path: Path) -> None:
    with pytest.raises(CameraError, match=r"none\.mib"):
        FileSource(tmp_path / "none.mib")


def with_faults(**faults: object) -> MerlinRunning:
    return replace(FAST, faults=Faults(**faults))  # type: ignore[arg-type]


def test_drop_leaves_frames_out_and_keeps_the_others_numbers(start: Start) -> None:
    client = Client(start(with_faults(drop=0.4)).data_port)
    client.message()
    numbers = []
    while (frame := client.message()) is not None:
        numbers.append(number(frame))
    assert 0 < len(numbers) < FRAMES
    assert numbers == sorted(set(numbers))
    client.close()


def test_garbage_stands_between_whole_messages(start: Start) -> None:
    data = Client(start(with_faults(garbage=0.5)).data_port).everything()
    size = 384 + 16 * 24 * 2
    prefix = b"MPX,%010d,MQ1," % (size + 1)
    starts = [i for i in range(len(data)) if data.startswith(prefix, i)]
    assert len(starts) == FRAMES
    assert any(b - a > size + 15 for a, b in itertools.pairwise(starts))


def test_junk_first_precedes_the_hdr(start: Start) -> None:
    data = Client(start(with_faults(junk_first=True)).data_port).everything()
    assert data.index(b"MPX,") > 0
    assert data[data.index(b"MPX,") + 15 :].startswith(b"HDR,")


def test_disconnect_happens_once_after_so_many_frames(start: Start) -> None:
    camera = start(replace(FAST, disconnect_after=6, scans=2))
    first = Client(camera.data_port)
    first.message()
    assert len(frames_of(first, 6)) == 6
    assert first.message() is None
    second = Client(camera.data_port)
    second.message()
    assert len(frames_of(second, FRAMES)) == FRAMES
    first.close()
    second.close()


def test_stall_goes_silent_with_the_connection_open(start: Start) -> None:
    client = Client(start(with_faults(stall_after=5)).data_port)
    client.message()
    frames_of(client, 5)
    with pytest.raises(TimeoutError):
        client.more(0.5)
    client.close()


def test_stop_early_ends_each_scan_before_its_last_frame(start: Start) -> None:
    client = Client(start(replace(with_faults(stop_early=4), scans=2)).data_port)
    for _ in range(2):
        hdr = client.message()
        assert hdr is not None
        assert hdr.startswith(b"HDR,")
        assert [number(frame) for frame in frames_of(client, 4)] == [1, 2, 3, 4]
    assert client.message() is None
    client.close()


def test_lie_length_declares_one_message_too_long(start: Start) -> None:
    data = Client(start(with_faults(lie_length=3)).data_port).everything()
    at = data.index(b"MQ1,000003,") - 15
    true = data.index(b"MQ1,000004,") - 15 - at - 14
    assert int(data[at + 4 : at + 14]) == true + 1000


def test_pad_space_fills_headers_with_spaces(start: Start) -> None:
    client = Client(start(FAST, source(pad_space=True)).data_port)
    client.message()
    frame = client.message()
    assert frame is not None
    assert b"\0" not in frame[:384]
    assert frame[380:384] == b"    "
    client.close()


def test_a_port_in_use_is_named_with_a_remedy(start: Start) -> None:
    camera = start(replace(FAST, scans=0))
    with pytest.raises(CameraError, match=str(camera.data_port)) as raised:
        MerlinCamera(source(), replace(FAST, port=camera.data_port))
    assert "another port" in raised.value.remedy


@pytest.mark.slow
def test_the_command_reports_its_ports_writes_the_truth_and_ends_cleanly(tmp_path: Path) -> None:
    command = [sys.executable, "-m", "stemd", "virtual", "merlin", "--port", "0", "--json"]
    command += ["--control-port", "0", "--scan", "6x8", "--detector", "16x16", "--step", "0.5"]
    command += ["--specimen", "srtio3", "--truth", str(tmp_path / "truth")]
    process = subprocess.Popen(command, stdout=subprocess.PIPE, env={**os.environ})
    assert process.stdout is not None
    ready = json.loads(process.stdout.readline())
    assert ready["event"] == "ready"
    client = Client(ready["data_port"])
    assert client.message() is not None
    assert len(frames_of(client, 48)) == 48
    process.send_signal(signal.SIGTERM)
    assert process.wait(20) == 0
    process.stdout.close()
    client.close()
    phase = tifffile.imread(tmp_path / "truth" / "phase.tif")
    assert phase.shape == (6, 8)
    assert phase[0, 0] == phase.max()  # a strontium column stands at the first position


@pytest.mark.parametrize(
    ("arguments", "hint"),
    [
        (["--specimen", "strio3"], "srtio3"),
        (["--dtype", "U16", "--depth", "24"], "--depth 24"),
        (["--dtype", "R64"], "256x256"),
        (["--file", "nowhere.mib"], "nowhere.mib"),
        (["--pixel-size-mrad", "40", "--detector", "64x64"], "pixel-size"),
        (["--scan", "99999999x9999999"], "--scan 99999999x9999999: "),
        (["--scan", "65536x65536"], "--scan 65536x65536: a scan has at most 67108864 positions"),
        (["--step", "2e9"], "--step 2000000000.0: "),
        (["--flyback", "65537"], "--flyback 65537: "),
    ],
)
def test_mistakes_on_the_command_line_are_named(
    arguments: list[str], hint: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["virtual", "merlin", *arguments]) in (1, 2)
    shown = capsys.readouterr().err
    assert hint in shown
    assert "Traceback" not in shown


@pytest.mark.parametrize(
    "arguments",
    [["--port", "99999"], ["--control-port", "-1"], ["--drives", "mqtt://h:99999"]],
)
def test_a_port_that_no_computer_has_is_a_mistake_and_no_traceback(
    arguments: list[str], capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(SystemExit) as ended:
        main(["virtual", "merlin", "=".join(arguments)])
    assert ended.value.code == 2
    assert f"error: argument {arguments[0]}: {arguments[1]!r}" in capsys.readouterr().err

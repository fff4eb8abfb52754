"""The record is the camera's bytes, whatever the disk does."""

from __future__ import annotations

import hashlib
import os
import subprocess
import threading
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest

from stemd.acquisition import Acquisition
from stemd.blocks import BlockPool, FrameBlock
from stemd.errors import StemdError
from stemd.storage.recorder import RawRecorder
from tests.conftest import an_acquisition, wait_until

FRAME_BYTES = 4096
needs_root = pytest.mark.skipif(os.geteuid() != 0, reason="mounting a small disk needs root")


def acquisition() -> Acquisition:
    return an_acquisition(raw_name="raw.mib", sidecars=(("raw.hdr", b"HDR,\r\n"),))


class Camera:
    """Fills pool buffers with random bytes and offers them; keeps a copy for comparison."""

    def __init__(self, recorder: RawRecorder, of: Acquisition, buffers: int = 8) -> None:
        self.pool = BlockPool(buffers * 4 * FRAME_BYTES, 4 * FRAME_BYTES)
        self.frames = self.pool.configure(FRAME_BYTES)
        self.sent = bytearray()
        self.stop = threading.Event()
        self._recorder = recorder
        self._of = of
        self._random = np.random.default_rng(1)

    def send(self, count: int | None = None) -> bool:
        count = self.frames if count is None else count
        buffer = self.pool.take()
        wire = buffer.bytes[: count * FRAME_BYTES]
        wire[:] = self._random.integers(0, 256, wire.size, np.uint8)
        block = FrameBlock(
            self._of, wire, 0, FRAME_BYTES, count, (64, 32), "u2", True,
            buffer.sequence[:count], buffer.probe[:count], wire, 0, buffer,
        )  # fmt: skip
        self.sent += wire.tobytes()
        taken = self._recorder.offer(block, self.stop)
        block.release()
        return taken


def test_the_record_holds_the_wire_bytes_in_order_with_checksum_and_sidecars(
    tmp_path: Path,
) -> None:
    recorder = RawRecorder(reserve_bytes=0)
    camera = Camera(recorder, acquisition())
    recorder.start(acquisition(), tmp_path)
    for number in range(50):
        assert camera.send(1 + number % 4)
    raw, header = recorder.finish()
    assert (tmp_path / "raw.mib").read_bytes() == camera.sent
    assert raw.sha256 == hashlib.sha256(camera.sent).hexdigest()
    assert (raw.name, raw.bytes, raw.complete) == ("raw.mib", len(camera.sent), True)
    assert (tmp_path / header.name).read_bytes() == b"HDR,\r\n"
    assert sorted(path.name for path in tmp_path.iterdir()) == ["raw.hdr", "raw.mib"]
    assert camera.pool.free == camera.pool.buffers


def test_a_disk_that_is_late_keeps_no_buffers_of_a_slow_camera(tmp_path: Path) -> None:
    """A buffer holds four frames, and one comes at a time: bytes wait, not buffers."""
    recorder = RawRecorder(reserve_bytes=0)
    camera, go = Camera(recorder, acquisition()), threading.Event()
    recorder.start(acquisition(), tmp_path, go.wait)
    for _ in range(100):
        assert camera.send(1)
    assert camera.pool.free >= camera.pool.buffers - 1
    assert recorder.waits == 0
    go.set()
    raw, _ = recorder.finish()
    assert (tmp_path / "raw.mib").read_bytes() == camera.sent
    assert raw.sha256 == hashlib.sha256(camera.sent).hexdigest()


def test_one_recorder_records_scan_after_scan(tmp_path: Path) -> None:
    recorder = RawRecorder(reserve_bytes=0)
    for number in range(3):
        folder = tmp_path / str(number)
        folder.mkdir()
        camera = Camera(recorder, acquisition())
        recorder.start(acquisition(), folder)
        for _ in range(number):
            camera.send()
        assert recorder.finish()[0].bytes == len(camera.sent)
        assert (folder / "raw.mib").read_bytes() == camera.sent


def test_while_a_scan_runs_its_record_carries_another_name(tmp_path: Path) -> None:
    recorder = RawRecorder(reserve_bytes=0)
    camera = Camera(recorder, acquisition())
    recorder.start(acquisition(), tmp_path)
    camera.send()
    wait_until(lambda: recorder.bytes_written == len(camera.sent), "the block was written")
    assert (tmp_path / "raw.mib.part").read_bytes() == camera.sent
    assert not (tmp_path / "raw.mib").exists()
    recorder.finish()


def test_when_the_disk_is_slow_the_camera_waits_and_nothing_is_lost(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    gate = threading.Event()
    write = os.write

    def slow_write(fd: int, data: memoryview) -> int:
        gate.wait(10)
        return write(fd, data[:1000])  # and in pieces

    recorder = RawRecorder(queue_bytes=2 * 4 * FRAME_BYTES, reserve_bytes=0)
    camera = Camera(recorder, acquisition())
    recorder.start(acquisition(), tmp_path)
    monkeypatch.setattr(os, "write", slow_write)
    sender = threading.Thread(target=lambda: [camera.send() for _ in range(6)])
    sender.start()
    wait_until(lambda: recorder.waits == 1, "the camera waits")
    assert recorder.queue_depth <= 2
    gate.set()
    sender.join(20)
    (raw, _) = recorder.finish()
    assert (tmp_path / "raw.mib").read_bytes() == camera.sent
    assert raw.complete


def test_a_camera_that_waits_for_the_disk_is_released_when_the_pipeline_stops(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    gate = threading.Event()
    write = os.write
    recorder = RawRecorder(queue_bytes=FRAME_BYTES, reserve_bytes=0)
    camera = Camera(recorder, acquisition())
    recorder.start(acquisition(), tmp_path)
    monkeypatch.setattr(os, "write", lambda fd, data: gate.wait(10) and write(fd, data))
    taken: list[bool] = []
    sender = threading.Thread(target=lambda: taken.extend(camera.send(1) for _ in range(2)))
    sender.start()
    wait_until(lambda: recorder.waits == 1, "the camera waits")
    camera.stop.set()
    sender.join(10)
    gate.set()
    (raw, _) = recorder.finish()
    assert taken == [True, False]
    assert raw.complete is False
    assert (tmp_path / "raw.mib").read_bytes() == camera.sent[:FRAME_BYTES]


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    """A tmpfs of 8 MiB."""
    folder = tmp_path / "disk"
    folder.mkdir()
    subprocess.run(["mount", "-t", "tmpfs", "-o", "size=8m", "tmpfs", folder], check=True)
    yield folder
    subprocess.run(["umount", "-l", folder], check=True)


@needs_root
def test_on_a_full_disk_recording_stops_keeps_whole_frames_and_the_scan_goes_on(
    small_disk: Path,
) -> None:
    errors: list[StemdError] = []
    recorder = RawRecorder(errors.append, reserve_bytes=0)
    camera = Camera(recorder, acquisition())
    recorder.start(acquisition(), small_disk)
    taken = [camera.send(3) for _ in range(1000)]  # 12 MiB
    (raw, _) = recorder.finish()
    content = (small_disk / "raw.mib").read_bytes()
    assert taken[-1] is False
    assert len(content) % (3 * FRAME_BYTES) == 0
    assert 7 * 2**20 < len(content) < 8 * 2**20
    assert content == camera.sent[: len(content)]
    assert raw.sha256 == hashlib.sha256(content).hexdigest()
    assert raw.complete is False
    assert len(errors) == 1
    assert "no space left" in errors[0].message
    assert camera.pool.free == camera.pool.buffers


@needs_root
def test_recording_does_not_begin_where_no_room_would_be_left_for_images(small_disk: Path) -> None:
    errors: list[StemdError] = []
    recorder = RawRecorder(errors.append)
    camera = Camera(recorder, acquisition())
    recorder.start(acquisition(), small_disk)
    wait_until(lambda: recorder.error is not None, "it is given up")
    assert not camera.send()
    assert recorder.finish() == []
    assert "MiB are free" in errors[0].message
    assert list(small_disk.iterdir()) == []


def test_a_folder_that_is_not_there_is_reported_and_every_block_refused(tmp_path: Path) -> None:
    recorder = RawRecorder(reserve_bytes=0)
    camera = Camera(recorder, acquisition())
    recorder.start(acquisition(), tmp_path / "gone")
    wait_until(lambda: recorder.error is not None, "it is given up")
    assert [camera.send() for _ in range(20)] == [False] * 20
    assert recorder.finish() == []


def test_a_name_from_a_camera_that_leaves_the_folder_is_refused(tmp_path: Path) -> None:
    recorder = RawRecorder(reserve_bytes=0)
    for bad in (
        an_acquisition(raw_name="../raw.mib"),
        an_acquisition(raw_name="raw.mib", sidecars=(("../raw.hdr", b"x"),)),
    ):
        recorder.start(bad, tmp_path)
        assert recorder.finish() == []
        assert recorder.error is not None
    assert list(tmp_path.iterdir()) == []

"""Recorded streams, and the record of a live scan read again."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from stemd.acquisition import Scan
from stemd.adapters.events.layout import Layout
from stemd.adapters.events.recording import EventRecording
from stemd.adapters.timepix3.recording import open_recording
from stemd.blocks import BlockPool, Ended, FrameBlock, Notice, Started
from stemd.errors import CameraError, ConfigError, FormatError, UsageError
from stemd.plugins import load

from .streams import Camera, Received, decoder, electrons, expected, receive, settings

SCAN = Scan(shape=(12, 17), flyback=3, dwell_time_us=1.0)


def read(recording: EventRecording) -> Received:
    got = Received()
    for message in recording.messages(BlockPool(8 << 20)):
        got.take(message)
    return got


def written(folder: Path, data: bytes, name: str = "raw.tpx3") -> Path:
    path = folder / name
    path.write_bytes(data)
    return path


def test_a_file_gives_the_same_hits_as_the_live_stream(tmp_path: Path) -> None:
    sent = electrons(SCAN, 40_000)
    stream = Camera().stream(sent)
    recording = open_recording(written(tmp_path, stream), settings=settings(SCAN))
    got = read(recording)
    assert (got.hits() == expected(sent)).all()
    assert [type(message) for message in got.messages] == [Started, Ended]
    (name,) = got.wire
    assert got.wire[name] == stream
    recording.close()


def test_the_plugin_opens_files_with_the_scan_alone(tmp_path: Path) -> None:
    sent = electrons(SCAN, 5000)
    path = written(tmp_path, Camera().stream(sent), "scan.tpx3")
    plugin = load("adapters", "timepix3")
    assert ".tpx3" in plugin.suffixes
    assert plugin.open_recording is not None
    recording = plugin.open_recording(path, SCAN)
    assert recording.acquisition.scan == SCAN
    assert recording.frames == SCAN.positions
    blocks = list(recording.blocks(0, recording.frames))
    probes = np.concatenate([block.probe[: block.count] for block in blocks])
    assert (np.sort(probes) == expected(sent)[:, 0]).all()


def test_part_of_the_positions_can_be_read(tmp_path: Path) -> None:
    sent = electrons(SCAN, 5000)
    recording = open_recording(written(tmp_path, Camera().stream(sent)), settings=settings(SCAN))
    rows = []
    runs = []
    for block in recording.blocks(50, 90):
        assert not isinstance(block, FrameBlock)
        rows.append(np.stack([block.probe[: block.count], block.y, block.x]).T)
        runs.extend(block.complete)
    found = np.concatenate(rows).astype(np.int64)
    wanted = expected(sent)
    wanted = wanted[(wanted[:, 0] >= 50) & (wanted[:, 0] < 90)]
    assert (found[np.lexsort(found.T[::-1])] == wanted).all()
    assert sorted(p for first, stop in runs for p in range(first, stop)) == list(range(50, 90))


@pytest.mark.parametrize("sync", ["tdc", "dwell"])
@pytest.mark.parametrize("pause", [0, 3_000_000])
def test_the_record_of_each_scan_read_again_gives_the_same_scan(
    tmp_path: Path, sync: str, pause: int
) -> None:
    line = SCAN.line_frames * 640
    period = 12 * line
    start = 0 if sync == "dwell" else 2**34 - 12 * line
    if sync == "dwell":
        pause = pause // period * period
    scans = [
        electrons(SCAN, 30_000, start=start + number * (period + pause), seed=number)
        for number in range(3)
    ]
    chosen = settings(SCAN, sync=sync, reorder_window_us=100.0)
    live = receive(
        Camera(late_words=20 if sync == "tdc" else 0).stream(*scans),
        decoder(chosen),
        cuts=[9000] * 1000,
        flush=lambda _: True,
    )
    assert len(live.ids) == 3
    for number, message in enumerate(live.of(Started)):
        acquisition = message.acquisition
        folder = tmp_path / str(number)
        folder.mkdir()
        path = written(folder, live.wire[acquisition.id], acquisition.raw_name)
        for name, content in acquisition.sidecars:
            (folder / name).write_bytes(content)
        again = read(open_recording(path, settings=chosen))
        assert (again.hits(0) == live.hits(number)).all()
        assert (again.hits(0) == expected(scans[number])).all()
        assert again.of(Ended)[0].reason == "complete"


def test_a_recording_that_was_cut_off_says_so_and_keeps_what_there_is(tmp_path: Path) -> None:
    sent = electrons(SCAN, 20_000)
    stream = Camera().stream(sent)
    path = written(tmp_path, stream[: len(stream) // 2 // 8 * 8 + 3])
    got = read(open_recording(path, settings=settings(SCAN)))
    assert "cut_off" in got.notices()
    assert got.of(Ended)[0].reason == "disconnected"
    (runs,) = got.complete.values()
    assert 0.3 < sum(stop - first for first, stop in runs) / SCAN.positions < 0.6


def test_a_file_without_any_scan_is_explained(tmp_path: Path) -> None:
    sent = electrons(SCAN, 500)
    path = written(tmp_path, Camera(edges=()).stream(sent))
    recording = open_recording(path, settings=settings(SCAN))
    with pytest.raises(FormatError, match="500 hits but no scan") as error:
        _ = recording.acquisition
    assert "tdc.input" in error.value.remedy


def test_files_that_cannot_be_read_are_explained(tmp_path: Path) -> None:
    with pytest.raises(CameraError, match="cannot be read"):
        open_recording(tmp_path / "none.tpx3", SCAN)
    with pytest.raises(CameraError, match="is empty"):
        open_recording(written(tmp_path, b""), SCAN)
    with pytest.raises(ConfigError, match="scan"):
        open_recording(written(tmp_path, b"12345678"))
    (tmp_path / "raw.sync.json").write_text("{}")
    with pytest.raises(FormatError, match=r"raw\.sync\.json"):
        open_recording(written(tmp_path, b"12345678"), SCAN)


def test_a_closed_recording_cannot_be_read(tmp_path: Path) -> None:
    path = written(tmp_path, Camera().stream(electrons(SCAN, 500)))
    recording = open_recording(path, settings=settings(SCAN))
    recording.close()
    with pytest.raises(CameraError, match="closed"):
        list(recording.messages())


def test_bare_words_are_recognised(tmp_path: Path) -> None:
    layout = Layout("single")
    sent = electrons(SCAN, 3000, layout=layout)
    bare = b"".join(part[8:] for part in Camera(layout=layout).chunks(sent))
    path = written(tmp_path, bare, "words.raw")
    got = read(open_recording(path, settings=settings(SCAN, layout="single")))
    assert (got.hits() == expected(sent)).all()


def test_any_scan_of_a_file_is_read_in_sections(tmp_path: Path) -> None:
    period = 12 * SCAN.line_frames * 640
    camera = Camera()
    scans = [
        electrons(SCAN, 6000, start=1_000_000 + number * (period + 500_000), seed=number)
        for number in range(3)
    ]
    path = written(tmp_path, b"".join(camera.stream(sent) for sent in scans))
    whole = open_recording(path, settings=settings(SCAN))
    for number, sent in enumerate(scans, 1):
        recording = whole.numbered(number)
        sections, whole_scan = Received(), Received()
        for got in (sections, whole_scan):
            got.take(Started(recording.acquisition))
        noticed: list[Notice] = []
        checkpoint, stop = None, 5000
        while True:
            blocks = recording.resume(recording.acquisition, checkpoint, stop, noticed)
            checkpoint = yield_all(blocks, sections)
            if checkpoint is None:
                break
            stop = int(checkpoint["position"][0]) + 5000
        yield_all(recording.blocks(0, SCAN.positions), whole_scan)
        assert (sections.hits() == expected(sent)).all()
        assert (whole_scan.hits() == expected(sent)).all()
        assert sections.complete == whole_scan.complete
        assert [each.kind for each in noticed] == ["several_scans"] * (number < 3)
        assert (
            f"--scan-number {number + 1} " in (noticed[0].remedy if noticed else "") or number == 3
        )
    with pytest.raises(UsageError, match="holds 3 scans"):
        _ = whole.numbered(4).acquisition
    whole.close()


def yield_all(blocks: Iterator[Any], got: Received) -> Any:
    """Take all blocks in; what the generator returns."""
    while True:
        try:
            got.take(next(blocks))
        except StopIteration as end:
            return end.value

"""Recorded streams, and the record of a live scan read again."""

from __future__ import annotations

import json
import random
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import settings as hypothesis_settings
from hypothesis import strategies as st

from stemd.acquisition import Scan
from stemd.adapters.events.layout import Layout
from stemd.adapters.events.recording import EventRecording
from stemd.adapters.timepix3.recording import open_recording
from stemd.adapters.timepix3.settings import Timepix3Settings
from stemd.adapters.timepix3.words import chunk
from stemd.blocks import BlockPool, Ended, FrameBlock, Notice, Started
from stemd.errors import CameraError, ConfigError, FormatError, UsageError
from stemd.plugins import load

from .line_truth import Plan, make, spoil
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


def chunked(stream: bytes, size: int) -> bytes:
    """The words of a stream with one in each chunk, in chunks of so many from all chips."""
    words = np.frombuffer(stream, np.uint64)
    chips, words = words[::2] >> np.uint64(32) & np.uint64(0xFF), words[1::2]
    groups = [slice(begin, begin + size) for begin in range(0, words.size, size)]
    parts = [(words[at][chips[at] == chip], chip) for at in groups for chip in range(4)]
    return b"".join(chunk(mine, chip) for mine, chip in parts if mine.size)


def positions_done(got: Received, name: str, positions: int) -> np.ndarray:
    done = np.zeros(positions, bool)
    for first, stop in got.complete.get(name, []):
        done[first:stop] = True
    return done


def each_again(
    folder: Path, live: Received, chosen: Timepix3Settings, forgotten: str = ""
) -> Iterator[tuple[int, Received]]:
    """The record of each scan, read; `forgotten` is left out of what stands beside it."""
    for number, message in enumerate(live.of(Started)):
        acquisition = message.acquisition
        beside = folder / str(number)
        beside.mkdir(parents=True)
        path = written(beside, live.wire[acquisition.id], acquisition.raw_name)
        for name, content in acquisition.sidecars:
            said = {key: value for key, value in json.loads(content).items() if key != forgotten}
            (beside / name).write_text(json.dumps(said))
        yield number, read(open_recording(path, settings=chosen))


def faulty_scans(rng: random.Random) -> tuple[Plan, bytes]:
    plan = Plan(
        ny=rng.choice([12, 30]),
        scans=rng.choice([1, 2, 3]),
        chips=rng.choice([1, 4]),
        one_chip=rng.random() < 0.5,
        wobble=rng.choice([0.0, 0.01]),
        pause=rng.choice([0, 3 * 12_800 + 1234, 40 * 12_800]),
    )
    spoil(plan, 0.15, rng)
    return plan, chunked(make(plan, rng).stream, rng.choice([1, 30, 246]))


@hypothesis_settings(max_examples=40, deadline=None, derandomize=True)
@given(seed=st.integers(0, 1 << 30), window_us=st.sampled_from([20.0, 500.0, 2000.0]))
def test_the_record_of_a_scan_with_faulty_pulses_gives_what_the_live_scan_gave(
    tmp_path_factory: pytest.TempPathFactory, seed: int, window_us: float
) -> None:
    rng = random.Random(seed)
    plan, stream = faulty_scans(rng)
    scan = Scan(shape=(plan.ny, plan.nx), flyback=plan.flyback)
    layout = "quad" if plan.chips > 1 else "single"
    chosen = settings(scan, layout=layout, reorder_window_us=window_us)
    cuts = [rng.choice([8, 64, 512, 4096]) for _ in range(20_000)]
    made = decoder(chosen, BlockPool(64 << 20), headers_required=True)
    live = receive(stream, made, cuts, flush=lambda _: True)
    for number, again in each_again(tmp_path_factory.mktemp("records"), live, chosen):
        assert (again.hits(0) == live.hits(number)).all()
        wanted = positions_done(live, live.ids[number], scan.positions)
        assert (positions_done(again, again.ids[0], scan.positions) == wanted).all()


def test_a_first_line_without_a_pulse_is_missing_in_the_record_of_an_earlier_version(
    tmp_path: Path,
) -> None:
    plan = Plan(faults={0: "late"})
    made = make(plan, random.Random(0))
    chosen = settings(Scan(shape=(plan.ny, plan.nx), flyback=plan.flyback), layout="single")
    live = receive(made.stream, decoder(chosen, headers_required=True))
    assert json.loads(dict(live.of(Started)[0].acquisition.sidecars)["raw.sync.json"])["first_row"]
    positions = plan.ny * plan.nx
    wanted = positions_done(live, live.ids[0], positions)
    assert np.flatnonzero(~wanted).tolist() == list(range(plan.nx))
    ((_, again),) = each_again(tmp_path, live, chosen, forgotten="known")
    assert (positions_done(again, again.ids[0], positions) == wanted).all()
    assert "line_holes" in again.notices()


@pytest.mark.parametrize(
    "spoilt",
    [
        {"state": {}},
        {"lines": [[0.0] * 3]},
        {"lines": [[0.0, 1.0, 1.0, 0, 1 << 40, 0, 0.0]]},
        {"waits": [[0.0]] * 1000},
        {"lines": 7},
    ],
)
def test_what_another_version_knew_of_the_pulses_is_left_out(
    tmp_path: Path, spoilt: dict[str, object]
) -> None:
    sent = electrons(SCAN, 5000)
    live = receive(Camera().stream(sent), decoder(settings(SCAN)))
    begun = live.of(Started)[0].acquisition
    path = written(tmp_path, live.wire[begun.id])
    said = json.loads(dict(begun.sidecars)["raw.sync.json"])
    said["known"] |= spoilt
    path.with_suffix(".sync.json").write_text(json.dumps(said))
    again = read(open_recording(path, settings=settings(SCAN)))
    assert (again.hits() == expected(sent)).all()


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

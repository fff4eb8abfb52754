"""Event cameras that scan one place several times: every hit in its frame, one scan in all."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from stemd.acquisition import Scan
from stemd.adapters.events.sync_start import SyncStart
from stemd.adapters.events.ticks import TICKS_PER_US
from stemd.adapters.timepix3 import csr
from stemd.adapters.timepix3.recording import open_recording
from stemd.blocks import Block, BlockPool, Ended, EventBlock, Notice, Started

from .streams import Camera, Electrons, decoder, electrons, expected, receive, settings

FRAMES = 4
SCAN = Scan(shape=(12, 17), flyback=3, repeats=FRAMES, dwell_time_us=1.0)
SIZE = SCAN.once.positions
LINE = SCAN.line_frames * 640
"""Ticks from line to line."""


def series(
    pauses: list[float], first: int = 1_000_000, seed: int = 0, hits: int = 1500
) -> list[Electrons]:
    """Frames one behind the other, so many line times between them; probes of the whole scan."""
    frames, start = [], first
    for number, pause in enumerate([0.0, *pauses]):
        start += round(pause * LINE)
        made = electrons(SCAN.once, hits, start=start, seed=seed + number)
        frames.append(
            replace(made, probe=np.where(made.probe >= 0, made.probe + number * SIZE, -1))
        )
        start += 12 * LINE
    return frames


def rows(frames: list[Electrons]) -> np.ndarray:
    """What `Received.hits` must give of frames one behind the other."""
    found = np.concatenate([expected(frame) for frame in frames])
    return np.asarray(found[np.lexsort(found.T[::-1])])


@pytest.mark.parametrize("pause", [0.0, 0.37, 5.0, 80.5])
def test_hits_go_to_their_frame_whatever_the_pause_and_the_cut(pause: float) -> None:
    frames = series([pause] * (FRAMES - 1))
    stream = Camera().stream(*frames)
    for cuts, flush in ([], 1000), ([3000, 17, 900] * 200, 2):
        made = decoder(settings(SCAN, idle_timeout_s=0.01))
        got = receive(stream, made, cuts=cuts, flush=lambda n, every=flush: n % every == 0)
        assert (got.hits() == rows(frames)).all()
        assert [type(message) for message in got.messages] == [Started, Ended]
        assert got.of(Ended)[0].reason == "complete"
        (name,) = got.wire
        assert got.wire[name] == stream
        seen = np.zeros(SCAN.positions, int)
        for first, stop in got.complete[name]:
            seen[first:stop] += 1
        assert (seen == 1).all()


def test_a_series_that_stops_early_ends_and_the_next_begins_with_its_first_frame() -> None:
    idle_s = 0.01
    whole = series([1.0] * (FRAMES - 1), first=1_000_000)
    late = 1_000_000 + 48 * LINE + round(3 * idle_s * 1e6 * TICKS_PER_US)
    after = series([1.0] * (FRAMES - 1), first=late, seed=50)
    made = decoder(settings(SCAN, idle_timeout_s=idle_s))
    got = receive(Camera().stream(*whole[:2], *after), made)
    assert [message.reason for message in got.of(Ended)] == ["idle", "complete"]
    assert (got.hits(0) == rows(whole[:2])).all()
    assert (got.hits(1) == rows(after)).all()


def test_hits_that_go_on_without_lines_end_a_series_that_lacks_frames() -> None:
    two = series([1.0])
    end = int(two[-1].line_starts[-1]) + LINE
    beam = replace(two[0], time=np.arange(end, end + 40_000_000, 20_000), line_starts=np.zeros(0))
    beam = replace(beam, y=beam.time * 0, x=beam.time * 0, probe=beam.time * 0 - 1)
    made = decoder(settings(SCAN, idle_timeout_s=0.01))
    got = receive(Camera().stream(*two, beam), made, eof=False)
    assert [message.reason for message in got.of(Ended)] == ["idle"]
    assert (got.hits() == rows(two)).all()


def test_a_frame_without_its_last_pulses_is_told_and_ends_the_series() -> None:
    frames = series([1.0] * (FRAMES - 1))
    cut = replace(frames[1], line_starts=frames[1].line_starts[:6])
    camera = Camera()
    stream = camera.stream(frames[0], cut)
    camera.counter += 1000  # the generator began anew
    got = receive(stream + camera.stream(*frames[2:]), decoder(settings(SCAN)))
    assert [message.reason for message in got.of(Ended)] == ["restarted", "disconnected"]
    assert "lines_too_few" in got.notices()
    first = rows(frames[:1])
    assert (got.hits(0)[: len(first)] == first).all()


def test_silence_between_frames_leaves_the_scan_incomplete() -> None:
    frames = series([2.0])
    made = decoder(settings(SCAN))
    got = receive(Camera().stream(*frames), made, eof=False)
    assert not got.of(Ended)
    assert not made.at_the_end
    for message in made.finish("idle", 1):
        got.take(message)
    assert [message.reason for message in got.of(Ended)] == ["idle"]
    assert (got.hits() == rows(frames)).all()


def test_the_dwell_clock_runs_on_through_all_frames() -> None:
    frames = series([0.0] * (FRAMES - 1), first=0)
    chosen = settings(SCAN, sync="dwell")
    got = receive(Camera().stream(*frames), decoder(chosen))
    assert (got.hits() == rows(frames)).all()
    assert [message.reason for message in got.of(Ended)] == ["complete"]


def test_the_record_of_a_series_is_read_again_from_its_first_frame() -> None:
    before, mine = series([2.0] * 3), series([2.0] * 3, first=1_000_000 + 70 * LINE, seed=90)
    got = receive(Camera().stream(*before, *mine), decoder(settings(SCAN)))
    begun = got.of(Started)[1].acquisition
    start = SyncStart.loads(dict(begun.sidecars)["raw.sync.json"], "raw.sync.json")
    again = receive(got.wire[begun.id], decoder(settings(SCAN), start=start))
    assert (again.hits() == rows(mine)).all()
    assert [message.reason for message in again.of(Ended)] == ["complete"]


def test_a_recording_in_sections_is_the_same_scan(tmp_path: Path) -> None:
    frames = series([3.0] * (FRAMES - 1), hits=20_000)
    path = tmp_path / "a.tpx3"
    path.write_bytes(Camera().stream(*frames))
    recording = open_recording(path, SCAN, settings(SCAN))
    assert recording.frames == SCAN.positions
    found: list[np.ndarray] = []
    complete: list[tuple[int, int]] = []

    def take(block: Block) -> None:
        assert isinstance(block, EventBlock)
        found.append(np.stack([block.probe[: block.count], block.y, block.x], 1).astype(np.int64))
        complete.extend(block.complete)
        block.release()

    noticed: list[Notice] = []
    checkpoint, stop, sections = None, 5000, 0
    while True:
        blocks = recording.resume(recording.acquisition, checkpoint, stop, noticed)
        try:
            while True:
                take(next(blocks))
        except StopIteration as end:
            checkpoint = end.value
        sections += 1
        if checkpoint is None:
            break
        stop = int(checkpoint["position"][0]) + 5000
    table = np.concatenate(found)
    assert sections > FRAMES
    assert (table[np.lexsort(table.T[::-1])] == rows(frames)).all()
    assert sum(stop - first for first, stop in complete) == SCAN.positions
    recording.close()


def test_a_sparse_stream_holds_the_frames_of_one_acquisition() -> None:
    scan = Scan(shape=(3, 4), repeats=2)
    indptr, one = np.arange(13), np.ones(12, np.int64)
    parts = [csr.acquisition_start((3, 4), (256, 256), tot=False)]
    for number in range(3):
        chunk = csr.array_chunk(indptr, np.arange(12) + 100 * number, one)
        parts += [csr.scan_start(number), chunk, csr.scan_end(number)]
    made = csr.CsrDecoder(settings(scan), BlockPool(8 << 20))
    got = receive(b"".join(parts), made)  # type: ignore[arg-type]
    assert [message.reason for message in got.of(Ended)] == ["complete", "disconnected"]
    assert (got.hits(0)[:, 0] == np.arange(24)).all()
    assert (got.hits(0)[:, 2] == np.r_[np.arange(12), np.arange(12) + 100]).all()

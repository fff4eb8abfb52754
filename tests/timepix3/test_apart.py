"""One stream by two threads gives what it gives by one, to the last byte."""

from __future__ import annotations

import itertools
import threading
from pathlib import Path
from typing import Any

import hypothesis.strategies as st
import numpy as np
import pytest
from hypothesis import HealthCheck, given
from hypothesis import settings as hypothesis_settings

from stemd.acquisition import Scan
from stemd.adapters.timepix3.recording import open_recording
from stemd.config.resolved import EngineConfig
from stemd.scan.processing import process_recording
from stemd.settings import Optics, Settings

from .streams import Camera, electrons

SCAN = Scan(shape=(30, 41), flyback=3, dwell_time_us=1.0)


def faulty_stream(seed: int, start: int, lost: float, drop: list[int], late: int) -> bytes:
    """Two scans of which chunks and pulses are lost, and others come late or twice."""
    random = np.random.default_rng(seed)
    line = SCAN.line_frames * 640
    camera = Camera(chunk_hits=300, drop=drop, late_words=late)
    parts: list[bytes] = []
    for number in range(2):
        begin = start + number * (SCAN.lines + 2) * line
        parts += camera.chunks(electrons(SCAN, 60_000, start=begin, seed=seed + number))
    kept = [part for part in parts if random.random() >= lost]
    if kept and lost:
        at = int(random.integers(0, len(kept)))
        kept[at : at + 2] = [
            kept[at][: 8 * int(random.integers(1, 9))],
            b"junk",
            *kept[at : at + 1],
        ]
    return b"".join(kept)


def images(path: Path, jobs: int) -> dict[str, Any]:
    """Everything that a recording gives."""
    engines = [
        EngineConfig.of("ricom", {"kernel_size": 11}),
        EngineConfig.of("virtual_detector", {"detectors_px": {"ring": (20.0, 120.0)}}),
        EngineConfig.of("pacbed", {}),
    ]
    chosen = {engine.name: engine.settings for engine in engines}
    settings = Settings(optics=Optics(mask="auto"), engines=chosen)
    run, final = process_recording(open_recording(path, SCAN), settings, engines, jobs)
    maps = run.sums.maps
    found = {
        name: getattr(maps, name).tobytes() for name in ("total", "moment_y", "moment_x", "done")
    }
    found |= {result.name: result.image.tobytes() for result in final.results}
    return {**found, "notices": run.notices, "counters": run.counters, "hits": run.intake.hits}


@hypothesis_settings(
    max_examples=8, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
@given(
    seed=st.integers(0, 10_000),
    start=st.sampled_from([1_000_000, 2**34 - 300_000]),
    lost=st.sampled_from([0.0, 0.05]),
    drop=st.lists(st.integers(1, 50), max_size=3),
    late=st.sampled_from([0, 400]),
)
def test_two_threads_make_the_images_of_one(
    tmp_path: Path, seed: int, start: int, lost: float, drop: list[int], late: int
) -> None:
    path = tmp_path / "scan.tpx3"
    path.write_bytes(faulty_stream(seed, start, lost, drop, late))
    one, two = images(path, 1), images(path, 2)
    assert one == two
    assert one["hits"] > 10_000


def test_whatever_ends_the_work_no_thread_reads_on(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "scan.tpx3"
    path.write_bytes(faulty_stream(1, 1_000_000, 0.0, [], 0))
    recording = open_recording(path, SCAN)
    blocks = recording.blocks
    endless = (block for _ in itertools.count() for block in blocks(0, recording.frames))
    monkeypatch.setattr(type(recording), "blocks", lambda *_: endless)

    def stopped(done: int, total: int) -> None:
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt) as caught:
        process_recording(recording, Settings(), [], 2, stopped)
    assert not [thread for thread in threading.enumerate() if thread.name == "ahead"]
    assert caught.traceback  # holds on to all that was there
    recording.close()

"""The virtual Timepix3 camera, and stemd's adapter on the other end."""

from __future__ import annotations

import argparse
import threading
from pathlib import Path

import numpy as np
import pytest

from stemd.acquisition import Scan
from stemd.adapters.events.layout import Layout
from stemd.adapters.timepix3.adapter import Timepix3Adapter
from stemd.blocks import BlockPool, Ended, Link
from stemd.errors import CameraError, UsageError
from stemd.virtual.diffraction import Camera
from stemd.virtual.microscope import Microscope, Setup
from stemd.virtual.timepix3 import command as timepix3_command
from stemd.virtual.timepix3.camera import Timepix3Camera, Timepix3Running
from stemd.virtual.timepix3.events import (
    EventSource,
    FileEvents,
    RenderedEvents,
    RepeatedEvents,
    Signals,
)

from .streams import Received, decoder, receive, settings

SCAN = Scan(shape=(16, 20), flyback=4, step_size_angstrom=0.5, dwell_time_us=10.0)
SETUP = Setup(SCAN, camera=Camera((32, 32), 2.5), dose=40.0, frame_time_s=1e-5)
SINGLE = Layout("single")


def truth(setup: Setup, number: int, layout: Layout) -> np.ndarray:
    """Rows (probe, y, x) of every electron that the microscope counts."""
    frames = np.concatenate(list(Microscope(setup).counts(number, 0, setup.scan.frames)))
    probe = setup.scan.probes(np.arange(setup.scan.frames))
    places = np.repeat(np.argwhere(frames), frames[frames > 0], axis=0)
    rows = np.stack([probe[places[:, 0]], places[:, 1], places[:, 2]]).T
    rows = rows[rows[:, 0] >= 0]
    rows[:, 1] += (layout.shape[0] - 32) // 2
    rows[:, 2] += (layout.shape[1] - 32) // 2
    return rows[np.lexsort(rows.T[::-1])]


def serve(source: EventSource, scans: int, **running: object) -> Received:
    """What the adapter receives from the camera over TCP."""
    camera = Timepix3Camera(
        source, Timepix3Running(port=0, rate=0, scans=scans, gap_s=0.0, **running)
    )  # type: ignore[arg-type]
    thread = threading.Thread(target=camera.run, daemon=True)
    thread.start()
    chosen = settings(
        SCAN,
        port=camera.data_port,
        layout="single",
        reorder_window_us=600.0,
        idle_timeout_s=60.0,
    )
    adapter = Timepix3Adapter(chosen)
    stop, got = threading.Event(), Received()
    ended = 0
    for message in adapter.read(BlockPool(16 << 20), stop):
        got.take(message)
        ended += isinstance(message, Ended)
        lost = len(got.of(Link)) >= (4 if running.get("disconnect_after") else 2)
        if lost and ended >= scans:
            stop.set()
    camera.close()
    thread.join(10)
    assert not thread.is_alive()
    return got


def test_every_electron_of_the_virtual_microscope_arrives_at_its_position() -> None:
    got = serve(RenderedEvents(Microscope(SETUP), Signals(SINGLE)), 2)
    for number in range(2):
        assert (got.hits(number) == truth(SETUP, number, SINGLE)).all()
    assert [message.reason for message in got.of(Ended)] == ["complete"] * 2


@pytest.mark.parametrize(
    "changes",
    [
        {"disorder_us": 200.0},
        {"start_s": 26.8425},
        {"start_s": 107.3725, "disorder_us": 50.0},
        {"drop_pulses": 0.15, "seed": 6},
        {"all_chips": True, "fall": True},
        {"reset_after": 7},
        # words of the old clock come between those of the new one
        {"reset_after": 7, "disorder_us": 200.0},
        {"reset_after": 14, "disorder_us": 200.0},
        {"reset_after": 5, "disorder_us": 50.0, "all_chips": True},
    ],
)
@pytest.mark.parametrize("layout", [SINGLE, Layout("quad")])
def test_disorder_rollovers_lost_pulses_and_clock_resets_misplace_no_hit(
    changes: dict[str, object], layout: Layout
) -> None:
    source = RenderedEvents(Microscope(SETUP), Signals(layout, **changes))  # type: ignore[arg-type]
    stream = b"".join(data for data, _ in source.pieces(0, threading.Event()))
    chosen = settings(SCAN, layout=layout.name, reorder_window_us=600.0)
    got = receive(stream, decoder(chosen))
    wanted = truth(SETUP, 0, layout)
    found = got.hits(0)
    if "drop_pulses" in changes or "reset_after" in changes:
        # hits about the very first or last line may fall outside for want of its pulse
        assert found.shape[0] > 0.8 * wanted.shape[0]
        left = {tuple(row) for row in found.tolist()} - {tuple(row) for row in wanted.tolist()}
        assert not left
    else:
        assert (found == wanted).all()


def test_pulse_jitter_moves_only_hits_at_the_borders_of_dwell_times() -> None:
    source = RenderedEvents(Microscope(SETUP), Signals(SINGLE, pulse_jitter_ns=20.0))
    stream = b"".join(data for data, _ in source.pieces(0, threading.Event()))
    found = receive(stream, decoder(settings(SCAN, layout="single"))).hits(0)
    wanted = truth(SETUP, 0, SINGLE)
    same = np.bincount(found[:, 0], minlength=320) - np.bincount(wanted[:, 0], minlength=320)
    assert np.abs(same).sum() < 0.02 * wanted.shape[0]


def test_split_hits_are_joined_again_by_clustering() -> None:
    source = RenderedEvents(Microscope(SETUP), Signals(SINGLE, split=0.5))
    stream = b"".join(data for data, _ in source.pieces(0, threading.Event()))
    plain = receive(stream, decoder(settings(SCAN, layout="single"))).hits(0)
    joined = receive(stream, decoder(settings(SCAN, layout="single", cluster={}))).hits(0)
    electrons = truth(SETUP, 0, SINGLE).shape[0]
    assert plain.shape[0] > 1.4 * electrons
    assert abs(joined.shape[0] - electrons) < 0.1 * electrons


def test_hot_pixels_are_found_by_learning() -> None:
    source = RenderedEvents(Microscope(SETUP), Signals(SINGLE, hot=3, hot_hz=100_000.0))
    stream = b"".join(data for data, _ in source.pieces(0, threading.Event()))
    made = decoder(settings(SCAN, layout="single", hot_pixels="learn", learn_hits=10_000))
    assert receive(stream, made).notices()["hot_pixels"].startswith("3 hot pixels")


def test_a_repeated_scan_is_the_same_scan_later() -> None:
    source = RepeatedEvents(RenderedEvents(Microscope(SETUP), Signals(SINGLE, start_s=26.84)))
    got = serve(source, 3)
    for number in range(3):
        assert (got.hits(number) == truth(SETUP, 0, SINGLE)).all()


def test_a_recording_is_replayed_byte_for_byte(tmp_path: Path) -> None:
    source = RenderedEvents(Microscope(SETUP), Signals(SINGLE))
    stream = b"".join(data for data, _ in source.pieces(0, threading.Event()))
    path = tmp_path / "raw.tpx3"
    path.write_bytes(stream)
    replay = FileEvents(path, SCAN.frames)
    pieces = list(replay.pieces(0, threading.Event()))
    assert b"".join(data for data, _ in pieces) == stream
    assert sum(frames for _, frames in pieces) == SCAN.frames
    got = serve(replay, 1)
    assert (got.hits(0) == truth(SETUP, 0, SINGLE)).all()
    with pytest.raises(CameraError, match="cannot be read"):
        FileEvents(tmp_path / "none.tpx3", 1)


def test_garbage_and_a_lost_connection_are_survived() -> None:
    source = RenderedEvents(Microscope(SETUP), Signals(SINGLE))
    got = serve(source, 2, garbage=0.5, disconnect_after=100)
    links = [message.connected for message in got.of(Link)]
    assert links[:4] == [True, False, True, False]
    assert (got.hits(1) == truth(SETUP, 1, SINGLE)).all()


def test_patterns_larger_than_the_detector_are_refused() -> None:
    large = Setup(SCAN, camera=Camera((300, 300), 0.5), dose=10.0)
    with pytest.raises(UsageError, match="300x300"):
        RenderedEvents(Microscope(large), Signals(SINGLE))


def test_the_command_serves_scans_and_ends(capsys: pytest.CaptureFixture[str]) -> None:
    parser = argparse.ArgumentParser()
    timepix3_command.configure(parser)
    args = parser.parse_args(
        [
            "--scan",
            "8x8",
            "--detector",
            "32x32",
            "--dose",
            "20",
            "--rate",
            "0",
            "--scans",
            "1",
            "--port",
            "0",
            "--json",
        ]
    )
    received: list[int] = []

    def reader() -> None:
        import json
        import socket
        import time

        port = 0
        while not port:
            time.sleep(0.01)
            out = capsys.readouterr().out
            port = json.loads(out)["data_port"] if out else 0
        with socket.create_connection(("127.0.0.1", port)) as client:
            while part := client.recv(65536):
                received.append(len(part))

    thread = threading.Thread(target=reader, daemon=True)
    thread.start()
    assert timepix3_command.run(args) == 0
    thread.join(10)
    assert sum(received) > 8 * 64 * 10

"""Cameras that go, come, lie, dribble and fall silent, before a whole daemon."""

from __future__ import annotations

import time
from collections.abc import Callable

import numpy as np
import pytest

from stemd.adapters.merlin.encoder import Camera, encode_frame, encode_hdr, message
from tests.conftest import wait_until
from tests.daemon.rig import BASE, CONFIG, POSITIONS, MerlinRig, Rig
from tests.daemon.running import RunningDaemon
from tests.faults.conftest import Row, same

pytestmark = pytest.mark.mosquitto

Rows = Callable[[str], Row]


def came(rig: Rig, positions: int) -> None:
    """Wait until so many positions of the running scan have come."""
    rig.until_state(
        lambda s: s["state"] == "acquiring" and s["positions_done"] == positions,
        f"{positions} positions came",
    )


def started_last(rig: Rig, count: int) -> list[dict[str, object]]:
    """That many finished scans, in the order in which they began."""
    return sorted(rig.finished(count), key=lambda d: int(d["started_ns"]))


@pytest.mark.parametrize("reset", [False, True], ids=["end of stream", "reset"])
def test_a_camera_that_closes_in_mid_frame_loses_that_frame_alone(
    rig: Rig, row: Rows, reset: bool
) -> None:
    line = row(f"camera closes in mid-frame ({'reset' if reset else 'end of stream'})")
    rig.camera.begin()
    rig.camera.more(rig.camera.frames[:20])
    came(rig, 20)
    rig.camera.send(message(rig.camera.frames[20])[:30_000])
    rig.camera.hang_up(reset=reset)
    document = rig.finished()[0]
    assert (document["status"], document["positions_done"]) == ("aborted", 20)
    same(rig, document, rig.camera.sent[-1])
    line.wrong(rig, "camera", "connection")
    line.heal(rig)
    line.count(rig)
    line.remember_memory(rig)


def test_an_end_of_stream_between_the_header_and_the_first_frame_is_no_scan(
    rig: Rig, row: Rows
) -> None:
    line = row("end of stream after the HDR")
    rig.camera.begin()
    rig.camera.hang_up()
    line.wrong(rig, "camera", "closed the connection")
    line.heal(rig)
    assert len(rig.events("started")) == 1
    line.count(rig)


def test_a_silent_camera_ends_its_scan_and_the_next_one_comes(rig: Rig, row: Rows) -> None:
    line = row("camera falls silent in mid-scan")
    rig.camera.begin()
    rig.camera.more(rig.camera.frames[:20])
    document = rig.finished()[0]
    assert (document["status"], document["positions_done"]) == ("incomplete", 20)
    same(rig, document, rig.camera.sent[-1])
    line.said = f"scan is {document['status']}, missing {document['missing']}"
    line.heal(rig)
    line.count(rig)


def test_a_camera_that_dribbles_is_waited_for(rig: Rig, row: Rows) -> None:
    line = row("camera dribbles, some bytes at a time")
    rig.camera.begin()
    stream = b"".join(message(frame) for frame in rig.camera.frames[:3])
    cuts = np.random.default_rng(1).integers(1, 3000, 400).cumsum()
    for first, stop in zip([0, *cuts], [*cuts, len(stream)], strict=True):
        rig.camera.send(stream[first:stop])
        time.sleep(0.002)
    rig.camera.sent[-1] += rig.camera.frames[:3]
    rig.camera.more(rig.camera.frames[3:])
    document = rig.finished()[0]
    assert document["status"] == "complete"
    same(rig, document, rig.camera.frames)
    line.heal(rig)
    line.count(rig)


def test_slow_frames_are_shown_while_they_come(rig: Rig, row: Rows) -> None:
    line = row("camera is slow, 20 frames a second")
    rig.camera.begin()
    rig.camera.more(rig.camera.frames, pause_s=0.05)
    document = rig.finished()[0]
    assert document["status"] == "complete"
    same(rig, document, rig.camera.frames)
    assert len(rig.client.on(f"{BASE}/image/ricom")) > 10
    line.count(rig)
    line.heal(rig)


def test_garbage_between_messages_is_counted_and_costs_no_frame(rig: Rig, row: Rows) -> None:
    line = row("garbage between messages")
    random = np.random.default_rng(2)
    rig.camera.begin()
    junk = 0
    for number, frame in enumerate(rig.camera.frames):
        if number % 6 == 3:
            noise = random.bytes(int(random.integers(1, 5000))).replace(b"M", b"m")
            junk += len(noise)
            rig.camera.send(noise)
        rig.camera.more([frame])
    document = rig.finished()[0]
    assert document["status"] == "complete"
    same(rig, document, rig.camera.frames)
    assert document["counters"]["skipped_bytes"] == junk
    line.said = f"skipped_bytes {junk}"
    line.heal(rig)
    line.count(rig)
    line.remember_memory(rig)


def test_lengths_that_lie_allocate_nothing_and_cost_no_frame(rig: Rig, row: Rows) -> None:
    line = row("huge and wrong length fields")
    rig.camera.begin()
    lies = (b"9999999999", b"0000000000", b"2147483648", b"0000000017")
    for number, frame in enumerate(rig.camera.frames):
        if number % 5 == 2:
            rig.camera.send(b"MPX," + lies[number % 4] + b"," + frame)
            rig.camera.sent[-1].append(frame)
        else:
            rig.camera.more([frame])
    document = rig.finished()[0]
    assert document["status"] == "complete"
    same(rig, document, rig.camera.frames)
    line.said = f"bad_length {document['counters']['bad_length']}"
    line.heal(rig)
    line.count(rig)
    line.remember_memory(rig)


def test_another_detector_size_in_the_next_acquisition_and_in_mid_scan(rig: Rig, row: Rows) -> None:
    line = row("detector size changes, also in mid-scan")
    other = Camera((64, 128), 12)
    images = np.random.default_rng(3).integers(0, 4000, (POSITIONS, 64, 128), np.uint16)
    small = [encode_frame(image, other, number + 1) for number, image in enumerate(images)]
    rig.camera.begin()
    rig.camera.more(rig.camera.frames[:20])
    came(rig, 20)
    rig.camera.sent.append([])
    rig.camera.more(small)  # no HDR, no warning
    cut, whole = started_last(rig, 2)
    assert (cut["status"], cut["positions_done"]) == ("aborted", 20)
    assert whole["status"] == "complete"
    same(rig, cut, rig.camera.frames[:20])
    same(rig, whole, small)
    rig.camera.send(message(encode_hdr(other, POSITIONS)))
    rig.camera.sent.append([])
    rig.camera.more(small)
    same(rig, started_last(rig, 3)[-1], small)
    line.heal(rig)
    line.count(rig)
    line.remember_memory(rig)


def test_a_scan_stopped_early_is_over_when_the_next_one_begins(rig: Rig, row: Rows) -> None:
    line = row("scan stopped early, the next at once")
    rig.camera.begin()
    rig.camera.more(rig.camera.frames[:20])
    rig.camera.scan()
    rig.camera.scan()
    first, second, third = started_last(rig, 3)
    assert (first["status"], first["positions_done"]) == ("aborted", 20)
    same(rig, first, rig.camera.frames[:20])
    for scan in (second, third):
        assert scan["status"] == "complete"
        same(rig, scan, rig.camera.frames)
    line.heal(rig)
    line.count(rig)


def test_numbers_that_begin_again_without_a_header_begin_another_scan(rig: Rig, row: Rows) -> None:
    line = row("numbering restarts with no HDR")
    rig.camera.begin()
    rig.camera.more(rig.camera.frames[:20])
    came(rig, 20)
    rig.camera.sent.append([])
    rig.camera.more(rig.camera.frames)
    first, second = started_last(rig, 2)
    assert (first["status"], first["positions_done"]) == ("aborted", 20)
    assert second["status"] == "complete"
    same(rig, second, rig.camera.frames)
    line.heal(rig)
    line.count(rig)


def test_lost_frames_are_holes_where_they_were(rig: Rig, row: Rows) -> None:
    line = row("frames lost in the middle and at the end")
    lost = {3, 17, 18, 46, 47}
    rig.camera.begin()
    rig.camera.more([f for number, f in enumerate(rig.camera.frames) if number not in lost])
    document = rig.finished()[0]
    assert (document["status"], document["missing"]) == ("incomplete", len(lost))
    runs = [number for first, stop in document["missing_runs"] for number in range(first, stop)]
    assert set(runs) == lost
    same(rig, document, rig.camera.sent[-1])
    line.said = f"missing_runs {document['missing_runs']}"
    line.heal(rig)
    line.count(rig)


def test_headers_padded_with_spaces_are_read(rig: Rig, row: Rows) -> None:
    line = row("headers padded with spaces")
    padded = [frame[:384].replace(b"\0", b" ") + frame[384:] for frame in rig.camera.frames]
    rig.camera.scan(padded)
    document = rig.finished()[0]
    assert document["status"] == "complete"
    same(rig, document, padded)
    line.heal(rig)
    line.count(rig)


def test_a_camera_that_is_switched_off_and_on_is_found_again(rig: Rig, row: Rows) -> None:
    line = row("camera switched off in mid-scan, then on")
    rig.camera.begin()
    rig.camera.more(rig.camera.frames[:20])
    came(rig, 20)
    rig.camera.go()
    document = rig.finished()[0]
    assert (document["status"], document["positions_done"]) == ("aborted", 20)
    same(rig, document, rig.camera.frames[:20])
    line.wrong(rig, "camera", "no connection")
    rig.camera.come_back()
    line.heal(rig)
    line.count(rig)


def test_a_camera_that_is_not_there_at_the_start_is_waited_for(
    make_rig: Callable[..., Rig], row: Rows
) -> None:
    line = row("camera not there at start")
    rig = make_rig()
    rig.camera.go()
    rig.daemons.append(RunningDaemon(rig.folder, CONFIG.format(**rig.options)))
    line.wrong(rig, "camera", "no connection")
    rig.camera.come_back()
    rig.until_state(lambda s: s["camera_connected"], "the camera is found")
    line.heal(rig)
    line.count(rig)


def test_a_camera_that_hangs_up_on_everybody_is_asked_less_and_less(rig: Rig, row: Rows) -> None:
    line = row("camera hangs up at once, again and again")
    camera: MerlinRig = rig.camera
    end, count = time.monotonic() + 4.0, 0
    while time.monotonic() < end:
        if camera._here.wait(0.05):
            camera.hang_up()
            count += 1
    assert count < 25
    line.wrong(rig, "camera", "closed the connection")
    wait_until(camera._here.is_set, "the daemon is there")
    line.sent = f"{count} connections in 4 s"
    line.heal(rig)
    line.remember_memory(rig)

"""What a session's summary says of outages and scans, in virtual time."""

from __future__ import annotations

import itertools
from collections.abc import Iterator
from pathlib import Path

import pytest

from stemd.daemon.sessions.book import SIGN_OF_LIFE_S
from tests.sessions.world import Room, config_of

CAM = (("cam", 0),)


def session(name: str, scans: int, start: bool = True) -> str:
    flag = str(start).lower()
    return f'[[session]]\nname = "{name}"\npipeline = "cam"\nscans = {scans}\nstart = {flag}\n'


@pytest.fixture
def room(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Room]:
    made = Room(tmp_path, monkeypatch)
    yield made
    if made.life is not None:
        made.stop()
    made.loop.close()


def test_each_outage_stands_in_the_summary_with_its_time(room: Room) -> None:
    room.start(config_of(CAM, (session("night", 4),)))
    room.loop.advance(2.0)
    times = {}
    room.camera_goes("cam")
    times["camera"] = room.now_s
    room.loop.advance(20.0)
    room.camera_comes("cam")
    room.broker.go()
    times["broker"] = room.now_s
    room.loop.advance(7.0)
    room.broker.up = True
    room.loop.advance(60.0)
    (book,) = room.books()
    assert book["status"] == "complete"
    assert book["outage_seconds"]["camera"] == pytest.approx(20.0, abs=0.6)
    # until it has been connected again, after a random pause
    assert 6.5 < book["outage_seconds"]["broker"] < 40.0
    for each in book["outages"]:
        assert abs(each["from_ns"] / 1e9 - times[each["what"]]) < 0.6
        assert each["to_ns"] - each["from_ns"] == pytest.approx(each["seconds"] * 1e9, abs=1e6)
    assert book["counts"]["aborted"] == 1  # the scan during which the camera went


def test_a_killed_daemon_is_an_outage_from_its_last_sign_of_life(room: Room) -> None:
    config = config_of(CAM, (session("night", 2, start=False),))
    room.start(config)
    room.loop.advance(100.0)
    killed = room.now_s
    room.kill()
    room.loop.advance(3600.0)
    room.start(config)
    room.loop.advance(5.0)
    (book,) = room.books()
    (outage,) = book["outages"]
    assert outage["what"] == "daemon"
    assert outage["uncertainty_s"] == SIGN_OF_LIFE_S
    assert 0.0 <= killed - outage["from_ns"] / 1e9 <= SIGN_OF_LIFE_S
    assert 3600.0 <= outage["seconds"] <= 3600.0 + SIGN_OF_LIFE_S + 1.0


def test_a_reload_that_restarts_the_pipeline_is_an_outage_and_the_night_goes_on(
    room: Room,
) -> None:
    room.start(config_of(CAM, (session("night", 3),)))
    room.loop.advance(8.0)
    (before,) = room.books()
    room.reload(config_of((("cam", 1),), (session("night", 3), session("day", 1))), None)
    room.loop.advance(60.0)
    night, day = room.books()
    told = [session for session, _ in itertools.groupby(room.told_sessions)]
    assert told == [None, night["id"], None, night["id"], None, day["id"], None]
    assert (night["id"], night["status"], day["status"]) == (before["id"], "complete", "complete")
    assert [each["what"] for each in night["outages"]] == ["pipeline"]
    assert night["counts"] == {"complete": 3, "incomplete": 0, "aborted": 1, "not recorded": 0}
    assert "outages" not in day or day["outages"] == []


def test_what_lasts_at_the_end_of_the_session_has_no_end(room: Room) -> None:
    room.start(config_of(CAM, (session("night", 3),)))
    room.loop.advance(2.0)
    room.camera_goes("cam")
    room.loop.advance(10.0)
    bench = room.bench("cam")
    assert bench is not None
    bench.sessions.stop("stopped by command")
    room.loop.advance(2.0)
    (book,) = room.books()
    (outage,) = book["outages"]
    assert (outage["what"], outage["to"]) == ("camera", None)
    assert outage["seconds"] == pytest.approx(10.0, abs=1.0)


def test_the_operators_stop_holds_after_a_kill(room: Room) -> None:
    config = config_of(CAM, (session("night", 100),))
    room.start(config)
    room.loop.advance(2.0)
    bench = room.bench("cam")
    assert bench is not None
    bench.sessions.stop("stopped by command")
    room.loop.advance(0.1)
    room.kill()
    room.start(config)
    room.loop.advance(30.0)
    (book,) = room.books()
    assert (book["status"], book["reason"]) == ("ended", "stopped by command")


def test_a_scan_that_was_whole_on_the_disk_counts_though_the_daemon_was_killed(
    room: Room,
) -> None:
    config = config_of(CAM, (session("night", 1),))
    room.start(config)
    room.loop.advance(2.0)
    room.kill()
    (scan,) = room.scans.values()
    scan.status = "complete"
    room.write_scan(scan)
    room.start(config)
    room.loop.advance(3.0)
    (book,) = room.books()
    assert (book["status"], [each["status"] for each in book["scans"]]) == (
        "complete",
        ["complete"],
    )
    camera = room.cameras["cam"]
    assert camera.started == 1

"""Unattended sessions on a running daemon."""

from __future__ import annotations

import json
import signal
from collections.abc import Callable
from typing import Any

import pytest

from tests.conftest import wait_until
from tests.daemon.rig import Rig, make_frames

pytestmark = [pytest.mark.mosquitto, pytest.mark.waits]


def over(rig: Rig, seconds: float = 60.0) -> dict[str, Any]:
    """The summary message of the session."""

    def ended() -> list[dict[str, Any]]:
        return [d for d in rig.documents("session") if d["status"] != "running"]

    wait_until(ended, "the session is over", seconds)
    return ended()[0]


def on_disk(rig: Rig, session: str) -> dict[str, Any]:
    found: dict[str, Any] = json.loads(
        (rig.data / "sessions" / session / "session.json").read_text()
    )
    return found


def test_a_session_starts_its_scans_with_settings_of_their_own_and_ends_with_a_summary(
    rig: Rig,
) -> None:
    each = [{"ricom": {"kernel_size": 3}}, {"ricom": {"kernel_size": 7}}]
    reply = rig.order(
        "session", name="night 1", scans=3, each=each, settings={"optics": {"flip": True}}
    )
    assert reply["ok"], reply
    summary = over(rig)
    assert (summary["status"], summary["reason"]) == ("complete", "3 scans")
    assert summary["counts"] == {"complete": 3, "incomplete": 0, "aborted": 0, "not recorded": 0}
    scans = rig.finished(3)
    assert [scan["settings"]["ricom"]["kernel_size"] for scan in scans] == [3, 7, 3]
    assert all(scan["settings"]["optics"]["flip"] for scan in scans)
    assert {scan["session"] for scan in scans} == {reply["session"]} == {summary["id"]}
    assert [scan["id"] for scan in summary["scans"]] == [scan["id"] for scan in scans]
    assert len(rig.camera.commands) == 3
    wait_until(lambda: on_disk(rig, summary["id"])["status"] == "complete", "the file says so")
    rig.until_state(lambda s: s["session"] is None, "the state says that no session runs")
    rig.check_messages()


def test_while_a_session_runs_another_is_refused_and_it_ends_when_told(rig: Rig) -> None:
    rig.camera.on_start = lambda: None
    first = rig.order("session", name="endless", start=False)
    assert first["ok"]
    assert "endless" in rig.order("session", name="second")["error"]["message"]
    late = rig.order("session", name="late", until="2020-01-01T00:00:00Z")["error"]
    assert (late["key"], late["message"].split(" (")[0]) == ("args.until", "is over already")
    rig.camera.scan()
    rig.finished()
    assert rig.order("session", stop=True)["session"] == first["session"]
    summary = over(rig)
    assert (summary["status"], summary["reason"]) == ("ended", "stopped by command")
    assert summary["counts"]["complete"] == 1
    assert rig.camera.commands == []


def test_a_camera_that_refuses_to_start_is_asked_again_and_the_summary_says_what_was(
    rig: Rig,
) -> None:
    rig.camera.refuse_start = True
    rig.order("session", name="patient", scans=1)
    wait_until(lambda: len(rig.camera.commands) >= 2, "it was asked twice")
    rig.camera.refuse_start = False
    summary = over(rig)
    assert summary["status"] == "complete"
    assert ["busy" in event["message"] for event in summary["events"]] == [True]


def test_a_lost_beam_ends_the_session_after_the_scan_that_shows_it(rig: Rig) -> None:
    bright, dark = rig.camera.frames, make_frames(dose=4)
    doses = iter([bright, bright, dark, bright])
    rig.camera.on_start = lambda: rig.camera.scan(next(doses))
    rig.order("session", name="beam", scans=10, end={"lost_dose": 0.5})
    summary = over(rig)
    assert summary["status"] == "ended"
    assert "dose lost" in summary["reason"]
    assert summary["counts"]["complete"] == 3


def test_a_silent_camera_ends_a_session_that_does_not_want_to_wait(rig: Rig) -> None:
    rig.order("session", name="silent", start=False, end={"silence_s": 0.5})
    assert "silence_s" in over(rig)["reason"]


@pytest.mark.parametrize("number", [signal.SIGKILL, signal.SIGTERM])
def test_a_session_of_the_config_goes_on_after_a_restart_and_is_done_once(
    make_rig: Callable[..., Rig], number: signal.Signals
) -> None:
    rig = make_rig(sessions='[[session]]\nname = "night"\nscans = 3\nstart = true')
    calls: list[int] = []

    def half_then_whole() -> None:
        calls.append(1)
        rig.camera.begin()
        rig.camera.more(rig.camera.frames[: 20 if len(calls) == 2 else None])

    rig.camera.on_start = half_then_whole
    rig.start()
    rig.until_state(
        lambda s: s["state"] == "acquiring" and s["positions_done"] == 20, "the second runs"
    )
    session = rig.state()["session"]
    rig.daemon.stop(number)
    rig.start()
    summary = over(rig)
    assert (summary["id"], summary["status"]) == (session, "complete")
    assert summary["counts"] == {"complete": 3, "incomplete": 0, "aborted": 1, "not recorded": 0}
    assert any("started again" in event["message"] for event in summary["events"])
    rig.daemon.stop()
    rig.start()
    rig.camera.scan()
    rig.finished(5 if number == signal.SIGTERM else 4)
    assert len(calls) == 4  # the plan is done: the new daemon has started nothing


def test_reloads_and_a_kill_leave_the_night_running_and_begin_what_is_new_once(
    make_rig: Callable[..., Rig],
) -> None:
    night = '[[session]]\nname = "night"\nscans = 3\nstart = false\n'
    rig = make_rig(sessions=night)
    rig.start()
    rig.until_state(lambda s: s["session"], "the night has begun")
    session = rig.state()["session"]
    rig.camera.scan()
    rig.finished()
    config = rig.daemon.config
    wrong = config.read_text().replace(night, night + "settings = { sum = { kernel = 1 } }\n")
    config.write_text(wrong)
    rig.daemon.process.send_signal(signal.SIGHUP)

    def red() -> str:
        return json.dumps(json.loads(rig.client.on("stemd/rig/daemon/state")[-1].payload)["red"])

    wait_until(lambda: "session[0].settings.sum" in red(), "the settings are refused", 30.0)
    day = '[[session]]\nname = "day"\nscans = 1\nstart = false\n'
    rig.options["sessions"] = night + day
    config.write_text(wrong.replace("settings = { sum = { kernel = 1 } }\n", day))
    for _ in range(3):
        rig.daemon.process.send_signal(signal.SIGHUP)
        wait_until(lambda: "refused" not in red(), "the config is read again", 30.0)
    assert rig.state()["session"] == session
    rig.camera.begin()
    rig.camera.more(rig.camera.frames[:20])
    rig.until_state(lambda s: s["positions_done"] == 20, "half of the second is there")
    rig.daemon.stop(signal.SIGKILL)
    rig.start()
    rig.until_state(lambda s: s["session"] == session, "the night goes on")
    rig.camera.scan()
    rig.finished(2)
    rig.camera.scan()
    rig.until_state(lambda s: s["session"] not in (None, session), "the day has begun")

    def ended() -> list[dict[str, Any]]:
        return [d for d in rig.documents("session") if d["id"] == session and d["finished"]]

    wait_until(ended, "the night's summary is there")
    first = ended()[0]
    assert (first["status"], first["reason"]) == ("complete", "3 scans")
    assert first["counts"] == {"complete": 3, "incomplete": 0, "aborted": 1, "not recorded": 0}
    assert [(o["what"], o["uncertainty_s"]) for o in first["outages"]] == [("daemon", 30.0)]
    rig.camera.scan()
    rig.until_state(lambda s: s["session"] is None, "the day is over")
    names = [on_disk(rig, p.name)["name"] for p in sorted((rig.data / "sessions").iterdir())]
    assert names == ["night", "day"]
    rig.check_messages()

"""What becomes of pipelines and sessions, from what the config says and what is known."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

from stemd.config.session_plan import SessionPlan
from stemd.daemon.decisions import KnownSession, of_pipelines, of_removed, of_sessions
from tests.sessions.world import config_of

NIGHT, DAY = SessionPlan(name="night", scans=3), SessionPlan(name="day", scans=1)


def known(plan: SessionPlan, **more: Any) -> KnownSession:
    session = KnownSession(plan.name, "cam", plan, running=False, from_config=True, withdrawn=False)
    return replace(session, **more)


def test_a_pipeline_that_the_config_does_not_change_runs_on() -> None:
    old = config_of((("cam", 0), ("eels", 0)), ()).pipelines
    new = config_of((("cam", 0), ("eels", 1), ("haadf", 0)), ()).pipelines
    steps = of_pipelines(new, {each.name: each for each in old})
    assert steps.stop == ("eels",)
    assert [each.name for each in steps.start] == ["eels", "haadf"]
    gone = of_pipelines(new[:1], {each.name: each for each in new})
    assert (gone.stop, gone.start) == (("eels", "haadf"), ())


def test_a_new_session_waits_for_the_running_one_and_is_begun_once() -> None:
    running = known(NIGHT, running=True)
    for _ in range(3):  # however often it is asked
        steps = of_sessions([NIGHT, DAY], [running])
        assert (steps.go_on, steps.plan, steps.withdraw) == ("night", NIGHT, False)
        assert (steps.begin, steps.end) == ((DAY,), ())
    assert of_sessions([NIGHT, DAY], [known(DAY), known(NIGHT)]).begin == ()


def test_the_running_session_goes_on_under_the_plan_that_the_config_has_now() -> None:
    longer = SessionPlan(name="night", scans=500)
    steps = of_sessions([longer], [known(NIGHT, running=True)])
    assert (steps.go_on, steps.plan, steps.begin) == ("night", longer, ())
    assert of_sessions([longer], [known(NIGHT)]).begin == (longer,)


def test_a_session_that_left_the_config_ends_and_may_come_back() -> None:
    assert of_sessions([], [known(NIGHT, running=True)]).withdraw
    assert of_sessions([NIGHT], [known(NIGHT, withdrawn=True)]).begin == (NIGHT,)


def test_a_session_that_was_begun_by_command_is_no_business_of_the_config() -> None:
    by_hand = known(SessionPlan(name="night", scans=9), running=True, from_config=False)
    steps = of_sessions([NIGHT], [by_hand])
    assert (steps.go_on, steps.plan, steps.withdraw) == ("night", by_hand.plan, False)
    assert steps.begin == (NIGHT,)
    same = replace(by_hand, plan=NIGHT)
    assert of_sessions([NIGHT], [same]).begin == ()  # it is carried out already


def test_a_plan_is_the_same_however_it_is_written() -> None:
    settings = {"ricom": {"kernel_size": 5}, "optics": {"flip": True}}
    one = SessionPlan(name="night", scans=3, until="2026-03-02T06:00:00Z", settings=settings)
    other = SessionPlan(
        name="night",
        pipeline="cam",
        scans=3,
        until="2026-03-02T07:00:00+01:00",
        settings=dict(reversed(settings.items())),
    )
    assert of_sessions([other], [known(one)]).begin == ()


def test_of_several_that_say_that_they_run_the_newest_goes_on() -> None:
    sessions = [known(DAY, running=True), known(NIGHT, running=True)]
    steps = of_sessions([NIGHT, DAY], sessions)
    assert (steps.go_on, steps.end) == ("day", ("night",))
    assert steps.begin == ()


def test_sessions_of_pipelines_that_are_gone_are_found() -> None:
    sessions = [known(DAY), known(NIGHT, running=True), known(NIGHT, id="2", running=True)]
    sessions[2] = replace(sessions[2], pipeline="eels")
    assert of_removed(["cam"], sessions) == ("2",)

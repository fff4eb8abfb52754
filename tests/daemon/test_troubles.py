"""What is wrong with a pipeline: several things at once, each over for itself."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Mapping
from types import SimpleNamespace
from typing import Any, cast

import pytest

from stemd.acquisition import iso_utc
from stemd.blocks import Link, Notice
from stemd.daemon.pipeline import status as status_module
from stemd.daemon.pipeline import troubles as troubles_module
from stemd.daemon.pipeline.disk_side import DiskSide
from stemd.daemon.pipeline.events import FAULT_AFTER, Events
from stemd.daemon.pipeline.report import told
from stemd.daemon.pipeline.status import Activity, Status, watch
from stemd.daemon.pipeline.troubles import Troubles
from stemd.errors import StemdError
from stemd.events import Hub, Json, Sink
from stemd.scan.measured_optics import nothing_measured
from stemd.scan.run import ScanRun
from stemd.settings import Settings
from tests.conftest import an_acquisition

LOST = Link(False, "the camera closed the connection", "start the camera's software")
BACK = Link(True, "127.0.0.1:6342")
NO_MEMORY = StemdError("no memory is left", "choose a smaller detector")


class Live:
    """Settings with two engines."""

    engines = SimpleNamespace(engines={"ssb": None, "airpi": None})

    def as_json(self) -> Json:
        """Not of interest."""
        return {}


class Sessions:
    """No session runs."""

    current = None

    def scan_began(self, session: str | None, scan_id: str) -> None:
        """Not counted."""

    def scan_finished(self, document: Mapping[str, Any]) -> None:
        """Not counted."""

    def there(self, what: str, *, there: bool) -> None:
        """Of no matter."""


class Past:
    """Completes nothing."""

    def offer(self, document: Mapping[str, object]) -> None:
        """Nothing."""

    def document(self, pipeline: str) -> Json:
        """Nothing."""
        return {}


class Bench:
    """A pipeline's troubles, state and events, and nothing else of it."""

    def __init__(self) -> None:
        self.activity: Activity | None = None
        self.troubles = Troubles("cam", Hub())
        self.status = Status(
            "cam", Hub(), self.troubles, lambda: self.activity, lambda: {"state": ""}
        )
        self.disk = DiskSide(
            self.troubles, cast(Any, Sessions()), lambda: False, self.status.update
        )
        self.hub = Hub()
        self.events = Events(
            "cam",
            self.hub,
            cast(Any, SimpleNamespace(live=Live())),
            self.troubles,
            self.status,
            cast(Any, Sessions()),
            Past(),
            self.disk,
            lambda scan, optics: None,
        )
        self.status.start()

    @property
    def kinds(self) -> list[str]:
        """Of the open troubles, the newest first."""
        return [error["kind"] for error in self.troubles.errors]

    def begin_scan(self) -> ScanRun:
        """A scan begins."""
        run = ScanRun(an_acquisition(), Settings(), [])
        self.events.scan_began(run, cast(Any, SimpleNamespace(session=None)))
        return run

    def finish_scan(self, run: ScanRun, status: str = "complete", *, failed: bool = False) -> None:
        """Its files are written, or not."""
        document = {
            "status": status,
            "positions_done": 1,
            "missing": 0,
            "completion": None,
            "session": None,
            "started": iso_utc(time.time_ns()),
        }
        self.events.scan_finished(run, cast(Any, SimpleNamespace(failed=failed)), document, {})


@pytest.fixture
async def bench() -> Bench:
    return Bench()


async def test_an_engines_error_outlives_a_camera_that_was_lost_and_came_back(
    bench: Bench,
) -> None:
    bench.events.engine_failed("ssb", NO_MEMORY)
    bench.events.linked(LOST)
    assert bench.kinds == ["camera", "engine"]
    assert bench.troubles.last_error == bench.troubles.errors[0]
    assert not bench.status.linked
    bench.events.linked(BACK)
    assert bench.kinds == ["engine"]
    assert bench.troubles.last_error is not None
    assert bench.troubles.last_error["message"] == "engine ssb: no memory is left"
    assert bench.troubles.last_error["remedy"] == "choose a smaller detector"
    assert bench.status.linked


async def test_a_lost_camera_outlives_an_engine_that_fails_and_works_again(bench: Bench) -> None:
    run = bench.begin_scan()
    bench.events.linked(LOST)
    bench.events.engine_failed("ssb", NO_MEMORY)
    assert bench.kinds == ["engine", "camera"]
    bench.finish_scan(run, "aborted")
    assert bench.kinds == ["camera"]


async def test_each_engine_is_well_again_for_itself(bench: Bench) -> None:
    for engine in ("ssb", "airpi"):
        bench.events.engine_failed(engine, NO_MEMORY)
    run = bench.begin_scan()
    run.engines.note_failure("airpi", "no memory is left")
    bench.finish_scan(run)
    assert [e["message"] for e in bench.troubles.errors] == ["engine airpi: no memory is left"]
    bench.finish_scan(bench.begin_scan())
    assert bench.troubles.last_error is None
    assert bench.troubles.errors == []


async def test_the_same_error_of_an_engine_is_told_once_until_it_is_over(bench: Bench) -> None:
    told: list[str] = []
    bench.troubles._hub.log = lambda pipeline, entry: told.append(entry["message"])  # type: ignore[method-assign]
    for _ in range(3):
        bench.events.engine_failed("ssb", NO_MEMORY)
    assert len(told) == 1
    bench.events.engine_failed("ssb", StemdError("another", ""))
    assert len(told) == 2
    assert len(bench.kinds) == 1, "it is still the one engine"
    bench.troubles.over()
    bench.events.engine_failed("ssb", StemdError("another", ""))
    assert len(told) == 3


async def test_an_adapter_that_fails_again_and_again_is_a_fault_until_it_works(
    bench: Bench,
) -> None:
    error = StemdError("the port is taken", "free it")
    for failures in range(1, FAULT_AFTER):
        bench.events.failed(error, failures, 1.0)
        assert bench.status.state == "waiting"
    bench.events.engine_failed("ssb", NO_MEMORY)
    bench.events.failed(error, FAULT_AFTER, 1.0)
    assert bench.status.state == "fault"
    assert bench.kinds == ["adapter", "engine"]
    assert "reset" in bench.troubles.errors[0]["remedy"]
    bench.begin_scan()
    assert bench.status.state == "waiting"
    assert bench.kinds == ["engine"]
    bench.events.failed(error, FAULT_AFTER, 1.0)
    bench.events.linked(BACK)
    assert (bench.status.state, bench.kinds) == ("waiting", ["engine"])


async def test_what_the_adapter_noticed_is_over_when_the_camera_connects_or_a_scan_is_whole(
    bench: Bench,
) -> None:
    notice = Notice("camera_control", "the camera refused", "error", remedy="ask it")
    ways: list[Callable[[], None]] = [
        lambda: bench.events.linked(BACK),
        lambda: bench.finish_scan(bench.begin_scan()),
    ]
    for way in ways:
        bench.events.disk_failed(StemdError("the disk is full", "free space"))
        bench.events.noticed(notice)
        bench.finish_scan(bench.begin_scan(), "incomplete", failed=True)
        assert bench.kinds == ["camera_control", "disk"]
        bench.events.noticed(Notice("frames_lost", "a frame is lost"))
        assert len(bench.kinds) == 2, "a warning is no trouble"
        way()
        assert "camera_control" not in bench.kinds
    bench.disk.well("2026-01-01T00:00:00.000000Z")
    assert bench.kinds == []


async def test_a_scan_that_could_not_be_finished_is_told_until_one_is(bench: Bench) -> None:
    run = bench.begin_scan()
    bench.events.scan_not_finished(run, StemdError("scan x: KeyError: 'y'", "see the log"))
    assert bench.kinds == ["error"]
    bench.finish_scan(run)
    assert bench.kinds == ["error"], "it is the very scan"
    bench.finish_scan(bench.begin_scan(), "incomplete")
    assert bench.kinds == []


async def test_every_stuck_thread_is_told_and_each_is_over_when_it_works_again(
    bench: Bench, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(status_module, "STATE_PERIOD_S", 0.0)
    looks = iter([["reader"], ["engines", "reader"], ["engines", "reader"], ["engines"], []])
    seen: list[list[str]] = []
    ended = asyncio.Event()

    def stalled() -> list[str]:
        seen.append([error["message"] for error in bench.troubles.errors])
        found = next(looks, None)
        if found is None:
            ended.set()
            return []
        return found

    task = asyncio.create_task(watch("cam", bench.status, bench.troubles, stalled))
    await asyncio.wait_for(ended.wait(), 10.0)
    task.cancel()
    reader, engines = "the reader thread of cam is stuck", "the engines thread of cam is stuck"
    assert seen[:6] == [[], [reader], [engines, reader], [engines, reader], [engines], []]


async def test_the_state_says_what_goes_on_before_what_is_wrong(bench: Bench) -> None:
    bench.events.failed(StemdError("the port is taken", ""), FAULT_AFTER, 1.0)
    bench.activity = "acquiring"
    bench.events.changed()
    assert (bench.status.state, bench.status.idle.is_set()) == ("acquiring", False)
    bench.activity = "finishing"
    bench.events.changed()
    assert (bench.status.state, bench.status.idle.is_set()) == ("finishing", False)
    bench.activity = None
    bench.events.changed()
    assert (bench.status.state, bench.status.idle.is_set()) == ("fault", True)
    bench.troubles.over()
    bench.events.exhausted()
    assert bench.status.state == "stopped"
    bench.activity = "acquiring"
    bench.events.changed()
    assert bench.status.state == "acquiring", "what a replayed file has left behind goes on"
    bench.status.stop()
    bench.events.changed()
    assert bench.status.state == "stopped"


class Lines(Sink):
    """Keeps what is told."""

    def __init__(self) -> None:
        self.messages: list[str] = []
        self.third = asyncio.Event()

    def on_log(self, pipeline: str, entry: Json) -> None:
        """A warning or an error."""
        self.messages.append(entry["message"])
        if len(self.messages) == 3:
            self.third.set()


async def test_a_flood_of_one_kind_is_told_once_and_its_newest_later(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(troubles_module, "QUIET_S", 0.3)
    hub, lines = Hub(), Lines()
    hub.add(lines)
    troubles = Troubles("cam", hub)
    for number in range(1000):
        troubles.notice("warning", f"bad word {number}", "", "bad_words")
    troubles.notice("warning", "a gap", "", "gap")
    assert lines.messages == ["bad word 0", "a gap"]
    await asyncio.wait_for(lines.third.wait(), 30.0)
    assert lines.messages[2].startswith("bad word 999 (and 998 more")


async def test_an_error_that_is_not_open_is_told_even_if_it_was_told_a_moment_ago() -> None:
    hub, lines = Hub(), Lines()
    hub.add(lines)
    troubles = Troubles("cam", hub)
    troubles.notice("error", "no header", "", "header")
    troubles.notice("error", "no header", "", "header")
    troubles.over("header")
    assert troubles.notice("error", "no header", "", "header")
    assert len(lines.messages) == 2
    assert troubles.last_error is not None


async def test_a_scan_of_which_nothing_was_measured_leaves_no_older_ones_optics_standing(
    bench: Bench,
) -> None:
    first, second = bench.begin_scan(), bench.begin_scan()
    first.measured = nothing_measured(first) | {"engine": "direct", "defocus_nm": {"value": 5.0}}
    bench.finish_scan(first)
    view = bench.hub.view("cam")
    assert view.optics["defocus_nm"] == {"value": 5.0}
    bench.finish_scan(second)
    assert (view.optics["scan"], view.optics["defocus_nm"]) == (second.acquisition.id, None)
    assert "counts" in view.optics["not_measured"]
    first.measured = None
    bench.finish_scan(first)
    assert view.optics["scan"] == second.acquisition.id, "an older scan that is over late"


def test_the_state_tells_a_scans_warnings_errors_first() -> None:
    levels = ["info", "warning", "error", "warning"]
    notices = [{"kind": str(at), "level": level} for at, level in enumerate(levels)]
    assert [notice["kind"] for notice in told(notices)] == ["2", "1", "3"]
    assert len(told(notices * 50)) == 20

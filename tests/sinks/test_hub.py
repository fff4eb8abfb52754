"""The hub and the owner of its sinks: what one sink does wrong is told, and harms no other."""

from __future__ import annotations

import asyncio
from pathlib import Path
from typing import Any

import pytest
import structlog.testing

from stemd import plugins, tasks
from stemd.config.resolved import Config, SinkConfig
from stemd.config.tables import DaemonTable
from stemd.daemon import outlets
from stemd.daemon.outlets import Outlets
from stemd.errors import StemdError
from stemd.events import Hub, Sink
from stemd.plugins import NoSettings, Plugin
from stemd.results import Snapshot
from tests.conftest import a_snapshot, an_acquisition, wait_until

Json = dict[str, Any]


class Listening(Sink):
    """Keeps the states it hears."""

    def __init__(self) -> None:
        self.states: list[Any] = []

    def on_state(self, pipeline: str, state: Json) -> None:
        self.states.append(state["state"])


class Moody(Sink):
    """Raises what it is told to raise."""

    def __init__(self) -> None:
        self.mood: Exception | None = None

    def on_state(self, pipeline: str, state: Json) -> None:
        if self.mood is not None:
            raise self.mood


def test_every_other_sink_is_told_what_one_cannot_take() -> None:
    hub, first, moody, last = Hub(), Listening(), Moody(), Listening()
    for sink in (first, moody, last):
        hub.add(sink)
    moody.mood = RuntimeError("too much")
    hub.state("cam", {"state": "waiting"})
    assert first.states == last.states == ["waiting"]
    assert hub.view("cam").state == {"state": "waiting"}


def test_an_error_is_told_once_and_is_over_when_the_same_works_again() -> None:
    hub, moody = Hub(), Moody()
    hub.add(moody, "moody")
    with structlog.testing.capture_logs() as said:
        for mood in (RuntimeError("one"), RuntimeError("one"), RuntimeError("two")):
            moody.mood = mood
            hub.state("cam", {"state": "waiting"})
        status = hub.sinks()["moody"]
        assert status["failures"] == 3
        assert status["error"]["message"] == "sink moody: on_state failed: RuntimeError: two"
        moody.mood = None
        hub.health = {}
        hub.healthy({})
        assert hub.sinks()["moody"]["error"] is not None, "another method works"
        hub.state("cam", {"state": "acquiring"})
    assert hub.sinks()["moody"] == {"failures": 3, "error": None}
    assert [line["event"].rpartition(" ")[2] for line in said] == ["one", "two"]


def test_a_sink_that_comes_late_is_told_what_is_retained_and_may_fail_at_it() -> None:
    hub, moody, late = Hub(), Moody(), Listening()
    hub.state("cam", {"state": "acquiring"})
    moody.mood = StemdError("full", "empty it")
    hub.add(moody, "moody")
    hub.add(late, "late")
    assert late.states == ["acquiring"]
    assert hub.sinks()["moody"]["error"] == {"message": "full", "remedy": "empty it"}
    hub.remove(late)
    hub.state("cam", {"state": "waiting"})
    assert late.states == ["acquiring"]


def an_outlet(hub: Hub, monkeypatch: pytest.MonkeyPatch, *sinks: Sink) -> tuple[Outlets, Config]:
    """The owner of these foreign sinks, and the config that asks for them."""
    monkeypatch.setattr(tasks, "PAUSES_S", (0.01,))
    waiting = iter(sinks)
    plugin = Plugin("own", "", NoSettings, lambda settings, host: next(waiting))
    wanted = tuple(SinkConfig(plugin, NoSettings()) for _ in sinks)
    config = Config(DaemonTable(data_dir=Path("/nowhere")), None, None, (), (), wanted)
    return Outlets(hub, lambda: (True, {}), lambda name: None), config


async def test_work_that_fails_is_begun_again_and_told_until_it_has_gone_well_for_a_while(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    class Trying(Sink):
        tries = 0
        works = asyncio.Event()

        async def run(self) -> None:
            self.tries += 1
            if self.tries == 2:
                raise asyncio.CancelledError
            if self.tries < 4:
                raise OSError("no line")
            self.works.set()
            await asyncio.Event().wait()

    monkeypatch.setattr(outlets, "GOOD_AFTER_S", 0.05)
    hub, sink = Hub(), Trying()
    owner, config = an_outlet(hub, monkeypatch, sink)
    await owner.start(config)
    async with asyncio.timeout(10):
        await sink.works.wait()
        assert hub.sinks()["own"]["error"]["message"] == "sink own: run failed: OSError: no line"
        await asyncio.to_thread(
            wait_until, lambda: hub.sinks()["own"]["error"] is None, "the error is over"
        )
    assert hub.sinks()["own"]["failures"] == 3
    await owner.stop()
    assert sink.tries == 4


async def test_a_sink_that_does_not_start_or_stop_in_time_holds_nobody_up(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    class Hanging(Sink):
        async def start(self) -> None:
            await asyncio.Event().wait()

    class Clinging(Sink):
        async def stop(self) -> None:
            await asyncio.Event().wait()

    class Stopping(Sink):
        stopped = False

        async def stop(self) -> None:
            self.stopped = True

    monkeypatch.setattr(outlets, "START_S", 1.0)
    monkeypatch.setattr(outlets, "STOP_S", 1.0)
    hub, good = Hub(), Stopping()
    owner, config = an_outlet(hub, monkeypatch, good, Hanging(), Clinging())
    async with asyncio.timeout(10):
        await owner.start(config)
        told = {name: status["error"] for name, status in hub.sinks().items()}
        assert list(told) == ["own", "own 2", "own 3"]
        assert told["own"] is told["own 3"] is None
        assert "was not ready within" in told["own 2"]["message"]
        await owner.stop()
    assert good.stopped
    assert hub.sinks() == {}


def test_every_built_in_sink_is_found_by_the_rule() -> None:
    takes = {plugin.name: plugin.takes for plugin in plugins.catalogue("sinks")}
    images = dict.fromkeys(("hdf5", "png", "tiff"), "images")
    assert takes == {"mqtt": "events", "page": "events", "record": "blocks", **images}


def images(started_ns: int, *names: str, fill: float = 0.0, final: bool = True) -> Snapshot:
    """Images of the scan that began at this time."""
    scan = an_acquisition((2, 3), id=f"scan-{started_ns}", started_ns=started_ns)
    return a_snapshot(scan, names=names, final=final, fill=fill)


def told(snapshot: Snapshot | None) -> tuple[str, dict[str, float]]:
    """Which scan a snapshot is of, and the value of each of its images."""
    assert snapshot is not None
    values = {result.name: float(result.image[0, 0]) for result in snapshot.results}
    return snapshot.acquisition.id, values


def test_images_of_an_earlier_scan_do_not_replace_those_of_a_later_one() -> None:
    hub = Hub()
    hub.snapshot("cam", images(2, "adf", fill=2.0))
    hub.snapshot("cam", images(1, "adf", fill=1.0))
    view = hub.view("cam")
    assert told(view.snapshot) == told(view.last_final) == ("scan-2", {"adf": 2.0})
    hub.snapshot("cam", images(3, "adf", fill=3.0, final=False))
    assert told(view.snapshot) == ("scan-3", {"adf": 3.0})
    assert told(view.last_final) == ("scan-2", {"adf": 2.0})


def test_final_images_of_one_scan_that_come_in_parts_are_kept_together_the_newest_of_each() -> None:
    hub = Hub()
    hub.snapshot("cam", images(1, "adf", "sum", fill=1.0))
    hub.snapshot("cam", images(1, "adf", "airpi_phase", fill=2.0))
    expected = ("scan-1", {"sum": 1.0, "adf": 2.0, "airpi_phase": 2.0})
    assert told(hub.view("cam").last_final) == told(hub.view("cam").snapshot) == expected
    hub.snapshot("cam", images(2, "adf", fill=3.0))
    assert told(hub.view("cam").last_final) == ("scan-2", {"adf": 3.0})


def test_images_that_still_grow_are_found_beside_the_finished_ones_of_their_scan() -> None:
    hub = Hub()
    hub.snapshot("cam", images(1, "adf", "icom", "airpi_phase", fill=1.0))
    hub.snapshot("cam", images(2, "adf", "airpi_phase", "direct_phase", fill=2.0, final=False))
    hub.snapshot("cam", images(2, "adf", fill=3.0))
    view = hub.view("cam")
    newest = [told(snapshot) for snapshot in view.newest_first()]
    growing = ("scan-2", {"airpi_phase": 2.0, "direct_phase": 2.0})
    assert newest == [("scan-2", {"adf": 3.0}), growing]
    hub.snapshot("cam", images(2, "airpi_phase", "direct_phase", fill=4.0))
    assert view.growing is None
    hub.snapshot("cam", images(3, "adf", fill=5.0))
    assert view.growing is None, "those of another scan are no news"


def test_of_images_completed_later_only_those_are_told_that_no_later_scan_has() -> None:
    hub = Hub()
    heard: list[tuple[str, dict[str, float]]] = []

    class Hearing(Sink):
        def on_snapshot(self, pipeline: str, snapshot: Snapshot) -> None:
            heard.append(told(snapshot))

    hub.add(Hearing())
    hub.snapshot("cam", images(2, "adf", fill=2.0))
    hub.completed("cam", images(1, "adf", "airpi_phase", fill=1.0))
    hub.completed("cam", images(1, "adf", fill=1.0))
    hub.completed("cam", images(2, "adf", fill=4.0))
    assert heard[1:] == [("scan-1", {"airpi_phase": 1.0}), ("scan-2", {"adf": 4.0})]

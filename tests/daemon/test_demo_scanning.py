"""The demo's operator: no endless scan and no deaf camera makes it stand still."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from types import SimpleNamespace
from typing import Any, cast

import pytest

from stemd.cli.demo import ending, scanning
from stemd.cli.demo.progress import Watcher
from stemd.cli.demo.scanning import scan_by_scan
from stemd.errors import StemdError
from stemd.events import Hub

TURNS = 30
"""Of the operator's loop: a demo that has not gone on by then stands still."""


class Instrument:
    """A hub whose scans begin when they are ordered, and go on as `then` says.

    The first `deaf` orders are never answered, the first `busy` ones refused.
    """

    def __init__(self, watcher: Watcher, then: str, *, deaf: int = 0, busy: int = 0) -> None:
        self.orders = 0
        self._watcher, self._then = watcher, then
        self._deaf, self._busy = deaf, busy

    async def request(self, pipeline: str, kind: str, request: Mapping[str, Any]) -> dict[str, Any]:
        self.orders += 1
        if self.orders <= self._deaf:
            await asyncio.Event().wait()
        if self.orders <= self._busy:
            return {"ok": False, "error": {"message": "busy"}}
        self._watcher.on_document(pipeline, {"event": "started", "id": str(self.orders)})
        self._tell(self._then)
        return {"ok": True}

    def _tell(self, state: str) -> None:
        self._watcher.on_state("virtual", {"state": state, "camera_connected": True})


@pytest.fixture(autouse=True)
def no_time(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(scanning, "GAP_S", 0.001)
    monkeypatch.setattr(scanning, "BEGINS_S", 0.01)
    monkeypatch.setattr(scanning, "FINISHED_S", 0.0)


def scans(wanted: int | None, then: str, before: str = "waiting", **how: int) -> tuple[int, int]:
    """Scans that were ordered and have begun, when so many were, or after a while."""

    async def run() -> tuple[int, int]:
        watcher, ready = Watcher(wanted), asyncio.Event()
        instrument = Instrument(watcher, then, **how)
        instrument._tell(before)
        ready.set()
        operator = asyncio.create_task(
            scan_by_scan(cast("Hub", instrument), ready, watcher, wanted)
        )
        for _ in range(TURNS):
            await asyncio.wait({operator}, timeout=0.02)
            if operator.done():
                break
        operator.cancel()
        await asyncio.wait({operator})
        return instrument.orders, watcher.begun

    return asyncio.run(run())


def test_images_that_are_never_finished_keep_no_later_scan_from_beginning() -> None:
    assert scans(3, "finishing") == (3, 3)


def test_the_next_scan_waits_for_the_images_of_the_one_before(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(scanning, "FINISHED_S", 1000.0)
    assert scans(3, "finishing") == (1, 1)
    assert scans(3, "waiting") == (3, 3)


def test_no_more_scans_begin_than_are_wanted_and_none_while_one_runs() -> None:
    assert scans(1, "finishing") == (1, 1)
    assert scans(None, "acquiring") == (1, 1)


def test_a_fault_that_a_scan_may_end_does_not_end_the_demo() -> None:
    assert scans(2, "waiting", before="fault") == (2, 2)


def test_an_order_that_is_not_answered_or_refused_is_given_again() -> None:
    assert scans(2, "waiting", deaf=2) == (4, 2)
    assert scans(2, "waiting", busy=3) == (5, 2)


def test_a_camera_that_is_busy_for_a_moment_is_no_news(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    assert scans(2, "waiting", busy=2) == (4, 2)
    assert "not started" not in capsys.readouterr().out
    monkeypatch.setattr(scanning, "TOLD_AFTER_S", 0.0)
    assert scans(2, "waiting", busy=4) == (6, 2)
    assert capsys.readouterr().out.count("not started") == 1


def test_what_ends_the_starting_of_scans_ends_the_demo_and_is_raised() -> None:
    class Daemon:
        def __init__(self) -> None:
            self.ready, self.stopped = asyncio.Event(), asyncio.Event()
            self.hub = None  # whoever asks it for anything fails
            self.ready.set()
            self.stop = self.stopped.set
            self.told_to_stop = self.stopped.wait

    async def run() -> None:
        daemon: Any = Daemon()
        watcher = Watcher(None)
        watcher.on_state("virtual", {"state": "waiting", "camera_connected": True})
        operating = asyncio.create_task(scanning.operate(daemon, watcher, None))
        await asyncio.wait_for(daemon.stopped.wait(), 10.0)
        with pytest.raises(AttributeError):
            await operating
        daemon = Daemon()  # and one that is told to stop is no failure
        daemon.stop()
        await asyncio.wait_for(scanning.operate(daemon, Watcher(None), None), 10.0)

    asyncio.run(run())


def test_images_that_this_daemon_never_completes_do_not_keep_the_demo(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(ending, "POLL_S", 0.01)
    told: dict[str, StemdError] = {}
    daemon: Any = SimpleNamespace(
        health=SimpleNamespace(red=SimpleNamespace(told=told)), no_more_scans=lambda: None
    )

    async def run() -> Watcher:
        watcher = Watcher(1)
        document = {"event": "finished", "id": "a", "completion": {"status": "outstanding"}}
        watcher.on_document("virtual", document)
        done = asyncio.create_task(ending.all_done(watcher, daemon))
        await asyncio.sleep(0.05)
        assert not done.done()
        told["version"] = StemdError("files of stemd were changed", "restart stemd")
        await asyncio.wait_for(done, 10.0)
        return watcher

    assert asyncio.run(run()).incomplete == {"a"}
    assert "1 scan is not completed: files of stemd were changed" in capsys.readouterr().out

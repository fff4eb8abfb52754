"""A sink of somebody else may hang, die or leave: nobody waits for it, and it is told of."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import AsyncIterator
from typing import Any

import pytest

from stemd.daemon import sink_thread
from stemd.daemon.sink_thread import SinkThread, host_for_threads
from stemd.events import Host, Hub, Sink
from tests.conftest import wait_until
from tests.faults.killer import kill_thread


class Hanging(Sink):
    """Hangs in each of its methods until `go` is set."""

    def __init__(self) -> None:
        self.go = threading.Event()
        self.heard: list[Any] = []
        self.threads: set[str] = set()

    def _hears(self, what: Any) -> None:
        self.threads.add(threading.current_thread().name)
        assert self.go.wait(60.0)
        self.heard.append(what)

    def on_state(self, pipeline: str, state: dict[str, Any]) -> None:
        self._hears(state["n"])

    def on_document(self, pipeline: str, document: dict[str, Any]) -> None:
        self._hears(document["event"])

    async def run(self) -> None:
        """Leave the program, as it thinks."""
        raise SystemExit("goodbye")


class Rig:
    """A hub with one sink in a thread of its own, watched over."""

    def __init__(self) -> None:
        self.hub, self.sink = Hub(), Hanging()
        self.thread = SinkThread("own", self.sink, self.hub)
        self.hub.add(self.thread, "own")
        self.watching = asyncio.ensure_future(self.thread.watch())

    def error(self) -> str:
        """What is told of the sink."""
        return str((self.hub.sinks()["own"]["error"] or {}).get("message", ""))

    async def until_error(self, text: str) -> None:
        """Until this is told of it; "": until nothing is."""
        there = (lambda: text in self.error()) if text else (lambda: not self.error())
        await asyncio.to_thread(wait_until, there, f"{text!r} is told", 30.0)


@pytest.fixture
async def rig(monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[Rig]:
    monkeypatch.setattr(sink_thread, "LATE_S", 0.2)
    monkeypatch.setattr(sink_thread, "LOOK_S", 0.02)
    made = Rig()
    yield made
    made.sink.go.set()
    made.watching.cancel()
    made.thread.end()
    await asyncio.to_thread(made.thread._thread.join, 30.0)


async def test_a_sink_that_hangs_is_told_and_hears_the_newest_when_it_goes_on(rig: Rig) -> None:
    rig.hub.state("cam", {"n": 0})
    await rig.until_error("sink own has not returned for 0.2 s")
    for n in range(1, 200):
        rig.hub.state("cam", {"n": n})
    rig.hub.document("cam", {"event": "finished"})
    with pytest.raises(Exception, match="has not returned"):
        await rig.thread.stop()
    rig.sink.go.set()
    await rig.until_error("")
    await asyncio.to_thread(wait_until, lambda: 199 in rig.sink.heard, "it knows the newest state")
    assert rig.sink.heard == [0, "finished", 199]
    assert rig.sink.threads == {"sink-own"}


@pytest.mark.filterwarnings("ignore::pytest.PytestUnhandledThreadExceptionWarning")
async def test_a_sinks_thread_that_dies_is_begun_again_and_told(rig: Rig) -> None:
    rig.sink.go.set()
    before = rig.thread._thread
    kill_thread(before)
    rig.thread._loop.call_soon_threadsafe(int)  # it wakes, and dies
    await asyncio.to_thread(wait_until, lambda: not before.is_alive(), "it is dead")
    await asyncio.to_thread(wait_until, lambda: rig.hub.sinks()["own"]["failures"], "it is told")
    await rig.until_error("")
    rig.hub.state("cam", {"n": 7})
    await asyncio.to_thread(wait_until, lambda: 7 in rig.sink.heard, "it hears again")


async def test_a_sink_that_leaves_the_program_is_the_only_one_that_goes(rig: Rig) -> None:
    with pytest.raises(RuntimeError, match="SystemExit: goodbye"):
        await rig.thread.run()
    assert rig.thread._thread.is_alive()


async def test_what_a_sink_asks_its_host_is_asked_on_the_daemons_event_loop(rig: Rig) -> None:
    home, asked = threading.current_thread(), []
    rig.sink.go.set()  # it need not hang here

    def healthy() -> Any:
        asked.append(threading.current_thread())
        return True, {}

    async def handle(pipeline: str, kind: str, request: Any) -> dict[str, Any]:
        asked.append(threading.current_thread())
        return {"ok": True}

    rig.hub.handler = handle
    rig.hub.state("cam", {"n": 1})
    made: Any = lambda name: None  # noqa: E731
    host = host_for_threads(Host(rig.hub, "here", None, healthy, made))  # type: ignore[arg-type]

    async def work() -> Any:
        return host.healthy()[0], (await host.hub.request("cam", "settings", {}))["ok"]

    assert await rig.thread._there(work) == (True, True)
    assert asked == [home, home]

"""Whose turn it is: settings that coalesce, commands in order, abort and stop before all."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from typing import Any

from hypothesis import given, settings
from hypothesis import strategies as st

from stemd.documents import refused
from stemd.request_queue import MAX_COMMANDS, RequestQueue
from tests.outside.strategies import values as json_values

Json = dict[str, Any]


class Pipeline:
    """Carries requests out; a command `hang` waits until `answer` is set, as for a camera."""

    def __init__(self) -> None:
        self.done: list[Any] = []
        self.settings: Json = {}
        self.answer = asyncio.Event()
        self.queue = RequestQueue()
        self.queue.handler = self.handle

    async def handle(self, pipeline: str, kind: str, request: Mapping[str, Any]) -> Json:
        if kind == "settings":
            await asyncio.sleep(0)
            if request.get("optics") == {"bad": 1}:
                return refused(request.get("id"), "optics.bad", "unknown key")
            if "bad" in request.get("optics", {}):
                return refused(request.get("id"), "optics.bad", "unknown key")
            self.settings |= request.get("optics", {})
            self.done.append(dict(request.get("optics", {})))
            return {"id": request.get("id"), "ok": True, "revision": len(self.done)}
        if request["command"] in ("hang", "start"):
            await self.answer.wait()
        self.done.append(request["command"])
        return {"id": request.get("id"), "ok": True}

    def set(self, number: int, **optics: Any) -> asyncio.Task[Json]:
        return asyncio.create_task(
            self.queue.ask("cam", "settings", {"id": number, "optics": optics})
        )

    def command(self, name: str, number: int = 0) -> asyncio.Task[Json]:
        return asyncio.create_task(
            self.queue.ask("cam", "command", {"id": number, "command": name})
        )


async def test_a_slider_before_a_hung_camera_ends_at_its_newest_value_and_abort_goes_first() -> (
    None
):
    cam = Pipeline()
    hung = cam.command("hang")
    waiting = [cam.command("save") for _ in range(MAX_COMMANDS - 1)]
    too_many = await cam.command("save")
    assert "too many" in too_many["error"]["message"]
    slider = [cam.set(number, rotation_deg=number) for number in range(500)]
    assert (await cam.command("abort", 7)) == {"id": 7, "ok": True}
    replies = await asyncio.gather(*slider)
    assert [reply["id"] for reply in replies] == list(range(500))
    assert all(reply["ok"] for reply in replies)
    assert cam.settings == {"rotation_deg": 499}
    assert len(cam.done) < 10
    assert not hung.done()
    cam.answer.set()
    await asyncio.gather(hung, *waiting)


async def test_a_start_that_waits_is_not_begun_after_an_abort_and_a_later_one_is() -> None:
    cam = Pipeline()
    hung, start, save = cam.command("hang"), cam.command("start"), cam.command("save")
    await asyncio.sleep(0)
    assert (await cam.command("abort"))["ok"]
    later = cam.command("start", 9)
    cam.answer.set()
    assert "before it began" in (await start)["error"]["message"]
    assert (await save)["ok"]
    assert (await later) == {"id": 9, "ok": True}
    await hung
    assert cam.done == ["abort", "hang", "save", "start"]


async def test_an_abort_given_while_one_waits_for_the_camera_is_the_same_one() -> None:
    cam = Pipeline()
    calls = 0

    async def slow(pipeline: str, kind: str, request: Mapping[str, Any]) -> Json:
        nonlocal calls
        calls += 1
        await cam.answer.wait()
        return {"id": request.get("id"), "ok": True}

    cam.queue.handler = slow
    both = [cam.command("abort", 1), cam.command("abort", 2)]
    await asyncio.sleep(0.01)
    cam.answer.set()
    assert [reply["id"] for reply in await asyncio.gather(*both)] == [1, 2]
    assert calls == 1


async def test_of_changes_that_wait_together_only_the_wrong_one_is_refused() -> None:
    cam = Pipeline()
    changes = [cam.set(0, a=1), cam.set(1, b=1), cam.set(2, bad=1), cam.set(3, b=2)]
    replies = await asyncio.gather(*changes)
    assert [reply["ok"] for reply in replies] == [True, True, False, True]
    assert replies[2]["error"]["key"] == "optics.bad"
    assert cam.settings == {"a": 1, "b": 2}


async def test_a_command_finds_the_settings_that_were_sent_before_it() -> None:
    cam = Pipeline()
    cam.answer.set()
    first, second, start = cam.set(0, a=1), cam.set(1, a=2), cam.command("start")
    await asyncio.gather(first, second, start)
    assert cam.done == [{"a": 2}, "start"]


async def test_whoever_asked_may_go_and_the_others_are_answered() -> None:
    cam = Pipeline()
    gone, stays = cam.set(0, a=1), cam.set(1, b=1)
    await asyncio.sleep(0)
    gone.cancel()
    assert (await stays)["ok"]


@settings(deadline=None, max_examples=20)
@given(st.lists(st.dictionaries(st.text(max_size=20), json_values, max_size=4), max_size=8))
def test_no_request_ends_a_line(requests: list[Json]) -> None:
    async def ask() -> None:
        cam = Pipeline()
        cam.answer.set()

        async def fragile(pipeline: str, kind: str, request: Mapping[str, Any]) -> Json:
            raise RuntimeError(str(request)) if request.get("id") != "last" else KeyError("x")

        cam.queue.handler = fragile
        for kind in ("settings", "command"):
            asked = [cam.queue.ask("cam", kind, request) for request in requests]
            for reply in await asyncio.gather(*asked):
                assert reply["ok"] is False
            cam.queue.handler = cam.handle
            assert (await cam.queue.ask("cam", kind, {"id": "1", "command": "save"}))["ok"]
            cam.queue.handler = fragile

    asyncio.run(ask())

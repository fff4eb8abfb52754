"""Replays over the page's socket: who gets one, whom it is for, and that nothing is left of it."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator, Callable
from contextlib import suppress
from pathlib import Path
from typing import Any

import aiohttp
import psutil
import pytest
from page_harness import Microscope
from records import keep_record, pipeline_config

from stemd.image_frames import decode_image
from stemd.page.server import Page

pytestmark = pytest.mark.usefixtures("replays_get_time")

TOKEN = "correct-horse-battery"
SCAN = "20260102T030405006Z-abcd"
PATIENCE_S = 90


async def until(check: Callable[[], Any]) -> None:
    async with asyncio.timeout(PATIENCE_S):
        while not check():  # noqa: ASYNC110 - what others do sets no event of ours
            await asyncio.sleep(0.02)


class Viewer:
    """A client that notes all it is sent."""

    def __init__(self, ws: aiohttp.ClientWebSocketResponse) -> None:
        self.ws = ws
        self.texts: list[dict[str, Any]] = []
        self.images: list[dict[str, Any]] = []
        self._listening = asyncio.create_task(self._listen())

    async def _listen(self) -> None:
        async for message in self.ws:
            if message.type is aiohttp.WSMsgType.BINARY:
                meta, _ = decode_image(message.data)
                self.images.append(meta)
                drawn = {"type": "drawn", "pipeline": meta["pipeline"], "name": meta["name"]}
                await self.ws.send_str(json.dumps(drawn))
            else:
                self.texts.append(json.loads(message.data))

    async def send(self, message_type: str, /, **message: Any) -> None:
        await self.ws.send_str(json.dumps({"type": message_type, **message}))

    async def replay(self, action: str = "start", **more: Any) -> None:
        await self.send("replay", action=action, **{"scan": SCAN, **more})

    async def state(self, *wanted: str) -> dict[str, Any]:
        """The newest word on the replay, when it is one of these states."""
        await until(lambda: self._news("replay").get("state") in wanted)
        return self._news("replay")

    async def reply(self) -> dict[str, Any]:
        """The newest reply."""
        await until(lambda: self._news("reply"))
        return self._news("reply")

    def _news(self, kind: str) -> dict[str, Any]:
        return next((t["document"] for t in reversed(self.texts) if t["type"] == kind), {})

    async def close(self) -> None:
        await self.ws.close()
        await self._listening


class Room:
    """A page with one kept scan, and viewers that come and go."""

    def __init__(self, scope: Microscope, page: Page, url: str) -> None:
        self.scope, self.page, self.url = scope, page, url
        self.session = aiohttp.ClientSession()
        self.viewers: list[Viewer] = []

    async def viewer(self) -> Viewer:
        viewer = Viewer(await self.session.ws_connect(f"{self.url}ws", max_msg_size=0))
        self.viewers.append(viewer)
        await viewer.send("watch", images={"@replay": {"ricom": 64}})
        return viewer

    async def close(self) -> None:
        try:
            for viewer in self.viewers:
                await viewer.close()
        finally:
            await self.session.close()
            await self.page.stop()


def replays() -> list[psutil.Process]:
    """The processes of replays that this one has started."""
    found = []
    for process in psutil.Process().children():
        with suppress(psutil.NoSuchProcess):  # one that ends at this moment is none
            if "stemd.offline.replay" in process.cmdline():
                found.append(process)
    return found


async def gone() -> bool:
    await until(lambda: not replays())
    return True


@pytest.fixture
async def room(tmp_path: Path) -> AsyncIterator[Room]:
    keep_record(tmp_path / "data", SCAN)
    scope = Microscope()
    known = {"merlin": pipeline_config()}
    page = scope.page(tmp_path / "data", known.get)
    room = Room(scope, page, await scope.serve(page))
    yield room
    await room.close()
    assert await gone()


async def test_a_replay_is_for_the_viewer_that_asked_and_touches_nothing_else(room: Room) -> None:
    asker, other = await room.viewer(), await room.viewer()
    room.scope.grow(64)
    live = room.scope.hub.view("merlin").snapshot
    await asker.replay(seconds=1.0)
    await asker.state("finished")
    await until(lambda: any(meta["final"] for meta in asker.images))
    assert {(meta["pipeline"], meta["scan"]) for meta in asker.images} == {("@replay", SCAN)}
    assert not any(text.get("pipeline") == "@replay" for text in other.texts)
    assert other.images == []
    # neither the pipeline's images nor its camera or settings
    assert room.scope.hub.view("merlin").snapshot is live
    assert list(room.scope.hub.views) == ["merlin"]
    request = {"id": "1", "ricom": {"kernel_size": 9}}
    await asker.send("request", pipeline="@replay", kind="settings", request=request)
    assert (await asker.reply()) == {"id": "1", "ok": True, "revision": 2}
    assert room.scope.requests == []
    await asker.replay("stop")
    assert await gone()


async def test_one_replay_at_a_time_and_the_next_when_its_viewer_has_left(room: Room) -> None:
    first, second = await room.viewer(), await room.viewer()
    await first.replay(seconds=600.0)
    await first.state("playing")
    await second.replay(seconds=600.0)
    refused = await second.state("refused")
    assert "another viewer" in refused["message"]
    assert "images can be replayed" in refused["remedy"]
    (running,) = replays()
    await first.close()
    assert await gone()
    await second.replay(seconds=600.0)
    await second.state("playing")
    assert [process.pid for process in replays()] != [running.pid]
    # the page's end is the replay's
    await room.page.stop()
    assert await gone()


async def test_what_cannot_be_replayed_is_refused_with_the_reason(room: Room) -> None:
    viewer = await room.viewer()
    folder = keep_record(room.page._archive._root, "20260102T030405007Z-abcd")
    document = json.loads((folder / "scan.json").read_text())
    (folder / "scan.json").write_text(json.dumps(document | {"pipeline": "sold"}))
    for scan, reason in (
        ("20260102T030405006Z-0000", "no record"),
        ("../../../etc", "no record"),
        (folder.name, "no pipeline 'sold'"),
    ):
        viewer.texts.clear()
        await viewer.replay(scan=scan)
        assert reason in (await viewer.state("refused"))["message"]
    await viewer.send("request", pipeline="@replay", kind="settings", request={"id": "1"})
    assert (await viewer.reply())["ok"] is False
    assert replays() == []


async def test_without_the_token_nothing_is_started(tmp_path: Path) -> None:
    (tmp_path / "token").write_text(TOKEN)
    keep_record(tmp_path / "data", SCAN)
    scope = Microscope()
    known = {"merlin": pipeline_config()}
    page = scope.page(tmp_path / "data", known.get, token_file=tmp_path / "token")
    room = Room(scope, page, await scope.serve(page))
    viewer = await room.viewer()
    await viewer.replay()
    refused = await viewer.state("refused")
    assert "token" in refused["message"]
    assert "images" in refused["remedy"]
    assert replays() == []
    await viewer.send("token", token=TOKEN)
    await viewer.replay(seconds=600.0)
    await viewer.state("preparing", "playing")
    assert len(replays()) == 1
    await room.close()
    assert await gone()


async def test_the_list_says_whether_there_is_a_record_and_how_long_the_scan_took(
    room: Room,
) -> None:
    async with room.session.get(f"{room.url}api/scans") as reply:
        (scan,) = (await reply.json())["scans"]
    assert scan["record"] == "raw.mib"
    assert scan["seconds"] == 7.0

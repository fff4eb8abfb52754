"""Whatever a viewer says, its socket answers and the page goes on."""

from __future__ import annotations

import asyncio
import json
from typing import Any

import aiohttp
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from page_harness import Microscope

from stemd.page import audience
from tests.outside.strategies import values

KINDS = ("watch", "drawn", "token", "request", "replay", "nothing")
FIELDS = ("type", "images", "pipeline", "name", "kind", "request", "action", "scan", "seconds")
said = st.lists(
    st.text(st.characters(exclude_categories=["Cs"]), max_size=50)
    | st.builds(
        lambda kind, rest: json.dumps(rest | {"type": kind}),
        st.sampled_from(KINDS),
        st.dictionaries(st.sampled_from(FIELDS), values, max_size=5),
    )
    | st.builds(
        lambda kind, request: json.dumps(
            {"type": "request", "pipeline": "merlin", "kind": kind, "request": request}
        ),
        st.sampled_from(["settings", "command"]),
        st.dictionaries(st.text(max_size=9) | st.just("command"), values, max_size=4),
    )
    | st.sampled_from(
        [
            '{"type": "request", "pipeline": "merlin", "kind": "command", "request": {"a": 1e999}}',
            "[" * 60_000,
            '{"type": "drawn", "pipeline": "\\ud800", "name": "x"}',
        ]
    ),
    max_size=6,
)


async def test_no_message_ends_a_viewer(tmp_path: Any, monkeypatch: Any) -> None:
    monkeypatch.setattr(audience, "WRONG_TOKEN_DELAY_S", 0.0)
    scope = Microscope()
    page = scope.page(tmp_path)
    url = await scope.serve(page)
    conversations: list[list[str]] = []

    @settings(
        max_examples=150,
        deadline=None,
        suppress_health_check=[HealthCheck.function_scoped_fixture],
        database=None,
    )
    @given(said)
    def draw(messages: list[str]) -> None:
        conversations.append(messages)

    draw()
    async with (
        aiohttp.ClientSession() as client,
        client.ws_connect(f"{url}ws", max_msg_size=0) as ws,
    ):
        for number, messages in enumerate(conversations):
            for text in messages:
                await ws.send_str(text)
            if number % 10:
                continue
            name = f"asked-{number}"
            request = {"id": name, "optics": {"rotation_deg": 1.0}}
            message = {"pipeline": "merlin", "kind": "settings", "request": request}
            await ws.send_json({"type": "request", **message})
            async with asyncio.timeout(20):
                while True:
                    heard = await ws.receive()
                    assert heard.type in (aiohttp.WSMsgType.TEXT, aiohttp.WSMsgType.BINARY), heard
                    if heard.type is aiohttp.WSMsgType.TEXT and name in heard.data:
                        break
    await page.stop()

"""The config file on the page: with the token only, and in a real browser."""

from __future__ import annotations

import asyncio
import json
from pathlib import Path
from typing import Any

import aiohttp
import pytest
from browser import Served, eventually, open_tab
from page_harness import Microscope

from stemd.config.file import load
from stemd.daemon.config_requests import ConfigRequests
from stemd.daemon.requests import Requests
from stemd.errors import StemdError
from tests.daemon.test_config import GOOD

TOKEN = "correct-horse-battery"
TEXT = GOOD.replace("kernel_size = 21", "kernel_size = 21  # atoms")
BY_HAND = TEXT + "# by hand\n"
SELECTED = "(e => e.value.slice(e.selectionStart, e.selectionEnd))(document.activeElement)"


class Edited:
    """A config file behind a microscope's hub; counts the reloads."""

    def __init__(self, scope: Microscope, folder: Path) -> None:
        self.path = folder / "lab.toml"
        self.path.write_text(TEXT)
        self.reloads = 0
        running = load(self.path)

        async def reload() -> StemdError | None:
            self.reloads += 1
            return None

        scope.hub.handler = Requests({}, ConfigRequests(self.path, lambda: running, reload))


@pytest.mark.parametrize(
    ("settings", "shown", "read"),
    [
        ({}, "", "set token_file"),
        ({"listen": "0.0.0.0:0"}, "", "no operator's token"),
        ({"token_file": "token"}, "", "need the operator's token"),
        ({"token_file": "token"}, "wrong", "need the operator's token"),
        ({"token_file": "token"}, TOKEN, ""),
    ],
)
async def test_the_config_file_is_shown_to_nobody_without_the_token(
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    settings: dict[str, Any],
    shown: str,
    read: str,
) -> None:
    monkeypatch.setattr("stemd.page.audience.WRONG_TOKEN_DELAY_S", 0.01)
    (tmp_path / "token").write_text(TOKEN)
    if "token_file" in settings:
        settings = {"token_file": tmp_path / "token"}
    scope = Microscope()
    Edited(scope, tmp_path)
    page = scope.page(tmp_path / "data", **settings)
    url = await scope.serve(page)
    request = {"id": "1", "command": "read", "args": {}}
    async with aiohttp.ClientSession() as client, client.ws_connect(f"{url}ws") as ws:
        if shown:
            await ws.send_json({"type": "token", "token": shown})
        ask = {"type": "request", "kind": "config", "pipeline": "daemon", "request": request}
        await ws.send_json(ask)
        async with asyncio.timeout(20):
            while (message := json.loads(await ws.receive_str()))["type"] != "reply":
                if message["type"] == "hello":
                    assert message["document"]["config"] is ("token_file" in settings)
    reply = message["document"]
    assert reply["ok"] is not bool(read)
    if read:
        assert read in reply["error"]["message"]
        assert TEXT not in str(message)
    else:
        assert reply["text"] == TEXT
    await page.stop()


@pytest.mark.browser
def test_a_config_is_edited_checked_saved_and_put_in_force(chromium: Any, tmp_path: Path) -> None:
    (tmp_path / "token").write_text(TOKEN)
    served = Served(tmp_path, token_file=tmp_path / "token")
    served.do(served.scope.tell_settings)
    edited = Edited(served.scope, tmp_path)
    words = "#config-words"
    try:
        for tab in open_tab(chromium, served):
            tab.wait_for_selector("#settings input")
            assert tab.is_hidden("#config-button")
            tab.click("#key-button")
            tab.fill("#token", TOKEN)
            tab.press("#token", "Enter")
            tab.click("#config-button")
            eventually(lambda tab=tab: tab.input_value("#config-text") == TEXT)
            assert tab.is_disabled("#config-save")
            tab.fill("#config-text", TEXT.replace("= 21", "= 20"))
            tab.click("#config-save")
            eventually(lambda tab=tab: tab.text_content(words) == "One error.")
            tab.click("#config-problems >> text=Line 18")
            assert tab.evaluate(SELECTED) == "kernel_size = 20  # atoms"
            assert "odd" in tab.text_content("#config-problems")
            assert edited.path.read_text() == TEXT
            tab.keyboard.press("Escape")
            tab.click("#config-button")
            eventually(lambda tab=tab: "not saved yet" in tab.text_content(words))
            tab.fill("#config-text", TEXT.replace("= 21", "= 23"))
            tab.click("#config-save")
            eventually(lambda tab=tab: tab.text_content(words).startswith("Saved."))
            assert "lab.toml.before" in tab.text_content(words)
            assert "restarts merlin" in tab.text_content(words)
            assert edited.path.read_text() == TEXT.replace("= 21", "= 23")
            assert edited.reloads == 0
            tab.click("#config-reload")
            eventually(lambda tab=tab: tab.text_content(words).startswith("In force."))
            assert edited.reloads == 1
            edited.path.write_text(BY_HAND)
            tab.fill("#config-text", TEXT.replace("= 21", "= 25"))
            tab.click("#config-save")
            eventually(lambda tab=tab: "changed since it was read" in tab.text_content(words))
            assert edited.path.read_text() == BY_HAND
            tab.keyboard.press("Escape")
            tab.click("#config-button")
            eventually(lambda tab=tab: "changed meanwhile" in tab.text_content(words))
            tab.click("#config-discard")
            eventually(lambda tab=tab: tab.input_value("#config-text") == BY_HAND)
    finally:
        served.close()

"""Connections to the page: bounded, ended when silent, with places for the operator."""

from __future__ import annotations

import asyncio
import contextlib
import errno
import resource
import socket
from pathlib import Path
from typing import Any

import aiohttp
import pytest
from page_harness import Microscope, Shown
from structlog.testing import capture_logs

from stemd.page import audience, door


async def connect(port: int, data: bytes = b"") -> socket.socket:
    """A raw connection that has sent this."""
    loop = asyncio.get_running_loop()
    raw = socket.socket()
    raw.setblocking(False)
    await loop.sock_connect(raw, ("127.0.0.1", port))
    if data:
        await loop.sock_sendall(raw, data)
    return raw


async def is_closed(raw: socket.socket, seconds: float = 10.0) -> bool:
    """Whether the page closes this connection."""
    with contextlib.suppress(ConnectionError):
        async with asyncio.timeout(seconds):
            while await asyncio.get_running_loop().sock_recv(raw, 4096):
                pass
    return True


async def healthz(url: str) -> int:
    async with aiohttp.ClientSession() as client, client.get(f"{url}healthz") as response:
        return response.status


async def test_silent_and_half_said_connections_are_closed(
    shown: Shown, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(door, "IDLE_S", 0.5)
    said = [b"", b"GET / HT", b"GET /healthz HTTP/1.1\r\nHost: 127.0.0.1\r\n\r\n"]
    raws = [await connect(shown.port, data) for data in said]
    assert all(await asyncio.gather(*(is_closed(raw) for raw in raws)))
    for raw in raws:
        raw.close()


async def test_a_viewer_is_not_closed_for_being_quiet(
    shown: Shown, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(door, "IDLE_S", 0.2)
    async with (
        aiohttp.ClientSession() as client,
        client.ws_connect(f"{shown.url}ws", max_msg_size=0) as ws,
    ):
        await asyncio.sleep(2.5)
        await ws.send_json({"type": "nonsense"})
        async with asyncio.timeout(10):
            while (await ws.receive_json())["type"] != "error":
                pass


async def test_eight_hundred_silent_connections_lock_nobody_out(
    shown: Shown, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(shown.page._door, "most", 40)
    raws = [await connect(shown.port) for _ in range(400)]
    try:
        assert await healthz(shown.url) == 200
        assert len(shown.page._door._quiet_since) <= 40
    finally:
        for raw in raws:
            raw.close()


async def test_no_descriptor_left_is_said_once_and_healed(
    shown: Shown, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(door, "_RETRY_S", 0.01)
    loop = asyncio.get_running_loop()
    accept, tries = loop.sock_accept, 0

    async def none_left(listener: socket.socket) -> Any:
        nonlocal tries
        tries += 1
        if tries < 50:
            raise OSError(errno.EMFILE, "Too many open files")
        return await accept(listener)

    monkeypatch.setattr(loop, "sock_accept", none_left)
    with capture_logs() as logs:
        assert await healthz(shown.url) == 200  # accepted by the call that was waiting
        assert await healthz(shown.url) == 200
    assert tries >= 50
    told = [entry for entry in logs if "cannot be accepted" in entry["event"]]
    assert len(told) == 1
    assert "LimitNOFILE" in told[0]["remedy"]


async def test_anonymous_viewers_do_not_lock_out_who_has_the_token(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(audience, "MAX_VIEWERS", 4)
    monkeypatch.setattr(audience, "RESERVED_VIEWERS", 2)
    monkeypatch.setattr(audience, "TOKEN_S", 1.0)
    token = tmp_path / "token"
    token.write_text("a-token-of-the-operator-7f3a\n")
    scope = Microscope()
    page = scope.page(tmp_path, token_file=token)
    url = await scope.serve(page)
    try:
        async with aiohttp.ClientSession() as client:
            crowd = [await client.ws_connect(f"{url}ws", max_msg_size=0) for _ in range(12)]
            operator = await client.ws_connect(f"{url}ws", max_msg_size=0)
            await operator.send_json({"type": "token", "token": token.read_text().strip()})
            async with asyncio.timeout(10):
                while (found := await operator.receive_json())["type"] != "access":
                    pass
            assert found["operator"] is True
            await asyncio.sleep(1.5)
            assert page.viewers == 4 + 1
            await operator.send_json({"type": "nonsense"})
            async with asyncio.timeout(10):
                while (await operator.receive_json())["type"] != "error":
                    pass
            for ws in (*crowd, operator):
                await ws.close()
    finally:
        await page.stop()


def test_the_page_takes_a_quarter_of_the_descriptors(monkeypatch: pytest.MonkeyPatch) -> None:
    for soft, most in ((1024, 256), (80, 20), (16, 8), (1_000_000, 256)):
        monkeypatch.setattr(resource, "getrlimit", lambda _, soft=soft: (soft, soft))
        assert door.most_connections() == most

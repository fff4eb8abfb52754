"""The page's server over real sockets: images to viewers, changes, refusals, files, headers."""

from __future__ import annotations

import asyncio
import json
import socket
from collections.abc import AsyncIterator
from contextlib import suppress
from pathlib import Path
from typing import Any

import aiohttp
import numpy as np
import pytest
from aiohttp import web
from page_harness import Microscope, Shown
from pydantic import ValidationError

from stemd.config.page import PageSettings
from stemd.errors import ConfigError, SinkError
from stemd.image_frames import HEADER, decode_image
from stemd.page.encoder import Encoder, Payload

TOKEN = "correct-horse-battery"
PATIENCE_S = 60
"""Only ends a test that hangs: a busy machine may stand still for half a minute."""


class Viewer:
    """A client that speaks the page's protocol."""

    def __init__(self, ws: aiohttp.ClientWebSocketResponse) -> None:
        self.ws = ws

    async def send(self, **message: Any) -> None:
        await self.ws.send_str(json.dumps(message))

    async def watch(self, **images: int) -> None:
        await self.send(type="watch", images={"merlin": images})

    async def image(self) -> tuple[dict[str, Any], np.ndarray]:
        """The next image, texts skipped."""
        return decode_image(await self.binary())

    async def binary(self) -> bytes:
        """The next binary message, texts skipped."""
        async with asyncio.timeout(PATIENCE_S):
            while True:
                message = await self.ws.receive()
                if message.type is aiohttp.WSMsgType.BINARY:
                    data: bytes = message.data
                    return data
                assert message.type is aiohttp.WSMsgType.TEXT, message

    async def text(self, kind: str) -> dict[str, Any]:
        """The next text of a kind, everything else skipped."""
        async with asyncio.timeout(PATIENCE_S):
            while True:
                message = await self.ws.receive()
                if message.type is aiohttp.WSMsgType.TEXT:
                    document: dict[str, Any] = json.loads(message.data)
                    if document["type"] == kind:
                        return document
                assert message.type is not aiohttp.WSMsgType.CLOSED

    async def silence(self, seconds: float = 0.3) -> None:
        """Nothing binary comes for this long."""
        with pytest.raises(TimeoutError):
            async with asyncio.timeout(seconds):
                await self.image()

    async def ask(self, kind: str = "settings", **request: Any) -> dict[str, Any]:
        message = {"pipeline": "merlin", "kind": kind, "request": {"id": "7", **request}}
        await self.send(type="request", **message)
        reply: dict[str, Any] = (await self.text("reply"))["document"]
        return reply


@pytest.fixture
async def client() -> AsyncIterator[aiohttp.ClientSession]:
    async with aiohttp.ClientSession() as session:
        yield session


async def look(client: aiohttp.ClientSession, url: str, **options: Any) -> Viewer:
    return Viewer(await client.ws_connect(f"{url}ws", max_msg_size=0, **options))


async def test_a_viewer_gets_the_pixels_that_the_pipeline_published(
    shown: Shown, client: aiohttp.ClientSession
) -> None:
    viewer = await look(client, shown.url)
    shown.scope.grow(1000)
    await viewer.watch(ricom=0)
    meta, image = await viewer.image()
    expected = shown.scope.images["ricom"][0].copy()
    expected.reshape(-1)[1000:] = 0
    np.testing.assert_array_equal(image, expected)
    assert meta["name"] == "ricom"
    assert meta["units"] == "px*px"
    assert (meta["positions_done"], meta["positions_total"]) == (1000, 4096)
    assert meta["scan"] == shown.scope.acquisition.id


async def test_a_viewer_gets_no_image_that_it_did_not_ask_for(
    shown: Shown, client: aiohttp.ClientSession
) -> None:
    viewer = await look(client, shown.url)
    shown.scope.grow(64)
    await viewer.silence()
    await viewer.watch(adf=0)
    for done in (128, 192):
        assert (await viewer.image())[0]["name"] == "adf"
        shown.scope.grow(done)
    await viewer.silence()


async def test_thumbnails_are_reduced_and_the_large_image_is_not(
    shown: Shown, client: aiohttp.ClientSession
) -> None:
    viewer = await look(client, shown.url)
    shown.scope.grow(4096)
    await viewer.watch(adf=16, ricom=0)
    got = {meta["name"]: (meta, image) for meta, image in [await viewer.image() for _ in "ab"]}
    assert got["ricom"][1].shape == (64, 64)
    meta, image = got["adf"]
    assert meta["step"] == 4
    full = shown.scope.images["adf"][0]
    np.testing.assert_allclose(image, full.reshape(16, 4, 16, 4).mean(axis=(1, 3)), rtol=1e-5)


async def test_a_viewer_that_has_not_drawn_gets_two_frames_and_then_the_newest(
    shown: Shown, client: aiohttp.ClientSession
) -> None:
    viewer = await look(client, shown.url)
    await viewer.watch(ricom=0)
    await viewer.text("hello")
    await asyncio.sleep(0.05)
    for line in range(1, 31):
        shown.scope.grow(line * 64)
        await asyncio.sleep(0)
    assert (await viewer.image())[0]["positions_done"] <= 30 * 64
    assert (await viewer.image())[0]["positions_done"] <= 30 * 64
    for line in range(31, 41):
        shown.scope.grow(line * 64)
        await asyncio.sleep(0)
    await viewer.silence()  # one is being drawn, one has come meanwhile
    await viewer.send(type="drawn", pipeline="merlin", name="ricom")
    assert (await viewer.image())[0]["positions_done"] == 40 * 64
    for _ in range(9):  # more than it was sent
        await viewer.send(type="drawn", pipeline="merlin", name="ricom")
    await viewer.silence()
    for line in range(41, 51):
        shown.scope.grow(line * 64)
        await asyncio.sleep(0.01)
    first, second = await viewer.image(), await viewer.image()
    assert first[0]["positions_done"] < second[0]["positions_done"] < 50 * 64
    await viewer.silence()


def frames(data: bytes) -> dict[str, dict[str, Any]]:
    """The JSON of every frame of a binary message, by image name."""
    found = {}
    while data:
        _, _, _, _, meta_bytes, pixel_bytes = HEADER.unpack_from(data)
        end = HEADER.size + meta_bytes + pixel_bytes
        meta, _ = decode_image(data[:end])
        found[meta["name"]] = meta
        data = data[end:]
    return found


async def test_bundled_thumbnails_come_together_and_the_large_image_does_not_wait_for_them(
    shown: Shown, client: aiohttp.ClientSession, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("stemd.page.viewer.THUMBNAIL_INTERVAL_S", 3600.0)
    viewer = await look(client, shown.url)
    shown.scope.grow(640)
    images = {"merlin": {"ricom": 0, "adf": 16, "bf": 16, "com_x": 64}}
    await viewer.send(type="watch", images=images, bundle=True)
    got = [frames(await viewer.binary()) for _ in "ab"]
    assert sorted(sorted(message) for message in got) == [["adf", "bf", "com_x"], ["ricom"]]
    await viewer.send(type="drawn", pipeline="merlin", name=["adf", "bf", "com_x", "ricom"])
    for done in (1280, 1920):  # thumbnails wait
        shown.scope.grow(done)
        message = frames(await viewer.binary())
        assert list(message) == ["ricom"]
        assert message["ricom"]["positions_done"] == done
        await viewer.send(type="drawn", pipeline="merlin", name="ricom")
    shown.scope.grow(4096)  # the last images of a scan do not
    got = [frames(await viewer.binary()) for _ in "ab"]
    assert sorted(sorted(message) for message in got) == [["adf", "bf", "com_x"], ["ricom"]]
    assert {meta["positions_done"] for message in got for meta in message.values()} == {4096}


async def test_the_newest_thumbnails_come_when_their_time_has_come_though_nothing_new_does(
    shown: Shown, client: aiohttp.ClientSession, monkeypatch: pytest.MonkeyPatch
) -> None:
    # without the regular tick nothing but the thumbnails' own time can wake the viewer's task
    monkeypatch.setattr("stemd.page.viewer.TICK_S", 3600.0)
    viewer = await look(client, shown.url)
    shown.scope.grow(640)
    await viewer.send(type="watch", images={"merlin": {"adf": 16, "bf": 16}}, bundle=True)
    done = 0
    while done < 640 * 3:
        message = frames(await viewer.binary())
        assert set(message) == {"adf", "bf"}
        assert message["adf"]["positions_done"] == message["bf"]["positions_done"] > done
        done = message["adf"]["positions_done"]
        await viewer.send(type="drawn", pipeline="merlin", name=["adf", "bf"])
        if done == 640:
            shown.scope.grow(640 * 2)
            await asyncio.sleep(0)
            shown.scope.grow(640 * 3)


async def test_a_viewer_of_short_pixels_gets_half_the_bytes_and_the_other_all_of_them(
    shown: Shown, client: aiohttp.ClientSession
) -> None:
    whole, short = await look(client, shown.url), await look(client, shown.url)
    shown.scope.grow(4096)
    await whole.send(type="watch", images={"merlin": {"ricom": 0}})
    await short.send(type="watch", images={"merlin": {"ricom": 0}}, short=True)
    plain, coded = await whole.binary(), await short.binary()
    image = shown.scope.images["ricom"][0]
    np.testing.assert_array_equal(decode_image(plain)[1], image)
    assert len(coded) < len(plain) - image.nbytes // 2 + 100
    assert np.abs(decode_image(coded)[1] - image).max() <= np.ptp(image) / 65535


async def test_viewers_of_the_same_thumbnails_share_the_bytes_of_their_bundle() -> None:
    encoder = Encoder()
    first, second = Payload(b"a" * 64), Payload(b"b" * 64)
    bundle = encoder.bundle([first, second])
    assert bundle.bytes == first.bytes + second.bytes
    assert encoder.bundle([first, second]).message is bundle.message
    assert encoder.bundle([second, first]).bytes == second.bytes + first.bytes
    assert encoder.bundle([first]) is first


@pytest.mark.parametrize("size", [0, 1, 125, 126, 127, 65535, 65536, 70001])
async def test_a_message_of_any_length_is_read_by_a_public_client(size: int) -> None:
    data = bytes(range(256)) * (size // 256 + 1)
    payload = Payload(data[:size])

    async def serve(request: web.Request) -> web.WebSocketResponse:
        socket = web.WebSocketResponse()
        await socket.prepare(request)
        assert request.transport is not None
        request.transport.write(payload.message)
        await socket.receive()
        return socket

    app = web.Application()
    app.router.add_get("/", serve)
    runner = web.AppRunner(app)
    await runner.setup()
    site = web.TCPSite(runner, "127.0.0.1", 0)
    await site.start()
    try:
        host, port = runner.addresses[0]
        async with aiohttp.ClientSession() as client:
            socket = await client.ws_connect(f"http://{host}:{port}/", max_msg_size=0)
            assert await socket.receive_bytes() == payload.bytes
            await socket.close()
    finally:
        await runner.cleanup()


async def test_one_stalled_viewer_costs_bounded_memory_and_no_other_viewer_anything(
    tmp_path: Path, client: aiohttp.ClientSession, monkeypatch: pytest.MonkeyPatch
) -> None:
    # without the regular tick nothing but the right wake-up can deliver an image
    monkeypatch.setattr("stemd.page.viewer.TICK_S", 3600.0)
    scope = Microscope(shape=(512, 512))
    page = scope.page(tmp_path)
    url = await scope.serve(page)
    # a viewer that asks for everything and then never reads its socket again
    reader, writer = await asyncio.open_connection("127.0.0.1", int(url.split(":")[2][:-1]))
    writer.write(
        b"GET /ws HTTP/1.1\r\nHost: localhost\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
        b"Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: MDEyMzQ1Njc4OWFiY2RlZg==\r\n\r\n"
    )
    await reader.readuntil(b"\r\n\r\n")
    writer.transport.pause_reading()  # type: ignore[attr-defined]
    text = json.dumps({"type": "watch", "images": {"merlin": dict.fromkeys(scope.images, 0)}})
    drawn = [
        json.dumps({"type": "drawn", "pipeline": "merlin", "name": name}) for name in scope.images
    ]
    writer.write(masked(text))
    viewer = await look(client, url)
    await viewer.watch(ricom=64)
    await viewer.text("hello")
    await asyncio.sleep(0.1)
    for line in range(1, 41):
        scope.grow(line * 512)
        for message in drawn:  # it even claims to have drawn them
            writer.write(masked(message))
        assert (await viewer.image())[0]["positions_done"] == line * 512
        await viewer.send(type="drawn", pipeline="merlin", name="ricom")
    stalled = max(page._audience._viewers, key=lambda one: one.skipped)
    assert stalled.skipped > 100
    assert stalled.waiting <= len(scope.images) + 10
    assert page.skipped >= stalled.skipped
    writer.transport.abort()
    await page.stop()
    with suppress(ConnectionError):
        await writer.wait_closed()


def masked(text: str) -> bytes:
    """A client's WebSocket text frame (RFC 6455) with the mask 0."""
    data = text.encode()
    head = (
        bytes([0x81, 0x80 | len(data)])
        if len(data) < 126
        else b"\x81\xfe" + len(data).to_bytes(2, "big")
    )
    return head + bytes(4) + data


async def test_an_image_that_cannot_be_sent_does_not_stop_the_others(
    shown: Shown, client: aiohttp.ClientSession
) -> None:
    viewer = await look(client, shown.url)
    await viewer.watch(adf=16, ricom=16)
    await viewer.text("hello")
    shown.scope.images["adf"] = (np.zeros(4096, np.float32), "counts")  # not an image: 1-D
    for line in (1, 2):
        shown.scope.grow(line * 64)
        meta, _ = await viewer.image()
        assert (meta["name"], meta["positions_done"]) == ("ricom", line * 64)
        await viewer.send(type="drawn", pipeline="merlin", name="ricom")


async def test_a_viewer_whose_sending_fails_is_released_so_that_it_can_come_back(
    shown: Shown, client: aiohttp.ClientSession, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def broken(self: object) -> None:
        raise RuntimeError("a bug")

    with monkeypatch.context() as patch:
        patch.setattr("stemd.page.viewer.Viewer.send", broken)
        viewer = await look(client, shown.url)
        async with asyncio.timeout(PATIENCE_S):
            await drain(viewer)
        assert viewer.ws.close_code == 1011
    again = await look(client, shown.url)
    await again.text("hello")


async def test_a_new_viewer_is_told_everything_that_is_known(
    shown: Shown, client: aiohttp.ClientSession
) -> None:
    shown.scope.tell_settings()
    shown.scope.grow(640)
    shown.scope.hub.healthy({"frames_per_second": 21000.0})
    shown.scope.hub.log("merlin", {"level": "warning", "text": "3 frames are missing"})
    viewer = await look(client, shown.url)
    hello = (await viewer.text("hello"))["document"]
    assert hello["instrument"] == "titan-x-ant"
    assert hello["pipelines"] == ["merlin"]
    assert hello["operator"] is True
    got = {}
    while not {"health", "state", "settings", "images", "log"} <= got.keys():
        message = json.loads((await viewer.ws.receive(timeout=5)).data)
        got[message["type"]] = message["document"]
    assert got["state"]["positions_done"] == 640
    assert got["settings"]["ricom"]["kernel_size"] == 61
    assert got["health"]["frames_per_second"] == 21000.0
    assert {"ricom", "adf", "pattern"} <= {image["name"] for image in got["images"]["images"]}
    assert got["log"]["text"] == "3 frames are missing"


async def test_an_image_of_the_last_finished_scan_stays_visible_in_the_next(
    shown: Shown, client: aiohttp.ClientSession
) -> None:
    scope = shown.scope
    scope.images["icom"] = (np.ones((64, 64), np.float32), "px")
    scope.grow(4096)
    del scope.images["icom"]
    first = scope.acquisition.id
    scope.new_scan()
    scope.grow(64)
    viewer = await look(client, shown.url)
    await viewer.watch(icom=0)
    assert (await viewer.image())[0]["scan"] == first


async def test_a_page_started_late_shows_what_the_hub_already_knew(
    tmp_path: Path, client: aiohttp.ClientSession
) -> None:
    scope = Microscope()
    scope.grow(4096)
    page = scope.page(tmp_path)
    url = await scope.serve(page)
    viewer = await look(client, url)
    await viewer.watch(sum=0)
    assert (await viewer.image())[0]["final"] is True
    await page.stop()


async def test_settings_and_commands_reach_the_pipeline_and_are_answered(
    shown: Shown, client: aiohttp.ClientSession
) -> None:
    shown.scope.tell_settings()
    viewer = await look(client, shown.url)
    assert await viewer.ask(ricom={"kernel_size": 21}) == {"id": "7", "ok": True, "revision": 4}
    assert (await viewer.ask("command", command="start"))["ok"] is True
    assert [kind for _, kind, _ in shown.scope.requests] == ["settings", "command"]
    refused = await viewer.ask(ricom={"kernel_size": 20})
    assert refused["ok"] is False
    assert refused["error"]["key"] == "ricom.kernel_size"


async def test_a_message_that_is_not_understood_is_answered_and_the_socket_stays(
    shown: Shown, client: aiohttp.ClientSession
) -> None:
    viewer = await look(client, shown.url)
    await viewer.ws.send_str("{oops")
    assert "message" in await viewer.text("error")
    shown.scope.tell_settings()
    assert (await viewer.ask(record={"raw": False}))["ok"] is True


async def test_nothing_is_changed_without_the_operators_token(
    tmp_path: Path, client: aiohttp.ClientSession, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("stemd.page.audience.WRONG_TOKEN_DELAY_S", 0.01)
    (tmp_path / "token").write_text(f"{TOKEN}\n")
    scope = Microscope()
    scope.tell_settings()
    page = scope.page(tmp_path, token_file=tmp_path / "token")
    viewer = await look(client, await scope.serve(page))
    assert (await viewer.text("hello"))["document"]["operator"] is False
    refused = await viewer.ask(ricom={"kernel_size": 21})
    assert (refused["ok"], refused["error"]["key"]) == (False, "token")
    await viewer.send(type="token", token="wrong")
    assert (await viewer.text("access"))["operator"] is False
    assert (await viewer.ask("command", command="stop"))["ok"] is False
    assert scope.requests == []
    await viewer.send(type="token", token=TOKEN)
    assert (await viewer.text("access"))["operator"] is True
    assert (await viewer.ask(ricom={"kernel_size": 21}))["ok"] is True
    await page.stop()


async def test_a_page_beyond_loopback_without_a_token_is_for_looking_only(
    tmp_path: Path, client: aiohttp.ClientSession
) -> None:
    scope = Microscope()
    scope.tell_settings()
    page = scope.page(tmp_path, listen="0.0.0.0:0")
    url = await scope.serve(page)
    viewer = await look(client, url)
    refused = await viewer.ask(ricom={"kernel_size": 21})
    assert "token_file" in refused["error"]["message"]
    await viewer.send(type="token", token="")
    assert (await viewer.text("access"))["operator"] is False
    assert scope.requests == []
    await page.stop()


async def test_another_web_site_cannot_open_the_socket(
    shown: Shown, client: aiohttp.ClientSession
) -> None:
    # a plain request: a refused ws_connect leaves its connection to the garbage collector
    handshake = {
        "Origin": "http://evil.example",
        "Connection": "Upgrade",
        "Upgrade": "websocket",
        "Sec-WebSocket-Version": "13",
        "Sec-WebSocket-Key": "MDEyMzQ1Njc4OWFiY2RlZg==",
    }
    async with client.get(f"{shown.url}ws", headers=handshake) as reply:
        assert reply.status == 403
    own = await look(client, shown.url, origin=shown.url.rstrip("/"))
    await own.text("hello")


async def test_a_foreign_name_that_points_here_is_not_answered(
    shown: Shown, client: aiohttp.ClientSession
) -> None:
    for path in ("", "ws", "api/scans"):
        async with client.get(shown.url + path, headers={"Host": "evil.example"}) as reply:
            assert reply.status == 421


async def test_every_answer_carries_the_security_headers(
    shown: Shown, client: aiohttp.ClientSession
) -> None:
    for path in ("", "app.js", "healthz", "metrics", "api/scans", "nothing", "api/scans/x/y"):
        async with client.get(shown.url + path) as reply:
            policy = reply.headers["Content-Security-Policy"]
            assert policy.startswith("default-src 'self';"), path
            assert "unsafe" not in policy
            assert reply.headers["X-Content-Type-Options"] == "nosniff"
            assert reply.headers["X-Frame-Options"] == "DENY"


async def test_the_page_names_no_resource_of_another_place(shown: Shown) -> None:
    static = Path(__file__).parents[2] / "stemd/page/static"
    for path in static.iterdir():
        text = path.read_text().replace("http://www.w3.org/2000/svg", "")
        assert "http://" not in text, path
        assert "https://" not in text.replace('"https:"', ""), path


async def test_health_and_metrics_come_from_the_daemon(
    tmp_path: Path, shown: Shown, client: aiohttp.ClientSession
) -> None:
    async with client.get(shown.url + "healthz") as reply:
        assert reply.status == 200
        assert (await reply.json())["ok"] is True
    async with client.get(shown.url + "metrics") as reply:
        assert reply.headers["Content-Type"].startswith("text/plain; version=0.0.4")
        assert "stemd_frames_total 42" in await reply.text()
    shown.page._health = lambda: (False, {"ok": False})
    async with client.get(shown.url + "healthz") as reply:
        assert reply.status == 503


async def test_past_scans_are_listed_newest_first_and_their_images_come_as_frames(
    shown: Shown, client: aiohttp.ClientSession
) -> None:
    scope = shown.scope
    ids = []
    for _ in range(3):
        scope.keep(shown.data_dir)
        ids.append(scope.acquisition.id)
        await asyncio.sleep(0.002)
        scope.new_scan()
    async with client.get(shown.url + "api/scans?limit=2") as reply:
        scans = (await reply.json())["scans"]
    assert [scan["id"] for scan in scans] == ids[:0:-1]
    assert scans[0]["status"] == "complete"
    assert scans[0]["shape"] == [64, 64]
    assert "ricom" in scans[0]["images"]
    async with client.get(f"{shown.url}api/scans/{ids[0]}/image/ricom") as reply:
        meta, image = decode_image(await reply.read())
    np.testing.assert_array_equal(image, scope.images["ricom"][0])
    assert (meta["units"], meta["pixel_size"]) == ("px*px", pytest.approx(0.2))
    async with client.get(f"{shown.url}api/scans/{ids[0]}/image/pacbed?max_side=64") as reply:
        meta, image = decode_image(await reply.read())
    assert (meta["axes"], meta["pixel_size"], image.shape) == ("detector", 1.0, (64, 64))
    async with client.get(f"{shown.url}api/scans/{ids[0]}/raw.mib") as reply:
        assert (await reply.read()).startswith(b"MQ1,")
        assert "attachment" in reply.headers["Content-Disposition"]


async def test_a_scan_that_is_still_running_is_no_past_scan(
    shown: Shown, client: aiohttp.ClientSession
) -> None:
    shown.scope.keep(shown.data_dir, status="acquiring")
    async with client.get(shown.url + "api/scans") as reply:
        assert (await reply.json())["scans"] == []


async def test_an_image_file_that_is_no_tiff_is_an_error_not_a_crash(
    shown: Shown, client: aiohttp.ClientSession
) -> None:
    shown.scope.keep(shown.data_dir)
    scan_id = shown.scope.acquisition.id
    next(shown.data_dir.glob("*/*/adf.tif")).write_bytes(b"not a tiff")
    async with client.get(f"{shown.url}api/scans/{scan_id}/image/adf") as reply:
        assert reply.status == 404


@pytest.mark.parametrize(
    "path",
    [
        "{id}/..%2f..%2f..%2fsecret",
        "{id}/../../../secret",
        "{id}/%2e%2e/secret",
        "{id}/.hidden",
        "{id}/link",
        "{id}/ricom.tif%00.png",
        "..%2f{id}/ricom.tif",
        "..%2f..%2fsecret/scan.json",
        "%2e%2e/secret",
        "{id}/image/..%2f..%2f..%2fsecret",
        "{id}/folder",
    ],
)
async def test_no_name_from_outside_leads_out_of_a_scans_folder(shown: Shown, path: str) -> None:
    (shown.data_dir / "secret").write_text("TOP SECRET")
    (shown.data_dir / "secret.tif").write_text("TOP SECRET")
    shown.scope.keep(shown.data_dir)
    folder = next(shown.data_dir.glob("*/*/scan.json")).parent
    (folder / ".hidden").write_text("TOP SECRET")
    (folder / "folder").mkdir()
    (folder / "link").symlink_to(shown.data_dir / "secret")
    target = "/api/scans/" + path.format(id=shown.scope.acquisition.id)
    # by hand: clients tidy such paths before they send them
    reader, writer = await asyncio.open_connection("127.0.0.1", shown.port)
    writer.write(f"GET {target} HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n".encode())
    answer = await reader.read()
    writer.close()
    await writer.wait_closed()
    assert answer.split(b" ")[1] in (b"404", b"400"), answer
    assert b"TOP SECRET" not in answer


async def test_a_port_in_use_is_an_error_that_names_it_and_says_what_to_do(
    tmp_path: Path,
) -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        port = taken.getsockname()[1]
        with pytest.raises(SinkError, match=str(port)) as caught:
            await Microscope().page(tmp_path, listen=f"127.0.0.1:{port}").start()
    assert "another port" in caught.value.remedy


async def test_an_address_of_another_computer_is_refused_with_a_remedy(tmp_path: Path) -> None:
    with pytest.raises(SinkError, match=r"192\.0\.2\.1") as caught:
        await Microscope().page(tmp_path, listen="192.0.2.1:0").start()
    assert caught.value.remedy


async def test_the_page_stops_with_viewers_looking_and_tells_them(
    shown: Shown, client: aiohttp.ClientSession
) -> None:
    viewer = await look(client, shown.url)
    await viewer.text("hello")
    assert shown.page.viewers == 1
    async with asyncio.timeout(PATIENCE_S):
        await asyncio.gather(shown.page.stop(), drain(viewer))
    assert viewer.ws.close_code == 1001
    assert shown.page.viewers == 0


async def drain(viewer: Viewer) -> None:
    async for _ in viewer.ws:
        pass


@pytest.mark.parametrize("listen", ["8440", "host", "host:99999", "ho st:80", ":80", "a:b"])
def test_a_listen_value_that_is_no_address_is_refused(listen: str) -> None:
    with pytest.raises(ValidationError):
        PageSettings(listen=listen)


@pytest.mark.parametrize(
    ("listen", "host", "port", "loopback"),
    [
        ("127.0.0.1:8440", "127.0.0.1", 8440, True),
        ("localhost:0", "localhost", 0, True),
        ("[::1]:80", "::1", 80, True),
        ("0.0.0.0:8440", "0.0.0.0", 8440, False),
        ("microscope.lab:8440", "microscope.lab", 8440, False),
    ],
)
def test_listen_is_a_host_and_a_port(listen: str, host: str, port: int, loopback: bool) -> None:
    settings = PageSettings(listen=listen)
    assert (settings.host, settings.port, settings.loopback) == (host, port, loopback)


@pytest.mark.parametrize("content", [None, "", "short\n"])
def test_a_token_file_that_protects_nothing_is_refused(tmp_path: Path, content: str | None) -> None:
    path = tmp_path / "token"
    if content is not None:
        path.write_text(content)
    with pytest.raises(ConfigError, match="token_file") as caught:
        PageSettings(token_file=path).read_token()
    assert caught.value.remedy


async def test_a_viewer_is_told_of_a_pipeline_that_is_gone_and_gets_nothing_more_of_it(
    shown: Shown, client: aiohttp.ClientSession
) -> None:
    hub = shown.scope.hub
    shown.scope.tell_state("waiting")
    hub.state("eels", {"state": "waiting"})
    viewer = await look(client, shown.url)
    assert (await viewer.text("hello"))["document"]["pipelines"] == ["eels", "merlin"]
    hub.state("eels", {"state": "acquiring"})
    hub.expect(["merlin"])
    assert (await viewer.text("removed"))["pipeline"] == "eels"
    again = await look(client, shown.url)
    assert (await again.text("hello"))["document"]["pipelines"] == ["merlin"]

"""The soak's viewers: browsers on the page, as a script plays them."""

from __future__ import annotations

import asyncio
import contextlib
import socket
import threading

import aiohttp


class Viewers:
    """Browsers on the page, each of which draws what it is sent; some go without a word."""

    def __init__(self, url: str, count: int) -> None:
        self._url, self._count = url, count
        self._sockets: set[aiohttp.ClientWebSocketResponse] = set()
        self.images = 0
        self.gone = 0
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._run, name="viewers", daemon=True)
        self._thread.start()

    def drop(self) -> None:
        """One of them goes: its connection is cut, it comes back after a moment."""
        self._loop.call_soon_threadsafe(self._cut)

    def close(self) -> None:
        """All go."""
        self._loop.call_soon_threadsafe(self._all.cancel)
        self._thread.join(10.0)

    def _cut(self) -> None:
        if self._sockets:
            connection = next(iter(self._sockets)).get_extra_info("socket")
            if connection is not None:
                connection.shutdown(socket.SHUT_RDWR)
                self.gone += 1

    def _run(self) -> None:
        asyncio.set_event_loop(self._loop)
        self._all = self._loop.create_task(self._everybody())
        with contextlib.suppress(asyncio.CancelledError):
            self._loop.run_until_complete(self._all)
        self._loop.close()

    async def _everybody(self) -> None:
        async with aiohttp.ClientSession() as client:
            await asyncio.gather(*(self._view(client) for _ in range(self._count)))

    async def _view(self, client: aiohttp.ClientSession) -> None:
        wanted = {"merlin": {"ricom": 0, "airpi_phase": 0}, "timepix": {"ricom": 0}}
        while True:
            with contextlib.suppress(aiohttp.ClientError, OSError):
                async with client.ws_connect(self._url, max_msg_size=0) as ws:
                    self._sockets.add(ws)
                    try:
                        await ws.send_json({"type": "watch", "images": wanted})
                        await self._draw(ws)
                    finally:
                        self._sockets.discard(ws)
            await asyncio.sleep(1.0)

    async def _draw(self, ws: aiohttp.ClientWebSocketResponse) -> None:
        async for heard in ws:
            if heard.type is aiohttp.WSMsgType.BINARY:
                self.images += 1
                for pipeline, names in (("merlin", ["ricom", "airpi_phase"]), ("timepix", "ricom")):
                    await ws.send_json({"type": "drawn", "pipeline": pipeline, "name": names})

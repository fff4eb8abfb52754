"""The page's web server: a sink that shows what it is told to every viewer."""

from __future__ import annotations

import asyncio
import errno
from collections.abc import Callable
from pathlib import Path
from typing import Any

from aiohttp import web

from stemd.config.page import PageSettings
from stemd.documents import compact_json
from stemd.errors import SinkError
from stemd.events import Hub, Sink
from stemd.logs import get_logger
from stemd.page.access import Access
from stemd.page.audience import Audience
from stemd.page.door import Door
from stemd.page.replays import ConfigOf, Replays
from stemd.page.static_files import StaticFiles
from stemd.results import Snapshot
from stemd.storage.archive import Archive
from stemd.tasks import Tasks

Json = dict[str, Any]


log = get_logger(__name__)


class Page(Sink):
    """Serves the page of one daemon; all `on_...` are called on the event loop by the hub.

    `health` returns (healthy, document) for /healthz, `metrics` Prometheus text for /metrics,
    `config_of` the config of a pipeline, with whose engines a past scan is replayed.
    """

    def __init__(
        self,
        settings: PageSettings,
        hub: Hub,
        instrument: str,
        data_dir: Path,
        health: Callable[[], tuple[bool, Json]],
        metrics: Callable[[], bytes],
        config_of: ConfigOf = lambda pipeline: None,
    ) -> None:
        self._settings = settings
        self._hub = hub
        self._health = health
        self._metrics = metrics
        self._archive = Archive(data_dir)
        self._access = Access(settings.read_token(), loopback=settings.loopback)
        self._replays = Replays(self._archive, config_of, self._access)
        self._audience = Audience(hub, instrument, self._access, self._replays)
        self._door = Door()
        self._static_files = StaticFiles()
        self._runner: web.AppRunner | None = None
        self.url: str | None = None
        """With the real port, once started."""

    @property
    def viewers(self) -> int:
        """Browsers that look at this moment."""
        return self._audience.viewers

    @property
    def skipped(self) -> int:
        """Images that viewers were too slow for, since the start."""
        return self._audience.skipped

    async def start(self) -> None:
        """Listen. Raises SinkError."""
        app = web.Application(middlewares=[self._door.busy, self._access.guard])
        app.add_routes(
            [
                web.get("/", self._index),
                web.get("/ws", self._audience.serve),
                web.get("/healthz", self._healthz),
                web.get("/metrics", self._prometheus),
                web.get("/api/scans", self._scans),
                web.get("/api/scans/{id}/{file}", self._scan_file),
                web.get("/api/scans/{id}/image/{name}", self._scan_image),
                web.get("/{name}", self._static),
            ]
        )
        runner = web.AppRunner(app, access_log=None, shutdown_timeout=1.0)
        await runner.setup()
        host, port = self._settings.host, self._settings.port
        try:
            server = runner.server
            if server is None:
                raise RuntimeError("the page's runner has no server")
            await self._door.open(server, host, port)
        except OSError as error:
            await runner.cleanup()
            raise _cannot_listen(self._settings, error) from error
        self._runner = runner
        for name, view in self._hub.views.items():
            for snapshot in reversed([*view.newest_first()]):
                self.on_snapshot(name, snapshot)
        real_port = self._door.port
        shown = {"0.0.0.0": "127.0.0.1", "::": "::1"}.get(host, host)
        self.url = (
            f"http://[{shown}]:{real_port}/" if ":" in shown else f"http://{shown}:{real_port}/"
        )
        log.info("live page", url=self.url, changes="open" if self._access.open else "with token")

    @property
    def tasks(self) -> Tasks:
        """Those that let viewers in."""
        return self._door.tasks

    async def stop(self) -> None:
        """Close every viewer's socket and the port."""
        if self._runner is None:
            return
        runner, self._runner = self._runner, None
        await self._door.close()
        await self._audience.close()
        await self._replays.close()
        await runner.cleanup()

    # What the hub tells

    def on_daemon_state(self, state: Json) -> None:
        """See `stemd.events.Sink`."""
        self._audience.tell("daemon", "", state)

    def on_health(self, health: Json) -> None:
        """See `stemd.events.Sink`."""
        self._audience.tell("health", "", health)

    def on_state(self, pipeline: str, state: Json) -> None:
        """See `stemd.events.Sink`."""
        self._audience.tell("state", pipeline, state)

    def on_settings(self, pipeline: str, settings: Json) -> None:
        """See `stemd.events.Sink`."""
        self._audience.tell("settings", pipeline, settings)

    def on_optics(self, pipeline: str, optics: Json) -> None:
        """See `stemd.events.Sink`."""
        self._audience.tell("optics", pipeline, optics)

    def on_document(self, pipeline: str, document: Json) -> None:
        """See `stemd.events.Sink`."""
        if document.get("event") == "session":
            self._audience.tell("session", pipeline, document)
        else:
            self._audience.tell_line("document", pipeline, document)

    def on_log(self, pipeline: str, entry: Json) -> None:
        """See `stemd.events.Sink`."""
        self._audience.tell_line("log", pipeline, entry)

    def on_removed(self, pipeline: str) -> None:
        """See `stemd.events.Sink`."""
        self._audience.forget(pipeline)

    def on_snapshot(self, pipeline: str, snapshot: Snapshot) -> None:
        """See `stemd.events.Sink`."""
        self._audience.show(pipeline, snapshot)

    # What browsers ask for

    async def _index(self, request: web.Request) -> web.StreamResponse:
        return self._static_files.answer("index.html", request)

    async def _static(self, request: web.Request) -> web.StreamResponse:
        return self._static_files.answer(request.match_info["name"], request)

    async def _healthz(self, request: web.Request) -> web.Response:
        healthy, document = self._health()
        return web.Response(
            status=200 if healthy else 503,
            text=compact_json(document),
            content_type="application/json",
        )

    async def _prometheus(self, request: web.Request) -> web.Response:
        return web.Response(
            body=self._metrics(),
            headers={"Content-Type": "text/plain; version=0.0.4; charset=utf-8"},
        )

    async def _scans(self, request: web.Request) -> web.Response:
        scans = await asyncio.to_thread(self._archive.scans, _number(request, "limit", 100))
        text = compact_json({"scans": scans})
        return web.Response(text=text, content_type="application/json")

    async def _scan_file(self, request: web.Request) -> web.StreamResponse:
        info = request.match_info
        path = await asyncio.to_thread(self._archive.file, info["id"], info["file"])
        if path is None:
            raise web.HTTPNotFound
        name = f"{info['id']}_{path.name}"
        return web.FileResponse(
            path, headers={"Content-Disposition": f'attachment; filename="{name}"'}
        )

    async def _scan_image(self, request: web.Request) -> web.Response:
        info = request.match_info
        side = _number(request, "max_side", 0)
        frame = await asyncio.to_thread(self._archive.frame, info["id"], info["name"], side)
        if frame is None:
            raise web.HTTPNotFound
        return web.Response(body=frame, content_type="application/octet-stream")


def _number(request: web.Request, key: str, default: int) -> int:
    text = request.query.get(key, str(default))
    if not (text.isascii() and text.isdigit() and len(text) < 7):
        raise web.HTTPBadRequest(text=f"{key} must be a whole number from 0\n")
    return int(text)


def _cannot_listen(settings: PageSettings, error: OSError) -> SinkError:
    where = settings.listen
    if error.errno == errno.EADDRINUSE:
        return SinkError(
            f"page: port {settings.port} is in use ([page] listen = {where!r})",
            "end the program that uses it, or choose another port (0 takes any free one)",
        )
    if error.errno == errno.EACCES:
        return SinkError(
            f"page: port {settings.port} may not be used ([page] listen = {where!r})",
            "choose a port from 1024, or 0 for any free one",
        )
    return SinkError(
        f"page: cannot listen on {where!r}: {error.strerror or error}",
        "set [page] listen to an address of this computer, e.g. 127.0.0.1:8440",
    )

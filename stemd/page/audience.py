"""All viewers of the page: what each is told, and what is heard from them."""

from __future__ import annotations

import asyncio
from collections import deque
from contextlib import suppress
from typing import Any

from aiohttp import WSMsgType, web

from stemd import __version__, image_frames
from stemd.documents import compact_json, refused
from stemd.events import Hub
from stemd.logs import get_logger
from stemd.offline.replay.wire import PIPELINE as REPLAY
from stemd.page import protocol
from stemd.page.access import Access
from stemd.page.encoder import Encoder
from stemd.page.replays import Replays
from stemd.page.viewer import Viewer
from stemd.results import Snapshot
from stemd.tasks import end_all
from stemd.view import View

Json = dict[str, Any]

MAX_VIEWERS = 100
RESERVED_VIEWERS = 16
"""Further places, for viewers that show the operator's token."""
TOKEN_S = 5.0
"""A viewer in one of these shows its token within so long, or goes."""
MAX_REQUESTS = 8
"""Requests of one viewer that may wait for their reply at a time."""
WRONG_TOKEN_DELAY_S = 0.5
KEPT_LINES = 100
"""Log lines that a new viewer is shown."""

log = get_logger(__name__)


class Audience:
    """The viewers of one page. Telling returns at once; `serve` lives as long as a socket."""

    def __init__(self, hub: Hub, instrument: str, access: Access, replays: Replays) -> None:
        self._hub = hub
        self._instrument = instrument
        self._access = access
        self._replays = replays
        self._encoder = Encoder()
        self._viewers: set[Viewer] = set()
        self._candidates: dict[Viewer, None] = {}
        self._offered: dict[str, dict[str, Json]] = {}
        self._lines: deque[str] = deque(maxlen=KEPT_LINES)
        self._skipped = 0

    @property
    def viewers(self) -> int:
        """Open sockets."""
        return len(self._viewers)

    @property
    def skipped(self) -> int:
        """Images that viewers were too slow for, since the start."""
        return self._skipped + sum(viewer.skipped for viewer in self._viewers)

    def tell(self, kind: str, pipeline: str, document: Json) -> None:
        """A document of which only the newest matters."""
        if self._viewers:
            text = _document(kind, pipeline, document)
            for viewer in self._viewers:
                viewer.retain(kind, pipeline, text)

    def tell_line(self, kind: str, pipeline: str, document: Json) -> None:
        """A log line or a scan document; later viewers are shown the last ones too."""
        text = _document(kind, pipeline, document)
        self._lines.append(text)
        for viewer in self._viewers:
            viewer.line(text)

    def show(self, pipeline: str, snapshot: Snapshot) -> None:
        """New images."""
        known = self._offered.setdefault(pipeline, {})
        now = {
            result.name: {
                "name": result.name,
                "units": result.units,
                "axes": result.axes,
                "shape": list(result.shape),
            }
            for result in snapshot.results
        }
        # names seen earlier stay: some images are made at the end of a scan only
        if any(known.get(name) != about for name, about in now.items()):
            known.update(now)
            self.tell("images", pipeline, {"images": list(known.values())})
        for viewer in self._viewers:
            viewer.offer(pipeline, snapshot)

    def forget(self, pipeline: str) -> None:
        """The pipeline is gone."""
        self._offered.pop(pipeline, None)
        text = _document("removed", pipeline, {})
        for viewer in self._viewers:
            viewer.forget(pipeline, text)

    @property
    def _full(self) -> bool:
        """Whether every place is taken; whoever has shown the operator's token takes none."""
        taken = [viewer for viewer in self._viewers if self._access.open or not viewer.operator]
        return len(taken) - len(self._candidates) >= MAX_VIEWERS

    def _let_in(self, viewer: Viewer) -> asyncio.TimerHandle:
        """A reserved place, for as long as it takes to show the token."""
        if len(self._candidates) >= RESERVED_VIEWERS:
            self._turn_out(next(iter(self._candidates)))
        self._candidates[viewer] = None
        return asyncio.get_running_loop().call_later(TOKEN_S, self._turn_out, viewer)

    def _turn_out(self, viewer: Viewer) -> None:
        """End a viewer in a reserved place that has not shown the token."""
        if viewer in self._candidates:
            del self._candidates[viewer]
            viewer.cut_off()

    async def close(self) -> None:
        """Close every socket; a viewer that does not answer is left to the server's end."""
        closing = [
            viewer.socket.close(code=1001, message=b"stemd ends") for viewer in self._viewers
        ]
        with suppress(TimeoutError):
            async with asyncio.timeout(1.0):
                await asyncio.gather(*closing, return_exceptions=True)

    async def serve(self, request: web.Request) -> web.StreamResponse:
        """The life of one viewer's socket."""
        if not self._access.same_origin(request):
            raise web.HTTPForbidden(text="the socket is for this page's own origin\n")
        full = self._full
        if full and not self._access.has_token:
            raise web.HTTPServiceUnavailable(text=f"{MAX_VIEWERS} viewers are looking already\n")
        socket = web.WebSocketResponse(
            compress=False, heartbeat=30.0, max_msg_size=protocol.MAX_INBOUND_BYTES
        )
        await socket.prepare(request)
        transport = request.transport
        if transport is None:
            return socket
        viewer = Viewer(socket, transport, self._encoder, operator=self._access.open)
        self._greet(viewer)
        self._viewers.add(viewer)
        sender = asyncio.create_task(_send(viewer))
        patience = self._let_in(viewer) if full else None
        requests: set[asyncio.Task[None]] = set()
        try:
            async for message in socket:
                if message.type is not WSMsgType.TEXT:
                    continue
                try:
                    await self._hear(viewer, message.data, requests)
                except Exception as error:  # nothing that is said here may end anything
                    log.exception("page: a message could not be taken in")
                    text = f"the page failed at this: {type(error).__name__}"
                    viewer.reply(compact_json({"type": "error", "message": text}))
        finally:
            if patience is not None:
                patience.cancel()
            self._candidates.pop(viewer, None)
            self._viewers.discard(viewer)
            self._skipped += viewer.skipped
            await end_all((sender, *requests))
            await self._replays.leave(viewer)
            if not self._viewers:
                self._encoder.clear()
        return socket

    def _greet(self, viewer: Viewer) -> None:
        hello = {
            "protocol": image_frames.VERSION,
            "version": __version__,
            "instrument": self._instrument,
            "pipelines": self._hub.names,
            "operator": viewer.operator,
            "refusal": "" if viewer.operator else self._access.refusal,
            "config": not self._access.config_refusal,
        }
        viewer.retain("hello", "", _document("hello", "", hello))
        hub = self._hub
        if hub.daemon_state:
            viewer.retain("daemon", "", _document("daemon", "", hub.daemon_state))
        if hub.health:
            viewer.retain("health", "", _document("health", "", hub.health))
        for name, view in hub.views.items():
            for kind in ("state", "settings", "optics", "session"):
                if document := getattr(view, kind):
                    viewer.retain(kind, name, _document(kind, name, document))
            if name in self._offered:
                images = {"images": list(self._offered[name].values())}
                viewer.retain("images", name, _document("images", name, images))
        for text in self._lines:
            viewer.line(text)

    async def _hear(self, viewer: Viewer, text: str, requests: set[asyncio.Task[None]]) -> None:
        try:
            message = protocol.parse(text)
        except ValueError as error:
            viewer.reply(compact_json({"type": "error", "message": str(error)}))
            return
        match message:
            case protocol.Watch():
                for pipeline, name in viewer.watch(message):
                    if pipeline in self._hub.views:
                        _offer_newest(viewer, pipeline, self._hub.views[pipeline], name)
                self._replays.watch(viewer)
            case protocol.Drawn():
                viewer.drawn(message)
            case protocol.Token():
                viewer.operator = self._access.open or self._access.matches(message.token)
                if not viewer.operator:
                    log.warning("page: wrong operator's token")
                    await asyncio.sleep(WRONG_TOKEN_DELAY_S)
                else:
                    self._candidates.pop(viewer, None)
                answer = {"type": "access", "operator": viewer.operator}
                viewer.reply(compact_json(answer))
            case protocol.Request():
                if len(requests) >= MAX_REQUESTS:
                    _refuse(viewer, message, "busy", "too many requests wait for their reply")
                elif not viewer.operator:
                    _refuse(viewer, message, "token", self._access.refusal)
                elif message.kind == "config" and self._access.config_refusal:
                    _refuse(viewer, message, "token", self._access.config_refusal)
                elif message.pipeline == REPLAY:
                    if not self._replays.request(viewer, message):
                        _refuse(viewer, message, "replay", "there is no replay that could obey")
                else:
                    task = asyncio.create_task(self._request(viewer, message))
                    requests.add(task)
                    task.add_done_callback(requests.discard)

            case protocol.Replay():
                await self._replays.hear(viewer, message)

    async def _request(self, viewer: Viewer, message: protocol.Request) -> None:
        reply = await self._hub.request(message.pipeline, message.kind, message.request)
        viewer.reply(_document("reply", message.pipeline, reply))


async def _send(viewer: Viewer) -> None:
    """Send until the socket is gone; a failure closes it, so that the browser comes back."""
    try:
        await viewer.send()
    except ConnectionError:
        log.debug("page: a viewer has gone")
    except Exception:
        log.exception("page: sending to a viewer failed")
        await viewer.socket.close(code=1011, message=b"sending failed")


def _document(kind: str, pipeline: str, document: Json) -> str:
    return compact_json({"type": kind, "pipeline": pipeline, "document": document})


def _refuse(viewer: Viewer, message: protocol.Request, key: str, text: str) -> None:
    reply = refused(message.request.get("id"), key, text)
    viewer.reply(_document("reply", message.pipeline, reply))


def _offer_newest(viewer: Viewer, pipeline: str, view: View, name: str) -> None:
    """The newest image of a name: of the running scan, else of the last finished one."""
    for snapshot in view.newest_first():
        if any(result.name == name for result in snapshot.results):
            viewer.offer(pipeline, snapshot, {name})
            return

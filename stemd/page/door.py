"""The page's door: so many connections and no more, and none for whoever says nothing.

The browsers of a laboratory, port scanners and programs that forget to close share the process's
descriptors with the cameras. So connections are counted, those without a request are closed after
some seconds (at once where one more comes in and there is no place), and when the process has no
descriptor left that is said once, while the door waits for one.
"""

from __future__ import annotations

import asyncio
import contextlib
import socket
import time
from collections.abc import Sequence
from functools import partial

from aiohttp import web
from aiohttp.typedefs import Handler

from stemd.adapters.sockets import watch_over
from stemd.logs import get_logger
from stemd.tasks import Tasks

IDLE_S = 15.0
"""A connection without a request is closed after so long."""
MAX_CONNECTIONS = 256
_PARTS_OF_DESCRIPTORS = 4
_LOOK_S, _RETRY_S = 1.0, 1.0
_BACKLOG = 128

log = get_logger(__name__)


def most_connections() -> int:
    """Connections that the page may have: a quarter of the process's descriptors at most."""
    import resource  # Windows, where plugins are listed but no page is served, has none

    soft, _ = resource.getrlimit(resource.RLIMIT_NOFILE)
    if soft == resource.RLIM_INFINITY:
        return MAX_CONNECTIONS
    return max(8, min(MAX_CONNECTIONS, soft // _PARTS_OF_DESCRIPTORS))


class Door:
    """Accepts connections for one web server. On the event loop."""

    def __init__(self, most: int | None = None) -> None:
        self.most = most_connections() if most is None else most
        self.turned_away = 0
        self._quiet_since: dict[asyncio.BaseTransport, float] = {}
        self._busy: set[asyncio.BaseTransport] = set()
        self._listeners: list[socket.socket] = []
        self.tasks = Tasks()
        """Without them nobody comes in: who dies is begun again, and its owner can tell."""
        self._troubled = False

    @property
    def port(self) -> int:
        """The port of the first address."""
        return int(self._listeners[0].getsockname()[1])

    async def open(self, server: web.Server, host: str, port: int) -> None:
        """Listen on every address of the host. Raises OSError."""
        loop = asyncio.get_running_loop()
        found = await loop.getaddrinfo(host, port, type=socket.SOCK_STREAM)
        try:
            for family, _, _, _, address in dict.fromkeys(found):
                self._listeners.append(_listener(family, address))
        except OSError:
            self._close_listeners()
            raise
        for number, listener in enumerate(self._listeners):
            self.tasks.keep(partial(self._accept, server, listener), f"page-accept-{number}")
        self.tasks.keep(self._look, "page-look")

    async def close(self) -> None:
        """Accept nobody any more."""
        await self.tasks.stop()
        self._close_listeners()

    @web.middleware
    async def busy(self, request: web.Request, handler: Handler) -> web.StreamResponse:
        """Note which connections have a request, and since when the others have none."""
        transport = request.transport
        if transport is None:
            return await handler(request)
        self._busy.add(transport)
        try:
            return await handler(request)
        finally:
            self._busy.discard(transport)
            if transport in self._quiet_since:
                self._quiet_since[transport] = time.monotonic()

    async def _accept(self, server: web.Server, listener: socket.socket) -> None:
        loop = asyncio.get_running_loop()
        while True:
            try:
                peer, _ = await loop.sock_accept(listener)
                self._forget_closed()
                if len(self._quiet_since) >= self.most and not self._make_room():
                    self.turned_away += 1
                    peer.close()
                    continue
                transport, _ = await loop.connect_accepted_socket(server, peer)
                self._quiet_since[transport] = time.monotonic()
                if self._troubled:
                    self._troubled = False
                    log.info("page: connections are accepted again")
            except Exception as error:
                if not self._troubled:
                    self._troubled = True
                    log.error(
                        "page: connections cannot be accepted",
                        error=str(error),
                        remedy="too many open files? raise LimitNOFILE for the service",
                    )
                await asyncio.sleep(_RETRY_S)

    async def _look(self) -> None:
        while True:
            await asyncio.sleep(_LOOK_S)
            self._forget_closed()
            latest = time.monotonic() - IDLE_S
            for transport, since in list(self._quiet_since.items()):
                if since < latest and transport not in self._busy:
                    self._shut(transport)

    def _make_room(self) -> bool:
        """Close the connection that has been without a request for longest; False if none is."""
        quiet = (each for each in self._quiet_since if each not in self._busy)
        longest = min(quiet, key=self._quiet_since.__getitem__, default=None)
        if longest is None:
            return False
        self._shut(longest)
        return True

    def _shut(self, transport: asyncio.BaseTransport) -> None:
        del self._quiet_since[transport]
        if isinstance(transport, asyncio.WriteTransport):
            transport.abort()

    def _forget_closed(self) -> None:
        for transport in [each for each in self._quiet_since if each.is_closing()]:
            del self._quiet_since[transport]

    def _close_listeners(self) -> None:
        for listener in self._listeners:
            with contextlib.suppress(OSError):
                listener.close()
        self._listeners.clear()


def _listener(family: int, address: Sequence[object]) -> socket.socket:
    listener = socket.socket(family, socket.SOCK_STREAM)
    try:
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        if family == socket.AF_INET6:
            listener.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 1)
        # an accepted socket has these of its listener
        watch_over(listener)
        listener.setblocking(False)
        listener.bind(tuple(address))
        listener.listen(_BACKLOG)
    except OSError:
        listener.close()
        raise
    return listener

"""Another daemon of the same instrument on the broker: noticed, named, and not fought with.

A broker gives a client id to whoever came last, so two daemons of one name would throw each other
out for ever. The one that was thrown out looks, under an id of its own, who is there. It stands by
while another daemon says `online`, and comes back when that one has gone.
"""

from __future__ import annotations

import asyncio
import contextlib
import secrets
from typing import Any

from aiomqtt import Message, MqttError

from stemd.documents import object_from_json
from stemd.errors import FormatError, SinkError
from stemd.events import Hub
from stemd.logs import get_logger
from stemd.mqtt.complaints import Complaints
from stemd.mqtt.errors import rival_daemon
from stemd.mqtt.link import Line, race
from stemd.mqtt.topics import Topics

LOOK_SECONDS = 1.0
"""What is retained comes at once; a slow line gets this long."""
_CLOSE_SECONDS = 0.15
Json = dict[str, Any]

log = get_logger()


class Rival:
    """Finds out whether another daemon has this instrument's name."""

    def __init__(
        self, line: Line, topics: Topics, hub: Hub, complaints: Complaints, client_id: str
    ) -> None:
        self._line, self._topics, self._hub = line, topics, hub
        self._complaints = complaints
        self._client_id = f"{client_id}-look-{secrets.token_hex(4)}"
        self._online = False
        self._state: Json = {}
        self._news = asyncio.Event()

    async def wait_until_gone(self, *, taken_over: bool) -> None:
        """Return when no other daemon is there. Raises MqttError, OSError, StemdError.

        `taken_over`: the broker has said that another client uses the id.
        """
        connection = await self._line.open(self._client_id, self._line.settings.keepalive_s)
        if connection is None:
            return
        self._online, self._state = False, {}
        try:
            connection.inbox = self._heard
            await connection.listen([self._topics.availability, self._topics.of("daemon", "state")])
            await race(asyncio.sleep(LOOK_SECONDS), connection.ended(), self._line.until_stopped())
            if not self._is_there(taken_over=taken_over):
                return
            while self._is_there(taken_over=taken_over):
                self._complaints.tell("rival", self._error())
                self._news.clear()
                await race(self._wait(), connection.ended(), self._line.until_stopped())
                if self._line.stopping.is_set():
                    return
            log.info("the other daemon has gone", instrument=self._topics.base)
        finally:
            with contextlib.suppress(MqttError, OSError):
                await connection.close(_CLOSE_SECONDS)
            connection.hang_up()

    def _is_there(self, *, taken_over: bool) -> bool:
        """A daemon is online, and it is not what the broker still believes of this one."""
        ours = self._hub.daemon_state.get("boot_id")
        theirs = self._state.get("boot_id")
        return self._online and (taken_over or (theirs is not None and theirs != ours))

    def _error(self) -> SinkError:
        ours, theirs = self._hub.daemon_state.get("boot_id"), self._state.get("boot_id")
        host = self._state.get("host") if theirs != ours else None
        return rival_daemon(self._line.settings, self._topics.base, host)

    def _heard(self, message: Message) -> None:
        payload = bytes(message.payload) if isinstance(message.payload, bytes) else b""
        if str(message.topic) == self._topics.availability:
            self._online = payload == b"online"
        else:
            with contextlib.suppress(FormatError):
                self._state = object_from_json(payload)
        self._news.set()

    async def _wait(self) -> None:
        await self._news.wait()

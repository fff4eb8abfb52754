"""What the broker keeps on stemd's own topics and should not: found there, cleared, and told.

Topics of pipelines that are in no config any more, and messages that somebody else has retained
where only stemd speaks: every new subscriber would take them for stemd's.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable

from aiomqtt import Message, MqttCodeError

from stemd.documents import object_from_json
from stemd.errors import FormatError
from stemd.events import Hub
from stemd.logs import get_logger
from stemd.mqtt.connection import Connection
from stemd.mqtt.topics import Topics

SWEEP_SECONDS = 2.0
"""A broker sends what it keeps at once; a slow line gets this long."""
_KEPT = ("state", "settings", "session", "optics")
"""Small retained documents, by which pipelines of earlier runs are found."""
_NEVER_KEPT = ("scan", "log", "reply", "health")
"""Documents that stemd sends and never has retained."""
_SHOWN_BYTES = 40

log = get_logger(__name__)


class Ghosts:
    """Listens to the instrument's own topics for a moment: at the start, and after a removal.

    `clear` takes a retained topic from the broker; `keeps`: whether this run has a document of its
    own retained there.
    """

    def __init__(
        self,
        topics: Topics,
        hub: Hub,
        clear: Callable[[str], None],
        keeps: Callable[[str], bool],
    ) -> None:
        self._topics, self._hub, self._clear, self._keeps = topics, hub, clear, keeps
        self._swept = False
        self._gone: set[str] = set()
        self._news = asyncio.Event()

    def removed(self, pipeline: str) -> None:
        """A pipeline is gone: what an earlier run has left of it goes, too."""
        self._gone.add(pipeline)
        self._news.set()

    def heard(self, message: Message) -> None:
        """A message on one of the instrument's own topics."""
        topic = str(message.topic)
        pipeline = self._topics.pipeline_of(topic)
        if pipeline is None or not message.retain or not message.payload:
            return
        if pipeline != "daemon" and pipeline not in self._hub.names:
            if pipeline not in self._gone:
                log.info("topics of a pipeline that is gone are cleared", pipeline=pipeline)
                self.removed(pipeline)
            self._clear(topic)
            return
        # what this run has retained there itself has replaced it
        if self._is_foreign(topic, bytes(message.payload)) and not self._keeps(topic):
            log.warning(
                "a retained message that is not stemd's own is cleared",
                topic=topic,
                said=bytes(message.payload)[:_SHOWN_BYTES].decode(errors="replace"),
                remedy="find out which program publishes there",
            )
            self._clear(topic)

    @staticmethod
    def _is_foreign(topic: str, payload: bytes) -> bool:
        """Whether stemd cannot have had this retained on one of its topics."""
        what = topic.rpartition("/")[2]
        if what in _NEVER_KEPT:
            return True
        try:
            object_from_json(payload)
        except FormatError:
            return what in _KEPT
        return False

    async def session(self, connection: Connection) -> None:
        """Look once, then whenever a pipeline goes. Raises MqttError when the connection ends."""
        if not self._swept and self._hub.expected:
            every = [self._topics.of("+", what) for what in (*_KEPT, *_NEVER_KEPT)]
            await self._listen(connection, every)
            self._swept = True
        while True:
            await self._news.wait()
            self._news.clear()
            gone = self._gone - set(self._hub.names)
            await self._listen(connection, [self._topics.of(name, "#") for name in sorted(gone)])
            self._gone -= gone

    async def _listen(self, connection: Connection, topics: list[str]) -> None:
        try:
            await connection.listen(topics)
        except MqttCodeError:
            if connection.lost is not None:
                raise
            log.debug("the broker does not allow stemd to read its own topics")
        await asyncio.sleep(SWEEP_SECONDS)
        for topic in topics:
            await connection.unsubscribe(topic)

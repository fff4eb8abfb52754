"""What is told as JSON: retained states, and documents in the order in which they came."""

from __future__ import annotations

import asyncio
from typing import Any

from aiomqtt import MqttError

from stemd.config.mqtt import MqttSettings
from stemd.errors import SinkError
from stemd.mqtt.complaints import Complaints
from stemd.mqtt.connection import ANSWER_SECONDS, Connection, Outgoing
from stemd.mqtt.errors import code_of, refusal
from stemd.mqtt.mailbox import Lane, Outbox
from stemd.mqtt.status import MqttStatus
from stemd.mqtt.topics import Topics, document

Json = dict[str, Any]


class Documents:
    """Documents on their way to the broker. Leaving one returns at once."""

    def __init__(
        self, topics: Topics, settings: MqttSettings, status: MqttStatus, complaints: Complaints
    ) -> None:
        self._topics = topics
        self._settings = settings
        self._status = status
        self._complaints = complaints
        self._outbox = Outbox()
        self._ready = asyncio.Event()
        self._retained: dict[str, Outgoing] = {}

    @property
    def counters(self) -> dict[str, int]:
        """What waits, and what had to go."""
        return {
            "documents_waiting": len(self._outbox),
            "documents_dropped": self._outbox.dropped["documents"],
            "replies_dropped": self._outbox.dropped["replies"],
            "log_lines_dropped": self._outbox.dropped["log"],
        }

    def retain(self, pipeline: str, what: str, fields: Json, *, last: bool = False) -> None:
        """A document that the broker keeps: sent again at every connection.

        `last`: a summary, which is sent even if another document of its topic comes at once.
        """
        message = document(self._topics.of(pipeline, what), fields, qos=1, retain=True)
        self._retained[message.topic] = message
        if last:
            self._outbox.last(message)
        else:
            self._outbox.newest(message)
        self._ready.set()

    def newest(self, pipeline: str, what: str, fields: Json) -> None:
        """A document that makes an unsent older one worthless."""
        self._outbox.newest(document(self._topics.of(pipeline, what), fields))
        self._ready.set()

    def queue(self, message: Outgoing, lane: Lane = "documents") -> None:
        """A document that is to be sent whatever comes after it."""
        dropped = self._outbox.dropped["documents"]
        self._outbox.queue(message, lane)
        if self._outbox.dropped["documents"] > dropped and not self._status.connected:
            self._complaints.tell(
                "outbox",
                SinkError(
                    f"MQTT broker {self._settings.url} has been away so long that documents "
                    "must be dropped",
                    "start the broker again; the scans themselves are on disk",
                ),
            )
        self._ready.set()

    def reply(self, message: Outgoing) -> None:
        """An answer to a request: a flood of these pushes out no document."""
        self.queue(message, "replies")

    def clear(self, topic: str) -> None:
        """Take a retained message from the broker."""
        self._retained.pop(topic, None)
        self._outbox.newest(Outgoing(topic, b"", 1, True))
        self._ready.set()

    def keeps(self, topic: str) -> bool:
        """Whether there is a document of ours that the broker is to keep on this topic."""
        return topic in self._retained

    def forget(self, pipeline: str) -> None:
        """Take every retained document of a pipeline that is gone from the broker."""
        within = self._topics.of(pipeline, "")
        for topic in [topic for topic in self._retained if topic.startswith(within)]:
            self.clear(topic)

    def renew(self) -> None:
        """Send everything retained again: a broker may have forgotten it."""
        for message in self._retained.values():
            self._outbox.newest(message)

    async def session(self, connection: Connection) -> None:
        """Publish until cancelled or the connection is lost (MqttError)."""
        while True:
            await self.drain(connection)
            self._ready.clear()
            if not len(self._outbox):
                await self._ready.wait()

    async def drain(self, connection: Connection) -> None:
        """Publish until nothing waits."""
        while (item := self._outbox.peek()) is not None:
            key, message = item
            try:
                async with asyncio.timeout(ANSWER_SECONDS):
                    await connection.send(message)
            except MqttError as error:
                code = code_of(error)
                if code is None or connection.lost is not None:
                    raise
                reason = refusal(code, self._settings)
                text = f"{message.topic} was not accepted: {reason.message}"
                self._complaints.tell(message.topic, SinkError(text, reason.remedy))
            self._outbox.sent(key, message)

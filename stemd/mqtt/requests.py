"""The desk where requests are taken in, passed to the pipelines, and answered."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Any

from aiomqtt import Message

from stemd.documents import reply_error
from stemd.events import Hub
from stemd.logs import get_logger
from stemd.mqtt.connection import Outgoing
from stemd.mqtt.inbound import Gate, Request
from stemd.mqtt.topics import Inbound, Topics, document
from stemd.request_queue import is_urgent
from stemd.tasks import end_all

log = get_logger()
Json = dict[str, Any]

Answer = Callable[[Outgoing], None]
"""Takes a reply away to be published."""


class RequestDesk:
    """Takes requests in as they come; whose turn it is the hub knows."""

    def __init__(self, topics: Topics, hub: Hub, answer: Answer, gate: Gate | None = None) -> None:
        self.refused = 0
        self._topics = topics
        self._hub = hub
        self._answer = answer
        self._gate = Gate() if gate is None else gate
        self._tasks: set[asyncio.Task[None]] = set()

    def receive(self, message: Message, pipeline: str, kind: Inbound) -> None:
        """Take a message in: it is refused now, or waits for its turn."""
        request = self._gate.read(message, pipeline, kind)
        if request.problem is not None:
            self._refuse(request, request.problem)
            return
        task = asyncio.create_task(self._carry_out(request), name=f"request-{pipeline}")
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    async def run(self, stopping: asyncio.Event) -> None:
        """Until stopped; then nothing more is begun."""
        try:
            await stopping.wait()
        finally:
            await end_all(self._tasks)

    async def _carry_out(self, request: Request) -> None:
        body = request.body or {}

        async def check() -> Json | None:
            if request.expired:
                self.refused += 1
                return reply_error("", "the request has expired while it waited")
            if request.kind == "command" and not is_urgent(body.get("command"), body.get("args")):
                await self._gate.written()
            return None

        try:
            reply = await self._hub.request(request.pipeline, request.kind, body, check)
        except Exception:
            log.exception("a request failed", pipeline=request.pipeline, kind=request.kind)
            self._refuse(request, reply_error("", "internal error, see the daemon's log"))
        else:
            self._reply(request, {**reply, "id": request.id})

    def _refuse(self, request: Request, error: Json) -> None:
        self.refused += 1
        self._reply(request, {"id": request.id, "ok": False, "error": error})

    def _reply(self, request: Request, reply: Json) -> None:
        topic = self._topics.of(request.pipeline, "reply")
        self._answer(document(topic, reply, qos=1, correlation=request.correlation))
        if request.response_topic is None:
            return
        if not self._topics.may_answer_at(request.response_topic):
            if request.response_topic != topic:
                log.warning("response topic refused", topic=request.response_topic)
            return
        message = document(request.response_topic, reply, qos=1, correlation=request.correlation)
        self._answer(message)

"""The desk where requests are taken in, passed to the pipelines in turn, and answered."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Any

import structlog
from aiomqtt import Message

from stemd.documents import refused, reply_error
from stemd.events import Hub
from stemd.mqtt.connection import Outgoing
from stemd.mqtt.inbound import Gate, Request
from stemd.mqtt.topics import Inbound, Topics, document

log = structlog.get_logger()
Json = dict[str, Any]

MAX_WAITING = 64
"""Requests a pipeline may leave unanswered before further ones are refused."""
_NOBODY = ""


Answer = Callable[[Outgoing], None]
"""Takes a reply away to be published."""


class RequestDesk:
    """One queue a pipeline: a long request holds up its own pipeline only, and order is kept."""

    def __init__(self, topics: Topics, hub: Hub, answer: Answer) -> None:
        self.refused = 0
        self._topics = topics
        self._hub = hub
        self._answer = answer
        self._gate = Gate()
        self._queues: dict[str, asyncio.Queue[Request]] = {}
        self._workers: dict[str, asyncio.Task[None]] = {}

    def receive(self, message: Message, pipeline: str, kind: Inbound) -> None:
        """Take a message in: it is refused now, or waits for its turn."""
        request = self._gate.read(message, pipeline, kind)
        if request.problem is not None:
            self._refuse(request, request.problem)
            return
        # names come from outside: only pipelines that exist get a queue of their own
        name = pipeline if pipeline in self._hub.views else _NOBODY
        queue = self._queues.setdefault(name, asyncio.Queue(MAX_WAITING))
        try:
            queue.put_nowait(request)
        except asyncio.QueueFull:
            busy = reply_error("", "too many requests are waiting", f"at most {MAX_WAITING}")
            self._refuse(request, busy)
            return
        if name not in self._workers:
            self._workers[name] = asyncio.create_task(self._work(queue))

    async def run(self, stopping: asyncio.Event) -> None:
        """Until stopped; then nothing more is begun."""
        try:
            await stopping.wait()
        finally:
            for worker in self._workers.values():
                worker.cancel()
            await asyncio.gather(*self._workers.values(), return_exceptions=True)
            self._workers.clear()

    async def _work(self, queue: asyncio.Queue[Request]) -> None:
        while True:
            request = await queue.get()
            if request.expired:
                self._refuse(request, reply_error("", "the request has expired while it waited"))
                continue
            self._reply(request, await self._carry_out(request))

    async def _carry_out(self, request: Request) -> Json:
        try:
            reply = await self._hub.request(request.pipeline, request.kind, request.body or {})
        except Exception:
            log.exception("a request failed", pipeline=request.pipeline, kind=request.kind)
            return refused(request.id, "", "internal error, see the daemon's log")
        return {"id": request.id, **reply}

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

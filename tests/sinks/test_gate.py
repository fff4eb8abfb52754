"""Requests from outside pass once, and what is remembered of them stays small."""

from __future__ import annotations

import asyncio
import json
from types import SimpleNamespace
from typing import Any

import pytest
from aiomqtt import Message

from stemd.events import Hub
from stemd.mqtt import request_ids
from stemd.mqtt.connection import Outgoing
from stemd.mqtt.inbound import Gate
from stemd.mqtt.requests import RequestDesk
from stemd.mqtt.topics import Topics


def message(number: int, *, retain: bool = False) -> Message:
    body = {"id": str(number), "command": "start"}
    return Message("a/b/command", json.dumps(body).encode(), 1, retain, 1, None)


def refused(gate: Gate, number: int) -> bool:
    """Whether the gate refuses a command with this id."""
    return gate.read(message(number), "cam", "command").problem is not None


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> SimpleNamespace:
    """A clock that stands until a test moves it."""
    clock = SimpleNamespace(now=1000.0)
    clock.time = lambda: clock.now
    monkeypatch.setattr(request_ids, "time", clock)
    return clock


def test_an_id_is_refused_for_ten_minutes_and_then_forgotten(clock: SimpleNamespace) -> None:
    gate = Gate()
    assert not refused(gate, 1)
    clock.now += request_ids.DUPLICATE_SECONDS - 1
    assert refused(gate, 1)
    clock.now += 2
    assert not refused(gate, 1)


def test_only_the_newest_ids_are_remembered_however_many_come(
    clock: SimpleNamespace, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(request_ids, "MAX_REMEMBERED", 3)
    gate = Gate()
    assert not any(refused(gate, number) for number in range(6))
    assert refused(gate, 5)
    assert refused(gate, 4)
    assert not refused(gate, 0), "older ones have made room"
    assert len(gate._ids._seen) <= 3


def test_a_retained_request_is_refused_and_its_id_stays_free(clock: SimpleNamespace) -> None:
    gate = Gate()
    problem = gate.read(message(1, retain=True), "cam", "command").problem
    assert problem is not None
    assert problem["key"] == "retain"
    assert not refused(gate, 1)


async def test_requests_to_pipelines_that_do_not_exist_are_answered_and_leave_nothing() -> None:
    hub, replies = Hub(), list[dict[str, Any]]()
    hub.state("cam", {"state": "waiting"})
    answered = asyncio.Event()

    def answer(reply: Outgoing) -> None:
        replies.append(json.loads(reply.payload))
        if len(replies) == 100:
            answered.set()

    desk = RequestDesk(Topics("lab"), hub, answer)
    for number in range(100):
        desk.receive(message(number), f"invented-{number}", "command")
    await asyncio.wait_for(answered.wait(), 10)
    assert {str(reply["error"]["allowed"]) for reply in replies} == {"['cam']"}
    assert not hub._requests._lines

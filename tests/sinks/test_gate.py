"""Requests from outside pass once, and what is remembered of them stays small."""

from __future__ import annotations

import json
from types import SimpleNamespace
from typing import Any

import pytest
from aiomqtt import Message

from stemd.events import Hub
from stemd.mqtt import inbound, requests
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
    clock.monotonic = lambda: clock.now
    monkeypatch.setattr(inbound, "time", clock)
    return clock


def test_an_id_is_refused_for_ten_minutes_and_then_forgotten(clock: SimpleNamespace) -> None:
    gate = Gate()
    assert not refused(gate, 1)
    clock.now += inbound.DUPLICATE_SECONDS - 1
    assert refused(gate, 1)
    clock.now += 2
    assert not refused(gate, 1)


def test_only_the_newest_ids_are_remembered_however_many_come(
    clock: SimpleNamespace, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(inbound, "MAX_REMEMBERED_IDS", 3)
    gate = Gate()
    assert not any(refused(gate, number) for number in range(6))
    assert refused(gate, 5)
    assert refused(gate, 4)
    assert not refused(gate, 0), "older ones have made room"
    assert len(gate._seen) <= 3


def test_a_retained_request_is_refused_and_its_id_stays_free(clock: SimpleNamespace) -> None:
    gate = Gate()
    problem = gate.read(message(1, retain=True), "cam", "command").problem
    assert problem is not None
    assert problem["key"] == "retain"
    assert not refused(gate, 1)


async def test_requests_to_pipelines_that_do_not_exist_share_one_queue_and_are_answered(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(requests, "MAX_WAITING", 2)
    hub, replies = Hub(), list[dict[str, Any]]()
    hub.state("cam", {"state": "waiting"})

    def answer(reply: Outgoing) -> None:
        replies.append(json.loads(reply.payload))

    desk = RequestDesk(Topics("lab"), hub, answer)
    for number in range(4):
        desk.receive(message(number), f"invented-{number}", "command")
    assert [reply["error"]["message"] for reply in replies] == ["too many requests are waiting"] * 2
    desk.receive(message(9), "cam", "command")
    assert len(replies) == 2, "a pipeline that exists has a queue of its own"
    for worker in desk._workers.values():
        worker.cancel()

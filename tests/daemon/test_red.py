"""What the log says of a broker that is only being connected, and of one that does not answer."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import pytest
import structlog.testing

from stemd.daemon import red as red_module
from stemd.daemon.red import Red
from stemd.events import Hub

REFUSED = {"message": "nothing listens on port 1883", "remedy": "start the broker"}


class Broker:
    """The status of a connection, as it goes on."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.status: dict[str, Any] | None = {
            "url": "mqtt://lab",
            "connected": False,
            "images_connected": False,
            "error": None,
        }
        self.now = 100.0
        clock = SimpleNamespace(monotonic=lambda: self.now)
        monkeypatch.setattr(red_module, "time", clock)
        self.red = Red(Hub(), {}, lambda: self.status, list)
        self.red.starting = ""

    def said(self, **now: Any) -> list[tuple[str, str]]:
        """What a look adds to the log: level and which sentence."""
        if self.status is not None:
            self.status |= now
        with structlog.testing.capture_logs() as lines:
            self.red.log_changes(self.red.all())
        return [(line["log_level"], line["why"].partition(": ")[2]) for line in lines]


@pytest.fixture
def broker(monkeypatch: pytest.MonkeyPatch) -> Broker:
    return Broker(monkeypatch)


def test_a_broker_that_is_being_connected_is_red_and_no_error_of_the_log(broker: Broker) -> None:
    assert broker.said() == [("info", "it is being connected")]
    assert [each["what"] for each in broker.red.all()] == ["mqtt"]
    first, second = broker.said(connected=True)
    assert (first[0], second[0]) == ("info", "info"), "images follow documents"
    assert broker.said(images_connected=True) == [("info", "it is being connected")]
    assert broker.red.all() == []


def test_a_broker_that_neither_answers_nor_refuses_becomes_an_error(broker: Broker) -> None:
    broker.said()
    broker.now += red_module.CONNECTING_S + 1.0
    assert ("error", "it has not answered for 15 s") in broker.said()
    assert broker.said() == []


def test_a_broker_that_refuses_is_an_error_at_once(broker: Broker) -> None:
    assert broker.said(error=REFUSED) == [("error", REFUSED["message"])]
    assert broker.red.all()[0]["remedy"] == "start the broker"
    broker.now += 100.0
    assert broker.said() == []
    assert ("info", "it is being connected") in broker.said(error=None), "it is tried anew"

"""What a client of the broker or a browser sends: carried out, or refused with words in JSON."""

from __future__ import annotations

import json
import pathlib
from typing import Any

import pytest
from aiomqtt import Message
from hypothesis import example, given, settings
from hypothesis import strategies as st

from stemd.config.file import parse
from stemd.config.live import LiveSettings, RefusedError
from stemd.documents import refused, to_json
from stemd.mqtt.inbound import Gate
from stemd.mqtt.topics import Topics, document
from stemd.page import protocol

from .strategies import nested, spoilt, text, values, wire

COMMAND = {"id": "1", "command": "start", "args": {"scans": 2, "settings": {"optics": {}}}}
TOPICS = Topics("microscope")


def _message(payload: bytes, retain: bool = False) -> Message:
    return Message("stemd/microscope/merlin/command", payload, 1, retain, 1, None)


@settings(max_examples=500, deadline=None)
@given(payload=wire | spoilt(COMMAND).map(lambda body: json.dumps(body).encode()))
@example(payload=b'{"id": "\\ud800", "command": "abort"}')
@example(payload=nested(100_000))
@example(payload=b"[" * 2000)
def test_every_request_gets_a_reply_that_can_be_sent(payload: bytes) -> None:
    gate = Gate()
    for kind in ("command", "settings"):
        for retain in (False, True):
            request = gate.read(_message(payload, retain), "merlin", kind)
            said = {"id": request.id, "error": request.problem, "body": request.body}
            json.loads(document(TOPICS.of("merlin", "reply"), said).payload)


@given(topic=text)
def test_every_topic_is_parsed_or_is_somebody_elses(topic: str) -> None:
    TOPICS.parse(topic)
    TOPICS.may_answer_at(topic)


@settings(max_examples=500, deadline=None)
@given(
    said=st.text(max_size=100)
    | values.map(json.dumps)
    | spoilt({"type": "request", "pipeline": "p", "kind": "command", "request": COMMAND}).map(
        json.dumps
    )
    | spoilt({"type": "drawn", "pipeline": "p", "name": ["a", "b"]}).map(
        lambda body: json.dumps(body, separators=(",", ":"))
    )
)
@example(said="[" * 200_000)
@example(said='{"type":"token","token":"\\ud800"}')
def test_what_a_browser_says_is_understood_or_a_value_error(said: str) -> None:
    try:
        understood = protocol.parse(said)
    except ValueError as error:
        to_json(str(error)).encode()
    else:
        to_json(understood).encode()


@pytest.fixture(scope="module")
def live() -> LiveSettings:
    """Those of the config that is shipped for a Merlin."""
    path = pathlib.Path(__file__).parents[2] / "config" / "merlin.toml"
    return LiveSettings.of(parse(path.read_text(), str(path)).pipelines[0])


SHOWN = {
    "optics": {"rotation_deg": 3.0, "center": [1.0, 2.0], "energy_ev": 3e5},
    "scan": {"shape": [4, 4], "flyback": 1},
    "publish": {"rate_hz": 2.0, "images": ["ricom"]},
    "record": {"raw": True, "results": ["tiff"]},
    "ricom": {"kernel_size": 3, "band_pass": [0.0, 3.0]},
    "virtual_detector": {"detectors_px": {"bf": [0, 2]}},
}


@settings(max_examples=500, deadline=None)
@given(change=spoilt(SHOWN) | st.dictionaries(st.sampled_from(sorted(SHOWN)) | text, values))
def test_a_change_of_live_settings_is_made_or_refused(
    live: LiveSettings, change: dict[str, Any]
) -> None:
    try:
        new = live.changed(change)
    except RefusedError as error:
        to_json(refused("1", None, "", error.as_json())).encode()
    else:
        to_json(new.as_json()).encode()

"""Each example does what it says, with a broker and what a daemon says there."""

from __future__ import annotations

import importlib.util
import json
import re
import struct
import subprocess
from collections.abc import Iterator
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
import pytest

from stemd.client.messages import read
from stemd.storage.tiff import encode_tiff
from tests.client.test_client import MEASURED, Laboratory
from tests.conftest import Mosquitto, a_snapshot, an_acquisition, require, wait_until
from tests.sinks.asyncapi import channel_of, validator
from tests.sinks.running import INSTRUMENT

EXAMPLES = Path(__file__).parents[2] / "examples"
HOW_TO = Path(__file__).parents[2] / "docs/how-to/connect-your-software.md"


@pytest.fixture
def laboratory(mosquitto: Mosquitto) -> Iterator[Laboratory]:
    made = Laboratory(mosquitto)
    yield made
    made.sink.close()


def module(name: str) -> ModuleType:
    spec = importlib.util.spec_from_file_location(name, EXAMPLES / f"{name}.py")
    assert spec is not None
    assert spec.loader is not None
    made = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(made)
    return made


@pytest.mark.mosquitto
def test_the_shell_gets_an_image_file_and_changes_a_setting(
    laboratory: Laboratory, mosquitto: Mosquitto, tmp_path: Path
) -> None:
    require("mosquitto_sub")
    snapshot = a_snapshot(an_acquisition(), final=True)
    laboratory.say("snapshot", "merlin", snapshot)
    file = tmp_path / "ricom.tif"
    done = subprocess.run(
        [EXAMPLES / "images.sh", "127.0.0.1", str(mosquitto.port), INSTRUMENT, "merlin", file],
        capture_output=True,
        text=True,
        timeout=60,
    )
    assert done.returncode == 0, done.stderr
    assert json.loads(done.stdout)["state"] == "waiting"
    assert file.read_bytes() == encode_tiff(snapshot.results[0], snapshot)
    wait_until(lambda: laboratory.sink.requests, "the setting has come")
    _, kind, request = laboratory.sink.requests[0]
    assert (kind, request["ricom"]) == ("settings", {"kernel_size": 21})


def test_javascript_reads_an_image() -> None:
    require("node")
    snapshot = a_snapshot(an_acquisition(), final=True)
    payload = encode_tiff(snapshot.results[0], snapshot)
    done = subprocess.run(
        ["node", EXAMPLES / "read_image.mjs"], input=payload, capture_output=True, timeout=60
    )
    assert done.returncode == 0, done.stderr.decode()
    assert json.loads(done.stdout) == {
        **{"name": "ricom", "units": "a.u.", "width": 9, "height": 6},
        "mean": float(snapshot.results[0].image.mean()),
    }


@pytest.mark.parametrize("shape", [(6, 9), (1, 300), (257, 3)])
def test_the_bytes_of_an_image_stand_where_the_page_says(shape: tuple[int, int]) -> None:
    rows = re.findall(r"^\| (\d+) to (\d+) \| unsigned 32 \| (.*) \|$", HOW_TO.read_text(), re.M)
    places = {words: int(first) for first, _, words in rows}
    assert len(places) == 6
    snapshot = a_snapshot(an_acquisition(shape))
    payload = encode_tiff(snapshot.results[0], snapshot)

    def number(beginning: str) -> int:
        (place,) = [at for words, at in places.items() if words.startswith(beginning)]
        return int(struct.unpack_from("<I", payload, place)[0])

    height, width = shape
    assert (number("width"), number("height")) == (width, height)
    text_at, length = number("where the description"), number("length of the description")
    text = payload[text_at : text_at + length]
    assert text.endswith(b"\0")
    assert json.loads(text[:-1])["name"] == "ricom"
    at, size = number("where the pixels"), number("bytes of all pixels")
    pixels = np.frombuffer(payload[at : at + size], "<f4").reshape(shape)
    assert np.array_equal(pixels, snapshot.results[0].image)


def test_home_assistant_is_told_of_topics_and_values_that_there_are() -> None:
    found = module("home_assistant").sensors("titan", "merlin")
    documents: dict[str, dict[str, Any]] = {
        "state": {"state": "waiting", "positions_done": 3, "last_error": None},
        "optics": {"defocus_nm": MEASURED, "dose_e_per_square_angstrom": None},
    }
    assert len({sensor["unique_id"] for sensor in found.values()}) == len(found) == 5
    for topic, sensor in found.items():
        assert re.fullmatch(r"homeassistant/sensor/\w+/\w+/config", topic)
        channel = channel_of(sensor["state_topic"])
        schema = validator(channel).schema["components"]["schemas"][channel]
        keys = re.findall(r"value_json\.(\w+)", sensor["value_template"])
        assert keys
        assert set(keys) <= set(schema["properties"])
        assert set(keys) <= set(documents[channel])


def test_home_assistant_shows_images_where_they_are_pictures() -> None:
    example = module("home_assistant")
    found = example.cameras("titan", "merlin", ["ricom", "adf"])
    assert len(found) == 2
    for topic, camera in found.items():
        assert re.fullmatch(r"homeassistant/camera/\w+/\w+/config", topic)
        assert channel_of(camera["topic"]) == "preview"
    ids = [one["unique_id"] for one in (found | example.sensors("titan", "merlin")).values()]
    assert len(set(ids)) == len(ids)


def test_the_node_red_flow_speaks_to_topics_that_there_are_and_sends_a_command() -> None:
    nodes = json.loads((EXAMPLES / "node_red.json").read_text())
    ids = {node["id"] for node in nodes}
    assert len(ids) == len(nodes)
    for node in nodes:
        assert {to for wires in node.get("wires", []) for to in wires} <= ids
        if "topic" in node:
            channel_of(node["topic"].replace("+", "x"))
    (start,) = [node for node in nodes if node["type"] == "inject"]
    validator("command").validate({**json.loads(start["payload"]), "id": "1"})
    (text,) = [node for node in nodes if node["type"] == "template"]
    schema = validator("scan").schema["components"]["schemas"]["scan"]["properties"]
    assert set(re.findall(r"payload\.(\w+)", text["template"])) <= set(schema)


@pytest.mark.mosquitto
def test_the_defocus_is_printed_with_its_error(
    laboratory: Laboratory, capsys: pytest.CaptureFixture[str]
) -> None:
    import threading

    example = module("print_defocus")
    looking = threading.Thread(target=example.main, args=(laboratory.url, 1))
    names = (
        *("astigmatism_nm", "coma_nm", "threefold_nm", "rotation_deg", "flip", "center"),
        *("convergence_semi_angle_mrad", "descan_px", "dose_e_per_square_angstrom"),
        *("drift_nm_per_s", "masked_pixels"),
    )
    measured = {
        **{"scan": "one", "started_ns": 1, "quality": 0.99, "agrees": False, "usable": {}},
        **{**dict.fromkeys(names), "defocus_nm": MEASURED},
    }
    laboratory.say("optics", "merlin", measured)
    looking.start()
    while looking.is_alive():  # until it listens
        laboratory.scan("one")
        looking.join(0.05)
    assert capsys.readouterr().out == "one: +12.10 ± 0.20 nm\n"


def test_the_requests_of_the_page_are_ones_that_stemd_takes() -> None:
    sent = re.findall(r"-t '([^']+)' -m '([^']+)'", HOW_TO.read_text())
    assert len(sent) == 2
    for topic, message in sent:
        document = read(message.encode(), dict, "a request")
        validator(channel_of(topic)).validate(document)


def test_every_example_is_named_in_the_documents() -> None:
    pages = "".join(path.read_text() for path in (HOW_TO.parents[1]).rglob("*.md"))
    for path in EXAMPLES.iterdir():
        if path.is_file():
            assert path.name in pages, path.name

"""Examples for programs that cannot run here: messages, fields, bytes, and their Python."""

from __future__ import annotations

import re
import sys
import threading
from collections.abc import Iterator
from pathlib import Path
from types import ModuleType, SimpleNamespace
from typing import Any

import numpy as np
import pytest

from stemd.client import Client
from stemd.storage.tiff import encode_tiff
from tests.client.test_client import MEASURED, SETTINGS, Laboratory
from tests.conftest import Mosquitto, a_snapshot, an_acquisition, wait_until
from tests.examples.test_examples import EXAMPLES, HOW_TO, module
from tests.sinks.asyncapi import channel_of, validator

PLACES = r"^\| (\d+) to (\d+) \| unsigned 32 \| (.*) \|$"


@pytest.fixture
def laboratory(mosquitto: Mosquitto) -> Iterator[Laboratory]:
    made = Laboratory(mosquitto)
    yield made
    made.sink.close()


class Picture:
    """An image of DigitalMicrograph, as far as the example uses it."""

    def __init__(self, pixels: np.ndarray) -> None:
        self.pixels, self.calls = pixels, []

    def GetNumArray(self) -> np.ndarray:
        return self.pixels

    def __getattr__(self, name: str) -> Any:
        return lambda *args: self.calls.append((name, args))


@pytest.fixture
def gms(monkeypatch: pytest.MonkeyPatch) -> list[Picture]:
    """A stand-in for the module of GMS; the images that were made in it."""
    made: list[Picture] = []
    fake = ModuleType("DigitalMicrograph")
    fake.CreateImage = lambda pixels: made.append(Picture(pixels)) or made[-1]  # type: ignore[attr-defined]
    monkeypatch.setitem(sys.modules, "DigitalMicrograph", fake)
    return made


@pytest.mark.mosquitto
def test_digital_micrograph_shows_the_image_that_is_published(
    laboratory: Laboratory, mosquitto: Mosquitto, gms: list[Picture]
) -> None:
    example = module("gms_live_image")
    snapshot = a_snapshot(an_acquisition((6, 9)))
    work = threading.Thread(target=example.main, args=("127.0.0.1", mosquitto.port, 1.0))
    work.start()
    while work.is_alive() and not (gms and gms[0].calls[-1:] == [("UpdateImage", ())]):
        laboratory.say("snapshot", "merlin", snapshot)
        work.join(0.05)
    work.join(30.0)
    (picture,) = gms
    assert np.array_equal(picture.pixels, snapshot.results[0].image)
    assert ("SetDimensionCalibration", (0, 0.0, 0.02, "nm", 0)) in picture.calls
    assert ("SetName", (f"ricom of {snapshot.acquisition.id}",)) in picture.calls


def test_the_code_for_digital_micrograph_is_python_3_7() -> None:
    import ast

    ast.parse((EXAMPLES / "gms_live_image.py").read_text(), feature_version=(3, 7))


def test_c_sharp_asks_for_topics_fields_and_bytes_that_there_are() -> None:
    text = (EXAMPLES / "StemdClient.cs").read_text()
    topics = set(re.findall(r'"(/[a-z/]+)"', text))
    assert topics == {"/scan", "/optics", "/reply", "/image/ricom/last", "/command"}
    fields: dict[str, list[str]] = {}
    for block in re.split(r"\n    (?=if \(topic)", text)[1:]:
        topic = re.match(r'if \(topic == "(/[^"]+)"', block)
        assert topic is not None
        body = block.split("return Task")[0]
        fields[topic[1]] = re.findall(r'document\.GetProperty\("(\w+)"\)', body)
    for topic, asked in fields.items():
        channel = channel_of(f"stemd/demo/virtual{topic}")
        if channel != "lastImage":
            schema = validator(channel).schema["components"]["schemas"][channel]
            known = set(re.findall(r"'(\w+)'", str(schema)))
            assert asked
            assert set(asked) <= known, topic
    raw = re.search(r'(\$+)"""(.*?)"""', text)
    assert raw is not None
    import json

    dollars = len(raw[1])
    hole = "{" * dollars + "Guid.NewGuid()" + "}" * dollars
    command = raw[2].replace(hole, "1")
    # the compiler takes as many braces in a row as there are dollars for a place to fill in
    assert "{" * dollars not in command
    assert "}" * dollars not in command
    validator("command").validate(json.loads(command))
    told = {int(first) for first, _, _ in re.findall(PLACES, HOW_TO.read_text(), re.M)}
    assert {int(place) for place in re.findall(r"Number\((\d+)\)", text)} == told


def test_labview_is_told_of_topics_messages_and_bytes_that_there_are() -> None:
    import json

    page = HOW_TO.read_text()
    part = page.split("## LabVIEW\n")[1].split("\n## ")[0]
    topics = re.findall(r"`(stemd/[\w/]+)`", part)
    assert len(topics) == 5
    messages = [json.loads(text) for text in re.findall(r"`(\{.*\})`", part)]
    sent = [topic for topic in topics if topic.endswith(("command", "settings/set"))]
    for topic, message in zip(sent, messages, strict=True):
        validator(channel_of(topic)).validate(message)
    for topic in topics:
        channel_of(topic)
    told = {int(first) for first, _, _ in re.findall(PLACES, page, re.M)}
    assert {int(place) for place in re.findall(r"from byte (\d+)", part)} <= told


def starting(laboratory: Laboratory, scan: str) -> None:
    """From now on a start makes one scan of this id, with its image."""

    def answer(pipeline: str, kind: str, request: Any) -> dict[str, Any]:
        threading.Timer(0.05, laboratory.scan, (scan,)).start()  # not on the loop that answers
        return {"id": request["id"], "ok": True, "revision": 1}

    laboratory.answer = answer


@pytest.mark.mosquitto
def test_a_detector_of_bluesky_triggers_a_scan_and_reads_its_image(laboratory: Laboratory) -> None:
    snapshot = a_snapshot(an_acquisition((6, 9)), final=True)
    scan = snapshot.acquisition.id
    settings = {**SETTINGS, "scan": {"shape": [6, 9]}}
    laboratory.say("settings", "merlin", settings)
    laboratory.say("snapshot", "merlin", snapshot)
    starting(laboratory, scan)
    with Client(laboratory.url) as client:
        wait_until(lambda: "scan" in client.settings, "the settings have come")
        detector = module("bluesky_detector").StemdDetector(client)
        status = detector.trigger()
        over = threading.Event()
        status.add_callback(lambda status: over.set())
        status.wait(60.0)
        assert over.wait(10.0)
        assert (status.done, status.success, status.exception()) == (True, True, None)
        read, described = detector.read(), detector.describe()
        assert read.keys() == described.keys()
        assert read["stemd_scan"]["value"] == scan
        image = read["stemd_ricom"]["value"]
        assert list(image.shape) == described["stemd_ricom"]["shape"]
        assert np.array_equal(image, snapshot.results[0].image)

        def refusal(pipeline: str, kind: str, request: Any) -> dict[str, Any]:
            error = {"key": None, "message": "the camera is away", "allowed": ""}
            return {"id": request["id"], "ok": False, "error": error}

        laboratory.answer = refusal
        assert "camera is away" in str(detector.trigger().exception(60.0))


class Pv:
    """A PV of p4p, as far as the bridge uses it."""

    def __init__(self, nt: Any, initial: Any = None, handler: Any = None) -> None:
        self.value, self.handler = initial, handler

    def isOpen(self) -> bool:
        return self.value is not None

    def post(self, value: Any, timestamp: float = 0.0) -> None:
        self.value = value

    open = post


@pytest.fixture
def epics(monkeypatch: pytest.MonkeyPatch) -> ModuleType:
    """The bridge on a stand-in for p4p."""
    parts = {
        "p4p": {},
        "p4p.nt": {"NTNDArray": lambda *_: None, "NTScalar": lambda *_: None},
        "p4p.server": {"Server": None},
        "p4p.server.thread": {"SharedPV": Pv},
    }
    for name, members in parts.items():
        fake = ModuleType(name)
        fake.__dict__.update(members)
        monkeypatch.setitem(sys.modules, name, fake)
    return module("epics_bridge")


@pytest.mark.mosquitto
def test_epics_gets_image_state_and_defocus_and_starts_a_scan(
    laboratory: Laboratory, epics: ModuleType
) -> None:
    snapshot = a_snapshot(an_acquisition((6, 9)), final=True)
    laboratory.say("optics", "merlin", measured(snapshot.acquisition.id))
    laboratory.say("snapshot", "merlin", snapshot)
    with Client(laboratory.url) as client:
        bridge = epics.Bridge(client, "STEM:")
        wait_until(lambda: client.optics is not None, "the optics have come")
        bridge.post(client.image("ricom"))
        bridge.tell()
        values = {name: pv.value for name, pv in bridge.pvs.items()}
        assert (values["STEM:state"], values["STEM:defocus_nm"]) == ("waiting", 12.1)
        assert np.array_equal(values["STEM:ricom"], snapshot.results[0].image)
        over = threading.Event()
        following = threading.Thread(target=bridge.follow, args=(over,))
        following.start()
        try:  # optics come after the last image
            later = measured(snapshot.acquisition.id)
            later["defocus_nm"] = {**later["defocus_nm"], "value": 3.5}
            laboratory.say("optics", "merlin", later)
            wait_until(lambda: bridge.pvs["STEM:defocus_nm"].value == 3.5, "the defocus follows")
        finally:
            over.set()
            following.join()
        done: list[Any] = []
        operation = SimpleNamespace(value=lambda: 2, done=lambda **error: done.append(error))
        starting(laboratory, "one")
        pv = bridge.pvs["STEM:start"]
        pv.handler.put(pv, operation)
        assert (done, pv.value) == ([{}], 2)
        assert client.wait_for_scan(30.0).id == "one"


def measured(scan: str) -> dict[str, Any]:
    names = (
        *("astigmatism_nm", "coma_nm", "threefold_nm", "rotation_deg", "flip", "center"),
        *("convergence_semi_angle_mrad", "descan_px", "dose_e_per_square_angstrom"),
        *("drift_nm_per_s", "masked_pixels"),
    )
    about = {"scan": scan, "started_ns": 1, "quality": 0.99, "agrees": False, "usable": {}}
    return {**about, **dict.fromkeys(names), "defocus_nm": MEASURED}


def test_the_bytes_that_an_example_reads_are_those_of_an_image(gms: list[Picture]) -> None:
    snapshot = a_snapshot(an_acquisition((257, 3)))
    pixels, about = module("gms_live_image").read_image(encode_tiff(snapshot.results[0], snapshot))
    assert np.array_equal(pixels, snapshot.results[0].image)
    assert about["scan"] == snapshot.acquisition.id


def test_every_example_is_a_file_that_some_test_names() -> None:
    here = Path(__file__).parent
    tests = "".join(path.read_text() for path in here.glob("*.py"))
    tests += (here.parent / "daemon/test_autofocus.py").read_text()
    for path in EXAMPLES.iterdir():
        if path.is_file():
            assert path.stem in tests, f"no test runs {path.name}"

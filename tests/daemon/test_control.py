"""Commands over MQTT, carried out on a daemon with a camera that has a control port."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import numpy as np
import paho.mqtt.client as paho
import pytest
import tifffile
from paho.mqtt.packettypes import PacketTypes
from paho.mqtt.properties import Properties

from stemd.client import Client, RefusedError
from stemd.engines.rotation import estimate_rotation
from stemd.storage.catalogue.catalogue import Catalogue
from tests.conftest import OutsideClient, wait_until
from tests.daemon.rig import BASE, POSITIONS, SHAPE, Rig
from tests.inference import models

pytestmark = [pytest.mark.mosquitto, pytest.mark.waits]


@pytest.mark.parametrize(
    ("command", "args", "key"),
    [
        ("dance", {}, "command"),
        ("stop", {"now": True}, "args.now"),
        ("record", {"raw": "yes"}, "args.raw"),
        ("start", {"scans": -1}, "args.scans"),
        ("start", {"scan": {"shape": [0, 5]}}, "scan.shape[0]"),
        ("start", {"settings": {"ricom": {"kernel_size": 4}}}, "ricom.kernel_size"),
        ("session", {"name": "../../etc"}, "args.name"),
        ("session", {"name": "n", "each": [{"nothing": {}}]}, "nothing"),
        ("session", {"stop": True}, None),
        ("recompute", {}, None),
        ("estimate_rotation", {"flip": True}, "args.flip"),
        ("save", {}, None),
        ("describe", {"colour": "red"}, "args.colour"),
        ("describe", {"sample": "Au"}, None),
    ],
)
def test_a_wrong_command_is_refused_with_the_key_that_is_wrong(
    rig: Rig, command: str, args: dict[str, object], key: str | None
) -> None:
    error = refusal_of(rig, command, args)
    assert error["key"] == key
    assert error["allowed"]
    assert rig.documents("settings") == []  # nothing has changed


def test_a_change_is_doubted_by_the_detector_that_sent_the_newest_scan(rig: Rig) -> None:
    """The largest detector of the camera has 515 pixels a side, this one 256."""
    rig.camera.scan()
    rig.finished()
    reply = rig.settings(optics={"center": [400.0, 100.0]})
    assert any("outside the detector of 256 x 256 pixels" in doubt for doubt in reply["doubts"])


def refusal_of(rig: Rig, command: str, args: dict[str, object]) -> dict[str, object]:
    """How a command is refused that no schema allows."""
    body = {"id": f"{command}{args}", "command": command, "args": args}
    rig.client.client.publish(f"{BASE}/command", json.dumps(body), qos=1)
    wait_until(lambda: any(r["id"] == body["id"] for r in rig.documents("reply")), "a reply", 30.0)
    reply = next(r for r in rig.documents("reply") if r["id"] == body["id"])
    assert reply["ok"] is False
    error: dict[str, object] = reply["error"]
    return error


@pytest.mark.parametrize(
    ("args", "key"),
    [
        ({"scan": 7, "sample": "x"}, "args.scan"),
        ({"sample": None}, "args.sample"),
        ({"tags": "night"}, "args.tags"),
        ({"tags": [""]}, "args.tags[0]"),
    ],
)
def test_odd_words_about_a_scan_are_refused_by_their_key(
    rig: Rig, args: dict[str, object], key: str
) -> None:
    assert refusal_of(rig, "describe", args)["key"] == key


def test_a_scan_is_started_with_a_new_geometry_and_ended_early_from_outside(rig: Rig) -> None:
    reply = rig.order("start", scan={"shape": [5, 8]}, settings={"ricom": {"kernel_size": 7}})
    assert (reply["ok"], reply["frames"]) == (True, 40)
    assert rig.camera.values["NUMFRAMESTOACQUIRE"] == "40"
    first = rig.finished()[0]
    assert rig.events("started")[0]["shape"] == first["scan"]["shape"] == [5, 8]
    assert first["settings"]["ricom"]["kernel_size"] == 7
    rig.camera.on_start = lambda: (rig.camera.begin(), rig.camera.more(rig.camera.frames[:10]))
    assert rig.order("start")["ok"]
    rig.until_state(lambda s: s["state"] == "acquiring" and s["positions_done"] == 10, "10 came")
    assert rig.order("stop")["ok"]
    second = rig.finished(2)[1]
    assert (second["event"], second["status"], second["positions_done"]) == ("aborted",) * 2 + (10,)
    assert rig.camera.commands == ["STARTACQUISITION"] * 2 + ["STOPACQUISITION"]
    rig.check_messages()


def test_what_the_camera_refuses_is_answered_with_its_reason(rig: Rig) -> None:
    rig.camera.refuse_start = True
    reply = rig.order("start")
    assert reply["ok"] is False
    assert "busy" in reply["error"]["message"]


def test_recompute_makes_the_images_that_the_scan_would_have_had_with_these_settings(
    rig: Rig,
) -> None:
    new = {"ricom": {"kernel_size": 9}, "optics": {"rotation_deg": 30.0, "center": [120.0, 121.0]}}
    rig.camera.scan()
    rig.finished()
    before, about = rig.last_image()
    assert about["kernel_size"] == 5
    reply = rig.order("recompute", settings=new)
    assert (reply["ok"], reply["written"], reply["kept"]) == (True, False, {})
    revision = reply["revision"]
    assert revision > about["settings_revision"]
    wait_until(lambda: rig.last_image()[1]["settings_revision"] == revision, "the new image came")
    recomputed, about = rig.last_image()
    assert about["final"] is True
    assert about["kernel_size"] == 9
    assert about["scan"] == reply["scan"] == rig.events("finished")[0]["id"]
    folder = rig.folder_of((rig.events("finished") or rig.events("started"))[0])
    on_disk = tifffile.imread(folder / "ricom.tif")
    assert np.array_equal(on_disk, before)
    rig.camera.scan()  # the oracle: the same frames, measured with these settings
    rig.finished(2)
    wait_until(lambda: rig.last_image()[1]["scan"] != about["scan"], "the second scan's image")
    assert np.array_equal(rig.last_image()[0], recomputed)
    assert not np.array_equal(recomputed, before)
    note = json.loads((folder / "scan.json").read_text())["recomputed"]
    assert [(n["revision"], n["written"]) for n in note] == [(revision, False)]
    assert note[0]["settings"]["ricom"]["kernel_size"] == 9
    rig.check_messages()


def test_recompute_writes_to_disk_when_told_and_scan_json_lists_what_is_there(rig: Rig) -> None:
    rig.camera.scan()
    rig.finished()
    reply = rig.order("recompute", settings={"ricom": {"kernel_size": 3}}, write=True)
    assert reply["written"] is True
    folder = rig.folder_of((rig.events("finished") or rig.events("started"))[0])
    document = json.loads((folder / "scan.json").read_text())
    revision = reply["revision"]
    wait_until(lambda: rig.last_image()[1]["settings_revision"] == revision, "the new image came")
    assert np.array_equal(tifffile.imread(folder / "ricom.tif"), rig.last_image()[0])
    sizes = {file["name"]: file["bytes"] for file in document["files"]}
    assert sizes == {p.name: p.stat().st_size for p in folder.iterdir() if p.suffix != ".json"}


def test_the_rotation_is_estimated_from_the_maps_of_the_last_scan(rig: Rig) -> None:
    rig.camera.on_start = lambda: (rig.camera.begin(), rig.camera.more(rig.camera.frames[:10]))
    assert rig.order("start")["ok"]
    rig.until_state(lambda s: s["state"] == "acquiring" and s["positions_done"] == 10, "10 came")
    early = rig.order("estimate_rotation")
    assert (early["ok"], early["error"]["allowed"]) == (
        False,
        "ask again when 6 x 6 positions are scanned",
    )
    rig.camera.more(rig.camera.frames[10:])
    rig.finished()
    reply = rig.order("estimate_rotation")
    fields = (rig.last_image(name)[0].astype(float) for name in ("com_y", "com_x"))
    expected = estimate_rotation(*fields)
    # discs that wander by chance tell no rotation
    assert (reply["rotation_deg"], reply["flip"], reply["determined"]) == (0.0, False, False)
    assert reply["scan"] == rig.events("finished")[0]["id"]
    assert reply["confidence"] == pytest.approx(expected.confidence, abs=0.006)
    assert rig.documents("settings") == []  # it only tells
    rig.check_messages()


def test_a_virtual_detector_is_recomputed_with_the_radii_it_was_measured_with(rig: Rig) -> None:
    rig.camera.scan()
    rig.finished()
    before, _ = rig.last_image("bf")
    change = {"virtual_detector": {"detectors": {"bf": [0.0, 5.0]}}}
    reply = rig.order("recompute", settings=change)
    assert reply["ok"]
    (kept,) = reply["kept"]["virtual_detector"].values()
    assert kept != change["virtual_detector"]["detectors"], (
        "the radii of the images, by their engine"
    )
    wait_until(lambda: len(rig.client.on(f"{BASE}/image/bf/last")) == 2, "the image came again")
    after, about = rig.last_image("bf")
    assert about["outer"] == 20.0
    assert np.array_equal(after, before)


def test_names_of_images_are_checked_before_anything_is_changed(rig: Rig) -> None:
    rig.camera.scan()
    rig.finished()
    clash = {"virtual_detector": {"detectors": {"com_y": [0.0, 5.0]}}}
    for command, args in (("recompute", {"settings": clash}), ("start", {"settings": clash})):
        reply = rig.order(command, **args)
        assert reply["ok"] is False
        assert reply["error"]["key"] == "virtual_detector.detectors.com_y"
        assert "'com'" in reply["error"]["message"]
    rig.client.client.publish(f"{BASE}/settings/set", json.dumps({"id": "c", **clash}), qos=1)
    wait_until(lambda: any(r["id"] == "c" for r in rig.documents("reply")), "a reply", 30.0)
    reply = next(r for r in rig.documents("reply") if r["id"] == "c")
    assert reply["error"]["key"] == "virtual_detector.detectors.com_y"
    assert rig.documents("settings") == []  # nothing has changed
    rig.check_messages()


def test_recompute_is_refused_whole_where_the_scan_lacks_an_image(
    make_rig: Callable[..., Rig], tmp_path: Path
) -> None:
    model = json.dumps(str(models.write(tmp_path, models.box_blur(), "blur")))
    table = f'[[pipeline.engine]]\ntype = "restoration"\ninput = "bf"\nmodel = {model}\n'
    rig = make_rig(engines=table)
    rig.start()
    rig.order("start")
    rig.finished()
    change = {"virtual_detector": {"detectors": {"adf": [9, 20]}}, "restoration.input": "adf"}
    reply = rig.order("recompute", settings=change)
    assert reply["ok"] is False
    assert reply["error"]["key"] == "restoration.input"
    assert "bf" in reply["error"]["allowed"]
    assert {settings["revision"] for settings in rig.documents("settings")} == {1}


def test_save_writes_the_images_of_a_running_scan_as_they_are(rig: Rig) -> None:
    rig.camera.begin()
    rig.camera.more(rig.camera.frames[:30])
    rig.until_state(lambda s: s["positions_done"] == 30, "30 positions")
    wait_until(lambda: rig.client.on(f"{BASE}/image/ricom"), "a growing image")
    reply = rig.order("save")
    assert reply["ok"], reply
    folder = rig.folder_of((rig.events("finished") or rig.events("started"))[0])
    saved = next(name for name in reply["files"] if name.startswith("bf_at_"))
    count = int(saved.removeprefix("bf_at_").removesuffix(".tif"))
    image = tifffile.imread(folder / saved).ravel()
    assert (image[:count] > 0).all()
    assert (image[count:] == 0).all()
    rig.camera.more(rig.camera.frames[30:])
    assert saved in [file["name"] for file in rig.finished()[0]["files"]]


def test_record_is_switched_off_for_the_scans_that_follow(rig: Rig) -> None:
    assert rig.order("record", raw=False)["ok"]
    rig.camera.scan()
    names = [file["name"] for file in rig.finished()[0]["files"]]
    assert "raw.mib" not in names
    assert "ricom.tif" in names
    assert rig.order("record")["ok"]
    rig.camera.scan()
    assert "raw.mib" in [file["name"] for file in rig.finished(2)[1]["files"]]


def test_reset_brings_the_configs_settings_back_and_forgets_the_last_error(rig: Rig) -> None:
    rig.settings(ricom={"kernel_size": 9}, scan={"shape": [4, 8]})
    rig.camera.hang_up()
    rig.until_state(lambda s: s["last_error"] is not None, "the loss is told")
    rig.until_state(lambda s: s["camera_connected"], "the camera is back")
    assert rig.order("reset")["ok"]
    settings = rig.documents("settings")[-1]
    assert (settings["ricom"]["kernel_size"], settings["scan"]["shape"]) == (5, [6, 8])
    rig.until_state(lambda s: s["last_error"] is None, "the error is forgotten")
    rig.camera.scan()
    assert rig.finished()[0]["positions_done"] == POSITIONS


def test_a_retained_a_repeated_and_an_expired_command_are_refused_and_replies_find_their_asker(
    rig: Rig, outside: Callable[..., OutsideClient]
) -> None:
    client = rig.client.client
    retained = json.dumps({"id": "old", "command": "record", "args": {"raw": False}})
    rig.daemon.stop()
    client.publish(f"{BASE}/command", retained, qos=1, retain=True)
    rig.start()
    wait_until(lambda: any(r["id"] == "old" for r in rig.documents("reply")), "the refusal")
    reply = next(r for r in rig.documents("reply") if r["id"] == "old")
    assert (reply["ok"], reply["error"]["key"]) == (False, "retain")
    wait_until(lambda: rig.documents("settings"), "the settings")
    assert rig.documents("settings")[-1]["record"]["raw"] is True

    assert rig.order("record", "twice", raw=False)["ok"] is True
    again = rig.order("record", "twice", raw=False)
    assert (again["ok"], again["error"]["key"]) == (False, "id")

    asker = outside(rig.broker.port, topics="answers/#")
    properties = Properties(PacketTypes.PUBLISH)
    properties.ResponseTopic, properties.CorrelationData = "answers/me", b"\x00\x07"
    body = json.dumps({"id": "v5", "command": "record", "args": {"raw": True}})
    asker.client.publish(f"{BASE}/command", body, qos=1, properties=properties)
    answer: paho.MQTTMessage = asker.wait_for("answers/me")[0]
    assert json.loads(answer.payload)["ok"] is True
    assert answer.properties.CorrelationData == b"\x00\x07"


def test_reconnect_by_mqtt_makes_the_connection_anew_and_scans_go_on(rig: Rig) -> None:
    before = rig.camera.wait_for_client()
    assert rig.order("reconnect")["ok"]
    wait_until(lambda: rig.camera.wait_for_client() is not before, "a new connection", 10.0)
    rig.until_state(lambda s: s["camera_connected"], "the camera is connected")
    rig.camera.scan()
    (scan,) = rig.finished()
    assert scan["status"] == "complete"


def test_stemd_client_scans_and_finds_the_scan_by_what_it_was_told_of(rig: Rig) -> None:
    with Client(rig.broker.url) as client:
        assert (client.instrument, client.pipeline) == ("rig", "cam")
        about = {"sample": "Gold", "tags": ["night"]}
        revision = client.change(about=about, ricom={"kernel_size": 3}).revision
        assert client.start().document["ok"]
        scan = client.wait_for_scan(timeout_s=60.0)
        assert (scan.status, scan.shape, scan.missing) == ("complete", SHAPE, 0)
        assert "ricom.tif" in scan.files
        image = client.image("ricom", scan=scan.id, timeout_s=30.0)
        with pytest.raises(RefusedError) as told:
            client.change(ricom={"kernel_size": 4})
        assert told.value.key == "ricom.kernel_size"
        with pytest.raises(RefusedError, match="unknown command"):
            client.command("dance")
    assert (image.details["kernel_size"], image.settings_revision) == (3, revision)
    folder = rig.folder_of({"id": scan.id})
    assert np.array_equal(image, tifffile.imread(folder / "ricom.tif"))
    document = json.loads((folder / "scan.json").read_text())
    assert document["about"] == {"sample": "Gold", "operator": "", "comment": "", "tags": ["night"]}
    catalogue = Catalogue.read_only(rig.data)
    (found,) = catalogue.list(find="gold night")
    catalogue.close()
    assert found["id"] == scan.id


def test_a_finished_scan_is_described_afterwards_also_an_older_one(rig: Rig) -> None:
    for count in (1, 2):
        rig.camera.scan()
        rig.finished(count)
    old, new = (document["id"] for document in rig.events("finished"))
    reply = rig.order("describe", scan=old, sample="Au 5 nm", tags=["night"])
    told = {"sample": "Au 5 nm", "operator": "", "comment": "", "tags": ["night"]}
    assert reply["about"] == told
    assert rig.order("describe", comment="drifts")["scan"] == new
    assert rig.order("recompute")["ok"]  # which writes scan.json again
    first, last = rig.events("finished")
    assert json.loads((rig.folder_of(first) / "scan.json").read_text())["about"] == told
    about = json.loads((rig.folder_of(last) / "scan.json").read_text())["about"]
    assert about["comment"] == "drifts"
    for args, key in (
        ({"scan": old}, "args"),
        ({"scan": "../etc", "sample": "x"}, None),
    ):
        refused = rig.order("describe", **args)
        assert (refused["ok"], refused["error"]["key"]) == (False, key)
    catalogue = Catalogue(rig.folder_of(first).parents[1])
    wait_until(lambda: [s["id"] for s in catalogue.list(find="5 nm night")] == [old], "it is found")
    catalogue.close()
    rig.check_messages()


def test_pictures_for_dashboards_come_when_the_live_settings_ask_for_them(rig: Rig) -> None:
    rig.camera.scan()
    rig.finished(1)
    assert rig.settings(publish={"preview": True})["ok"]
    rig.camera.scan()
    rig.finished(2)
    topic = f"{BASE}/image/ricom/preview"
    wait_until(lambda: any(m.qos == 1 for m in rig.client.on(topic)), "the finished picture")
    assert all(m.payload.startswith(b"\x89PNG") for m in rig.client.on(topic))
    rig.check_messages()

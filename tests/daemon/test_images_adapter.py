"""Images instead of patterns: from a folder and by command, restored and answered."""

from __future__ import annotations

import base64
import io
import json
import os
import struct
import threading
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import tifffile

from stemd.adapters.images import ImagesAdapter, ImagesSettings, WatchedFolder
from stemd.adapters.recordings.pictures import read_image
from stemd.blocks import BlockPool, Ended, ImageBlock, Notice, Started
from stemd.config.file import parse
from stemd.config.problems import ConfigProblemsError
from stemd.errors import CameraError, FormatError
from tests.conftest import Mosquitto, OutsideClient, wait_until
from tests.daemon.running import RunningDaemon
from tests.inference import models
from tests.sinks.asyncapi import check, validator

Image = np.ndarray[Any, np.dtype[np.float32]]
CONFIG = """
[daemon]
instrument = "rig"
data_dir = @DATA@

[mqtt]
url = "{broker}"

[[pipeline]]
name = "scope"

[pipeline.adapter]
type = "images"
folder = {folder}
poll_s = 0.1

[[pipeline.engine]]
type = "restoration"
input = "image"
model = {model}

[pipeline.record]
raw = true
"""
BASE = "stemd/rig/scope"


def picture(ny: int = 40, nx: int = 61) -> np.ndarray[Any, np.dtype[np.uint16]]:
    return np.random.default_rng(2).poisson(200.0, (ny, nx)).astype(np.uint16)


def tiff(image: Any, **options: Any) -> bytes:
    file = io.BytesIO()
    tifffile.imwrite(file, image, **options)
    return file.getvalue()


def mrc(image: Image) -> bytes:
    """MRC2014: 1024 bytes of header, mode 2 is float32; 2 angstrom a pixel."""
    ny, nx = image.shape
    header = bytearray(1024)
    struct.pack_into("<4i", header, 0, nx, ny, 1, 2)
    struct.pack_into("<3i", header, 28, nx, ny, 1)
    struct.pack_into("<3f", header, 40, 2.0 * nx, 2.0 * ny, 1.0)
    struct.pack_into("<3i", header, 64, 1, 2, 3)
    header[208:216] = b"MAP \x44\x44\x00\x00"
    return bytes(header) + image.astype("<f4").tobytes()


@pytest.mark.slow
def test_images_come_from_a_folder_and_by_command_and_are_answered(
    tmp_path: Path, mosquitto: Mosquitto
) -> None:
    folder = tmp_path / "images"
    folder.mkdir()
    (folder / "old.tif").write_bytes(tiff(picture()))
    model = models.write(tmp_path, models.box_blur(halo="4"), "blur")
    client = OutsideClient(mosquitto.port, version5=True)
    config = CONFIG.format(
        broker=mosquitto.url, folder=json.dumps(str(folder)), model=json.dumps(str(model))
    )
    daemon = RunningDaemon(tmp_path, config)
    try:
        wait_until(
            lambda: any(
                json.loads(m.payload)["camera_connected"] for m in client.on(f"{BASE}/state")
            ),
            "the folder is watched",
            60.0,
        )
        new = tiff(picture(), imagej=True, resolution=(2.0, 2.0), metadata={"unit": "nm"})
        (folder / "new.tif").write_bytes(new)
        payload = client.wait_for(f"{BASE}/image/image_restored/last")[-1].payload
        restored = tifffile.imread(io.BytesIO(payload))
        assert restored.shape == (40, 61)
        np.testing.assert_allclose(restored.mean(), picture().mean(), rtol=1e-5)
        assert restored.std() < 0.6 * picture().std()
        wait_until(lambda: len(finished(client)) == 1, "one scan, not two")
        (scan,) = finished(client)
        assert scan["status"] == "complete"
        assert scan["scan"]["step_size_angstrom"] == pytest.approx(5.0)
        (kept,) = daemon.data_dir.glob(f"*/{scan['id']}")
        assert (kept / "raw.tif").read_bytes() == new
        np.testing.assert_array_equal(tifffile.imread(kept / "image.tif"), picture())

        request = {
            "id": "r1",
            "command": "restore",
            "args": {"tiff": base64.b64encode(tiff(picture(128, 130))).decode()},
        }
        validator("command").validate(request)
        client.client.publish(f"{BASE}/command", json.dumps(request), qos=1)
        reply = json.loads(client.wait_for(f"{BASE}/reply")[-1].payload)
        assert reply["ok"], reply
        assert reply["images"] == ["image_restored"]
        answered = tifffile.imread(io.BytesIO(base64.b64decode(reply["tiffs"]["image_restored"])))
        assert answered.shape == (128, 130)
        np.testing.assert_allclose(answered.mean(), picture(128, 130).mean(), rtol=1e-5)

        bad = {"id": "r2", "command": "restore", "args": {"tiff": "bm8gdGlmZg=="}}
        client.client.publish(f"{BASE}/command", json.dumps(bad), qos=1)
        wait_until(lambda: len(client.on(f"{BASE}/reply")) == 2, "a refusal")
        reply = json.loads(client.on(f"{BASE}/reply")[-1].payload)
        assert not reply["ok"]
        assert "TIFF" in reply["error"]["message"] or "tiff" in reply["error"]["message"]
        for heard in client.messages:
            if not heard.topic.endswith("/command"):
                check(heard.topic, heard.payload)
    finally:
        daemon.close()
        client.close()


def finished(client: OutsideClient) -> list[dict[str, Any]]:
    documents = [json.loads(m.payload) for m in client.on(f"{BASE}/scan")]
    return [d for d in documents if d["event"] == "finished"]


def test_a_file_is_taken_when_it_is_no_longer_written_and_once(tmp_path: Path) -> None:
    watch = WatchedFolder(tmp_path, existing=False)
    path = tmp_path / "a.tif"
    path.write_bytes(b"begin")
    assert watch.finished() == []
    with path.open("ab") as file:
        file.write(b"more")
    assert watch.finished() == []
    assert watch.finished() == [path]
    assert watch.finished() == []
    (tmp_path / "b.txt").write_text("no image")
    (tmp_path / "empty.tif").touch()
    watch.finished()
    assert watch.finished() == []
    path.write_bytes(b"written anew")
    watch.finished()
    assert watch.finished() == [path]


def test_images_that_lie_there_are_taken_if_asked_for(tmp_path: Path) -> None:
    (tmp_path / "a.tif").write_bytes(tiff(picture()))
    watch = WatchedFolder(tmp_path, existing=True)
    watch.finished()
    assert [path.name for path in watch.finished()] == ["a.tif"]


@pytest.mark.parametrize(("name", "unit", "size"), [("a.tif", "nm", 5.0), ("a.tiff", "pm", 0.005)])
def test_tiff_is_read_with_its_calibration(
    tmp_path: Path, name: str, unit: str, size: float
) -> None:
    data = tiff(picture(), imagej=True, resolution=(2.0, 2.0), metadata={"unit": unit})
    (tmp_path / name).write_bytes(data)
    found = read_image(tmp_path / name)
    np.testing.assert_array_equal(found.pixels, picture())
    assert found.pixel_size_angstrom == pytest.approx(size)


# rosettasciio leaves closing its files to the interpreter
LEFT_OPEN = pytest.mark.filterwarnings(
    "ignore::ResourceWarning", "ignore::pytest.PytestUnraisableExceptionWarning"
)


@LEFT_OPEN
def test_mrc_is_read_through_rosettasciio(tmp_path: Path) -> None:
    image = picture().astype(np.float32)
    (tmp_path / "a.mrc").write_bytes(mrc(image))
    found = read_image(tmp_path / "a.mrc")
    np.testing.assert_array_equal(found.pixels, image)
    assert found.pixel_size_angstrom == pytest.approx(2.0)


@LEFT_OPEN
@pytest.mark.parametrize("name", ["a.tif", "a.mrc", "a.dm4", "a.ser", "a.emd"])
def test_a_broken_file_is_one_clear_error(tmp_path: Path, name: str) -> None:
    (tmp_path / name).write_bytes(b"this is no image at all" * 100)
    with pytest.raises(FormatError, match=name) as caught:
        read_image(tmp_path / name)
    assert caught.value.remedy


def test_after_a_broken_file_the_next_one_is_taken(tmp_path: Path) -> None:
    (tmp_path / "a.tif").write_bytes(b"broken")
    (tmp_path / "b.tif").write_bytes(tiff(picture()))
    adapter = ImagesAdapter(ImagesSettings(folder=tmp_path, existing=True, poll_s=0.05))
    stop = threading.Event()
    seen: list[Any] = []
    for message in adapter.read(BlockPool(), stop):
        seen.append(message)
        if isinstance(message, Ended):
            stop.set()
    assert [type(m) for m in seen[1:]] == [Notice, Started, ImageBlock, Ended]
    assert "a.tif" in seen[1].text


def test_without_a_camera_there_is_nothing_to_start() -> None:
    adapter = ImagesAdapter(ImagesSettings())
    with pytest.raises(CameraError, match="start"):
        adapter.command("start", {})
    colour = tiff(np.zeros((4, 4, 3), np.uint8), photometric="rgb")
    for text in (None, "&&&", base64.b64encode(colour).decode()):
        with pytest.raises(CameraError, match="tiff"):
            adapter.command("restore", {"tiff": text})


def test_an_engine_that_needs_patterns_is_refused_beside_images() -> None:
    text = """
[[pipeline]]
name = "scope"
[pipeline.adapter]
type = "images"
[[pipeline.engine]]
type = "ricom"
"""
    with pytest.raises(ConfigProblemsError, match="needs patterns"):
        parse(text)


@pytest.mark.slow
@pytest.mark.mosquitto
def test_a_file_name_that_is_no_utf8_spoils_no_document_of_a_running_daemon(
    tmp_path: Path, mosquitto: Mosquitto
) -> None:
    folder = tmp_path / "images"
    folder.mkdir()
    head, _, rest = CONFIG.partition("[[pipeline.engine]]")
    config = head + rest[rest.index("[pipeline.record]") :]
    client = OutsideClient(mosquitto.port, version5=True)
    daemon = RunningDaemon(
        tmp_path, config.format(broker=mosquitto.url, folder=json.dumps(str(folder)))
    )
    try:
        wait_until(lambda: client.on(f"{BASE}/state"), "it runs", 60.0)
        wait_until(lambda: states(client)[-1]["camera_connected"], "the folder is watched", 60.0)
        odd = os.fsdecode(b"f\xfcr")
        (folder / f"{odd}.tif").write_bytes(tiff(picture()))
        wait_until(lambda: len(finished(client)) == 1, "it is a scan")
        (folder / f"{odd}-broken.tif").write_bytes(b"no image")
        wait_until(
            lambda: any(
                "f\\udcfcr-broken.tif" in error["message"] for error in states(client)[-1]["errors"]
            ),
            "it is told",
        )
        (folder / "plain.tif").write_bytes(tiff(picture()))
        wait_until(lambda: len(finished(client)) == 2, "the next is a scan, too")
        for message in client.messages:
            check(message.topic, message.payload)
        documents = [json.loads(p.read_bytes()) for p in daemon.data_dir.glob("*/*/scan.json")]
        assert any("f\\udcfcr.tif" in document["source"] for document in documents)
        assert "Traceback" not in (tmp_path / "log.txt").read_text()
    finally:
        daemon.close()
        client.close()


def states(client: OutsideClient) -> list[dict[str, Any]]:
    """State documents so far."""
    return [json.loads(message.payload) for message in client.on(f"{BASE}/state")]

"""Cameras of which both counters are read, and those that wait for a word."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import tifffile

from stemd.acquisition import Scan
from stemd.adapters.files import open_recording
from stemd.adapters.frames.scans import plan
from stemd.adapters.merlin import adapter
from stemd.adapters.merlin.encoder import Camera, encode_frame
from stemd.adapters.merlin.hdr import encode_hdr, parse_hdr
from stemd.adapters.merlin.stream import announcement
from stemd.cli.main import main
from stemd.errors import CameraError, FormatError


def image(value: int, number: int, counter: int, *, raw: bool = False) -> bytes:
    shape = (1, 256) if raw else (8, 8)
    made = encode_frame(np.full(shape, value, np.uint16), Camera(shape=shape, raw=raw), number)
    fields = made[:384].split(b",")
    fields[11] = str(counter).encode()
    return b",".join(fields) + made[384:]


def write(path: Path, positions: int, *, counted: bool, raw: bool = False) -> Path:
    """Images of value n + 1 and n + 101 at position n; `counted`: each image has its own number."""
    images = []
    for n in range(positions):
        numbers = (2 * n + 1, 2 * n + 2) if counted else (n + 1, n + 1)
        images += [image(100 * c + n + 1, numbers[c], c, raw=raw) for c in (0, 1)]
    path.write_bytes(b"".join(images))
    hdr = {"Frames in Acquisition (Number)": str(2 * positions), "Active Counters": "Both"}
    path.with_suffix(".hdr").write_bytes(encode_hdr(hdr))
    return path


@pytest.mark.parametrize("counted", [True, False], ids=["images counted", "positions counted"])
def test_the_images_of_both_counters_are_two_scans_and_never_mixed(
    tmp_path: Path, counted: bool, capsys: pytest.CaptureFixture[str]
) -> None:
    path = write(tmp_path / "a.mib", 20, counted=counted)
    words = ["--scan", "4x5", "--engine", "sum", "--out", str(tmp_path / "out")]
    assert main(["process", str(path), *words]) == 0
    for name, first in (("a", 1), ("a_scan2", 101)):
        found = tifffile.imread(tmp_path / "out" / name / "sum.tif").ravel()
        assert found.tolist() == [64 * n for n in range(first, first + 20)]
    text = capsys.readouterr().out
    assert "these are the images of counter 0" in text
    assert "these are the images of counter 1" in text
    assert "--scan-number" in text
    assert "missing" in text
    assert "warning" not in text


def test_a_lost_pair_leaves_a_hole_in_both(tmp_path: Path) -> None:
    path = write(tmp_path / "a.mib", 20, counted=True)
    size = len(image(0, 1, 0))
    content = path.read_bytes()
    path.write_bytes(content[: 12 * size] + content[14 * size :])
    recording = open_recording(path, Scan(shape=(4, 5)))
    done = np.concatenate([block.probe for block in recording.blocks(0, recording.frames)])
    assert sorted(set(range(20)) - set(done.tolist())) == [6]


def test_raw_frames_of_both_counters_are_refused_in_words(tmp_path: Path) -> None:
    path = write(tmp_path / "a.mib", 4, counted=True, raw=True)
    with pytest.raises(FormatError, match="both counters were read as raw frames"):
        open_recording(path, Scan(shape=(2, 2)))


def test_a_live_camera_that_sends_both_counters_is_doubted() -> None:
    said = announcement(parse_hdr(encode_hdr({"Active Counters": "Both"})))
    assert "two images of each position" in plan(Scan(shape=(4, 5)), said).doubt
    said = announcement(parse_hdr(encode_hdr({"Active Counters": "Alternating"})))
    assert plan(Scan(shape=(4, 5)), said).doubt == ""


class Client:
    """Notes what the camera is told; knows TRIGGERSTART, or not."""

    def __init__(self, trigger: str | None) -> None:
        self.trigger, self.told = trigger, list[str]()

    def get(self, name: str) -> str:
        if self.trigger is None:
            raise CameraError(f"{name} is unknown")
        return self.trigger

    def set(self, name: str, value: object, wanted: object = None) -> None:
        self.told.append(f"{name}={value}")

    def cmd(self, name: str, wanted: object = None) -> None:
        self.told.append(name)

    def close(self) -> None: ...


@pytest.mark.parametrize(
    ("configured", "trigger", "asked"),
    [({}, "5", True), ({}, "0", False), ({}, None, False), ({"TRIGGERSTART": 5}, None, True)],
)
def test_a_camera_that_waits_for_software_is_triggered_when_it_is_armed(
    configured: dict[str, Any], trigger: str | None, asked: bool
) -> None:
    settings = adapter.MerlinSettings(host="127.0.0.1", control_port=6341, camera=configured)
    control = adapter._Control(settings, 6341)
    client: Any = Client(trigger)
    control._client = client
    assert control.command("start", {}, Scan(shape=(2, 3))) == {"frames": 6}
    assert client.told == ["NUMFRAMESTOACQUIRE=6", "STARTACQUISITION", *["SOFTTRIGGER"] * asked]

"""What no experiment has is said when it is put in force, and of each scan, not in `check` only."""

from __future__ import annotations

import asyncio
from pathlib import Path
from typing import Any

import pytest

from stemd.acquisition import Acquisition, Detector, Optics, Scan
from stemd.config.file import parse
from stemd.config.live import RefusedError
from stemd.daemon.pipeline.kept_settings import KeptSettings
from stemd.daemon.pipeline.settings import SettingsInForce
from stemd.daemon.supervisor import _tell_doubts
from stemd.documents import from_json
from stemd.errors import FormatError
from stemd.events import Hub
from stemd.scan.run import ScanRun
from stemd.settings import Settings

CONFIG = """
[[pipeline]]
name = "cam"
[pipeline.adapter]
type = "merlin"
scan = { shape = [8, 8], step_size_angstrom = 0.5 }
[pipeline.optics]
energy_ev = 300e3
convergence_semi_angle_mrad = 20.0
pixel_size_mrad = 2.5
[[pipeline.engine]]
type = "virtual_detector"
detectors = { bf = [0.0, 20.0] }
"""


class InForce:
    """The settings of a pipeline whose camera has 32 x 32 pixels, and what is said of them."""

    def __init__(self, folder: Path) -> None:
        self.told: list[str] = []
        self.settings = SettingsInForce(
            parse(CONFIG).pipelines[0], Hub(), lambda scan: None, lambda entry: None,
            KeptSettings(folder, "scope", "cam", "merlin"), self.told.append, lambda: (32, 32),
        )  # fmt: skip

    def change(self, **change: Any) -> list[str]:
        before = self.settings.live
        return self.settings.new_doubts(before, self.settings.change(change))


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"optics": {"energy_ev": 300}}, "300 keV is 300e3"),
        ({"optics": {"center": [500, 16]}}, "lies outside the detector of 32 x 32"),
        ({"virtual_detector": {"detectors": {"adf": [2200, 6000]}}}, "adf = [2200 mrad, 6000 mrad"),
        ({"scan": {"step_size_angstrom": 0.0005}}, "is it in nm?"),
    ],
)
async def test_a_change_that_no_experiment_has_is_doubted_once(
    tmp_path: Path, change: dict[str, Any], words: str
) -> None:
    force = InForce(tmp_path)
    doubts = force.change(**change)
    assert words in doubts[0]
    assert force.told == doubts
    assert force.change(about={"sample": "gold"}) == []
    assert force.told == doubts
    await force.settings.close()


async def test_truth_is_no_number(tmp_path: Path) -> None:
    force = InForce(tmp_path)
    with pytest.raises(RefusedError, match="must be a number, not true or false"):
        force.change(optics={"energy_ev": True})
    with pytest.raises(RefusedError, match="listed twice"):
        force.change(record={"results": ["tiff", "tiff"]})
    await force.settings.close()


async def test_the_daemon_says_at_its_start_what_check_says(
    tmp_path: Path, caplog: pytest.LogCaptureFixture, capsys: pytest.CaptureFixture[str]
) -> None:
    text = CONFIG.replace("300e3", "300") + f'\n[daemon]\ndata_dir = "{tmp_path}"\n'
    await asyncio.wait_for(_tell_doubts(parse(text)), 10)
    assert "300 keV is 300e3" in caplog.text + capsys.readouterr().out + capsys.readouterr().err


def test_a_scan_has_the_doubts_of_its_own_detector() -> None:
    acquisition = Acquisition(
        scan=Scan(shape=(8, 8), step_size_angstrom=0.5),
        detector=Detector("cam", (32, 32), "u2", 16),
    )
    optics = Optics(energy_ev=300, convergence_semi_angle_mrad=20, center=(40, 3))
    texts = [n["text"] for n in ScanRun(acquisition, Settings(optics), []).notices]
    assert [text.split(" = ")[0] for text in texts] == [
        "optics.energy_ev",
        "optics.center",
        "scan.step_size_angstrom",
    ]
    sound = Optics(energy_ev=300e3, convergence_semi_angle_mrad=20, center=(20, 3))
    assert not ScanRun(acquisition, Settings(sound), []).notices
    masked = sound.model_copy(update={"mask": "none.npy"})
    (lost,) = ScanRun(acquisition, Settings(masked), [], live=True).notices
    assert (lost["kind"], lost["level"]) == ("mask", "error")


def test_a_key_that_stands_twice_is_refused() -> None:
    assert from_json('{"a": {"b": 1}, "b": 1}') == {"a": {"b": 1}, "b": 1}
    with pytest.raises(FormatError, match="the key 'optics' stands twice"):
        from_json('{"id": "b", "optics": {"rotation_deg": 1}, "optics": {"rotation_deg": 2}}')

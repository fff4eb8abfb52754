"""`stemd check` doubts what no experiment has, with numbers, and nothing else."""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Any

import pytest

from stemd.cli.main import main
from stemd.config import amounts, physics, places
from stemd.config.file import load, parse
from stemd.errors import ModelError
from stemd.inference.catalogue import find

CONFIG = """
[daemon]
data_dir = {data}
[daemon.retention]
warn_free_gb = 0.0

[[pipeline]]
name = "cam"

[pipeline.adapter]
type = "{type}"
scan = {{ shape = [64, 64], step_size_angstrom = {step}, dwell_time_us = 100.0 }}

[pipeline.optics]
energy_ev = {energy}
convergence_semi_angle_mrad = {angle}
pixel_size_mrad = {pixel}
center = {center}
defocus_nm = {defocus}

[[pipeline.engine]]
type = "virtual_detector"
detectors = {{ ring = [{inner}, {outer}] }}

[[pipeline.engine]]
type = "ssb"
"""
SOUND: dict[str, Any] = {
    **{"data": '"."', "type": "timepix3", "step": 0.4, "energy": "300e3", "angle": 20.0},
    **{"pixel": 0.5, "center": '"auto"', "defocus": 0.0, "inner": 30.0, "outer": 100.0},
}


def doubts(**change: Any) -> list[str]:
    return physics.doubts(parse(CONFIG.format(**{**SOUND, **change})).pipelines[0])


def test_a_sound_experiment_is_not_doubted() -> None:
    assert doubts() == []


@pytest.mark.parametrize("name", ["merlin", "airpi", "dectris", "images", "replay", "timepix3"])
def test_the_example_configs_are_not_doubted(name: str) -> None:
    config = load(Path(__file__).parents[2] / f"config/{name}.toml")
    assert [doubt for each in config.pipelines for doubt in physics.doubts(each)] == []


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"energy": "300.0"}, ["energy_ev = 300", "300 keV is 300e3"]),
        ({"energy": "5e7"}, ["energy of no microscope"]),
        ({"angle": 0.02}, ["0.02 rad are 20 mrad"]),
        ({"angle": 500.0}, ["angle of no probe"]),
        ({"pixel": 20.0, "outer": 3000.0}, ["radius of 1.0 pixels"]),
        ({"pixel": 0.05, "inner": 2.0, "outer": 10.0}, ["radius of 400.0 pixels", "512 x 512"]),
        ({"center": "[127.5, 600.0]"}, ["[127.5, 600]", "outside the detector of 512 x 512"]),
        ({"inner": 200.0, "outer": 300.0}, ["sees nothing", "ends at 181 mrad"]),
        ({"inner": 150.0, "outer": 170.0}, ["corners only", "edge is at 128 mrad"]),
        ({"outer": 250.0}, ["ends beyond the detector", "corner at 181 mrad"]),
        ({"step": 2.0}, ["step_size_angstrom = 2", "(1.2 Å)", "between two positions"]),
        ({"step": 0.9}, ["probe's radius of 0.6 Å", "ssb"]),
        ({"step": 0.004}, ["150 times finer", "0.6 Å", "in nm?"]),
        ({"defocus": 1e5}, ["defocus_nm = 100000", "4e+03 nm wide", "2.56 nm"]),
        ({"center": '"auto"\nmask = [[600, 2]]'}, ["made without optics.mask", "[600, 2]"]),
        ({"pixel": 8.0}, ["pixel_size_mrad = 8", "2,048 mrad", "right angle"]),
    ],
)
def test_what_cannot_be_meant_so_is_doubted_with_numbers(
    change: dict[str, Any], words: list[str]
) -> None:
    found = " ".join(doubts(**change))
    assert all(word in found for word in words), found


MERLIN = CONFIG.replace("dwell_time_us = 100.0", "dwell_time_us = {dwell}, {scan}").replace(
    "defocus_nm = {defocus}", "cs_mm = {cs}\nacceptance_time_ns = {late}"
)
USUAL: dict[str, Any] = {
    **(SOUND | {"type": "merlin", "center": '"auto"'}),
    **{"dwell": 100.0, "scan": "flyback = 2", "cs": 0.001, "late": 100.0, "more": ""},
}


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({}, []),
        ({"dwell": 0.1}, ["dwell_time_us = 0.1", "10,000,000 frames/s"]),
        ({"dwell": 0.001, "type": "timepix3"}, ["shorter than what a camera"]),
        ({"dwell": 1e8}, ["dwell_time_us = 1e+08", "64x64", "4.9 days"]),
        ({"late": 1e6}, ["acceptance_time_ns = 1e+06", "100000 ns", "no electron"]),
        ({"scan": "flyback = 500"}, ["flyback = 500", "64 positions"]),
        ({"scan": "leading = 5000"}, ["leading = 5000", "4096 positions"]),
        ({"cs": 1200.0}, ["cs_mm = 1200", "nm wide, wider than the scan of 2.56 nm"]),
        ({"more": "kernel_size = 201"}, ["kernel_size = 201", "64 x 64", "127"]),
        ({"more": "band_pass = [60.0, 80.0]"}, ["band_pass = [60, 80]", "32 waves"]),
        ({"more": "[pipeline.publish]\nrate_hz = 100.0", "shape": "[4096, 4096]"}, ["26.8 GB/s"]),
        ({"shape": "[1, 64]"}, ["shape = [1, 64] is a line"]),
        ({"shape": "[2, 2]"}, ["shape = [2, 2] is a few positions"]),
    ],
)
def test_a_scan_that_nobody_can_mean_is_doubted_with_numbers(
    change: dict[str, Any], words: list[str]
) -> None:
    values = {**USUAL, **change}
    text = MERLIN.replace("[64, 64]", values.get("shape", "[64, 64]"))
    text += '[[pipeline.engine]]\ntype = "ricom"\n{more}\n'
    pipeline = parse(text.format(**values)).pipelines[0]
    found = " ".join([*amounts.doubts(pipeline), *physics.doubts(pipeline)])
    assert all(word in found for word in words), found
    assert words or not found


def test_a_disk_that_cannot_do_what_is_asked_and_a_camera_read_twice_are_doubted(
    tmp_path: Path,
) -> None:
    text = CONFIG.format(**{**SOUND, "type": "merlin", "data": json.dumps(str(tmp_path))})
    text = text.replace("[daemon]", "[daemon]\nreserve_mb = 1e12")
    text = text.replace("warn_free_gb = 0.0", "warn_free_gb = 0.0\nmin_free_gb = 1e9")
    text += text[text.index("[[pipeline]]") :].replace('"cam"', '"other"')
    deleted, unwritten, twice = places.doubts(parse(text))
    assert "min_free_gb = 1e+09 is more than the disk has" in deleted
    assert "every scan would be deleted" in deleted
    assert "reserve_mb = 1e+12" in unwritten
    assert "cam and other read the same camera, 127.0.0.1:6342" in twice


def test_a_defocused_probe_may_step_further() -> None:
    assert doubts(step=2.0, defocus=20.0) == []


def test_a_beam_as_wide_as_the_scan_is_the_limit() -> None:
    """20 mrad and 25.6 Å: 64 nm out of focus."""
    assert doubts(defocus=-62.0) == []
    (found,) = doubts(defocus=-66.0)
    assert found == (
        "optics.defocus_nm = -66 makes the beam 2.64 nm wide, wider than the scan of 2.56 nm"
    )


def test_a_phase_that_lacks_a_number_is_told_which() -> None:
    text = CONFIG.format(**SOUND).replace("energy_ev = 300e3\n", "")
    text = text.replace("step_size_angstrom = 0.4, ", "")
    (found,) = physics.doubts(parse(text).pipelines[0])
    assert found.startswith("ssb will make no image: optics.energy_ev, scan.step_size_angstrom")


def test_the_detector_s_edge_is_told_in_pixels_where_no_angle_is_known() -> None:
    text = CONFIG.format(**SOUND).replace("pixel_size_mrad = 0.5\n", "")
    text = text.replace("detectors = { ring", "detectors_px = { ring").replace(
        "30.0, 100", "400.0, 500"
    )
    found = " ".join(physics.doubts(parse(text).pipelines[0]))
    assert "sees nothing: the detector ends at 361 px" in found


def test_folders_and_files_that_cannot_be_used_are_doubted(tmp_path: Path) -> None:
    file = tmp_path / "file"
    file.write_text("")
    text = CONFIG.format(**{**SOUND, "data": json.dumps(str(file / "data"))})
    text += f'[mqtt]\nurl = "mqtt://broker"\nusername = "a"\npassword_file = "{tmp_path}/none"\n'
    found = places.doubts(parse(text))
    assert found == [
        f"daemon.data_dir: {file} is a file and no folder",
        f"mqtt.password_file: there is no file {tmp_path}/none",
    ]


def test_names_that_are_too_long_and_links_that_lead_nowhere_are_doubted(tmp_path: Path) -> None:
    long = "x" * 300
    nowhere, circle = tmp_path / "nowhere", tmp_path / "circle"
    nowhere.symlink_to(tmp_path / "none")
    circle.symlink_to(circle)

    def doubted(data: Path) -> list[str]:
        return places.doubts(parse(CONFIG.format(**{**SOUND, "data": json.dumps(str(data))})))

    assert doubted(nowhere) == [f"daemon.data_dir: {nowhere} is a link to what is not there"]
    for data in (tmp_path / long, circle):
        (found,) = doubted(data)
        assert found.startswith("daemon.data_dir: ")
        assert "cannot be used: " in found or "a link to what is not there" in found
        assert len(found) < 200
    text = CONFIG.format(**SOUND)
    text += f'[mqtt]\nurl = "mqtts://broker"\nusername = "a"\npassword_file = "{long}"\n'
    (found,) = places.doubts(parse(text))
    assert found.startswith("mqtt.password_file: xxxx")
    assert found.endswith("cannot be used: File name too long")
    with pytest.raises(ModelError, match="no such file"):
        find(f"{long}.onnx")


def test_a_page_where_the_broker_is_and_a_session_that_is_over_are_doubted() -> None:
    text = CONFIG.format(**SOUND) + '[mqtt]\nurl = "mqtt://localhost:1884"\n'
    text += '[page]\nlisten = "127.0.0.1:1884"\n[[session]]\nname = "night"\n'
    port, session = places.doubts(parse(text + "until = 2001-01-01T00:00:00Z\n"))
    assert port == "page.listen: port 1884 of 127.0.0.1 is the broker's, see mqtt.url"
    assert session.startswith("session night: until = 2001-01-01T00:00:00+00:00 is over")
    other = text.replace("localhost:1884", "broker.lab:1884")
    assert places.doubts(parse(other + "until = 3001-01-01T00:00:00Z\n")) == []


def test_a_config_may_begin_with_the_mark_of_some_editors(tmp_path: Path) -> None:
    path = tmp_path / "c.toml"
    path.write_text(CONFIG.format(**SOUND), encoding="utf-8-sig")
    assert load(path).pipelines[0].name == "cam"


def test_what_this_user_may_not_even_look_for_is_doubted_in_words(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    closed, stat = tmp_path / "closed", Path.stat
    closed.mkdir()

    def refused(path: Path, **named: Any) -> os.stat_result:
        if closed in path.parents:
            raise PermissionError(13, "Permission denied", str(path))
        return stat(path, **named)

    text = CONFIG.format(**{**SOUND, "data": json.dumps(str(closed / "data"))})
    text += f'[mqtt]\nurl = "mqtt://broker"\nusername = "a"\npassword_file = "{closed}/word"\n'
    config = parse(text)
    monkeypatch.setattr(Path, "stat", refused)
    monkeypatch.setattr(os, "access", lambda path, mode: path != closed)
    folder, word = places.doubts(config)
    assert f"may not write to {closed}; the user that runs stemd must" in folder
    assert f"may not look for {closed}/word" in word


def test_a_folder_that_may_not_be_written_and_a_full_disk_are_doubted(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    text = CONFIG.format(**{**SOUND, "data": json.dumps(str(tmp_path / "a/b"))})
    assert places.doubts(parse(text)) == []
    full = text.replace("warn_free_gb = 0.0", "warn_free_gb = 1e9")
    (found,) = places.doubts(parse(full))
    assert "GB are free (warn_free_gb = 1e+09)" in found
    monkeypatch.setattr(os, "access", lambda path, mode: False)
    (found,) = places.doubts(parse(text))
    assert f"may not write to {tmp_path}; the user that runs stemd must" in found


def test_check_warns_and_ends_well(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = tmp_path / "c.toml"
    path.write_text(CONFIG.format(**{**SOUND, "energy": "300.0"}))
    assert main(["check", str(path)]) == 0
    assert "warning: pipeline cam: optics.energy_ev = 300 is" in capsys.readouterr().err
    assert main(["check", str(path), "--json"]) == 0
    assert any("300e3" in doubt for doubt in json.loads(capsys.readouterr().out)["doubts"])

"""`stemd process`: files of several kinds in, the same images whatever the threads."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import tifffile

from stemd.adapters.merlin.encoder import Camera, encode_frame
from stemd.cli.main import main
from stemd.config.pairs import parse_pairs
from stemd.errors import ConfigError
from tests.engines import airpi_scenes
from tests.inference import models


def write_mib(path: Path, patterns: np.ndarray[Any, Any], **camera: Any) -> Path:
    kind = Camera(shape=patterns.shape[1:], **camera)
    path.write_bytes(b"".join(encode_frame(p, kind, i + 1) for i, p in enumerate(patterns)))
    return path


@pytest.fixture
def patterns() -> np.ndarray[Any, Any]:
    return np.random.default_rng(0).poisson(5.0, (20, 256, 256)).astype(np.uint16)


def images(folder: Path) -> dict[str, np.ndarray[Any, Any]]:
    return {path.stem: tifffile.imread(path) for path in folder.glob("*.tif")}


def test_a_mib_gives_exact_sums_and_a_complete_description(
    tmp_path: Path, patterns: np.ndarray[Any, Any], capsys: pytest.CaptureFixture[str]
) -> None:
    path = write_mib(tmp_path / "scan.mib", patterns)
    out = tmp_path / "out"
    assert main(["process", str(path), "--scan", "4x5", "--out", str(out), "--json"]) == 0
    document = json.loads(capsys.readouterr().out)
    assert document == json.loads((out / "scan" / "scan.json").read_text())
    assert document["status"] == "complete"
    assert document["positions_done"] == document["positions_total"] == 20
    found = images(out / "scan")
    np.testing.assert_array_equal(found["sum"], patterns.sum((1, 2)).reshape(4, 5))
    assert {"com_y", "com_x", "field_magnitude", "field_direction", "ricom", "icom"} <= set(found)


def test_the_images_do_not_depend_on_threads_or_order_of_options(
    tmp_path: Path, patterns: np.ndarray[Any, Any]
) -> None:
    many = np.concatenate([patterns] * 30)
    path = write_mib(tmp_path / "scan.mib", many)
    results = []
    for jobs in ("1", "2", "3"):
        out = tmp_path / jobs
        engine = "virtual_detector:detectors_px={bf=[0,40],adf=[50,110.5]}"
        arguments = ["process", str(path), "--scan", "20x30", "--jobs", jobs, "--out", str(out)]
        for name in ("ricom:kernel_size=9", "pacbed", "pattern", "com", engine):
            arguments += ["--engine", name]
        assert main(arguments) == 0
        results.append(images(out / "scan"))
    assert set(results[0]) >= {"ricom", "pacbed", "pattern", "bf", "adf"}
    for other in results[1:]:
        for name, image in results[0].items():
            assert image.tobytes() == other[name].tobytes(), name


def test_an_npy_array_gives_what_the_same_mib_gives(
    tmp_path: Path, patterns: np.ndarray[Any, Any]
) -> None:
    mib = write_mib(tmp_path / "a.mib", patterns)
    npy = tmp_path / "b.npy"
    np.save(npy, patterns.reshape(4, 5, 256, 256))
    arguments = ["process", str(mib), str(npy), "--scan", "4x5", "--out", str(tmp_path / "out")]
    assert main(arguments) == 0
    first, second = images(tmp_path / "out" / "a"), images(tmp_path / "out" / "b")
    for name, image in first.items():
        assert image.tobytes() == second[name].tobytes(), name


def test_steps_alone_go_with_the_size_that_the_file_has(
    tmp_path: Path, patterns: np.ndarray[Any, Any], capsys: pytest.CaptureFixture[str]
) -> None:
    np.save(tmp_path / "scan.npy", patterns[:, ::8, ::8].reshape(4, 5, 32, 32))
    arguments = [str(tmp_path / "scan.npy"), "--step-size-angstrom"]
    out = ["--engine", "sum", "--out", str(tmp_path / "out")]
    assert main(["process", *arguments, "0.4", *out]) == 0
    scan = json.loads((tmp_path / "out" / "scan" / "scan.json").read_text())["scan"]
    assert (scan["shape"], scan["step_size_angstrom"]) == ([4, 5], 0.4)
    assert main(["check", *arguments, "0.4"]) == 0
    capsys.readouterr()
    for command in (["process", *arguments, "-1", *out], ["check", *arguments, "nan"]):
        assert main(command) != 0
        assert "scan.step_size_angstrom = " in capsys.readouterr().err


def test_a_wrong_scan_size_names_sizes_that_fit(
    tmp_path: Path, patterns: np.ndarray[Any, Any], capsys: pytest.CaptureFixture[str]
) -> None:
    path = write_mib(tmp_path / "scan.mib", patterns)
    assert main(["process", str(path), "--scan", "7x9", "--out", str(tmp_path / "o")]) == 1
    message = capsys.readouterr().err
    assert "20" in message
    assert "4x5" in message


@pytest.mark.parametrize(
    ("arguments", "code", "text"),
    [
        (["none.mib"], 1, "none.mib"),
        (["x.txt"], 1, "x.txt"),
        (["scan.mib", "--scan", "4by5"], 2, "256x256"),
        (["scan.mib", "--engine", "ricum"], 2, "did you mean 'ricom'"),
        (["scan.mib", "--engine", "ricom:kernel_size=4"], 2, "kernel_size"),
        (["scan.mib", "--engine", "virtual_detector:detectors={bf=[0,1]}"], 2, "pixel_size_mrad"),
        (["scan.mib", "--flyback", "1"], 1, "--scan"),
        (["scan.mib", "--optics", "rotation=3"], 2, "rotation_deg"),
    ],
)
def test_mistakes_end_in_one_message_with_a_remedy(
    tmp_path: Path,
    patterns: np.ndarray[Any, Any],
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
    arguments: list[str],
    code: int,
    text: str,
) -> None:
    monkeypatch.chdir(tmp_path)
    write_mib(tmp_path / "scan.mib", patterns)
    (tmp_path / "x.txt").write_text("hello")
    assert main(["process", *arguments, "--out", str(tmp_path / "o")]) == code
    captured = capsys.readouterr().err
    assert text in captured
    assert "Traceback" not in captured


def test_a_file_that_fails_does_not_keep_the_others_from_being_processed(
    tmp_path: Path, patterns: np.ndarray[Any, Any]
) -> None:
    good = write_mib(tmp_path / "good.mib", patterns)
    bad = tmp_path / "bad.mib"
    bad.write_bytes(b"not a recording")
    arguments = ["process", str(bad), str(good), "--scan", "4x5", "--out", str(tmp_path / "o")]
    assert main(arguments) == 1
    assert (tmp_path / "o" / "good" / "sum.tif").exists()


def test_pairs_take_toml_values_and_bare_words() -> None:
    assert parse_pairs("a=1,b=[1,2],c={d=[0,4]},e=auto,f=true", "x") == {
        "a": 1,
        "b": [1, 2],
        "c": {"d": [0, 4]},
        "e": "auto",
        "f": True,
    }
    with pytest.raises(ConfigError, match="has no value"):
        parse_pairs("a", "x")


def test_probe_positions_are_corrected_by_a_restored_image(
    tmp_path: Path, patterns: np.ndarray[Any, Any], capsys: pytest.CaptureFixture[str]
) -> None:
    model = models.write(tmp_path, models.box_blur())
    many = np.concatenate([patterns] * 30)
    path = write_mib(tmp_path / "scan.mib", many)
    out = tmp_path / "out"
    arguments = ["process", str(path), "--scan", "20x30", "--out", str(out), "--engine", "sum"]
    assert main([*arguments, "--correct"]) == 1
    assert "restoration:input=" in capsys.readouterr().err
    arguments += ["--engine", "ricom", "--engine", f"restoration:input=sum,model={model}"]
    assert main([*arguments, "--correct", "bf"]) == 1
    assert "no restored image of bf" in capsys.readouterr().err
    assert main([*arguments, "--correct", "--json"]) == 0
    document = json.loads(capsys.readouterr().out)
    assert document["notes"] == []
    found = images(out / "scan")
    assert set(found) >= {"sum_restored", "shift_y", "shift_x", "sum_corrected", "ricom_corrected"}
    assert found["shift_x"].shape == (20, 30)
    np.testing.assert_allclose(found["sum_corrected"].mean(), found["sum"].mean(), rtol=0.01)


BEAM = "energy_ev=300e3,convergence_semi_angle_mrad=20,pixel_size_mrad=3"


@pytest.mark.slow
def test_phases_do_not_depend_on_threads_and_are_listed_with_their_units(tmp_path: Path) -> None:
    model = airpi_scenes.write(tmp_path, airpi_scenes.reader())
    patterns = np.zeros((480, 256, 256), np.uint16)
    patterns[:, 90:154, 99:163] = airpi_scenes.random_patterns(480)
    path = write_mib(tmp_path / "scan.mib", patterns)
    arguments = ["process", str(path), "--scan", "20x24", "--optics", BEAM]
    arguments += ["--step-size-angstrom", "0.2", "--engine", "ssb"]
    arguments += ["--engine", f"airpi:model={model},backend=onnxruntime"]
    for other in ("sum", "com", "ricom:kernel_size=5", "icom", "pacbed", "pattern"):
        arguments += ["--engine", other]
    results = []
    for jobs in ("1", "3"):
        out = tmp_path / jobs
        assert main([*arguments, "--jobs", jobs, "--out", str(out)]) == 0
        results.append(images(out / "scan"))
    assert results[0].keys() == results[1].keys()
    for name, image in results[0].items():
        assert image.std() > 0, name
        assert image.tobytes() == results[1][name].tobytes(), name
    reference = (Path(__file__).parents[2] / "docs" / "reference" / "results.md").read_text()
    listed = {
        name: row[2].strip()
        for line in reference.splitlines()
        if len(row := line.strip("|").split("|")) == 5
        for name in re.findall(r"`([a-z_]+)`", row[0])
    }
    for name in results[0]:
        with tifffile.TiffFile(tmp_path / "1" / "scan" / f"{name}.tif") as tiff:
            about = tiff.pages[0].description  # type: ignore[union-attr]
        units = re.search(r'"units": ?"([^"]*)"', about)
        assert units is not None
        assert listed[name] == units[1], name


def test_an_engine_that_fails_is_told_and_the_images_of_the_others_are_written(
    tmp_path: Path, patterns: np.ndarray[Any, Any], capsys: pytest.CaptureFixture[str]
) -> None:
    path = write_mib(tmp_path / "scan.mib", patterns)
    arguments = ["process", str(path), "--scan", "4x5", "--engine", "ssb", "--engine", "sum"]
    assert main([*arguments, "--json", "--out", str(tmp_path / "o")]) == 1
    captured = capsys.readouterr()
    assert f"{path}: engine ssb failed: " in captured.err
    assert "remedy: set " in captured.err
    assert "Traceback" not in captured.err
    assert "ssb" in json.loads(captured.out)["notes"][0]
    assert set(images(tmp_path / "o" / "scan")) == {"sum"}

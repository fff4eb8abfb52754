"""`stemd models`: what is installed, and whether a backend computes what it should."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest

from stemd.cli.main import main
from stemd.inference import onnxruntime

CHECK = ["models", "check", "airpi", "--backend", "onnxruntime"]


@pytest.fixture(autouse=True)
def no_models_of_the_user(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("STEMD_MODELS", str(tmp_path / "models"))
    return tmp_path / "models"


def test_the_shipped_networks_are_listed_with_their_checksums_and_the_backends(
    capsys: pytest.CaptureFixture[str], no_models_of_the_user: Path
) -> None:
    assert main(["models", "list", "--json"]) == 0
    document = json.loads(capsys.readouterr().out)
    assert [model["name"] for model in document["models"]] == ["airpi", "restoration"]
    for model in document["models"]:
        assert model["shipped"]
        assert model["license"] == "BSD-3-Clause"
        assert len(model["sha256"]) == 64
        assert model["bytes"] == Path(model["path"]).stat().st_size
    assert document["folder"] == str(no_models_of_the_user)
    backends = {backend["name"]: backend["unavailable"] for backend in document["backends"]}
    assert backends.keys() == {"tensorrt", "openvino", "onnxruntime"}
    assert backends["onnxruntime"] is None


def test_a_file_that_is_no_network_is_listed_with_what_is_wrong(
    capsys: pytest.CaptureFixture[str], no_models_of_the_user: Path
) -> None:
    no_models_of_the_user.mkdir()
    (no_models_of_the_user / "mine.onnx").write_bytes(b"not a network")
    assert main(["models", "--json"]) == 0
    models = {m["name"]: m for m in json.loads(capsys.readouterr().out)["models"]}
    assert "mine.onnx" in models["mine"]["error"]
    assert "error" not in models["airpi"]
    assert main(["models"]) == 0
    assert "mine" in capsys.readouterr().out


def test_check_compares_with_the_reference_and_measures(capsys: pytest.CaptureFixture[str]) -> None:
    assert main([*CHECK, "--json"]) == 0
    document = json.loads(capsys.readouterr().out)
    assert document["ok"]
    assert 0.0 <= document["rms_difference"] <= document["tolerance"]
    assert document["rms_difference"] <= document["largest_difference"]
    assert document["backend"] == "onnxruntime"
    assert document["batch"][0] == 64
    assert document["seconds"] > 0.0
    assert document["processor_seconds"] > 0.0
    assert main(CHECK) == 0
    assert "differs from ONNX Runtime" in capsys.readouterr().out


def test_check_fails_where_the_numbers_are_wrong(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    network = onnxruntime.OnnxRuntimeNetwork
    run, calls = network.run, []

    def wrong(self: onnxruntime.OnnxRuntimeNetwork, batch: np.ndarray) -> np.ndarray:
        calls.append(self)
        right = run(self, batch)
        return right + 0.1 * right.std() if self is calls[0] else right

    monkeypatch.setattr(network, "run", wrong)
    assert main([*CHECK, "--json"]) == 1
    said = capsys.readouterr()
    document = json.loads(said.out)
    assert not document["ok"]
    assert document["rms_difference"] == pytest.approx(0.1, rel=0.01)
    assert "differs too much" in said.err


@pytest.mark.parametrize("number", ["--threads", "--size"])
def test_nothing_is_checked_with_no_thread_or_no_pixel(number: str) -> None:
    assert main([*CHECK, number, "0"]) == 2

"""`python -m benchmarks.gpu`: says what is missing, and measures what is there."""

from __future__ import annotations

import json
from typing import Any

import pytest

from benchmarks.gpu import __main__ as benchmark
from stemd.inference import choice
from stemd.inference.base import Options
from stemd.inference.catalogue import find
from stemd.inference.half import converted
from stemd.inference.model_file import read_model
from stemd.inference.precision import difference
from tests.inference.fake_cuda import World


@pytest.fixture(autouse=True)
def small(monkeypatch: pytest.MonkeyPatch) -> None:
    batch = benchmark.batch_of
    monkeypatch.setattr(benchmark, "REPEATS", 1)
    monkeypatch.setattr(benchmark, "COPY_BYTES", 1 << 16)
    monkeypatch.setattr(benchmark, "batch_of", lambda model, side=64: batch(model, 64))


def rows(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> dict[str, Any]:
    monkeypatch.setattr("sys.argv", ["benchmarks.gpu", "--json"])
    assert benchmark.main() == 0
    document = json.loads(capsys.readouterr().out)
    assert document["environment"].keys() >= {"stemd", "python", "onnxruntime", "gpu"}
    return {row["name"]: row for row in document["rows"]}


def test_what_is_missing_is_named_and_what_is_there_measured(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    find = benchmark.importlib.util.find_spec
    missing = {"pycuda", "tensorrt", "torch"}
    monkeypatch.setattr(
        benchmark.importlib.util, "find_spec", lambda name: None if name in missing else find(name)
    )
    found = rows(capsys, monkeypatch)
    assert found["pycuda"]["value"] is None
    assert "pip install pycuda" in found["pycuda"]["note"]
    for model in ("airpi", "restoration"):
        assert "tensorrt is not installed" in found[f"{model}, stemd tensorrt"]["note"]
        assert "pip install torch" in found[f"{model}, torch"]["note"]
        assert any(row["value"] for name, row in found.items() if name.startswith(f"{model}, "))


def test_the_backend_is_measured_where_there_is_a_gpu(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, machine: World
) -> None:
    found = rows(capsys, monkeypatch)
    assert found["copy to the GPU"]["value"] > 0.0
    for model in ("airpi", "restoration"):
        row = found[f"{model}, stemd tensorrt"]
        assert row["value"] > 0.0
        assert "from float32" in row["note"]


@pytest.mark.parametrize("name", ["airpi", "restoration"])
def test_pytorch_computes_the_graphs_in_their_precision(name: str) -> None:
    pytest.importorskip("torch", reason="training needs the extra 'training'")
    from benchmarks.gpu.torch_graph import TorchNetwork

    model = read_model(find(name))
    batch = benchmark.batch_of(model)
    expected = choice.load(model, "onnxruntime", Options(exact=True)).run(batch)
    exact = TorchNetwork(converted(model.data, "float32"), "cpu").run(batch)
    assert difference(exact, expected) < 1e-5
    half = TorchNetwork(converted(model.data, "float16"), "cpu").run(batch)
    assert 1e-4 < difference(half, expected) < 3e-3

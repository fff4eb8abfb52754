"""What every inference backend must do; a backend that can be used here is tested here."""

from __future__ import annotations

import importlib.util
import itertools
import subprocess
import sys
import threading
import time
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from stemd.errors import ConfigError, ModelError, ModelMemoryError
from stemd.inference import choice, kept
from stemd.inference.base import TOLERANCE, Network, Options
from stemd.inference.model_file import model_of
from stemd.inference.openvino import FULL, HALF, is_faster, once
from tests.inference import models

USABLE = [plugin.name for plugin in choice.best_first() if plugin.why_not() is None]
SHAPES = [(1, 1, 16, 16), (1, 1, 33, 64), (4, 1, 50, 17), (2, 1, 128, 96), (1, 1, 1, 1)]


STANDING_IN = [] if "tensorrt" in USABLE else ["tensorrt"]
"""Tested on a stand-in for the GPU and its libraries where there is none."""


@pytest.fixture(autouse=True)
def cache(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """Nothing is kept of other tests."""
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))


@pytest.fixture(params=[*USABLE, *STANDING_IN])
def name(request: pytest.FixtureRequest) -> str:
    found: str = request.param
    if found in STANDING_IN:
        request.getfixturevalue("machine")
    return found


def load(name: Any, data: bytes, **options: Any) -> Network:
    return choice.load(models.model(data), name, Options(**options))


def noise(shape: tuple[int, ...], seed: int = 0) -> np.ndarray[Any, Any]:
    return np.random.default_rng(seed).standard_normal(shape).astype(np.float32)


def difference(found: np.ndarray[Any, Any], expected: np.ndarray[Any, Any]) -> float:
    """Root mean square, in deviations of what is expected."""
    return float(np.sqrt(np.mean((found - expected) ** 2)) / expected.std())


def test_both_backends_for_processors_are_tested() -> None:
    assert {"onnxruntime", "openvino"} <= set(USABLE)


def test_the_reference_computes_what_the_layers_say() -> None:
    batch = noise((2, 1, 40, 56))
    found = load("onnxruntime", models.smoother()).run(batch)
    assert difference(found, models.smoothed(batch)) < 1e-6


def test_numbers_are_those_of_onnxruntime_within_the_stated_tolerance(name: str) -> None:
    reference = load("onnxruntime", models.smoother())
    for exact in (False, True):
        network = load(name, models.smoother(), exact=exact)
        allowed = TOLERANCE[network.info.precision]
        assert not exact or network.info.precision == "float32"
        for seed, shape in enumerate(SHAPES[:-1]):
            batch = noise(shape, seed)
            assert difference(network.run(batch), reference.run(batch)) <= allowed, shape


def test_any_size_and_batch_one_after_the_other(name: str) -> None:
    network = load(name, models.smoother())
    for shape in [*SHAPES, *SHAPES]:
        found = network.run(noise(shape))
        assert found.shape == shape
        assert found.dtype == np.float32


def test_images_of_a_batch_do_not_see_each_other(name: str) -> None:
    network = load(name, models.smoother(), exact=True)
    batch = noise((3, 1, 24, 32))
    together = network.run(batch)
    for index in range(3):
        alone = network.run(batch[index : index + 1])
        np.testing.assert_allclose(together[index : index + 1], alone, atol=1e-5)


def test_a_result_is_the_callers_and_the_batch_stays_as_it_is(name: str) -> None:
    network = load(name, models.smoother())
    batch = noise((1, 1, 32, 32))
    before = batch.copy()
    first = network.run(batch)
    kept = first.copy()
    network.run(noise((1, 1, 32, 32), 5))
    np.testing.assert_array_equal(first, kept)
    np.testing.assert_array_equal(batch, before)
    first[:] = 0.0  # writable, and nobody else's


def test_strided_views_and_other_numbers_are_taken(name: str) -> None:
    network = load(name, models.smoother(), exact=True)
    wide = noise((1, 1, 40, 80))
    expected = network.run(np.ascontiguousarray(wide[..., ::2]))
    np.testing.assert_allclose(network.run(wide[..., ::2]), expected, atol=1e-6)
    np.testing.assert_allclose(
        network.run(wide[..., ::2].astype(np.float64)),  # type: ignore[arg-type]
        expected,
        atol=1e-6,
    )


def test_several_threads_share_a_network(name: str) -> None:
    network = load(name, models.smoother(), exact=True)
    batches = [noise((1 + i % 2, 1, 32 + 8 * i, 48), i) for i in range(4)]
    expected = [network.run(batch) for batch in batches]
    wrong: list[str] = []

    def work(index: int) -> None:
        for turn in range(10):
            which = (index + turn) % len(batches)
            if not np.allclose(network.run(batches[which]), expected[which], atol=1e-5):
                wrong.append(f"thread {index}, batch {which}")

    threads = [threading.Thread(target=work, args=(i,)) for i in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert wrong == []


def test_info_says_what_runs(name: str) -> None:
    info = load(name, models.smoother()).info
    assert info.backend == name
    assert info.model == "tiny"
    assert info.version
    assert info.device
    assert info.input_shape == (None, 1, None, None)
    assert info.output_shape == (None, 1, None, None)
    assert info.precision in TOLERANCE


def test_a_model_of_fixed_size_takes_that_size_only(name: str) -> None:
    network = load(name, models.smoother(shape=(1, 1, 24, 32)))
    assert network.info.input_shape == (1, 1, 24, 32)
    assert network.run(noise((1, 1, 24, 32))).shape == (1, 1, 24, 32)
    with pytest.raises(ModelError, match=r"\(1, 1, 24, 32\), not \(1, 1, 32, 32\)"):
        network.run(noise((1, 1, 32, 32)))


@pytest.mark.parametrize("shape", [(1, 3, 16, 16), (16, 16), (0, 1, 16, 16), (1, 1, 16, 16, 1)])
def test_a_batch_of_the_wrong_shape_is_one_clear_error(name: str, shape: tuple[int, ...]) -> None:
    network = load(name, models.smoother())
    with pytest.raises(ModelError, match=r"takes \(any, 1, any, any\)"):
        network.run(np.zeros(shape, np.float32))


def test_a_size_that_the_layers_do_not_take_is_one_clear_error(name: str) -> None:
    network = load(name, models.halved())
    with pytest.raises(ModelError, match="tiny"):
        network.run(noise((1, 1, 15, 16)))
    batch = noise((1, 1, 14, 16))
    np.testing.assert_allclose(network.run(batch), batch, rtol=1e-2)


@pytest.mark.parametrize(
    ("data", "says"),
    [(models.two_inputs(), "2 inputs"), (models.of_integers(), "float32")],
    ids=["two inputs", "integers"],
)
def test_a_model_of_another_kind_is_refused(name: str, data: bytes, says: str) -> None:
    with pytest.raises(ModelError, match=says):
        load(name, data)


def damaged() -> list[bytes]:
    sound = models.smoother()
    rng = np.random.default_rng(3)
    torn = bytearray(sound)
    for at in rng.integers(8, 200, 40):
        torn[at] ^= 0xFF
    return [sound[: len(sound) // 2], sound[:-1], b"", b"ONNX?" * 99, bytes(torn)]


@pytest.mark.parametrize("index", range(5))
def test_a_corrupt_model_is_one_clear_error(name: str, index: int) -> None:
    with pytest.raises(ModelError) as caught:
        load(name, damaged()[index])
    assert "tiny" in caught.value.message
    assert caught.value.remedy
    assert "\n" not in caught.value.message


@pytest.mark.parametrize("name", ["onnxruntime", "openvino"], indirect=True)
def test_a_batch_beyond_all_memory_is_said_to_be_that(name: str) -> None:
    network = load(name, models.hungry())
    assert network.run(noise((1, 1, 8, 8))).shape == (1, 1, 8, 8)
    with pytest.raises(ModelMemoryError, match="memory"):
        network.run(noise((1, 1, 1024, 1024)))
    assert network.run(noise((1, 1, 8, 8))).shape == (1, 1, 8, 8)


def test_a_missing_library_is_named_with_its_remedy(
    name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    found = importlib.util.find_spec
    own = lambda module: found(module) if module.startswith("stemd.") else None  # noqa: E731
    monkeypatch.setattr("importlib.util.find_spec", own)
    with pytest.raises(ModelError, match=f"{name} cannot be used: .*not installed") as caught:
        load(name, models.smoother())
    assert "pip install" in caught.value.remedy


def test_auto_takes_the_best_that_works_and_says_why() -> None:
    info = load("auto", models.smoother()).info
    assert info.backend == USABLE[0]
    assert "best" in info.why
    for missing in {plugin.name for plugin in choice.best_first()} - set(USABLE):
        assert f"{missing}:" in info.why


def test_auto_goes_on_where_a_backend_fails(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "openvino", None)
    info = load("auto", models.smoother()).info
    if "tensorrt" not in USABLE:
        assert info.backend == "onnxruntime"
        assert "openvino:" in info.why


def test_auto_gives_the_models_own_error_when_no_backend_takes_it() -> None:
    with pytest.raises(ModelError, match="2 inputs"):
        load("auto", models.two_inputs())


def test_an_unknown_backend_is_refused_with_those_that_exist() -> None:
    with pytest.raises(ConfigError, match="onnxrt") as caught:
        choice.load(models.model(models.smoother()), "onnxrt")
    assert "onnxruntime" in caught.value.remedy


def test_metadata_are_read_without_any_library() -> None:
    model = model_of(models.smoother(multiple="16", task="restoration"), "tiny")
    assert model.metadata == {"stemd.multiple": "16", "stemd.task": "restoration"}
    assert model.number("stemd.multiple", 1) == 16
    assert model.number("stemd.halo", 96) == 96
    with pytest.raises(ModelError, match=r"stemd\.task"):
        model.number("stemd.task", 1)


SILENT = """
import os, sys, threading
forks = []
os.register_at_fork(before=lambda: forks.append(1))
from stemd.inference import choice
from tests.inference.models import model, smoother
choice.load(model(smoother()), "openvino")
# as at the interpreter's end: whatever is sent in a thread has been sent then
threading._shutdown()
from openvino.tools.ovc import telemetry_utils
print(len(forks), sys.modules["openvino_telemetry"], telemetry_utils.tm.__name__)
"""


class _Timed:
    """A compiled network whose batches take so many milliseconds."""

    def __init__(self, *times_ms: float) -> None:
        self._times_ms = itertools.cycle(times_ms)

    def create_infer_request(self) -> _Timed:
        return self

    def infer(self, inputs: Any, *, share_inputs: bool) -> None:
        time.sleep(next(self._times_ms) / 1e3)


def test_bfloat16_is_taken_only_where_it_is_clearly_faster() -> None:
    batch = noise((1, 4))
    assert is_faster(_Timed(5.0), _Timed(20.0), batch)
    assert is_faster(_Timed(60.0, 5.0), _Timed(20.0), batch), "it was held up now and then"
    assert not is_faster(_Timed(20.0), _Timed(5.0), batch)
    assert not is_faster(_Timed(20.0), _Timed(20.0), batch), "not worth its rounding"


def test_a_precision_is_chosen_once_for_every_process() -> None:
    assert once(lambda: HALF, "network-processor") == HALF
    assert once(lambda: FULL, "network-processor") == HALF, "images would differ by the process"
    assert once(lambda: FULL, "network-another") == FULL
    assert once(lambda: HALF, "network-another") == FULL


def test_of_processes_that_start_at_once_the_first_to_have_chosen_decides() -> None:
    def slower() -> str:
        once(lambda: HALF, "network-processor")
        return FULL

    assert once(slower, "network-processor") == HALF


def test_a_kept_precision_that_is_torn_is_chosen_again() -> None:
    once(lambda: HALF, "network-processor")
    (place,) = kept.folder("openvino").iterdir()
    place.write_bytes(b"b\xff")
    assert once(lambda: HALF, "network-processor") == HALF
    assert [each.read_bytes() for each in kept.folder("openvino").iterdir()] == [b"bf16"]


def test_where_nothing_can_be_kept_it_is_float32(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", "/dev/null")
    assert once(lambda: HALF, "network-processor") == FULL


def test_a_service_keeps_its_files_where_systemd_lets_it_write(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.delenv("XDG_CACHE_HOME")
    monkeypatch.setenv("CACHE_DIRECTORY", f"{tmp_path}/first:{tmp_path}/second")
    assert kept.folder("openvino") == tmp_path / "first" / "openvino"


@pytest.mark.skipif("openvino" not in USABLE, reason="OpenVINO is not installed")
def test_openvino_reports_to_nobody_and_forks_no_process() -> None:
    done = subprocess.run(
        [sys.executable, "-c", SILENT],
        capture_output=True,
        text=True,
        check=True,
        cwd=Path(__file__).parents[2],
    )
    assert done.stdout.split() == ["0", "None", "openvino.tools.ovc.telemetry_stub"]


SIZES = """
from pathlib import Path
import numpy as np
from stemd.daemon.arenas import few_arenas
from stemd.inference import choice
from stemd.inference.base import Options
from stemd.inference.catalogue import find
from stemd.inference.model_file import read_model
few_arenas()
network = choice.load(read_model(find("airpi")), "openvino", Options(1))
largest = np.zeros((200, network.info.input_shape[1]), np.float32)
memory = []
for first in (200, 199):
    for size in range(first, 0, -2):
        network.run(largest[:size])
    memory.append(int(Path("/proc/self/statm").read_text().split()[1]) >> 8)
print(memory[1] - memory[0])
"""


@pytest.mark.skipif("openvino" not in USABLE, reason="OpenVINO is not installed")
def test_openvino_does_not_grow_with_every_size_of_batch_that_it_meets() -> None:
    done = subprocess.run(
        [sys.executable, "-c", SIZES], capture_output=True, text=True, check=True, timeout=300
    )
    assert int(done.stdout) < 80, "MiB; without a limit it is 166"

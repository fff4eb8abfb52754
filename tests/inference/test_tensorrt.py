"""The TensorRT backend on stand-ins for a GPU, PyCUDA and TensorRT 10 and 11.

They compute what they are given by ONNX Runtime, so numbers are real; speed, and whether NVIDIA's
libraries agree, can only be known on a GPU.
"""

from __future__ import annotations

import gc
import platform
import sys
import threading
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from stemd.cli.main import main
from stemd.daemon.pipelines import Pipelines
from stemd.errors import DeviceLostError, ModelError, ModelMemoryError
from stemd.events import Hub
from stemd.inference import activity, choice, fallback
from stemd.inference.base import TOLERANCE, Network, Options
from stemd.inference.kept import folder
from stemd.inference.tensorrt import PLUGIN, gpu
from stemd.inference.tensorrt.network import TensorRtNetwork
from tests.inference import models
from tests.inference.fake_cuda import World
from tests.inference.test_backends import difference, load, noise
from tests.inference.test_half import cancelling

ROWS: tuple[str | int, ...] = ("n", 6)


def rows() -> bytes:
    """Works on rows of numbers, each for itself."""
    import onnx
    from onnx import helper, numpy_helper

    weight = numpy_helper.from_array(np.eye(6, dtype=np.float32) * np.float32(0.5), "w")
    nodes = [
        helper.make_node("MatMul", ["image", "w"], ["a"]),
        helper.make_node("Relu", ["a"], ["restored"]),
    ]
    data = models.build(nodes, [weight], shape=ROWS)
    onnx.checker.check_model(onnx.load_from_string(data))
    return data


def on_gpu(data: bytes, **options: Any) -> TensorRtNetwork:
    return TensorRtNetwork(models.model(data), Options(**options))


def kept(kind: str = "*.engine") -> list[Path]:
    return sorted(folder("tensorrt").glob(kind))


def test_numbers_are_those_of_the_reference_within_float16(world: World) -> None:
    network = load("tensorrt", models.smoother())
    assert network.info.precision == "float16"
    reference = load("onnxruntime", models.smoother())
    for seed, shape in enumerate([(1, 1, 16, 16), (4, 1, 50, 17), (1, 1, 128, 96)]):
        batch = noise(shape, seed)
        found = difference(network.run(batch), reference.run(batch))
        assert 1e-6 < found <= TOLERANCE["float16"]


def test_exact_is_float32(world: World) -> None:
    network = load("tensorrt", models.smoother(), exact=True)
    assert network.info.precision == "float32"
    batch = noise((1, 1, 20, 24))
    assert difference(network.run(batch), load("onnxruntime", models.smoother()).run(batch)) < 1e-6


def test_versions_device_and_precision_are_told(world: World) -> None:
    info = load("tensorrt", models.smoother()).info
    assert str(info) == f"tensorrt {world.version} (CUDA 13.0), NVIDIA Stand-in, float16"
    assert info.input_shape == info.output_shape == (None, 1, None, None)


def test_an_engine_is_built_once_and_kept_with_its_timings(world: World) -> None:
    first = on_gpu(models.smoother())
    (place,) = kept()
    assert world.version in place.name
    assert place.name.endswith("float16.engine")
    timings = kept("timings-*")[0].read_bytes()
    second = on_gpu(models.smoother())
    assert world.builds == 1
    batch = noise((1, 1, 24, 24))
    np.testing.assert_array_equal(first.run(batch), second.run(batch))
    on_gpu(models.box_blur())
    assert world.builds == 2
    assert kept("timings-*")[0].read_bytes() == timings + b"+"


@pytest.mark.parametrize("options", [{"exact": True}, {"largest": (1, 1, 64, 64)}, {"device": 1}])
def test_what_an_engine_depends_on_makes_another_one(world: World, options: dict[str, Any]) -> None:
    world.gpus.append("NVIDIA Other")
    on_gpu(models.smoother())
    on_gpu(models.smoother(), **options)
    assert world.builds == 2
    assert len(kept()) == 2


def test_a_damaged_engine_or_timings_are_made_again(world: World) -> None:
    on_gpu(models.smoother())
    kept()[0].write_bytes(b"torn")
    kept("timings-*")[0].write_bytes(b"torn")
    network = on_gpu(models.smoother())
    assert world.builds == 2
    assert network.run(noise((1, 1, 16, 16))).shape == (1, 1, 16, 16)
    assert kept("timings-*")[0].read_bytes() == b"timings+"


def test_a_cache_that_cannot_be_written_costs_only_time(world: World, tmp_path: Path) -> None:
    (tmp_path / "cache").write_text("not a folder")
    for _ in range(2):
        assert on_gpu(models.smoother()).info.precision == "float16"
    assert world.builds == 2


def test_building_is_told_while_it_lasts(world: World) -> None:
    told: list[str] = []
    with activity.watched(told.append):
        on_gpu(models.smoother())
    assert told[0] == "building the engine of tiny for NVIDIA Stand-in"
    assert "Timing, step 2 of 3" in told[2]
    assert activity.current() == []


def test_nothing_is_allocated_on_the_gpu_for_a_batch(world: World) -> None:
    network = on_gpu(models.smoother())
    network.run(noise((1, 1, 32, 32)))
    before = len(world.events)
    for _ in range(3):
        network.run(noise((1, 1, 32, 32)))
    assert {event.split()[0] for event in world.events[before:]} == {"in", "run", "out", "wait"}


def test_parts_of_a_batch_overlap_and_come_back_in_order(world: World) -> None:
    network = on_gpu(rows(), largest=(8, 6))
    batch = np.abs(noise((19, 6)))
    before = len(world.events)
    found = network.run(batch)
    np.testing.assert_allclose(found, 0.5 * batch, rtol=2e-3)
    events = [event for event in world.events[before:] if event != "shape"]
    assert sum(event.startswith("run") for event in events) == 5
    # the second part is on its way before the first is waited for
    first_wait = next(i for i, event in enumerate(events) if event.startswith("wait"))
    assert [event.split()[0] for event in events[:first_wait]] == ["in", "run", "out"] * 2
    assert len({event for event in events[:first_wait] if event.startswith("run")}) == 2


def test_a_batch_larger_than_the_largest_is_cut_and_a_smaller_one_is_not(world: World) -> None:
    network = on_gpu(rows(), largest=(8, 6))
    for many in (1, 4, 8, 64):
        batch = np.abs(noise((many, 6), many))
        np.testing.assert_allclose(network.run(batch), 0.5 * batch, rtol=2e-3)


def test_a_model_of_fixed_size_needs_no_profile(world: World) -> None:
    network = on_gpu(models.smoother(shape=(2, 1, 24, 32)))
    assert network.run(noise((2, 1, 24, 32))).shape == (2, 1, 24, 32)


def test_sides_beyond_the_engines_are_refused(world: World) -> None:
    network = on_gpu(models.smoother(), largest=(1, 1, 64, 64))
    assert network.run(noise((3, 1, 64, 48))).shape == (3, 1, 64, 48)
    with pytest.raises(ModelError, match=r"up to \(1, 64, 64\), not \(1, 64, 65\)"):
        network.run(noise((1, 1, 64, 65)))


def test_threads_share_the_slots_and_get_their_own_results(world: World) -> None:
    network = on_gpu(rows(), largest=(4, 6))
    wrong: list[int] = []

    def work(seed: int) -> None:
        batch = np.abs(noise((3 + seed, 6), seed))
        found = (network.run(batch) for _ in range(20))
        wrong.extend(seed for each in found if not np.allclose(each, 0.5 * batch, rtol=2e-3))

    threads = [threading.Thread(target=work, args=(seed,)) for seed in range(5)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert wrong == []


def test_a_network_that_nobody_has_any_more_gives_its_memory_back(world: World) -> None:
    network = on_gpu(models.smoother())
    assert world.used[0] > 0
    del network
    gc.collect()
    assert world.used[0] == 0


def test_the_gpu_of_the_number_is_used(world: World) -> None:
    world.gpus.append("NVIDIA Other")
    network = on_gpu(models.smoother(), device=1)
    assert network.info.device == "NVIDIA Other number 1"
    assert world.used.keys() == {1}
    network.run(noise((1, 1, 16, 16)))
    with pytest.raises(ModelError, match=r"no GPU number 2: this machine shows 2") as caught:
        on_gpu(models.smoother(), device=2)
    assert "`device`" in caught.value.remedy


@pytest.mark.parametrize("how", ["buffers", "context", "build"])
def test_memory_that_does_not_suffice_is_said_to_be_that(world: World, how: str) -> None:
    if how == "buffers":
        world.bytes_each = 15 << 20  # enough for one slot, not for two
    elif how == "context":
        world.no_context = True
    elif how == "build":
        world.build_error = "Requested amount of GPU memory (9 bytes): Out of memory"
    with pytest.raises(ModelMemoryError, match="not enough memory on NVIDIA Stand-in") as caught:
        on_gpu(models.smoother())
    assert "nvidia-smi" in caught.value.remedy
    # while the error, and the frames in which it came up, are still there
    assert world.used.get(0, 0) == 0


def test_memory_that_does_not_suffice_for_a_batch_is_said_to_be_that(world: World) -> None:
    network = on_gpu(models.smoother())
    world.refuse = "memory"
    with pytest.raises(ModelMemoryError, match="OutOfMemory"):
        network.run(noise((1, 1, 16, 16)))
    world.refuse = ""
    assert network.run(noise((1, 1, 16, 16))).shape == (1, 1, 16, 16)


def test_what_tensorrt_does_not_take_is_named_by_node_and_operation(world: World) -> None:
    world.unsupported = {"Relu"}
    with pytest.raises(ModelError, match=r"does not take it: relu \(Relu\): is not supported"):
        on_gpu(named_relu())
    world.unsupported = set()
    world.build_error = "no implementation\nfor node"
    with pytest.raises(ModelError, match=r"cannot build an engine .*: no implementation for node"):
        on_gpu(named_relu())


def named_relu() -> bytes:
    from onnx import helper

    return models.build([helper.make_node("Relu", ["image"], ["restored"], "relu")])


@pytest.mark.parametrize("what", ["shape", "run"])
def test_a_batch_that_is_refused_is_one_error_and_the_next_one_works(
    world: World, what: str
) -> None:
    network = on_gpu(models.smoother())
    network.run(noise((1, 1, 16, 16)))
    world.refuse = what
    with pytest.raises(ModelError, match="tiny") as caught:
        network.run(noise((1, 1, 24, 24)))
    assert not isinstance(caught.value, DeviceLostError)
    world.refuse = ""
    assert network.run(noise((1, 1, 32, 32))).shape == (1, 1, 32, 32)


def test_the_engine_has_the_precision_that_the_network_needs(world: World) -> None:
    network = on_gpu(cancelling())
    assert network.info.precision == "float32"
    assert kept()[0].name.endswith("float32.engine")
    on_gpu(cancelling())
    assert world.builds == 1


# The GPU is lost


class Clock:
    """Seconds, as the test says."""

    def __init__(self) -> None:
        self.now = 0.0

    def __call__(self) -> float:
        return self.now


def with_spare(data: bytes, clock: Clock) -> fallback.WithSpare:
    model = models.model(data)
    return fallback.WithSpare(
        lambda: TensorRtNetwork(model, Options()),
        lambda: choice.load(model, "onnxruntime"),
        clock,
    )


def test_a_lost_gpu_is_replaced_by_the_cpu_told_and_taken_back(world: World) -> None:
    clock = Clock()
    network = with_spare(models.smoother(), clock)
    batch = noise((1, 1, 32, 32))
    usual = network.run(batch)
    assert network.info.backend == "tensorrt"
    world.lose()
    expected = load("onnxruntime", models.smoother()).run(batch)
    np.testing.assert_array_equal(network.run(batch), expected)
    assert network.info.backend == "onnxruntime"
    assert "instead of the GPU" in network.info.why
    assert "unspecified launch failure" in network.info.why
    assert activity.current() == ["NVIDIA Stand-in is lost: tiny on the CPU"]
    # not before its time, and not while it is still lost
    world.repair()
    np.testing.assert_array_equal(network.run(batch), expected)
    world.lose()
    clock.now = fallback.RETRY_S + 1
    np.testing.assert_array_equal(network.run(batch), expected)
    world.repair()
    np.testing.assert_array_equal(network.run(batch), expected)
    clock.now = 2 * fallback.RETRY_S + 2
    np.testing.assert_array_equal(network.run(batch), usual)
    assert network.info.backend == "tensorrt"
    assert activity.current() == []
    assert world.builds == 1


def test_all_networks_give_up_a_lost_gpu_so_that_it_can_come_back(world: World) -> None:
    clock = Clock()
    first, second = (with_spare(models.smoother(), clock) for _ in range(2))
    world.lose()
    batch = noise((1, 1, 16, 16))
    first.run(batch)
    assert world.retained[0] == 0
    assert world.used[0] == 0
    assert second.run(batch).shape == (1, 1, 16, 16)
    world.repair()
    clock.now = fallback.RETRY_S + 1
    for network in (first, second):
        network.run(batch)
        assert network.info.backend == "tensorrt"


def test_a_thread_that_waits_for_the_gpu_hears_of_its_loss(world: World) -> None:
    network = on_gpu(models.smoother())
    taken = [network._slots.take(wait=True) for _ in range(2)]
    errors: list[Exception] = []

    def wait() -> None:
        try:
            network.run(noise((1, 1, 16, 16)))
        except ModelError as error:
            errors.append(error)

    thread = threading.Thread(target=wait)
    thread.start()
    world.lose()
    network._gpu.failed("tiny", "do anything", "gone")
    thread.join(20)
    assert [type(error) for error in errors] == [DeviceLostError]
    del taken


def test_with_auto_the_next_best_is_taken_where_the_gpu_does_not_do(world: World) -> None:
    world.lost.add(0)
    info = load("auto", models.smoother()).info
    assert info.backend == "openvino"
    assert "tensorrt: GPU 0 cannot be used" in info.why


def test_with_auto_what_runs_is_told_also_after_a_loss(world: World) -> None:
    network: Network = load("auto", models.smoother())
    assert network.info.backend == "tensorrt"
    assert "best" in network.info.why
    world.lose()
    network.run(noise((1, 1, 16, 16)))
    assert network.info.backend == "openvino"
    assert "instead of the GPU" in network.info.why
    activity.over("lost NVIDIA Stand-in tiny")


def test_an_error_of_cuda_that_leaves_the_gpu_working_is_no_loss(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    network = on_gpu(models.smoother())
    driver = sys.modules["pycuda.driver"]

    def fails(*_: Any) -> None:
        raise driver.LogicError("cuMemcpyDtoHAsync failed: invalid argument")

    with monkeypatch.context() as patched:
        patched.setattr(driver, "memcpy_dtoh_async", fails)
        with pytest.raises(ModelError, match="invalid argument") as caught:
            network.run(noise((1, 1, 16, 16)))
    assert not isinstance(caught.value, DeviceLostError)
    assert network.run(noise((1, 1, 16, 16))).shape == (1, 1, 16, 16)


def test_check_tells_how_it_builds_how_fast_it_is_and_what_to_report(
    world: World, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["models", "check", "airpi", "--backend", "tensorrt"]) == 0
    said = capsys.readouterr()
    assert "building the engine of airpi for NVIDIA Stand-in" in said.err
    assert f"airpi on tensorrt {world.version} (CUDA 13.0), NVIDIA Stand-in, float16" in said.out
    assert "allowed: 0.005" in said.out
    assert "64x6747: " in said.out
    assert "all is well; with a report of a problem send these lines" in said.out
    assert f"python {platform.python_version()}" in said.out
    assert main(["models", "check", "airpi", "--backend", "tensorrt", "--device", "3"]) == 1
    assert "no GPU number 3" in capsys.readouterr().err


def test_a_loss_is_in_the_daemons_status_line(world: World) -> None:
    activity.tell("lost", "NVIDIA Stand-in is lost: airpi on the CPU")
    pipelines = Pipelines(Hub())
    line = "no pipelines, NVIDIA Stand-in is lost: airpi on the CPU"
    assert pipelines.status_line() == line
    activity.over("lost")
    assert pipelines.status_line() == "no pipelines"


# What is missing is said in one line


def test_a_missing_gpu_driver_or_library_is_one_line_with_a_remedy(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert PLUGIN.unavailable() is None
    world.gpus.clear()
    assert PLUGIN.unavailable() == "there is no NVIDIA GPU: use another backend"
    driver = sys.modules["pycuda.driver"]

    def fails() -> None:
        raise RuntimeError("cuInit failed:\nno CUDA-capable device is detected")

    monkeypatch.setattr(driver, "init", fails)
    text = PLUGIN.unavailable()
    assert text is not None
    assert "cuInit failed: no CUDA-capable device" in text
    assert "nvidia-smi" in text
    monkeypatch.setattr(sys.modules["tensorrt"], "__version__", "8.6.1")
    assert PLUGIN.unavailable() == (
        "tensorrt 8.6.1 is not supported: pip install 'tensorrt>=10,<12'"
    )
    monkeypatch.delattr(sys.modules["tensorrt"], "__version__")
    text = PLUGIN.unavailable()
    assert text is not None
    assert text.startswith("tensorrt cannot be imported")


def test_a_gpu_is_opened_once_for_all_networks(world: World) -> None:
    networks = [on_gpu(models.smoother()) for _ in range(3)]
    assert world.retained == {0: 1}
    assert len({id(network._gpu) for network in networks}) == 1
    assert gpu.opened(0) is networks[0]._gpu

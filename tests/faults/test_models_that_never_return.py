"""Networks of somebody else that never answer, or ask for all memory there is."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import tifffile
from onnx import TensorProto, helper, numpy_helper

from stemd.errors import ModelError
from stemd.inference import activity, choice, worker
from stemd.inference.base import Options
from stemd.inference.model_file import read_model
from stemd.inference.protobuf import _varint_bytes
from stemd.inference.worker import NetworkThread
from tests.conftest import wait_until
from tests.faults.killer import kill_thread
from tests.inference.models import build, smoother

FOR_EVER = 2**62


def endless() -> bytes:
    """A model that halves its image for ever."""
    sides = ["n", 1, "height", "width"]
    body = helper.make_graph(
        [
            helper.make_node("Identity", ["again"], ["more"]),
            helper.make_node("Mul", ["x", "half"], ["y"]),
        ],
        "body",
        [
            helper.make_tensor_value_info("count", TensorProto.INT64, []),
            helper.make_tensor_value_info("again", TensorProto.BOOL, []),
            helper.make_tensor_value_info("x", TensorProto.FLOAT, sides),
        ],
        [
            helper.make_tensor_value_info("more", TensorProto.BOOL, []),
            helper.make_tensor_value_info("y", TensorProto.FLOAT, sides),
        ],
        [numpy_helper.from_array(np.array([0.5], np.float32), "half")],
    )
    loop = helper.make_node("Loop", ["times", "yes", "image"], ["restored"], body=body)
    times = numpy_helper.from_array(np.array(FOR_EVER, np.int64), "times")
    return build([loop], [times, numpy_helper.from_array(np.array(True), "yes")])


def greedy(side: int) -> bytes:
    """A model that makes an image of side x side pixels of one, and takes its mean."""
    nodes = [
        helper.make_node("ReduceMean", ["image"], ["one"], keepdims=1),
        helper.make_node("Expand", ["one", "shape"], ["many"]),
        helper.make_node("ReduceMean", ["many"], ["mean"], keepdims=1),
        helper.make_node("Add", ["image", "mean"], ["restored"]),
    ]
    return build(nodes, [numpy_helper.from_array(np.array([1, 1, side, side]), "shape")])


@pytest.fixture
def path(tmp_path: Path) -> Path:
    """A sound model."""
    made = tmp_path / "model.onnx"
    made.write_bytes(smoother())
    return made


class Stuck:
    """A library's network that answers when it is let go."""

    def __init__(self, network: Any, go: threading.Event) -> None:
        self.info, self._run, self._go = network.info, network.run, go

    def run(self, batch: Any) -> Any:
        self._go.wait(30.0)
        return self._run(batch)


@pytest.fixture
def go(monkeypatch: pytest.MonkeyPatch) -> Iterator[threading.Event]:
    """Set: networks answer. Deadlines are short."""
    event = threading.Event()
    load = choice.load
    monkeypatch.setattr(worker, "RUN_S", 0.4)
    monkeypatch.setattr(worker, "LOAD_S", 0.4)
    monkeypatch.setattr(worker, "LOOK_S", 0.05)
    monkeypatch.setattr(choice, "load", lambda *arguments: Stuck(load(*arguments), event))
    yield event
    event.set()


BATCH = np.ones((1, 1, 16, 16), np.float32)


def test_a_network_that_does_not_give_a_batch_back_is_left_out_until_it_does(
    path: Path, go: threading.Event
) -> None:
    thread = NetworkThread()

    def batch() -> Any:
        return thread.network(str(path), "onnxruntime", 1)[1].run(BATCH)

    began = time.monotonic()
    with pytest.raises(ModelError, match=r"model model: it took longer than 0\.4 s to run a batch"):
        thread.submit(batch).result(10.0)
    assert time.monotonic() - began < 3.0
    assert thread.submit(lambda: 7).result(5.0) == 7, "others go on"
    assert [error.message for error in thread.late]
    began = time.monotonic()
    with pytest.raises(ModelError, match="it is left out"):
        thread.submit(batch).result(5.0)
    assert time.monotonic() - began < 0.4, "nobody waits for it a second time"
    go.set()
    wait_until(lambda: not thread.late, "it has answered", 5.0)
    assert thread.submit(batch).result(5.0).shape == BATCH.shape


def test_a_process_that_is_to_end_waits_shorter_for_a_batch(
    path: Path, go: threading.Event, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(worker, "RUN_S", 100.0)
    thread = NetworkThread()
    job = thread.submit(lambda: thread.network(str(path), "onnxruntime", 1)[1].run(BATCH))
    with pytest.raises(TimeoutError):
        job.result(0.8)
    thread.hurry(0.2)
    with pytest.raises(ModelError, match=r"it took longer than 0\.2 s"):
        job.result(5.0)


def test_a_library_that_does_not_load_a_network_is_left_out_unless_it_shows_that_it_works(
    path: Path, go: threading.Event, monkeypatch: pytest.MonkeyPatch
) -> None:
    told = True

    def load(*arguments: Any) -> Any:
        while not go.wait(0.05):
            if told:
                activity.tell("test", "building the engine")
        activity.over("test")
        raise ModelError("the end")

    monkeypatch.setattr(choice, "load", load)
    thread = NetworkThread()
    job = thread.submit(lambda: thread.network(str(path), "onnxruntime", 1))
    with pytest.raises(TimeoutError):
        job.result(1.5)
    told = False
    with pytest.raises(ModelError, match=r"it took longer than 0\.4 s to load"):
        job.result(5.0)


def test_a_model_without_an_end_is_ended_and_not_begun_again_until_its_file_is_another(
    path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(worker, "RUN_S", 0.4)
    monkeypatch.setattr(worker, "LOOK_S", 0.05)
    path.write_bytes(endless())
    thread = NetworkThread("endless")
    for _ in range(2):
        job = thread.submit(lambda: thread.network(str(path), "auto", 1))
        with pytest.raises(ModelError, match=r"it took longer than .* to run a small batch"):
            job.result(10.0)

    def workers() -> list[threading.Thread]:
        return [each for each in threading.enumerate() if each.name == "endless"]

    wait_until(lambda: len(workers()) == 1, "what ran without an end has been ended", 10.0)
    path.write_bytes(smoother())
    _, network = thread.submit(lambda: thread.network(str(path), "onnxruntime", 1)).result(10.0)
    assert thread.submit(lambda: network.run(BATCH)).result(10.0).shape == BATCH.shape
    assert thread.late == []


LITTLE = """
import sys
import numpy as np
from pathlib import Path
from stemd.errors import ModelError
from stemd.inference import onnxruntime
from stemd.inference.base import Options
from stemd.inference.model_file import read_model
from stemd.inference.worker import NetworkThread
onnxruntime.MEMORY_SHARE = 0.01
thread = NetworkThread()
for backend in ("auto", "onnxruntime"):
    try:
        model, network = thread.network(sys.argv[1], backend, 1)
        network.run(np.ones((1, 1, 64, 64), np.float32))
    except ModelError as error:
        print(error.message)
status = Path("/proc/self/status").read_text()  # ru_maxrss knows the parent's memory, too
print(int(status.split("VmHWM:")[1].split()[0]) // 1024)
"""


def test_a_model_that_asks_for_more_memory_than_it_may_have_is_refused_in_words(
    path: Path,
) -> None:
    path.write_bytes(greedy(20_000))  # 1.6 GB
    done = subprocess.run(
        [sys.executable, "-c", LITTLE, str(path)], capture_output=True, text=True, check=True
    )
    *said, peak = done.stdout.splitlines()
    assert len(said) == 2
    assert all("model model: not enough memory to run a batch of" in text for text in said)
    assert int(peak) < 700


def test_gigabytes_that_only_begin_as_a_model_are_not_read(tmp_path: Path) -> None:
    path = tmp_path / "large.onnx"
    size = 2**31 - 1
    head = b"\x08\x08\x3a"  # the version, and a graph of all the rest, which is zeros
    with path.open("wb") as file:
        rest = size - len(head) - 5
        file.write(head + _varint_bytes(rest))
        file.truncate(size)
    assert path.stat().st_size == size
    began = time.monotonic()
    with pytest.raises(ModelError, match="is not a complete ONNX model"):
        read_model(path)
    assert time.monotonic() - began < 1.0


def test_a_model_for_which_there_is_no_memory_is_not_read(
    path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    import psutil

    class Memory:
        available = 1000

    monkeypatch.setattr(psutil, "virtual_memory", Memory)
    with pytest.raises(ModelError, match="there is not enough memory for a model of"):
        read_model(path)


def test_what_is_cancelled_is_said_as_a_model_error(path: Path) -> None:
    path.write_bytes(endless())
    network = choice.load(read_model(path), "onnxruntime", Options())
    cancel: Callable[[], None] = network.cancel  # type: ignore[attr-defined]
    timer = threading.Timer(0.2, cancel)
    timer.start()
    with pytest.raises(ModelError, match="cannot run a batch"):
        network.run(BATCH)
    timer.join()


CONFIG = """
[daemon]
instrument = "model"
data_dir = "data"

[[pipeline]]
name = "images"

[pipeline.adapter]
type = "images"
folder = "images"
poll_s = 0.1

[[pipeline.engine]]
type = "restoration"
input = "image"
model = "model.onnx"
"""
SHORT = """
import sys
from stemd.inference import worker
worker.RUN_S = float(sys.argv[1])
from stemd.cli.main import main
sys.exit(main(["run", "stemd.toml"]))
"""


@pytest.mark.parametrize("limit_s", [1.0, 100.0], ids=["left out", "waited for"])
def test_a_model_without_an_end_keeps_a_daemon_neither_from_ready_nor_from_its_end(
    limit_s: float, tmp_path: Path
) -> None:
    (tmp_path / "stemd.toml").write_text(CONFIG)
    (tmp_path / "model.onnx").write_bytes(endless())
    (tmp_path / "images").mkdir()
    log = tmp_path / "log.txt"
    with log.open("wb") as file:
        daemon = subprocess.Popen(
            [sys.executable, "-c", SHORT, str(limit_s)], cwd=tmp_path, stderr=file, env=os.environ
        )
    try:
        if limit_s > 10:
            wait_until(lambda: "kernels are compiled" in log.read_text(), "it starts", 60.0)
            time.sleep(1.0)
        else:
            wait_until(lambda: '"ready"' in log.read_text(), "it is ready", 60.0)
            wait_until(lambda: "health is red" in log.read_text(), "it is red", 10.0)
            assert "it took longer than 1 s to run a small batch" in log.read_text()
            tifffile.imwrite(tmp_path / "images" / "a.tif", np.ones((32, 32), np.float32))
            wait_until(lambda: list(tmp_path.glob("data/*/*/image.tif")), "a scan", 30.0)
        began = time.monotonic()
        daemon.send_signal(signal.SIGTERM)
        assert daemon.wait(30.0) == 0, log.read_text()
        assert time.monotonic() - began < 5.0
    finally:
        daemon.kill()
        daemon.wait()


@pytest.mark.filterwarnings("ignore::pytest.PytestUnhandledThreadExceptionWarning")
def test_the_networks_threads_that_die_are_begun_again_and_the_job_is_told(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Both: the one that does the jobs, and the one that watches it."""
    monkeypatch.setattr(worker, "LOOK_S", 0.02)
    networks = NetworkThread("mortal")

    def of(name: str) -> threading.Thread:
        (thread,) = (each for each in threading.enumerate() if each.name == name)
        return thread

    assert networks.submit(lambda: 1).result(30.0) == 1
    watcher = of("mortal-watch")
    kill_thread(watcher)
    watcher.join(30.0)
    assert networks.submit(lambda: 2).result(30.0) == 2
    assert of("mortal-watch").is_alive()
    one = of("mortal")
    kill_thread(one)  # as soon as it has another job
    networks.submit(lambda: 3)
    one.join(30.0)
    assert networks.submit(lambda: 4).result(30.0) == 4

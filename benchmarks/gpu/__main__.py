"""Runs on any machine what it can there, says what is missing, and prints numbers to send.

    python -m benchmarks.gpu            # all, a few minutes
    python -m benchmarks.gpu --json > gpu.json

Rows: name, value, unit, and a note. What needs a library or a GPU that is not there is a row
without a value whose note says what is missing.
"""

from __future__ import annotations

import argparse
import contextlib
import importlib.util
import json
import statistics
import sys
import time
from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass
from importlib.metadata import PackageNotFoundError, version
from typing import Any

import numpy as np

from stemd import plugins
from stemd.cli.environment import environment, now_and_then
from stemd.errors import StemdError
from stemd.inference import activity, choice
from stemd.inference.base import Options
from stemd.inference.catalogue import installed
from stemd.inference.half import Precision, converted
from stemd.inference.model_file import ModelFile, read_model
from stemd.inference.precision import difference
from stemd.logs import warnings_to_stderr

PACKAGES = ("numpy", "onnxruntime-gpu", "torch")
COPY_BYTES = 256 << 20
REPEATS = 10
PRECISIONS: tuple[Precision, ...] = ("float32", "float16", "bfloat16")


@dataclass(frozen=True)
class Row:
    """A number, or what is missing for it."""

    name: str
    value: float | None
    unit: str = ""
    note: str = ""


def about_here() -> dict[str, str]:
    """Machine and versions."""
    found = environment()
    for name in PACKAGES:
        with contextlib.suppress(PackageNotFoundError):
            found[name] = version(name)
    return found


def batch_of(model: ModelFile, side: int = 512) -> Any:
    """What a shipped network is given in use, of the size that counts there."""
    rng = np.random.default_rng(0)
    if model.metadata.get("stemd.task") == "airpi":
        return rng.standard_normal((256, 6747), np.float32)
    y, x = np.mgrid[:side, :side]
    lattice = np.cos(0.7 * y + 0.2 * x) * np.cos(0.8 * x - 0.1 * y)
    image = (lattice + 0.5 * rng.standard_normal((side, side))).astype(np.float32)
    from stemd.engines.restoration.estimate.channels import channels

    return channels((image - image.mean()) / image.std())[None]


def timed(work: Callable[[], Any]) -> float:
    """Median milliseconds."""
    work()
    seconds = []
    for _ in range(REPEATS):
        began = time.perf_counter()
        work()
        seconds.append(time.perf_counter() - began)
    return statistics.median(seconds) * 1e3


def copies() -> Iterator[Row]:
    """The backend's way of copying: pinned memory, streams, both directions at once."""
    if importlib.util.find_spec("pycuda") is None:
        yield Row(
            "pycuda",
            None,
            note="pycuda is not installed: pip install pycuda (needs nvcc's headers)",
        )
        return
    try:
        from stemd.inference.tensorrt.gpu import opened

        gpu = opened(0)
    except StemdError as error:
        yield Row("pycuda", None, note=f"{error.message}: {error.remedy}")
        return
    with gpu.current():
        yield from _copies(gpu)


def _copies(gpu: Any) -> Iterator[Row]:
    cuda, size = gpu.cuda, COPY_BYTES // 4
    streams = [cuda.Stream() for _ in range(2)]
    pinned = [cuda.pagelocked_empty(size, np.float32) for _ in range(2)]
    device = [cuda.mem_alloc(COPY_BYTES) for _ in range(2)]
    for array in pinned:
        array[:] = 1.0

    def there(i: int = 0) -> None:
        cuda.memcpy_htod_async(device[i], pinned[i], streams[i])

    def back(i: int = 1) -> None:
        cuda.memcpy_dtoh_async(pinned[i], device[i], streams[i])

    def settle(*works: Callable[[], None]) -> Callable[[], None]:
        def run() -> None:
            for work in works:
                work()
            for stream in streams:
                stream.synchronize()

        return run

    note = f"{gpu.name}, CUDA {gpu.cuda_version()}"
    one, other, both = timed(settle(there)), timed(settle(back)), timed(settle(there, back))
    yield Row("copy to the GPU", COPY_BYTES / one / 1e6, "GB/s", note)
    yield Row("copy from the GPU", COPY_BYTES / other / 1e6, "GB/s", note)
    yield Row(
        "both at once, of one after the other", both / (one + other), "", "0.5 is full overlap"
    )


def on_onnxruntime(model: ModelFile, batch: Any, expected: Any) -> Iterator[Row]:
    """Graphs of each precision by ONNX Runtime on the GPU."""
    import onnxruntime

    providers = [p for p in onnxruntime.get_available_providers() if p != "CPUExecutionProvider"]
    providers = [p for p in providers if "CUDA" in p or "Tensorrt" in p]
    if not providers:
        note = "ONNX Runtime has no GPU here: pip install onnxruntime-gpu in place of onnxruntime"
        yield Row(f"{model.name}, onnxruntime", None, note=note)
    for provider in providers:
        for precision in ("float32", "float16"):
            name = f"{model.name}, {provider}, {precision}"
            try:
                session = onnxruntime.InferenceSession(
                    converted(model.data, precision),
                    providers=[provider],  # type: ignore[arg-type]
                )
                if session.get_providers()[0] != provider:
                    yield Row(name, None, note="its libraries cannot be loaded")
                    continue
                given = {session.get_inputs()[0].name: batch}
                found = difference(session.run(None, given)[0], expected)
                ms = timed(lambda s=session, g=given: s.run(None, g))  # type: ignore[misc]
            except Exception as error:  # each provider has its own
                yield Row(name, None, note=" ".join(str(error).split())[:300])
                continue
            yield Row(name, ms, "ms", f"{found:.1e} from float32 on the CPU, copies included")


def on_torch(model: ModelFile, batch: Any, expected: Any) -> Iterator[Row]:
    """The same graphs layer by layer in PyTorch: numbers as a GPU rounds them."""
    if importlib.util.find_spec("torch") is None:
        yield Row(f"{model.name}, torch", None, note="PyTorch is not installed: pip install torch")
        return
    import torch

    from benchmarks.gpu.torch_graph import TorchNetwork

    # float32 as TensorRT is told to compute it
    torch.backends.cuda.matmul.allow_tf32 = torch.backends.cudnn.allow_tf32 = False
    device = "cuda" if torch.cuda.is_available() else "cpu"
    if device == "cpu":
        yield Row(
            f"{model.name}, torch", None, note="PyTorch sees no GPU: no speed, but differences"
        )
        batch = batch_of(model, 96)
        expected = choice.load(model, "onnxruntime", Options(exact=True)).run(batch)
    for precision in PRECISIONS:
        network = TorchNetwork(converted(model.data, precision), device)
        found = difference(network.run(batch), expected)
        note = f"{found:.1e} from float32 on the CPU"
        name = f"{model.name}, torch {device}, {precision}"
        if device == "cpu":
            yield Row(name, found, "deviations from float32 by ONNX Runtime")
            continue
        there = torch.tensor(batch).to(device)

        def work(network: Any = network, there: Any = there) -> None:
            with torch.inference_mode():
                network.on_device(there)
                torch.cuda.synchronize()

        yield Row(name, timed(work), "ms", f"{note}, without copies")


def on_tensorrt(model: ModelFile, batch: Any, expected: Any) -> Iterator[Row]:
    """stemd's own backend."""
    why_not = plugins.load("backends", "tensorrt").why_not()
    if why_not is not None:
        yield Row(f"{model.name}, stemd tensorrt", None, note=why_not)
        return
    for exact in (False, True):
        began = time.perf_counter()
        largest = batch.shape if batch.ndim == 2 else None
        try:
            network = choice.load(model, "tensorrt", Options(exact=exact, largest=largest))
            loading = time.perf_counter() - began
            found = difference(network.run(batch), expected)
            ms = timed(lambda n=network: n.run(batch))  # type: ignore[misc]
        except StemdError as error:
            yield Row(f"{model.name}, stemd tensorrt", None, note=error.message)
            continue
        note = f"{network.info}; {found:.1e} from float32, loaded in {loading:.1f} s"
        yield Row(f"{model.name}, stemd tensorrt", ms, "ms", note)


def rows() -> Iterator[Row]:
    """Everything that can be measured here."""
    yield from copies()
    for each in installed():
        if not each.shipped:
            continue
        model = read_model(each.path)
        batch = batch_of(model)
        reference = choice.load(model, "onnxruntime", Options(threads=4, exact=True))
        expected = reference.run(batch)
        ms = timed(lambda r=reference, b=batch: r.run(b))  # type: ignore[misc]
        yield Row(f"{model.name}, {'x'.join(map(str, batch.shape))}, CPU", ms, "ms", "4 threads")
        for measure in (on_onnxruntime, on_torch, on_tensorrt):
            try:
                yield from measure(model, batch, expected)
            except Exception as error:  # one library must not keep the others' numbers back
                note = f"{type(error).__name__}: {' '.join(str(error).split())[:300]}"
                yield Row(f"{model.name}, {measure.__name__}", None, note=note)


def main() -> int:
    """Measure and print."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.gpu", description=__doc__)
    parser.formatter_class = argparse.RawDescriptionHelpFormatter
    parser.add_argument("--json", action="store_true", help="JSON instead of lines")
    args = parser.parse_args()
    warnings_to_stderr()
    about = about_here()
    if not args.json:
        print("\n".join(f"{key}: {value}" for key, value in about.items()), "\n")
    found = []
    with activity.watched(now_and_then(sys.stderr.write)):
        for row in rows():
            found.append(row)
            if not args.json:
                value = "missing" if row.value is None else f"{row.value:.3g} {row.unit}".strip()
                print(f"{row.name}: {value}{'; ' if row.note else ''}{row.note}", flush=True)
    if args.json:
        print(json.dumps({"environment": about, "rows": [asdict(row) for row in found]}, indent=1))
    else:
        print("\nSend these lines, or those of --json, with a report.")
    return 0


if __name__ == "__main__":
    sys.exit(main())

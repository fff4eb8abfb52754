"""TensorRT on an NVIDIA GPU, float16: the engine is built once and kept in the user's cache.

Written against TensorRT 10 and PyCUDA. It is the one backend that the tests cannot run where
there is no GPU; `stemd models check --backend tensorrt` tries it against ONNX Runtime.
"""

from __future__ import annotations

import importlib.util
import math
import os
import threading
from pathlib import Path
from typing import Any

import numpy as np

from stemd.errors import ModelError
from stemd.inference.base import (
    Batch,
    Info,
    Options,
    Shape,
    blamed,
    checked,
    multiple_of,
    only,
)
from stemd.inference.model_file import ModelFile
from stemd.plugins import NoSettings, Plugin

WORKSPACE_BYTES = 2 * 1024**3
USUAL_SIDE, LARGEST_SIDE = 512, 1024
"""Pixels for which the engine is tuned, and which it can take, where the model says nothing."""


class TensorRtNetwork:
    """Implements inference.base.Network.

    Buffers for the largest batch are taken once: pinned memory on the host, so that copies run
    by themselves, and memory of the GPU. One batch at a time: other threads wait.
    """

    def __init__(self, model: ModelFile, options: Options) -> None:
        import pycuda.driver as cuda

        with blamed(model.name, "use the GPU"):
            cuda.init()
            device = cuda.Device(0)
            self._cuda_context = device.retain_primary_context()
        self._cuda = cuda
        self._lock = threading.Lock()
        self._cuda_context.push()
        try:
            with blamed(model.name, "load it with TensorRT"):
                self._prepare(model, options, device.name())
        finally:
            self._cuda_context.pop()

    def _prepare(self, model: ModelFile, options: Options, device: str) -> None:
        import tensorrt as trt

        logger = trt.Logger(trt.Logger.ERROR)
        builder = trt.Builder(logger)
        # flags=0: version 10 knows explicit batches only
        graph = builder.create_network(0)
        parser = trt.OnnxParser(graph, logger)
        if not parser.parse(model.data):
            reasons = "; ".join(parser.get_error(i).desc() for i in range(parser.num_errors))
            raise ModelError(
                f"model {model.name}: TensorRT does not take it: {reasons}",
                "use another backend, or export the model again",
            )
        source = only(
            model.name,
            [_shape(graph.get_input(i).shape) for i in range(graph.num_inputs)],
            [_shape(graph.get_output(i).shape) for i in range(graph.num_outputs)],
        )
        step = multiple_of(model)
        smallest, usual, largest = _profile(step, source[0], options)
        precision = "float32" if options.exact else "float16"
        sides = "x".join(map(str, largest))
        place = _cache() / f"{model.sha256[:32]}-{trt.__version__}-{_plain(device)}-{sides}"
        place = place.with_name(f"{place.name}-{precision}.engine")
        runtime = trt.Runtime(logger)
        self._engine = _cached(runtime, place)
        if self._engine is None:
            config = builder.create_builder_config()
            config.set_memory_pool_limit(trt.MemoryPoolType.WORKSPACE, WORKSPACE_BYTES)
            if not options.exact:
                config.set_flag(trt.BuilderFlag.FP16)
            profile = builder.create_optimization_profile()
            profile.set_shape(graph.get_input(0).name, smallest, usual, largest)
            config.add_optimization_profile(profile)
            plan = builder.build_serialized_network(graph, config)
            if plan is None:
                raise ModelError(
                    f"model {model.name}: TensorRT cannot build an engine for {device}",
                    "see its messages above; another backend may do",
                )
            data = bytes(plan)
            _keep(place, data)
            self._engine = runtime.deserialize_cuda_engine(data)
        self._context = self._engine.create_execution_context()
        self._names = graph.get_input(0).name, graph.get_output(0).name
        self._stream = self._cuda.Stream()
        self._context.set_input_shape(self._names[0], largest)
        result = tuple(self._context.get_tensor_shape(self._names[1]))
        self._largest = largest
        self._host: list[Any] = []
        self._device: list[Any] = []
        for name, shape in zip(self._names, (largest, result), strict=True):
            buffer = self._cuda.pagelocked_empty(math.prod(shape), np.float32)
            self._host.append(buffer)
            self._device.append(self._cuda.mem_alloc(buffer.nbytes))
            self._context.set_tensor_address(name, int(self._device[-1]))
        self.info = Info(model.name, "tensorrt", trt.__version__, device, precision, *source, step)

    def run(self, batch: Batch) -> Batch:
        """See inference.base.Network; a side beyond the largest one is an error too."""
        array = checked(self.info, batch)
        if any(have > most for have, most in zip(array.shape, self._largest, strict=True)):
            raise ModelError(
                f"model {self.info.model}: the engine was built for batches up to "
                f"{self._largest}, not {array.shape}",
                "ask for smaller tiles",
            )
        with self._lock, blamed(self.info.model, f"run a batch of {array.shape}"):
            self._cuda_context.push()
            try:
                return self._run(array)
            finally:
                self._cuda_context.pop()

    def _run(self, array: Batch) -> Batch:
        if not self._context.set_input_shape(self._names[0], array.shape):
            raise ModelError(
                f"model {self.info.model} does not take a batch of {array.shape}", "resize it"
            )
        shape = tuple(self._context.get_tensor_shape(self._names[1]))
        into, back = self._host[0][: array.size], self._host[1][: math.prod(shape)]
        into[:] = array.reshape(-1)
        self._cuda.memcpy_htod_async(self._device[0], into, self._stream)
        if not self._context.execute_async_v3(self._stream.handle):
            raise ModelError(f"model {self.info.model}: TensorRT failed", "see its messages")
        self._cuda.memcpy_dtoh_async(back, self._device[1], self._stream)
        self._stream.synchronize()
        output: Batch = np.array(back, np.float32).reshape(shape)
        return output


def _shape(dims: Any) -> Shape:
    return tuple(None if side < 0 else int(side) for side in dims)


def _profile(step: int, shape: Shape, options: Options) -> tuple[tuple[int, ...], ...]:
    """Smallest, usual and largest batch; open sides are multiples of the model's own multiple."""
    most = options.largest
    if most is None:
        side = LARGEST_SIDE - LARGEST_SIDE % step or step
        most = tuple(n if n is not None else 1 if i == 0 else side for i, n in enumerate(shape))
    smallest = tuple(n if n is not None else 1 if i == 0 else step for i, n in enumerate(shape))
    middle = max(step, USUAL_SIDE - USUAL_SIDE % step)
    usual = tuple(
        n if n is not None else most[i] if i == 0 else min(most[i], middle)
        for i, n in enumerate(shape)
    )
    return smallest, usual, most


def _cache() -> Path:
    base = os.environ.get("XDG_CACHE_HOME") or str(Path.home() / ".cache")
    return Path(base) / "stemd" / "tensorrt"


def _plain(text: str) -> str:
    return "".join(c if c.isalnum() else "-" for c in text.lower())


def _cached(runtime: Any, place: Path) -> Any:
    """The engine kept from an earlier start, None when there is none that can be used."""
    try:
        return runtime.deserialize_cuda_engine(place.read_bytes())
    except OSError:
        return None


def _keep(place: Path, data: bytes) -> None:
    try:
        place.parent.mkdir(parents=True, exist_ok=True)
        part = place.with_name(f"{place.name}.{os.getpid()}.part")
        part.write_bytes(data)
        part.replace(place)
    except OSError:
        return  # a cache that cannot be written costs time at the next start, nothing else


def _unavailable() -> str | None:
    for name, remedy in (
        ("tensorrt", "pip install tensorrt"),
        ("pycuda", "pip install pycuda, which needs the CUDA toolkit"),
    ):
        if importlib.util.find_spec(name) is None:
            return f"{name} is not installed: {remedy}"
    try:
        import pycuda.driver as cuda
        import tensorrt as trt

        cuda.init()
        if not cuda.Device.count() or not hasattr(trt, "Builder"):
            return "there is no NVIDIA GPU: use another backend"
    except Exception as error:  # a missing driver shows in several ways
        return f"the GPU cannot be used ({error}): check the driver with nvidia-smi"
    return None


PLUGIN = Plugin(
    name="tensorrt",
    summary="TensorRT on an NVIDIA GPU, float16",
    settings=NoSettings,
    build=TensorRtNetwork,
    unavailable=_unavailable,
    preference=30,
)

"""A stand-in for `tensorrt`: computes by ONNX Runtime what its engines are given.

It has only names of the real bindings (`names/tensorrt-*.txt`, tested), takes its arguments by
the same names, and insists on the order of use: types, profiles, shapes, addresses, streams.
"""

from __future__ import annotations

import enum
import pickle
from types import ModuleType
from typing import Any

import numpy as np
import onnx
import onnxruntime

from tests.inference.fake_cuda import World

MAGIC = b"stand-in engine"


def module(world: World, cuda: ModuleType) -> ModuleType:
    """A module `tensorrt` of `world.version`, on the GPUs of that machine."""
    trt = ModuleType("tensorrt")
    major = int(world.version.split(".")[0])

    def current() -> int:
        if not world.stack():
            raise RuntimeError("there is no current CUDA context")
        return int(world.stack()[-1].index)

    class ILogger:
        class Severity(enum.IntEnum):
            INTERNAL_ERROR = 0
            ERROR = 1
            WARNING = 2
            INFO = 3
            VERBOSE = 4

        def __init__(self) -> None:
            self._made = True

    class IProgressMonitor:
        def __init__(self) -> None:
            self._made = True

    def made(thing: Any, kind: type) -> None:
        if not isinstance(thing, kind) or not hasattr(thing, "_made"):
            raise TypeError(f"{kind.__name__}.__init__() must be called when overriding __init__")

    flags = ["STRONGLY_TYPED"] if major >= 11 else ["EXPLICIT_BATCH", "STRONGLY_TYPED"]
    NetworkDefinitionCreationFlag = enum.IntEnum("NetworkDefinitionCreationFlag", flags, start=0)
    BuilderFlag = enum.IntEnum("BuilderFlag", ["DEBUG", "TF32"] + ([] if major >= 11 else ["FP16"]))
    MemoryPoolType = enum.IntEnum("MemoryPoolType", ["WORKSPACE"])
    TensorIOMode = enum.IntEnum("TensorIOMode", ["NONE", "INPUT", "OUTPUT"])
    DataType = enum.IntEnum("DataType", ["FLOAT", "HALF", "INT32", "BF16"])
    types = {1: DataType.FLOAT, 10: DataType.HALF, 6: DataType.INT32}

    class ITensor:
        def __init__(self, value: Any) -> None:
            self.name = value.name
            kind = value.type.tensor_type
            self.dtype = types[kind.elem_type]
            self._dims = [d.dim_param or d.dim_value for d in kind.shape.dim]

        @property
        def shape(self) -> tuple[int, ...]:
            return tuple(-1 if isinstance(d, str) else d for d in self._dims)

    class INetworkDefinition:
        def __init__(self, typed: bool) -> None:
            self._typed = typed
            self._inputs: list[ITensor] = []
            self._outputs: list[ITensor] = []
            self._data = b""

        @property
        def num_inputs(self) -> int:
            return len(self._inputs)

        @property
        def num_outputs(self) -> int:
            return len(self._outputs)

        def get_input(self, index: int) -> ITensor:
            return self._inputs[index]

        def get_output(self, index: int) -> ITensor:
            return self._outputs[index]

    class ParserError:
        def __init__(self, node: str, operator: str, text: str) -> None:
            self._node, self._operator, self._text = node, operator, text

        def node_name(self) -> str:
            return self._node

        def node_operator(self) -> str:
            return self._operator

        def desc(self) -> str:
            return self._text

    class OnnxParser:
        def __init__(self, network: INetworkDefinition, logger: ILogger) -> None:
            made(logger, ILogger)
            self._network = network
            self._errors: list[ParserError] = []

        @property
        def num_errors(self) -> int:
            return len(self._errors)

        def get_error(self, index: int) -> ParserError:
            return self._errors[index]

        def parse(self, model: bytes, path: str | None = None) -> bool:
            found = onnx.load_from_string(model)
            short = any(tensor.data_type == 16 for tensor in found.graph.initializer)
            if not short:  # ONNX of this version knows no convolution in bfloat16
                onnx.checker.check_model(found, full_check=True)
            self._errors = [
                ParserError(node.name, node.op_type, "is not\nsupported")
                for node in found.graph.node
                if node.op_type in world.unsupported
            ]
            self._network._data = model
            self._network._inputs = [ITensor(value) for value in found.graph.input]
            self._network._outputs = [ITensor(value) for value in found.graph.output]
            return not self._errors

    class IOptimizationProfile:
        def __init__(self) -> None:
            self._shapes: dict[str, tuple[Any, Any, Any]] = {}

        def set_shape(self, input: str, min: Any, opt: Any, max: Any) -> None:  # noqa: A002
            if not all(a <= b <= c for a, b, c in zip(min, opt, max, strict=True)):
                raise ValueError("min <= opt <= max does not hold")
            self._shapes[input] = tuple(min), tuple(opt), tuple(max)

    class ITimingCache:
        def __init__(self, data: bytes) -> None:
            self._data = data

        def serialize(self) -> bytes:
            return self._data

    class IBuilderConfig:
        __slots__ = ("_cache", "_flags", "_profiles", "progress_monitor")

        def __init__(self) -> None:
            self._flags = {BuilderFlag["TF32"]}
            self._profiles: list[IOptimizationProfile] = []
            self._cache: ITimingCache | None = None
            self.progress_monitor: Any = None

        def set_memory_pool_limit(self, pool: Any, pool_size: int) -> None:
            assert pool is MemoryPoolType["WORKSPACE"]
            assert 0 < pool_size < world.bytes_each

        def clear_flag(self, flag: Any) -> None:
            self._flags.discard(flag)

        def set_flag(self, flag: Any) -> None:
            self._flags.add(flag)

        def add_optimization_profile(self, profile: IOptimizationProfile) -> int:
            self._profiles.append(profile)
            return len(self._profiles) - 1

        def create_timing_cache(self, serialized_timing_cache: bytes) -> ITimingCache:
            return ITimingCache(bytes(serialized_timing_cache))

        def set_timing_cache(self, cache: ITimingCache, ignore_mismatch: bool) -> bool:
            assert not ignore_mismatch
            if cache._data and not cache._data.startswith(b"timings"):
                return False
            self._cache = cache
            return True

        def get_timing_cache(self) -> ITimingCache | None:
            return self._cache

    class IHostMemory:
        def __init__(self, data: bytes) -> None:
            self._data = data

        def __bytes__(self) -> bytes:
            return self._data

    class Builder:
        def __init__(self, logger: ILogger) -> None:
            made(logger, ILogger)
            current()
            self._logger = logger

        def create_network(self, flags: int = 0) -> INetworkDefinition:
            typed = bool(flags & 1 << NetworkDefinitionCreationFlag["STRONGLY_TYPED"])
            return INetworkDefinition(typed or major >= 11)

        def create_builder_config(self) -> IBuilderConfig:
            return IBuilderConfig()

        def create_optimization_profile(self) -> IOptimizationProfile:
            return IOptimizationProfile()

        def build_serialized_network(
            self, network: INetworkDefinition, config: IBuilderConfig
        ) -> IHostMemory | None:
            world.builds += 1
            index = current()
            if not network._typed:
                raise RuntimeError("the network does not say its own precision")
            if BuilderFlag["TF32"] in config._flags:
                raise RuntimeError("float32 would be TF32")
            open_ones = [each.name for each in network._inputs if -1 in each.shape]
            shapes = config._profiles[0]._shapes if config._profiles else {}
            if set(open_ones) != set(shapes):
                raise RuntimeError("a profile for each input with open sides, and for no other")
            monitor = config.progress_monitor
            if monitor is not None:
                made(monitor, IProgressMonitor)
                monitor.phase_start("Building", None, 2)
                monitor.phase_start("Timing", "Building", 3)
                for step in range(3):
                    assert monitor.step_complete("Timing", step) is True
                monitor.phase_finish("Timing")
                monitor.phase_finish("Building")
            if world.build_error:
                self._logger.log(ILogger.Severity.WARNING, "that will not do")
                self._logger.log(ILogger.Severity.ERROR, world.build_error)
                return None
            if config._cache is not None:
                config._cache._data = (config._cache._data or b"timings") + b"+"
            about = world.version, world.gpus[index], network._data, shapes
            return IHostMemory(MAGIC + pickle.dumps(about))

    class Runtime:
        def __init__(self, logger: ILogger) -> None:
            made(logger, ILogger)
            self._logger = logger

        def deserialize_cuda_engine(self, serialized_engine: bytes) -> ICudaEngine | None:
            index = current()
            if not serialized_engine.startswith(MAGIC):
                self._logger.log(ILogger.Severity.ERROR, "magic tag does not match")
                return None
            version, gpu, data, shapes = pickle.loads(serialized_engine[len(MAGIC) :])
            assert (version, gpu) == (world.version, world.gpus[index])
            return ICudaEngine(self._logger, data, shapes)

    class ICudaEngine:
        def __init__(self, logger: ILogger, data: bytes, shapes: dict[str, Any]) -> None:
            self._logger, self._shapes = logger, shapes
            graph = onnx.load_from_string(data).graph
            self._tensors = {each.name: ITensor(each) for each in [*graph.input, *graph.output]}
            self._inputs = [each.name for each in graph.input]
            settings = onnxruntime.SessionOptions()
            settings.intra_op_num_threads = 1
            self._session = onnxruntime.InferenceSession(
                data, settings, providers=["CPUExecutionProvider"]
            )

        @property
        def num_io_tensors(self) -> int:
            return len(self._tensors)

        def get_tensor_name(self, index: int) -> str:
            return list(self._tensors)[index]

        def get_tensor_mode(self, name: str) -> Any:
            return TensorIOMode["INPUT" if name in self._inputs else "OUTPUT"]

        def get_tensor_shape(self, name: str) -> tuple[int, ...]:
            return self._tensors[name].shape

        def create_execution_context(self) -> IExecutionContext | None:
            current()
            return None if world.no_context else IExecutionContext(self)

    class IExecutionContext:
        def __init__(self, engine: ICudaEngine) -> None:
            self._engine = engine
            self._profile = -1
            self._shape: tuple[int, ...] | None = None
            self._addresses: dict[str, int] = {}
            self._busy_on = 0

        def set_optimization_profile_async(self, profile_index: int, stream_handle: int) -> bool:
            assert profile_index == 0
            assert stream_handle in world.streams
            self._profile = profile_index
            return True

        def set_input_shape(self, name: str, shape: tuple[int, ...]) -> bool:
            assert self._profile == 0, "a profile comes first"
            assert not self._busy_on, "a shape may not change while a batch is under way"
            assert name in self._engine._inputs
            assert type(shape) is tuple
            least, _, most = self._engine._shapes.get(name, (shape, shape, shape))
            fits = len(shape) == len(most) and all(
                a <= b <= c for a, b, c in zip(least, shape, most, strict=True)
            )
            world.events.append("shape")
            if not fits or world.refuse == "shape":
                self._engine._logger.log(ILogger.Severity.ERROR, "not in the profile")
                return False
            self._shape = shape
            return True

        def get_tensor_shape(self, name: str) -> tuple[int, ...]:
            assert self._shape is not None, "the input's shape comes first"
            source = self._engine._tensors[self._engine._inputs[0]]
            known = dict(zip(source._dims, self._shape, strict=True))
            return tuple(
                known[d] if isinstance(d, str) else d for d in self._engine._tensors[name]._dims
            )

        def set_tensor_address(self, name: str, memory: int) -> bool:
            assert memory in world.memory
            self._addresses[name] = memory
            return True

        def execute_async_v3(self, stream_handle: int) -> bool:
            stream, index = world.streams[stream_handle], current()
            assert set(self._addresses) == set(self._engine._tensors), "addresses come first"
            assert self._busy_on in (0, stream_handle), "a context works on one stream"
            if index in world.broken_contexts or world.refuse == "run":
                text = "Cuda Runtime (unspecified launch failure)" if index in world.lost else "no"
                self._engine._logger.log(ILogger.Severity.ERROR, text)
                return False
            if world.refuse == "memory":
                self._engine._logger.log(ILogger.Severity.ERROR, "OutOfMemory (requested 9)")
                return False
            self._busy_on = stream_handle
            shape = self._shape
            assert shape is not None
            cuda._add(stream, "run", lambda: self._compute(shape))
            return True

        def _compute(self, shape: tuple[int, ...]) -> None:
            (given,) = self._engine._inputs
            (made_,) = (name for name in self._engine._tensors if name != given)
            source = world.memory[self._addresses[given]]._held.view(np.float32)
            batch = source[: int(np.prod(shape))].reshape(shape)
            (output,) = self._engine._session.run(None, {given: batch})
            assert output.shape == self.get_tensor_shape(made_)
            into = world.memory[self._addresses[made_]]._held
            into[: output.nbytes] = output.reshape(-1).view(np.uint8)
            self._busy_on = 0

    trt.__version__ = world.version  # type: ignore[attr-defined]
    for thing in (
        ILogger, IProgressMonitor, NetworkDefinitionCreationFlag, BuilderFlag, MemoryPoolType,
        TensorIOMode, DataType, ITensor, INetworkDefinition, ParserError, OnnxParser,
        IOptimizationProfile, ITimingCache, IBuilderConfig, IHostMemory, Builder, Runtime,
        ICudaEngine, IExecutionContext,
    ):  # fmt: skip
        setattr(trt, thing.__name__, thing)
    return trt

"""Engines: built from a model for one GPU, once, and kept in the user's cache."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

from stemd.errors import ModelError
from stemd.inference import kept
from stemd.inference.base import Options, Shape, multiple_of, only
from stemd.inference.half import Precision
from stemd.inference.model_file import ModelFile
from stemd.inference.precision import chosen
from stemd.inference.tensorrt import messages
from stemd.inference.tensorrt.gpu import Gpu, no_memory, tells_of_memory
from stemd.logs import get_logger

WORKSPACE_BYTES = 2 * 1024**3
USUAL_SIDE, LARGEST_SIDE = 512, 1024
"""Pixels for which the engine is tuned, and which it can take, where the model says nothing."""

SCHEME = 1
"""Changes when a model becomes another graph than before, so that kept engines are not used."""

log = get_logger(__name__)


@dataclass(frozen=True, slots=True)
class Profile:
    """Smallest, usual and largest batch of an engine."""

    smallest: tuple[int, ...]
    usual: tuple[int, ...]
    largest: tuple[int, ...]


@dataclass(frozen=True, slots=True)
class Loaded:
    """An engine on a GPU, the names of its input and output, and their shapes.

    The runtime has to outlive the engine.
    """

    runtime: Any
    engine: Any
    precision: Precision
    input: str
    output: str
    shapes: tuple[Shape, Shape]


def load_engine(gpu: Gpu, model: ModelFile, options: Options, logger: Any) -> Loaded:
    """The engine of a model, from the cache or built. Inside `gpu.current`. Raises ModelError."""
    import tensorrt as trt

    runtime = trt.Runtime(logger)
    tried: tuple[Precision, ...] = ("float16", "bfloat16", "float32")
    for precision in ("float32",) if options.exact else tried:
        engine = _kept(runtime, logger, _place(gpu, model, options, precision))
        if engine is not None:
            return _loaded(model, runtime, engine, precision)
    best = chosen(model, options)
    plan = _build(gpu, model, best.data, options, logger, best.precision)
    _keep(_place(gpu, model, options, best.precision), plan)
    engine = runtime.deserialize_cuda_engine(plan)
    if engine is None:
        raise _failure(gpu, model, "load the engine that it built", logger)
    return _loaded(model, runtime, engine, best.precision)


def _loaded(model: ModelFile, runtime: Any, engine: Any, precision: Precision) -> Loaded:
    import tensorrt as trt

    names = [engine.get_tensor_name(index) for index in range(engine.num_io_tensors)]
    given = [name for name in names if engine.get_tensor_mode(name) == trt.TensorIOMode.INPUT]
    made = [name for name in names if name not in given]
    shapes = only(
        model.name,
        [_shape(engine.get_tensor_shape(name)) for name in given],
        [_shape(engine.get_tensor_shape(name)) for name in made],
    )
    return Loaded(runtime, engine, precision, given[0], made[0], shapes)


def _build(
    gpu: Gpu, model: ModelFile, data: bytes, options: Options, logger: Any, precision: Precision
) -> bytes:
    import tensorrt as trt

    builder = trt.Builder(logger)
    # version 10 must be told, version 11 knows nothing else
    typed = 1 << int(trt.NetworkDefinitionCreationFlag.STRONGLY_TYPED)
    graph = builder.create_network(typed)
    parser = trt.OnnxParser(graph, logger)
    if not parser.parse(data):
        raise ModelError(
            f"model {model.name}: TensorRT does not take it: {_reasons(parser, logger)}",
            "use another backend, or export the model again",
        )
    source = _only_input(model, graph)
    config = builder.create_builder_config()
    workspace = min(WORKSPACE_BYTES, gpu.free_bytes() // 2)
    config.set_memory_pool_limit(trt.MemoryPoolType.WORKSPACE, workspace)
    # what is to be float32 is not to be shortened by the way
    config.clear_flag(trt.BuilderFlag.TF32)
    shape = _shape(source.shape)
    if None in shape:
        wanted = profile_of(multiple_of(model), shape, options)
        profile = builder.create_optimization_profile()
        profile.set_shape(source.name, wanted.smallest, wanted.usual, wanted.largest)
        config.add_optimization_profile(profile)
    timings = (
        kept.folder("tensorrt")
        / f"timings-{kept.plain(f'{trt.__version__}-{gpu.name}-{gpu.capability}')}"
    )
    cache = config.create_timing_cache(kept.read(timings))
    if not config.set_timing_cache(cache, False):
        cache = config.create_timing_cache(b"")
        config.set_timing_cache(cache, False)
    log.info(
        "TensorRT builds an engine, which can take minutes; it is kept",
        model=model.name, device=gpu.name, precision=precision, cache=str(kept.folder("tensorrt")),
    )  # fmt: skip
    progress = messages.monitor(trt, model.name, gpu.name)
    config.progress_monitor = progress
    try:
        plan = builder.build_serialized_network(graph, config)
    finally:
        seconds = progress.ended()
    if plan is None:
        raise _failure(gpu, model, "build an engine", logger)
    _keep(timings, bytes(config.get_timing_cache().serialize()))
    log.info("the engine is built", model=model.name, device=gpu.name, seconds=round(seconds, 1))
    return bytes(plan)


def _only_input(model: ModelFile, graph: Any) -> Any:
    import tensorrt as trt

    only(
        model.name,
        [_shape(graph.get_input(index).shape) for index in range(graph.num_inputs)],
        [_shape(graph.get_output(index).shape) for index in range(graph.num_outputs)],
    )
    source = graph.get_input(0)
    if source.dtype != trt.DataType.FLOAT or graph.get_output(0).dtype != trt.DataType.FLOAT:
        raise ModelError(
            f"model {model.name} does not take and give float32 numbers", "name another model"
        )
    return source


def _reasons(parser: Any, logger: Any) -> str:
    found = []
    for index in range(parser.num_errors):
        error = parser.get_error(index)
        where = " ".join(filter(None, (error.node_name(), f"({error.node_operator()})")))
        found.append(f"{where}: {error.desc()}" if error.node_operator() else str(error.desc()))
    return "; ".join(" ".join(text.split()) for text in found)[:600] or str(logger.errors())


def _failure(gpu: Gpu, model: ModelFile, doing: str, logger: Any) -> ModelError:
    why = str(logger.errors())
    if tells_of_memory(why):
        return no_memory(gpu, model.name, doing, why)
    return ModelError(
        f"model {model.name}: TensorRT cannot {doing} for {gpu.name}: {why}",
        "use another backend, and report this line with that of stemd plugins",
    )


def profile_of(step: int, shape: Shape, options: Options) -> Profile:
    """The batches that an engine is built for; open sides are multiples of `step`.

    Where several come at a time, half of the largest batch: two of them are worked on at once.
    """
    most = options.largest
    if most is None:
        side = LARGEST_SIDE - LARGEST_SIDE % step or step
        most = tuple(n if n is not None else 1 if i == 0 else side for i, n in enumerate(shape))
    elif shape[0] is None:
        most = (-(-most[0] // 2), *most[1:])
    smallest = tuple(n if n is not None else 1 if i == 0 else step for i, n in enumerate(shape))
    middle = max(step, USUAL_SIDE - USUAL_SIDE % step)
    usual = tuple(
        n if n is not None else most[i] if i == 0 else min(most[i], middle)
        for i, n in enumerate(shape)
    )
    return Profile(smallest, usual, most)


def _shape(dims: Any) -> Shape:
    return tuple(None if side < 0 else int(side) for side in dims)


def _place(gpu: Gpu, model: ModelFile, options: Options, precision: Precision) -> Path:
    import tensorrt as trt

    sides = "x".join(map(str, options.largest)) if options.largest else "any"
    device = f"{trt.__version__}-{gpu.name}-{gpu.capability}-{sides}-{SCHEME}-{precision}"
    return kept.folder("tensorrt") / f"{model.sha256[:32]}-{kept.plain(device)}.engine"


def _kept(runtime: Any, logger: Any, place: Path) -> Any:
    """The engine kept from an earlier start, None when there is none that can be used."""
    data = kept.read(place)
    engine = runtime.deserialize_cuda_engine(data) if data else None
    if data and engine is None:
        log.warning("a kept engine cannot be used: built again", file=str(place),
                    error=logger.errors())  # fmt: skip
    elif data:
        log.info("the engine comes from the cache", file=str(place))
    return engine


def _keep(place: Path, data: bytes) -> None:
    try:
        kept.keep(place, data)
    except OSError as error:  # costs time at the next start, nothing else
        log.warning("the engine cannot be kept: it is built again at every start",
                    file=str(place), error=str(error))  # fmt: skip

"""OpenVINO on the CPU: bfloat16 where the processor is faster in it, else float32."""

from __future__ import annotations

import contextlib
import importlib.util
import sys
import threading
import time
from collections.abc import Callable
from functools import partial
from io import BytesIO
from typing import Any

import numpy as np
from numpy.typing import NDArray

from stemd.errors import ModelError
from stemd.inference import kept
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
from stemd.logs import get_logger
from stemd.plugins import NoSettings, Plugin

LEAST_THREADS = 2
"""With one thread OpenVINO 2026.4 loses the error of a batch that does not fit into memory: it
returns the result of the batch before, or ends the process. With two it says so."""
KEPT_SIZES = 64
"""Steps of a network that stay prepared, each for one size of batch. By itself OpenVINO keeps 5000,
and grows by a megabyte with every size that it meets: scans that are cut off have many."""

ROUNDS = 3
"""Batches of which the fastest tells how fast a precision is."""
GAIN = 0.8
"""Of float32's time: bfloat16 must take less, or it is not worth its rounding."""
FULL, HALF = "f32", "bf16"
"""OpenVINO's words for the precisions."""
SIDE = 128
"""Of the batch that is timed, where the model leaves a side open."""

log = get_logger(__name__)


def imported() -> Any:
    """The library without its usage statistics.

    They would be sent at import, by a forked process. A daemon at an instrument reports to nobody,
    and the fork has its pipes and sockets, and locks that no thread of it will ever release.
    """
    # where it cannot be imported OpenVINO takes an empty one of its own
    sys.modules.setdefault("openvino_telemetry", None)  # type: ignore[arg-type]
    import openvino

    return openvino


class OpenVinoNetwork:
    """Implements inference.base.Network; a request may serve one thread, so each has its own."""

    def __init__(self, model: ModelFile, options: Options) -> None:
        openvino = imported()
        core = openvino.Core()
        able = core.get_property("CPU", "OPTIMIZATION_CAPABILITIES")
        settings = {
            "INFERENCE_NUM_THREADS": max(LEAST_THREADS, options.threads),
            "NUM_STREAMS": 1,
            # pinned to a core, the network would keep the reader off it
            "ENABLE_CPU_PINNING": False,
            "CPU_RUNTIME_CACHE_CAPACITY": KEPT_SIZES,
        }
        with blamed(model.name, "load it with OpenVINO"):
            graph = core.read_model(BytesIO(model.data))
            compiled = partial(_compiled, core, graph, settings)
            self._compiled: Any = compiled(FULL)
        shapes = only(
            model.name,
            [_shape(port) for port in self._compiled.inputs],
            [_shape(port) for port in self._compiled.outputs],
        )
        if self._compiled.inputs[0].get_element_type() != openvino.Type.f32:
            raise ModelError(
                f"model {model.name} does not take float32 numbers", "name another model"
            )
        version = openvino.__version__.split("-")[0]
        device = core.get_property("CPU", "FULL_DEVICE_NAME").strip()
        chosen = FULL
        if "BF16" in able and not options.exact:

            def timed() -> str:
                with blamed(model.name, "load it with OpenVINO"):
                    other = compiled(HALF)
                sides = _timed_shape(shapes[0], multiple_of(model), options)
                # one that fails says why when it gets a batch that somebody wants
                with contextlib.suppress(Exception):
                    if is_faster(other, self._compiled, np.full(sides, 0.5, np.float32)):
                        return HALF
                return FULL

            chosen = once(timed, f"{model.sha256[:32]}-{version}-{device}")
            # anew: the one that was timed keeps the memory that its batch took
            self._compiled = compiled(chosen)
        self._compile = partial(compiled, chosen)
        self._requests = threading.local()
        self.info = Info(
            model.name,
            "openvino",
            version,
            device,
            "bfloat16" if chosen == HALF else "float32",
            *shapes,
            multiple_of(model),
        )

    def run(self, batch: Batch) -> Batch:
        """See inference.base.Network."""
        array = checked(self.info, batch)
        with blamed(self.info.model, f"run a batch of {array.shape}"):
            compiled = self._compiled
            known: Any
            request: Any
            known, request = getattr(self._requests, "mine", (None, None))
            if known is not compiled:
                request = compiled.create_infer_request()
                self._requests.mine = compiled, request
            try:
                request.infer([array], share_inputs=True)
            except Exception:
                # its graph keeps the size that did not fit, for every later batch too
                self._compiled = self._compile()
                raise
            return np.array(request.get_output_tensor(0).data, np.float32)


def once(timed: Callable[[], str], what: str) -> str:
    """The precision that was chosen for a network when it was first loaded on this processor.

    By time, a processor that is nearly as fast in both would choose now the one, now the other:
    the image that a daemon shows and the one that is made of its record would differ. Where
    nothing can be kept it is float32.
    """
    place = kept.folder("openvino") / f"{kept.plain(what)}.precision"
    known = kept.read(place).decode(errors="replace")
    if known in (FULL, HALF):
        return known
    found = timed()
    try:
        if not known:
            return kept.keep_first(place, found.encode()).decode(errors="replace")
        kept.keep(place, found.encode())  # what was there is not to be believed
    except OSError as error:
        log.warning(
            "the faster precision of a network cannot be kept: float32 is used",
            file=str(place), error=str(error),
            remedy="let the environment variable XDG_CACHE_HOME name a folder that stemd may write",
        )  # fmt: skip
        return FULL
    return found


def is_faster(other: Any, than: Any, batch: NDArray[np.float32]) -> bool:
    """Whether a compiled network takes clearly less time for a batch than another.

    What a processor is said to compute in does not tell: with AVX512-BF16 and without AMX some
    take half the time in bfloat16, others nearly twice as much.
    """
    requests = [each.create_infer_request() for each in (other, than)]
    fastest = [np.inf, np.inf]
    for _ in range(1 + ROUNDS):  # in turn, as others may use the processor now and then
        for number, request in enumerate(requests):
            began = time.perf_counter()
            request.infer([batch], share_inputs=True)
            fastest[number] = min(fastest[number], time.perf_counter() - began)
    return bool(fastest[0] < GAIN * fastest[1])


def _compiled(core: Any, graph: Any, settings: dict[str, Any], precision: str) -> Any:
    return core.compile_model(graph, "CPU", settings | {"INFERENCE_PRECISION_HINT": precision})


def _timed_shape(sides: Shape, multiple: int, options: Options) -> tuple[int, ...]:
    """Of a batch as the network is to get them, but not one that takes long."""
    most = -(-SIDE // multiple) * multiple
    largest = options.largest or tuple(1 if place < 2 else most for place in range(len(sides)))
    return tuple(known or min(side, most) for known, side in zip(sides, largest, strict=True))


def _shape(port: Any) -> Shape:
    return tuple(
        None if side.is_dynamic else int(side.get_length()) for side in port.get_partial_shape()
    )


def _unavailable() -> str | None:
    if importlib.util.find_spec("openvino") is None:
        return "openvino is not installed: pip install 'stemd[openvino]'"
    return None


PLUGIN = Plugin(
    name="openvino",
    summary="OpenVINO on the CPU, bfloat16 where the processor is faster in it",
    settings=NoSettings,
    build=OpenVinoNetwork,
    unavailable=_unavailable,
    preference=20,
    libraries=("openvino",),
)

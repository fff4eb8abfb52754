"""ONNX Runtime on the CPU, float32: part of every installation, and the reference for others."""

from __future__ import annotations

import importlib.util
from functools import cache
from typing import Any

import numpy as np
import psutil

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
from stemd.logs import get_logger
from stemd.plugins import NoSettings, Plugin

log = get_logger(__name__)

AS_REQUESTED = 1
"""The allocator takes what it is asked for, not the next power of two."""
MEMORY_SHARE = 0.5
"""Of the machine's memory that all networks together may take while they run."""


class OnnxRuntimeNetwork:
    """Implements inference.base.Network. A session may be run by several threads at once."""

    def __init__(self, model: ModelFile, options: Options) -> None:
        import onnxruntime

        settings = onnxruntime.SessionOptions()
        settings.intra_op_num_threads = options.threads
        settings.inter_op_num_threads = 1
        settings.log_severity_level = 4  # what goes wrong is raised too
        # threads that spin while they wait would take the reader's processor
        settings.add_session_config_entry("session.intra_op.allow_spinning", "0")
        if _limit_memory():
            settings.add_session_config_entry("session.use_env_allocators", "1")
        with blamed(model.name, "load it with ONNX Runtime"):
            self._session: Any = onnxruntime.InferenceSession(
                model.data, settings, providers=["CPUExecutionProvider"]
            )
        inputs, outputs = self._session.get_inputs(), self._session.get_outputs()
        shapes = only(model.name, [_shape(i) for i in inputs], [_shape(o) for o in outputs])
        if inputs[0].type != "tensor(float)":
            raise ModelError(
                f"model {model.name} takes {inputs[0].type}, not float32", "name another model"
            )
        self._input = inputs[0].name
        self._running: set[Any] = set()
        self._options = onnxruntime.RunOptions
        version = onnxruntime.__version__
        self.info = Info(
            model.name, "onnxruntime", version, "CPU", "float32", *shapes, multiple_of(model)
        )

    def run(self, batch: Batch) -> Batch:
        """See inference.base.Network."""
        array = checked(self.info, batch)
        options = self._options()
        self._running.add(options)
        try:
            with blamed(self.info.model, f"run a batch of {array.shape}"):
                (output,) = self._session.run(None, {self._input: array}, options)
        finally:
            self._running.discard(options)
        return np.asarray(output, np.float32)

    def cancel(self) -> None:
        """End what runs now, at the next node of the graph; `run` raises ModelError. Any thread."""
        for options in list(self._running):
            options.terminate = True


@cache
def _limit_memory() -> bool:
    """One allocator for all networks of this process, which gives out so much and no more.

    Without it a graph that asks for a hundred gigabytes would be given them, until the system
    ends some process. False where this ONNX Runtime has none.
    """
    import onnxruntime
    from onnxruntime.capi import _pybind_state as state

    most = int(psutil.virtual_memory().total * MEMORY_SHARE)
    try:
        kind = onnxruntime.OrtAllocatorType.ORT_ARENA_ALLOCATOR
        place = state.OrtMemoryInfo("Cpu", kind, 0, state.OrtMemType.DEFAULT)
        arena = onnxruntime.OrtArenaCfg({"max_mem": most, "arena_extend_strategy": AS_REQUESTED})
        onnxruntime.create_and_register_allocator(place, arena)
    except Exception as error:  # whatever the library says: networks run without a limit
        log.debug("ONNX Runtime runs without a limit of memory", error=str(error))
        return False
    return True


def _shape(value: Any) -> Shape:
    return tuple(side if isinstance(side, int) else None for side in value.shape)


def _unavailable() -> str | None:
    if importlib.util.find_spec("onnxruntime") is None:
        return "onnxruntime is not installed: pip install onnxruntime"
    return None


PLUGIN = Plugin(
    name="onnxruntime",
    summary="ONNX Runtime on the CPU, float32; the reference",
    settings=NoSettings,
    build=OnnxRuntimeNetwork,
    unavailable=_unavailable,
    preference=10,
    libraries=("onnxruntime",),
)

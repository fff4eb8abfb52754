"""ONNX Runtime on the CPU, float32: part of every installation, and the reference for others."""

from __future__ import annotations

import importlib.util
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
        version = onnxruntime.__version__
        self.info = Info(
            model.name, "onnxruntime", version, "CPU", "float32", *shapes, multiple_of(model)
        )

    def run(self, batch: Batch) -> Batch:
        """See inference.base.Network."""
        array = checked(self.info, batch)
        with blamed(self.info.model, f"run a batch of {array.shape}"):
            (output,) = self._session.run(None, {self._input: array})
        return np.asarray(output, np.float32)


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

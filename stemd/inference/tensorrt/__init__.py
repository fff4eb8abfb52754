"""TensorRT on an NVIDIA GPU: float16 where that is enough, falls back to the CPU if the GPU fails.

For TensorRT 10 and 11 with PyCUDA. Where stemd is built there is neither a GPU nor TensorRT's
libraries, so this has never run on one: the tests drive it by stand-ins that have the names of
the real libraries only (docs/adr/0014-tensorrt.md). On a GPU `stemd models check restoration
--backend tensorrt` tells in one command whether all is well.
"""

from __future__ import annotations

import importlib.util
from functools import partial

from stemd.errors import ModelError
from stemd.inference.base import Network, Options
from stemd.inference.fallback import WithSpare
from stemd.inference.model_file import ModelFile
from stemd.plugins import NoSettings, Plugin

MAJORS = (10, 11)
"""Versions of TensorRT whose names this is written for."""


def load(model: ModelFile, options: Options) -> Network:
    """A network on the GPU that goes on on the CPU while the GPU is lost. Raises ModelError."""
    from stemd.inference.tensorrt.network import TensorRtNetwork

    return WithSpare(partial(TensorRtNetwork, model, options), partial(_on_cpu, model, options))


def _on_cpu(model: ModelFile, options: Options) -> Network:
    from stemd.inference import choice

    try:
        return choice.load(model, "openvino", options)
    except ModelError:
        return choice.load(model, "onnxruntime", options)


def _unavailable() -> str | None:
    for name, remedy in (
        ("tensorrt", "pip install 'stemd[tensorrt]', on a machine with an NVIDIA GPU"),
        ("pycuda", "pip install pycuda, which needs a compiler and the CUDA toolkit's headers"),
    ):
        if importlib.util.find_spec(name) is None:
            return f"{name} is not installed: {remedy}"
    try:
        import tensorrt as trt

        version = str(trt.__version__)
    except Exception as error:  # libraries that are not there show in several ways
        return f"tensorrt cannot be imported ({_line(error)}): pip install 'stemd[tensorrt]' again"
    if int(version.split(".")[0]) not in MAJORS:
        return f"tensorrt {version} is not supported: pip install 'tensorrt>=10,<12'"
    try:
        import pycuda.driver as cuda

        cuda.init()
        if not cuda.Device.count():
            return "there is no NVIDIA GPU: use another backend"
    except Exception as error:
        return f"the GPU cannot be used ({_line(error)}): check the driver with nvidia-smi"
    return None


def _line(error: Exception) -> str:
    return " ".join(str(error).split())[:200] or type(error).__name__


PLUGIN = Plugin(
    name="tensorrt",
    summary="TensorRT 10 or 11 on an NVIDIA GPU, float16",
    settings=NoSettings,
    build=load,
    unavailable=_unavailable,
    preference=30,
    libraries=("tensorrt", "tensorrt-cu13", "tensorrt-cu12", "pycuda"),
)

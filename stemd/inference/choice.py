"""Loading a network with a named backend, or with the best that works here."""

from __future__ import annotations

import dataclasses
import importlib
from typing import Literal, get_args

import structlog

from stemd.errors import ConfigError, ModelError
from stemd.inference.base import Backend, Info, Network, Options
from stemd.inference.model_file import ModelFile

BackendName = Literal["auto", "tensorrt", "openvino", "onnxruntime"]
BEST_FIRST: tuple[BackendName, ...] = ("tensorrt", "openvino", "onnxruntime")
"""A GPU before a CPU; OpenVINO computes in bfloat16 where ONNX Runtime takes float32."""

log = structlog.get_logger(__name__)


def backend(name: str) -> Backend:
    """The backend of this name. Raises ConfigError when there is none."""
    if name not in BEST_FIRST:
        known = ", ".join(get_args(BackendName))
        raise ConfigError(f"there is no inference backend {name!r}", f"known: {known}")
    found = importlib.import_module(f"stemd.inference.{name}").BACKEND
    assert isinstance(found, Backend)
    return found


def load(model: ModelFile, name: BackendName = "auto", options: Options | None = None) -> Network:
    """Load a model. Raises ModelError when the backend, or with "auto" every one, fails.

    With "auto", `info.why` says why the better ones were not taken.
    """
    options = options or Options()
    if name != "auto":
        return _load(backend(name), model, options)
    passed: list[str] = []
    for each in BEST_FIRST:
        try:
            network = _load(backend(each), model, options)
        except ModelError as error:
            passed.append(f"{each}: {error.message}")
            if each == BEST_FIRST[-1]:
                # the reference's reason, since it is there and takes every sound model
                raise
        else:
            why = "; ".join(["the best that works here", *passed])
            info = dataclasses.replace(network.info, why=why)
            log.info("network loaded", model=model.name, runs_on=str(info), why=why)
            return _Explained(network, info)
    raise AssertionError("unreachable: the last backend returns or raises")


def _load(chosen: Backend, model: ModelFile, options: Options) -> Network:
    why_not = chosen.unavailable()
    if why_not is not None:
        missing, _, remedy = why_not.partition(": ")
        raise ModelError(f"{chosen.name} cannot be used: {missing}", remedy)
    return chosen.load(model, options)


class _Explained:
    """A network with the reason why its backend was taken."""

    def __init__(self, network: Network, info: Info) -> None:
        self.info = info
        self.run = network.run

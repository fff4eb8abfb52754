"""Loading a network with a named backend, or with the best that works here."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from typing import Annotated, Any

from pydantic import AfterValidator, Field

from stemd import plugins
from stemd.errors import ModelError
from stemd.inference.base import Info, Network, Options, blamed
from stemd.inference.model_file import ModelFile
from stemd.logs import get_logger
from stemd.plugins import Plugin

AUTO = "auto"

log = get_logger(__name__)


def best_first() -> list[Plugin]:
    """Every backend, in the order in which "auto" tries them.

    Of the built-in ones a GPU comes before a CPU, and OpenVINO, which computes in bfloat16 where
    the processor can, before ONNX Runtime. One of somebody else comes last unless it says more.
    """
    return sorted(plugins.catalogue("backends"), key=lambda plugin: -plugin.preference)


def _known(name: str) -> str:
    return name if name == AUTO else plugins.checked("backends", name).name


def _listed(schema: dict[str, Any]) -> None:
    schema["enum"] = [AUTO, *(plugin.name for plugin in best_first())]


BackendName = Annotated[str, AfterValidator(_known), Field(json_schema_extra=_listed)]
""""auto", or the name of a backend; in a model of settings a name that is not known is refused."""


def load(model: ModelFile, name: BackendName = AUTO, options: Options | None = None) -> Network:
    """Load a model. Raises ModelError when the backend, or with "auto" every one, fails.

    With "auto", `info.why` says why the better ones were not taken. Raises ConfigError where
    there is no backend of this name.
    """
    options = options or Options()
    if name != AUTO:
        return _load(plugins.load("backends", name), model, options)
    passed: list[str] = []
    failed: ModelError | None = None
    for each in best_first():
        try:
            network = _load(each, model, options)
        except ModelError as error:
            passed.append(f"{each.name}: {error.message}")
            # what the reference says counts: it is always there and takes every sound model
            failed = error if failed is None or each.name == "onnxruntime" else failed
        else:
            why = "; ".join(["the best that works here", *passed])
            info = dataclasses.replace(network.info, why=why)
            log.info("network loaded", model=model.name, runs_on=str(info), why=why)
            return _Explained(network, why)
    assert failed is not None
    raise failed


def _load(chosen: Plugin, model: ModelFile, options: Options) -> Network:
    why_not = chosen.why_not()
    if why_not is not None:
        missing, _, remedy = why_not.partition(": ")
        raise ModelError(f"{chosen.name} cannot be used: {missing}", remedy)
    with blamed(model.name, f"load it with {chosen.name}"):
        network: Network = chosen.build(model, options)
    return network


class _Explained:
    """A network with the reason why its backend was taken."""

    def __init__(self, network: Network, why: str) -> None:
        self._network, self._why = network, why
        self.run = network.run
        self.cancel: Callable[[], None] = getattr(network, "cancel", lambda: None)

    @property
    def info(self) -> Info:
        """What runs now, and why."""
        info = self._network.info
        return dataclasses.replace(info, why="; ".join(filter(None, (info.why, self._why))))

"""The network of AIRPI as a file: what it must say of itself, and how it is run."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
from numpy.typing import NDArray

from stemd.engines.exit_wave_features import FEATURES, GRID, SCALARS, WINDOW, inputs
from stemd.errors import NetworkError
from stemd.inference.base import Network, takes
from stemd.inference.choice import BackendName
from stemd.inference.model_file import ModelFile
from stemd.inference.worker import shared

TASK = "exit-wave"


def model_metadata() -> Mapping[str, str]:
    """What stands in the file of a network that was trained on the features of this program."""
    return {
        "stemd.task": TASK,
        "stemd.features": str(FEATURES),
        "stemd.window": str(WINDOW),
        "stemd.half": str(GRID.half),
        "stemd.per_angle": f"{GRID.per_angle:g}",
        "stemd.scalars": str(SCALARS),
    }


def check_model(model: ModelFile) -> None:
    """Raises NetworkError unless this is a network of exit waves, for features as made here."""
    for key, expected in model_metadata().items():
        found = model.metadata.get(key)
        if found == expected or _number(found) == _number(expected) is not None:
            continue
        if key == "stemd.task":
            what = f"is for {found!r}" if found else "does not say what it is for"
            raise NetworkError(
                f"model {model.name} {what}: AIRPI needs one for {expected!r}",
                "name another model: stemd models list shows what there is",
            )
        raise NetworkError(
            f"model {model.name} was trained with {key} = {found or 'nothing'}, "
            f"this version of stemd has {expected}",
            "use the model that came with this version, or train it again",
        )


def _number(text: str | None) -> float | None:
    try:
        return float(text or "")
    except ValueError:
        return None


def load(name: str, backend: BackendName, threads: int, batch: int) -> tuple[ModelFile, Network]:
    """The network by name or path, loaded in the process's thread for networks.

    Raises NetworkError when it cannot be had or is of another kind.
    """
    thread = shared()
    largest = (batch, inputs())

    def job() -> tuple[ModelFile, Network]:
        model, network = thread.network(name, backend, threads, largest, check_model)
        takes_exit_waves(network)
        return model, network

    return thread.submit(job, urgent=True).result()


def takes_exit_waves(network: Network) -> None:
    """Raises NetworkError unless input and output have the shapes of the features and patches."""
    takes(network.info, (None, inputs()), (None, 2, WINDOW, WINDOW), "a network of exit waves")


def transmission(network: Network, features: NDArray[np.float32]) -> NDArray[np.complex64]:
    """T = psi_out / psi_in of each group, complex64 (n, WINDOW, WINDOW). Raises NetworkError."""
    out = network.run(features)
    changed = np.empty((out.shape[0], WINDOW, WINDOW), np.complex64)
    changed.real = out[:, 0] + np.float32(1.0)
    changed.imag = out[:, 1]
    return changed

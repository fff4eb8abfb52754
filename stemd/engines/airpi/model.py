"""The network of AIRPI as a file: what it must say of itself, and how it is run."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from functools import lru_cache, partial
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from stemd.engines.airpi.features import FEATURES, GRID, SAMPLES, SCALARS, WINDOW, inputs
from stemd.errors import ModelError
from stemd.inference.base import Network, takes
from stemd.inference.catalogue import find
from stemd.inference.choice import BackendName
from stemd.inference.model_file import ModelFile, read_model
from stemd.inference.worker import shared

F32 = NDArray[np.float32]
C64 = NDArray[np.complex64]

TASK = "airpi"


def model_metadata() -> Mapping[str, str]:
    """What stands in the file of a network that was trained on the features of this program."""
    return {
        "stemd.task": TASK,
        "stemd.features": str(FEATURES),
        "stemd.window": str(WINDOW),
        "stemd.half": str(GRID.half),
        "stemd.per_angle": f"{GRID.per_angle:g}",
        "stemd.samples": str(SAMPLES),
        "stemd.scalars": str(SCALARS),
    }


def check_model(model: ModelFile) -> None:
    """Raises ModelError unless this is AIRPI's, for features as made here."""
    for key, expected in model_metadata().items():
        found = model.metadata.get(key)
        if found == expected or _number(found) == _number(expected) is not None:
            continue
        if key == "stemd.task":
            what = f"is for {found!r}" if found else "does not say what it is for"
            raise ModelError(
                f"model {model.name} {what}: AIRPI needs one for {expected!r}",
                "name another model: stemd models list shows what there is",
            )
        raise ModelError(
            f"model {model.name} was trained with {key} = {found or 'nothing'}, "
            f"this version of stemd has {expected}",
            "use the model that came with this version, or train it again",
        )


def _number(text: str | None) -> float | None:
    try:
        return float(text or "")
    except ValueError:
        return None


def find_model(name: str) -> None:
    """Raises ModelError unless there is such a model, and it is AIRPI's."""
    path = find(name)
    about = path.stat()
    _check_file(path, about.st_mtime_ns, about.st_size)


@lru_cache(maxsize=8)
def _check_file(path: Path, changed_ns: int, size: int) -> None:
    check_model(read_model(path))


class Loaded:
    """A network by name or path, loaded when it is first needed, and kept by the process.

    With `shared_thread` batches are run in the process's thread for networks, so that all that
    goes on beside a scan shares it; else by whoever calls.
    """

    def __init__(
        self,
        name: str,
        backend: BackendName,
        threads: int,
        batch: int,
        *,
        shared_thread: bool,
        device: int = 0,
    ) -> None:
        self._name, self._backend, self._threads = name, backend, threads
        self._device = device
        self._largest = (batch, inputs())
        self._shared = shared_thread
        self._network: Network | None = None
        self.sha256 = ""

    @property
    def about(self) -> str:
        """Backend and device of the loaded network; empty before."""
        return "" if self._network is None else str(self._network.info)

    def begin(self, features: F32) -> Callable[[], C64]:
        """Start the network on a batch; the function returned waits for T. Raises ModelError."""
        network = self.load()
        if not self._shared:
            return partial(transmission, network, features)
        return shared().submit(partial(transmission, network, features)).result

    def load(self) -> Network:
        """The network, loaded if it has not been yet. Raises ModelError."""
        if self._network is not None:
            return self._network
        thread = shared()

        def job() -> tuple[ModelFile, Network]:
            return thread.network(
                self._name, self._backend, self._threads, self._largest, check_model, self._device
            )

        model, network = thread.submit(job, urgent=True).result()
        takes(network.info, (None, inputs()), "AIRPI's network", (None, 2, WINDOW, WINDOW))
        self._network, self.sha256 = network, model.sha256
        return network


def transmission(network: Network, features: F32) -> C64:
    """T = psi_out / psi_in of each group, complex64 (n, WINDOW, WINDOW). Raises ModelError."""
    out = network.run(features)
    changed = np.empty((out.shape[0], WINDOW, WINDOW), np.complex64)
    changed.real = out[:, 0] + np.float32(1.0)
    changed.imag = out[:, 1]
    return changed

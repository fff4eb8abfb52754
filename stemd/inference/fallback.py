"""A network that goes on elsewhere while its device is lost, and back when it is there again."""

from __future__ import annotations

import dataclasses
import threading
import time
from collections.abc import Callable

from stemd.errors import DeviceLostError, ModelError
from stemd.inference import activity
from stemd.inference.base import Batch, Info, Network
from stemd.logs import get_logger

RETRY_S = 60.0
"""Between attempts to use the device again."""

log = get_logger(__name__)


class WithSpare:
    """Implements inference.base.Network. `load` gives the network, `spare` one for the CPU.

    A batch during which the device is lost is computed again on the spare, so its caller sees no
    error. `info` says what runs now.
    """

    def __init__(
        self,
        load: Callable[[], Network],
        spare: Callable[[], Network],
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._load, self._load_spare, self._clock = load, spare, clock
        self._lock = threading.Lock()
        self._network: Network | None = load()
        self._usual = self._network.info
        self._spare: Network | None = None
        self._retry_at = 0.0
        self._lost_because = ""

    @property
    def info(self) -> Info:
        """What runs now; `why` says so where it is the spare."""
        spare = self._spare
        if self._network is not None or spare is None:
            return self._usual
        return dataclasses.replace(spare.info, why=f"instead of the GPU: {self._lost_because}")

    def run(self, batch: Batch) -> Batch:
        """See inference.base.Network. Raises ModelError where the spare cannot be used either."""
        network = self._usable()
        if network is not None:
            try:
                return network.run(batch)
            except DeviceLostError as error:
                self._lose(network, error)
        return self._on_spare(batch)

    def _usable(self) -> Network | None:
        with self._lock:
            if self._network is None and self._clock() >= self._retry_at:
                self._return()
            return self._network

    def _return(self) -> None:
        try:
            self._network = self._load()
        except ModelError as error:
            self._retry_at = self._clock() + RETRY_S
            log.info("the GPU cannot be used yet", model=self._usual.model, error=error.message)
            return
        self._spare = None
        activity.over(self._about)
        log.info("the GPU is there again", model=self._usual.model, runs_on=str(self._network.info))

    def _lose(self, network: Network, error: DeviceLostError) -> None:
        with self._lock:
            if self._network is not network:  # another thread has seen it first
                return
            self._network = None
            self._retry_at = self._clock() + RETRY_S
            self._lost_because = error.message
        activity.tell(self._about, f"{self._usual.device} is lost: {self._usual.model} on the CPU")
        log.warning(
            "the GPU is lost: the network goes on on the CPU, slower",
            model=self._usual.model, error=error.message,
            remedy=f"{error.remedy}; it is tried again every {RETRY_S:g} s",
        )  # fmt: skip

    def _on_spare(self, batch: Batch) -> Batch:
        with self._lock:
            if self._spare is None:
                self._spare = self._load_spare()
                log.info("network loaded", model=self._usual.model, runs_on=str(self._spare.info))
            spare = self._spare
        return spare.run(batch)

    @property
    def _about(self) -> str:
        return f"lost {self._usual.device} {self._usual.model}"

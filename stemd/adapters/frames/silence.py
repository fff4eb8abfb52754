"""How long a scan is waited for when no frame comes: at its end shortly, in its middle longer."""

from __future__ import annotations

import time
from collections.abc import Iterable, Iterator
from typing import Protocol

from stemd.acquisition import Acquisition
from stemd.blocks import EndReason, Message, Notice

_IDLE_FRAMES = 20  # a slow camera is waited for this many dwell times


class Patience(Protocol):
    """The part of a camera's settings that says how long to wait."""

    idle_timeout_s: float
    pause_timeout_s: float


class Scanning(Protocol):
    """The part of a decoder that knows the scan under way."""

    @property
    def acquisition(self) -> Acquisition | None:
        """The scan under way."""
        ...

    @property
    def at_the_end(self) -> bool:
        """It lacks no more than its last frames."""
        ...

    def end(self, reason: EndReason, now_ns: int) -> Iterable[Message]:
        """End it."""
        ...


class Silence:
    """Ends scans of which no frame has come for too long; `docs/adr/0015` says why so.

    A scan that is at its end has lost its last frames. One in its middle may pause, and frames
    whose numbers go on belong to it, so it is waited for longer.
    """

    def __init__(self, patience: Patience) -> None:
        self._patience = patience
        self._last = time.monotonic()
        self._told = False

    def broken(self) -> None:
        """Something has come."""
        self._last = time.monotonic()
        self._told = False

    def lasts(self, decoder: Scanning, now_ns: int) -> Iterator[Message]:
        """Nothing comes, and a scan is under way."""
        acquisition = decoder.acquisition
        assert acquisition is not None
        dwell_s = (acquisition.scan.dwell_time_us or 0.0) * 1e-6
        idle_s = max(self._patience.idle_timeout_s, _IDLE_FRAMES * dwell_s)
        pause_s = max(self._patience.pause_timeout_s, idle_s)
        silent_s = time.monotonic() - self._last
        if silent_s <= idle_s:
            return
        if decoder.at_the_end or silent_s > pause_s:
            yield from decoder.end("idle", now_ns)
        elif not self._told:
            self._told = True
            yield Notice(
                "pause",
                f"the scan pauses: no frame for {idle_s:g} s",
                "info",
                remedy=f"it goes on with the next frame, and is ended after {pause_s:g} s; "
                "the command stop ends it now",
            )

"""How long a scan is waited for when nothing comes: at its end shortly, in its middle longer."""

from __future__ import annotations

import time
from collections.abc import Generator
from typing import Protocol

from stemd.acquisition import Acquisition
from stemd.blocks import Notice

_IDLE_FRAMES = 20  # a slow camera is waited for this many dwell times


class Patience(Protocol):
    """The part of a camera's settings that says how long to wait."""

    idle_timeout_s: float
    pause_timeout_s: float


def lacks_only_its_end(left: int, line: int, whole: int) -> bool:
    """Whether a scan of `whole` frames or positions lacks at most its last line, or a 16th."""
    return left <= min(line, max(1, whole // 16))


class Silence:
    """Tells when a scan of which nothing has come for too long is over; `docs/adr/0015` why so.

    A scan that is at its end has lost its last frames. One in its middle may pause, and what
    goes on with its numbers belongs to it, so it is waited for longer.
    """

    def __init__(self, patience: Patience, what: str, *, stops: bool) -> None:
        """`what` does not come; `stops`: the camera takes the command stop."""
        self._patience = patience
        self._what = what
        self._stops = stops
        self._last = time.monotonic()
        self._told = False

    def broken(self) -> None:
        """Something has come."""
        self._last = time.monotonic()
        self._told = False

    def lasts(
        self, acquisition: Acquisition | None, *, at_the_end: bool
    ) -> Generator[Notice, None, bool]:
        """Nothing comes; returns whether the scan, or what may yet be one (None), is over."""
        dwell_us = 0.0 if acquisition is None else acquisition.scan.dwell_time_us or 0.0
        idle_s = max(self._patience.idle_timeout_s, _IDLE_FRAMES * dwell_us * 1e-6)
        pause_s = max(self._patience.pause_timeout_s, idle_s)
        silent_s = time.monotonic() - self._last
        if silent_s <= idle_s:
            return False
        if acquisition is None or at_the_end or silent_s > pause_s:
            return True
        if not self._told:
            self._told = True
            yield Notice(
                "pause",
                f"the scan pauses: no {self._what} for {idle_s:g} s",
                "info",
                remedy=f"it goes on with the next {self._what}, and is ended after {pause_s:g} s"
                + ("; the command stop ends it now" if self._stops else ""),
            )
        return False

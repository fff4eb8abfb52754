"""How often an image is made of a scan that is not finished."""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import contextmanager

LIVE_SHARE = 0.25
"""At most this part of the time goes into images of a scan that is not finished."""
LEAST_LINES = 16
"""Complete scan lines from which on an unfinished image is worth making."""
LINES_AT_ONCE = 8
"""A multiple of it: lengths that are quick to transform."""


class Pace:
    """Tells when there are new lines and time for an image of them. One thread."""

    def __init__(self) -> None:
        self._lines = 0
        self._rest_until = 0.0

    def due(self, complete: int) -> int:
        """Of how many of the complete lines an image is to be made now; 0: of none."""
        lines = complete // LINES_AT_ONCE * LINES_AT_ONCE
        new = LEAST_LINES <= lines != self._lines
        return lines if new and time.monotonic() >= self._rest_until else 0

    @contextmanager
    def making(self, lines: int) -> Iterator[None]:
        """An image is made of so many lines; then there is a rest."""
        self._lines, began = lines, time.monotonic()
        yield
        ended = time.monotonic()
        self._rest_until = ended + (ended - began) * (1 / LIVE_SHARE - 1)

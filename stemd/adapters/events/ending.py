"""How near its end a scan must have come to be complete where the stream has ended."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Ending:
    """How near the scan's end the last hit must be for the scan to be complete.

    `gaps`: within so many mean gaps between hits; `part`: or in this last part of the last
    position's time.
    """

    gaps: float
    part: float


QUIET = Ending(16.0, 0.5)
"""The camera is there and sends nothing more."""
CUT = Ending(6.0, 0.0)
"""The camera has gone: nobody knows whether it had more to send. Of 400 whole scans one has its
last hit farther away from its end."""
LOST = Ending(0.0, 0.0)
"""Something was not sent to its end: the scan is complete only if its time is over."""

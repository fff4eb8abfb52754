"""How much of an event camera's stream should have given scans."""

from __future__ import annotations

NO_SCAN = (
    "check that the adapter's type, port and stream are those of this camera, that the cable from "
    "the scan generator is plugged in, and tdc.input and tdc.edge; a scan begins with its pulses"
)


class Received:
    """Counts for `adapters.base.Receives`.

    An event camera sends hits also while no scan runs. Until the first scan nobody knows whether
    one can begin, so all bytes count; from then on only those that make no sense.
    """

    def __init__(self) -> None:
        self.bytes = 0
        self._garbage = 0

    def began(self) -> None:
        """A stream of its own begins."""
        self._garbage = 0

    def came(self, count: int, garbage: int, scans: int) -> None:
        """`count` bytes more; of the stream so far `garbage` made no sense, `scans` have begun."""
        self.bytes += garbage - self._garbage if scans else count
        self._garbage = garbage

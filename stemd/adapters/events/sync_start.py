"""Where in a recording its scan begins: a small file beside the record of an event stream."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from numpy.typing import NDArray

from stemd.adapters.events.pulses import known
from stemd.documents import object_from_json
from stemd.errors import FormatError

SYNC_FILE = "raw.sync.json"
"""Name of the small file beside a recording that tells where its scan begins."""
_WHERE = ("time_ticks", "first_pulse", "first_row", "chip", "scan")


@dataclass(frozen=True, slots=True)
class SyncStart:
    """Where in a recording its scan begins, so that it can be processed again exactly.

    A recording begins a little before its scan and may hold line pulses of the scan before.
    `time_ticks`: unwrapped time near the first byte. `known`: what the pulses before it had told,
    with which its own are judged as they were. Where it is not given, or of other settings,
    `first_pulse` is the time modulo 2^34 ticks of the pulse of row `first_row` (-1: no pulses), on
    chip `chip`.
    `scan`: number of the scan, as the stream counts.
    """

    time_ticks: int
    first_pulse: int = -1
    first_row: int = 0
    chip: int = -1
    scan: int = 0
    known: Mapping[str, Any] | None = None

    def dumps(self) -> bytes:
        """The content of the small file."""
        where: dict[str, Any] = {name: getattr(self, name) for name in _WHERE}
        if self.known is not None:
            where["known"] = self.known
        return json.dumps(where).encode()

    @classmethod
    def loads(cls, text: bytes, name: str) -> SyncStart:
        """From the content of the file `name`; raises FormatError when it is something else."""
        try:
            values = object_from_json(text)
            where = {key: int(values[key]) for key in _WHERE}
            return cls(**where, known=values.get("known"))
        except (FormatError, ValueError, TypeError, KeyError, OverflowError) as error:
            raise FormatError(
                f"{name} does not tell where the scan begins ({error})",
                "delete it to take the first line pulse of the recording as the first line",
            ) from error

    def go_on(self, state: NDArray[Any], lines: NDArray[Any], waits: NDArray[Any]) -> bool:
        """Begin a stream with what is known; whether it is, for these settings."""
        try:
            return self.known is not None and known.go_on(self.known, state, lines, waits)
        except (ValueError, TypeError, KeyError, OverflowError, AttributeError):
            return False  # of an earlier or a later version

"""Where in a recording its scan begins: a small file beside the record of an event stream."""

from __future__ import annotations

import json
from dataclasses import dataclass

from stemd.documents import object_from_json
from stemd.errors import FormatError

SYNC_FILE = "raw.sync.json"
"""Name of the small file beside a recording that tells where its scan begins."""


@dataclass(frozen=True, slots=True)
class SyncStart:
    """Where in a recording its scan begins, so that it can be processed again exactly.

    A recording begins a little before its scan and may hold line pulses of the scan before.
    `time_ticks`: unwrapped time near the first byte. `first_pulse`: time modulo 2^34 ticks of
    the pulse of row `first_row` (-1: no pulses), on chip `chip`. `scan`: number of the scan by
    the dwell clock.
    """

    time_ticks: int
    first_pulse: int = -1
    first_row: int = 0
    chip: int = -1
    scan: int = 0

    def dumps(self) -> bytes:
        """The content of the small file."""
        return json.dumps({name: getattr(self, name) for name in self.__slots__}).encode()

    @classmethod
    def loads(cls, text: bytes, name: str) -> SyncStart:
        """From the content of the file `name`; raises FormatError when it is something else."""
        try:
            values = object_from_json(text)
            return cls(**{key: int(values[key]) for key in cls.__slots__})
        except (FormatError, ValueError, TypeError, KeyError, OverflowError) as error:
            raise FormatError(
                f"{name} does not tell where the scan begins ({error})",
                "delete it to take the first line pulse of the recording as the first line",
            ) from error

"""What turns an event camera's bytes into hits and pulses: the first half of its decoder."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from stemd.adapters.events import clock
from stemd.adapters.events.layout import Layout

DONE, FULL, GARBAGE = 0, 1, 2
"""Why the pass stopped: words used up; output full; no chunk header where one is due."""

BLOCK_RECORDS = 65536
"""Records decoded at a time. A block takes some 50 µs of Python, whatever it holds; with what is
made of them these records fit a fraction of the last cache, and the loops are no slower for it."""
ITEMS = 4096


class Hits:
    """Scratch for the hits of one pass, used again and again by one thread."""

    def __init__(self, size: int = BLOCK_RECORDS + 2 * clock.STRAYS) -> None:
        self.times: NDArray[np.int64] = np.zeros(size, np.int64)
        self.places: NDArray[np.uint32] = np.zeros(size, np.uint32)
        self.tots: NDArray[np.uint16] = np.zeros(size, np.uint16)
        self.items: NDArray[np.int64] = np.zeros((ITEMS, 5), np.int64)
        self.room = self.limit = size - clock.STRAYS - 1
        """Hits that fit; after `limit` hits a pass stops with FULL."""


class Front(Protocol):
    """Decodes records of a fixed size; keeps the state of the stream between calls."""

    record_bytes: int
    layout: Layout

    def decode(self, data: NDArray[np.uint8], first: int, hits: Hits) -> tuple[int, int, int, int]:
        """Whole records of `data` from number `first`; see `timepix3.decode.decode`."""
        ...

    def resync(self, data: NDArray[np.uint8], start: int) -> int:
        """After GARBAGE: byte at or behind `start` where decoding may go on."""
        ...

    def finish(self, hits: Hits) -> tuple[int, int]:
        """The stream is over: (hits, items) that were kept back, now in `hits`."""
        ...

    def record_start(self, data: NDArray[np.uint8]) -> int:
        """First byte of `data` at which a recording may begin; its size where there is none."""
        ...

    @property
    def head(self) -> bytes:
        """What must stand before the next record for a recording to begin with it, if anything."""
        ...

    def set_masked(self, pixels: Sequence[tuple[int, int]]) -> None:
        """Ignore hits in these pixels (y, x) from the next record on."""
        ...

    def set_time(self, ticks: int) -> None:
        """Before the first record: the unwrapped time about which the stream begins."""
        ...

    @property
    def now(self) -> int:
        """Latest unwrapped time, ticks."""
        ...

    @property
    def started(self) -> bool:
        """A time has been seen."""
        ...

    @property
    def keeps(self) -> bool:
        """Hits or pulses are kept back until a later word confirms their times."""
        ...

    @property
    def torn(self) -> bool:
        """The stream stands within something whose length was told."""
        ...

    @property
    def skipped_bytes(self) -> int:
        """Bytes that `decode` has passed over by itself: they were no records."""
        ...

    @property
    def foreign_records(self) -> int:
        """Records that are none of this camera's."""
        ...

    def counters(self) -> dict[str, int]:
        """What has been decoded so far, by kind."""
        ...

    def state(self) -> dict[str, NDArray[Any]]:
        """All that decoding depends on, copied: what `restore` of another one takes."""
        ...

    def restore(self, state: Mapping[str, NDArray[Any]]) -> None:
        """Go on where the front that gave this out was."""
        ...

"""Timepix3 words into hits and pulses."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from stemd.adapters.events import clock, strays
from stemd.adapters.events.front import Hits
from stemd.adapters.events.layout import Layout
from stemd.adapters.timepix3.decode import decode
from stemd.adapters.timepix3.settings import ColumnCorrection
from stemd.adapters.timepix3.words import MAGIC, address_mask

NO_CHIP = 63
"""Of words that are skipped since their layout has no such chip: no layout has this one."""


class WordsFront:
    """Timepix3 words, with or without chunk headers."""

    record_bytes = 8

    def __init__(
        self,
        layout: Layout,
        *,
        back_limit_us: float = 100_000.0,
        window_us: float = clock.AHEAD_US,
        headers_required: bool = False,
        correction: Sequence[ColumnCorrection] = (),
    ) -> None:
        self.layout = layout
        headers = clock.HEADERS_REQUIRED if headers_required else clock.HEADERS_AUTO
        self._state = clock.new_state(layout.chips, back_limit_us, window_us, headers)
        self._orientation = layout.orientation()
        self._mask = address_mask(layout, ())
        self._strays = np.zeros((clock.STRAYS, clock.STRAY_FIELDS), np.int64)
        self._correction = np.zeros(layout.chips * 256 if correction else 0, np.int32)
        for entry in correction:
            self._correction[entry.chip * 256 + entry.column] = entry.ticks

    def decode(self, data: NDArray[np.uint8], first: int, hits: Hits) -> tuple[int, int, int, int]:
        """See `Front`."""
        words = data[: data.size & ~7].view(np.uint64)
        following, count, items, why = decode(
            words,
            first,
            self._state,
            self._orientation,
            self._mask,
            self._correction,
            self._strays,
            hits.limit,
            hits.times,
            hits.places,
            hits.tots,
            hits.items,
        )
        return following, count, items, why

    def resync(self, data: NDArray[np.uint8], start: int) -> int:
        """The next plausible chunk header, or where one could still begin."""
        raw = data[start:].tobytes()
        at = raw.find(b"TPX3")
        while at >= 0 and len(raw) - at >= 8:
            size = int.from_bytes(raw[at + 6 : at + 8], "little")
            if raw[at + 5] == 0 and size % 8 == 0 and raw[at + 4] < 64:
                return start + at
            at = raw.find(b"TPX3", at + 1)
        return start + (at if at >= 0 else max(0, len(raw) - 3))

    def finish(self, hits: Hits) -> tuple[int, int]:
        """See `Front`."""
        return strays.finish(self._state[0], self._strays, hits)

    def record_start(self, data: NDArray[np.uint8]) -> int:
        """The first chunk header; 0 for bare words, the end where there is none."""
        if self._state["bare"][0]:
            return 0
        headers = np.flatnonzero(data[: data.size & ~7].view(np.uint32)[::2] == MAGIC)
        return int(headers[0]) * 8 if headers.size else data.size

    @property
    def head(self) -> bytes:
        """See `Front`: the header of what is left of a chunk."""
        s = self._state[0]
        if s["left"] == 0 or s["bare"]:
            return b""
        chip = s["chip"] if s["chip"] >= 0 else NO_CHIP
        return (MAGIC | int(chip) << 32 | int(s["left"]) * 8 << 48).to_bytes(8, "little")

    def set_masked(self, pixels: Sequence[tuple[int, int]]) -> None:
        """See `Front`."""
        self._mask = address_mask(self.layout, pixels)

    def set_time(self, ticks: int) -> None:
        """See `Front`."""
        self._state["now"], self._state["started"] = ticks, 1

    @property
    def now(self) -> int:
        """See `Front`."""
        return int(self._state["now"][0])

    @property
    def started(self) -> bool:
        """See `Front`."""
        return bool(self._state["started"][0])

    @property
    def keeps(self) -> bool:
        """See `Front`."""
        return bool(self._state["strays"][0])

    @property
    def torn(self) -> bool:
        """See `Front`."""
        return bool(self._state["left"][0] > 0 and not self._state["bare"][0])

    @property
    def skipped_bytes(self) -> int:
        """See `Front`."""
        return int(self._state["skipped"][0])

    @property
    def foreign_records(self) -> int:
        """See `Front`."""
        return int(self._state["unknown"][0] + self._state["foreign_chip"][0])

    def counters(self) -> dict[str, int]:
        """See `Front`."""
        return {name: int(self._state[name][0]) for name in clock.COUNTERS}

    def state(self) -> dict[str, NDArray[Any]]:
        """See `Front`."""
        return {
            "state": self._state.copy(),
            "strays": self._strays.copy(),
            "mask": self._mask.copy(),
        }

    def restore(self, state: Mapping[str, NDArray[Any]]) -> None:
        """See `Front`."""
        self._state = state["state"].copy()
        self._strays = state["strays"].copy()
        self._mask = state["mask"].copy()

"""AdvaCam's pixel records: .t3p (binary) and .t3pa (text), decoder and encoder.

A .t3p file is records of 16 bytes, little-endian: u32 matrix index, u64 ToA in 25 ns, u8
overflow, u8 FToA in 1.5625 ns (to subtract), u16 ToT in 25 ns; files of 2015 have a u32 ToA
and 12 bytes. Index: chip << 16 | y << 8 | x. There is no header and no scan in it.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from stemd.adapters.events import clock as clocks
from stemd.adapters.events import strays as kept
from stemd.adapters.events.clock import STRAYS
from stemd.adapters.events.front import DONE, FULL, Hits
from stemd.adapters.events.layout import MASKED, Layout
from stemd.adapters.events.strays import keep_stray, leap, release_strays
from stemd.compilation import njit

LOST_DATA_BEGINS, LOST_DATA_ENDS = 0x74, 0x75
"""Matrix indices of records with overflow = 1 that are not hits but marks. Other records with it
are hits, of whose neighbours some may be lost. Of several chips the field is the chip once more."""

RECORD = np.dtype(
    [("index", "<u4"), ("toa", "<u8"), ("overflow", "u1"), ("ftoa", "u1"), ("tot", "<u2")]
)
SHORT_RECORD = np.dtype(
    [("index", "<u4"), ("toa", "<u4"), ("overflow", "u1"), ("ftoa", "u1"), ("tot", "<u2")]
)


def records(
    time_ticks: ArrayLike,
    y: ArrayLike,
    x: ArrayLike,
    tot: ArrayLike = 1,
    *,
    chip: ArrayLike = 0,
    clock_bits: int = 30,
) -> NDArray[Any]:
    """Records of hits: time in ticks of 1.5625 ns, the ToA wrapping at 2^clock_bits."""
    time = np.atleast_1d(np.asarray(time_ticks, np.int64))
    made = np.zeros(time.size, RECORD)
    fine = -time % 16
    made["toa"] = (time + fine >> 4) & ((1 << clock_bits) - 1)
    made["ftoa"] = fine
    made["index"] = np.asarray(chip) << 16 | np.asarray(y) << 8 | np.asarray(x)
    made["tot"] = tot
    return made


@njit(nogil=True, cache=True)
def decode_records(
    data: NDArray[np.uint32],
    first: int,
    s_array: NDArray[Any],
    table: NDArray[np.uint32],
    strays: NDArray[np.int64],
    clock: NDArray[np.int64],
    limit: int,
    times: NDArray[np.int64],
    places: NDArray[np.uint32],
    tots: NDArray[np.uint16],
    items: NDArray[np.int64],
) -> tuple[int, int, int, int]:
    """Decode records data[first:] (n, 3 or 4 u32) into hits; see `timepix3.decode.decode`.

    `table`: y << 16 | x of each matrix index. `clock` = (bits of the ToA counter, automatic,
    lost-data marks, hits marked with an overflow): with `automatic` a ToA that the counter could
    not hold makes it 60 bits.
    """
    s = s_array[0]
    n = m = 0
    long = data.shape[1] == 4
    for i in range(first, data.shape[0]):
        if n >= limit or m >= items.shape[0] - STRAYS - 2:
            return i, n, m, FULL
        index = np.int64(data[i, 0])
        toa = np.int64(data[i, 1])
        tail = np.int64(data[i, 2])
        if long:
            toa |= tail << 32
            tail = np.int64(data[i, 3])
        flag = tail & 0xFF
        if flag != 0 and flag != index >> 16:
            if index in (LOST_DATA_BEGINS, LOST_DATA_ENDS):
                clock[2] += index == LOST_DATA_BEGINS
                s.control += 1
                continue
            clock[3] += 1
        if index >= table.size or toa < 0 or toa >> 56:
            s.unknown += 1
            continue
        if clock[1] and toa >> clock[0]:
            clock[0] = 56
        s.pixels += 1
        wrap = (np.int64(1) << (clock[0] + 4)) - 1
        half = np.int64(1) << (clock[0] + 3)
        raw = (toa << 4) - (tail >> 8 & 0xFF)  # a little below zero where the clock begins
        if s.started == 0:
            s.started = 1
            s.now = raw
        step = (((raw - s.now) & wrap) ^ half) - half
        time = s.now + step
        place = table[index]
        if step < -s.back_limit:
            n, m = keep_stray(
                s, raw, np.int64(place), tail >> 16 & 0xFFFF, -1, index >> 16,
                strays, times, places, tots, n, items, m,
            )  # fmt: skip
            continue
        if step > s.ahead_limit:
            n, m, kept = leap(
                s, raw, time, np.int64(place), tail >> 16 & 0xFFFF, -1, index >> 16,
                strays, times, places, tots, n, items, m,
            )  # fmt: skip
            if kept:
                continue
        elif s.strays > 0:
            n, m = release_strays(s, time, strays, times, places, tots, n, items, m)
        if place == MASKED:
            s.masked += 1
        else:
            times[n] = time
            places[n] = place
            tots[n] = tail >> 16 & 0xFFFF
            n += 1
        s.now = max(s.now, time)
    return data.shape[0], n, m, DONE


class RecordsFront:
    """Records of 16 or 12 bytes; see `timepix3.front.Front`.

    `clock_bits`: 30 (AdvaPix, wraps after 26.8 s), 28 (quad, 6.7 s), 64 (MiniPix, never), or
    None: 30 until a ToA is seen that such a counter cannot hold.
    """

    def __init__(
        self,
        layout: Layout,
        *,
        back_limit_us: float = 100_000.0,
        window_us: float = clocks.AHEAD_US,
        clock_bits: int | None = None,
        record_bytes: int = 16,
    ) -> None:
        self.layout = layout
        self.record_bytes = record_bytes
        self._state = clocks.new_state(layout.chips, back_limit_us, window_us)
        self._strays = np.zeros((STRAYS, clocks.STRAY_FIELDS), np.int64)
        self._clock = np.array([min(clock_bits or 30, 56), clock_bits is None, 0, 0], np.int64)
        self.set_masked(())

    def decode(self, data: NDArray[np.uint8], first: int, hits: Hits) -> tuple[int, int, int, int]:
        """See `Front`."""
        whole = data[: data.size - data.size % self.record_bytes].view(np.uint32)
        following, count, items, why = decode_records(
            whole.reshape(-1, self.record_bytes // 4),
            first,
            self._state,
            self._table,
            self._strays,
            self._clock,
            hits.limit,
            hits.times,
            hits.places,
            hits.tots,
            hits.items,
        )
        return following, count, items, why

    def resync(self, data: NDArray[np.uint8], start: int) -> int:
        """Records have no marks to find again: nothing is skipped."""
        return start

    def finish(self, hits: Hits) -> tuple[int, int]:
        """See `Front`."""
        return kept.finish(self._state[0], self._strays, hits)

    def record_start(self, data: NDArray[np.uint8]) -> int:
        """Every record is a beginning."""
        return 0

    @property
    def head(self) -> bytes:
        """See `Front`: a recording can begin with any record."""
        return b""

    def set_masked(self, pixels: Sequence[tuple[int, int]]) -> None:
        """See `Front`."""
        index = np.arange(1 << 16)
        self._table = self.layout.table(index >> 8, index & 255, pixels)

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
        """See `events.front.Front`: no record tells how long what follows is."""
        return False

    @property
    def skipped_bytes(self) -> int:
        """See `Front`."""
        return 0

    @property
    def foreign_records(self) -> int:
        """See `Front`."""
        return int(self._state["unknown"][0])

    def counters(self) -> dict[str, int]:
        """See `Front`; `lost_data`: gaps that the camera has marked, `overflow_hits`: hits."""
        found = {name: int(self._state[name][0]) for name in clocks.COUNTERS}
        lost, hits = self._clock[2:].tolist()
        return {**found, "lost_data": lost, "overflow_hits": hits}

    def state(self) -> dict[str, NDArray[Any]]:
        """See `Front`."""
        return {
            "state": self._state.copy(),
            "strays": self._strays.copy(),
            "clock": self._clock.copy(),
            "table": self._table.copy(),
        }

    def restore(self, state: Mapping[str, NDArray[Any]]) -> None:
        """See `Front`."""
        self._state = state["state"].copy()
        self._strays = state["strays"].copy()
        self._clock = state["clock"].copy()
        self._table = state["table"].copy()

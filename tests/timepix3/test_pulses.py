"""Line pulses keep the fine time of the camera's clock, a sixth of a tick."""

from __future__ import annotations

import numpy as np
import pytest

from stemd.acquisition import Scan
from stemd.adapters.events.front import Hits
from stemd.adapters.events.sync import Output, ScanSync

from .streams import settings

SCAN = Scan(shape=(40, 10), flyback=2)


def sent(pulses: list[tuple[int, int]]) -> ScanSync:
    """What synchronisation makes of TDC pulses (sixths of a tick, counter)."""
    chosen = settings(SCAN)
    sync, hits = ScanSync(chosen, SCAN), Hits()
    for number, (sixths, counter) in enumerate(pulses):
        hits.items[number] = 0, chosen.tdc.start_edge, sixths, counter, 0
    sync.assign(hits, 0, 0, len(pulses), 0, Output.within(np.zeros(12 * 8, np.uint8), 8))
    return sync


@pytest.mark.parametrize("fraction", [1, 5])
def test_the_time_between_lines_is_known_to_a_sixth_of_a_tick(fraction: int) -> None:
    period = 6 * 7200 + fraction
    sync = sent([(100 + number * period, number) for number in range(20)])
    state, lines = sync._state, sync._lines
    assert state["line_pulses"][0] == 20
    assert state["last_pulse"][0] == pytest.approx((100 + 19 * period) / 6)
    assert state["period"][0] == pytest.approx(period / 6, abs=1e-6)
    starts = lines["start"][:20]
    assert starts.tolist() == np.floor((100 + period * np.arange(20)) / 6).tolist()
    # a line of 10 positions takes 10 parts of 12, the other two are flyback
    assert lines["dwell"][19] == pytest.approx(period / 6 / 12, abs=1e-6)


def test_pulses_lost_where_the_counter_wraps_are_counted() -> None:
    period = 6 * 7200
    before = [(number * period, 4091 + number) for number in range(4)]
    state = sent([*before, (6 * period, 1)])._state
    assert state["missed"][0] == 2
    assert state["row"][0] == 6

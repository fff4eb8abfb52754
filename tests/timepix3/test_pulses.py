"""Line pulses keep the fine time of the camera's clock, a sixth of a tick."""

from __future__ import annotations

import numpy as np
import pytest

from stemd.acquisition import Scan
from stemd.adapters.events import pulses
from stemd.adapters.events.sync import ScanSync

from .streams import settings


@pytest.mark.parametrize("fraction", [1, 5])
def test_the_time_between_lines_is_known_to_a_sixth_of_a_tick(fraction: int) -> None:
    scan = Scan(shape=(40, 10), flyback=2)
    chosen = settings(scan)
    sync = ScanSync(chosen, scan)
    state, lines = sync._state, sync._lines
    period = 6 * 7200 + fraction
    for number in range(20):
        sixths = 100 + number * period
        pulses.tdc_edge(state[0], lines, chosen.tdc.start_edge, sixths, number, 0)
    assert state["line_pulses"][0] == 20
    assert state["last_pulse"][0] == pytest.approx((100 + 19 * period) / 6)
    assert state["period"][0] == pytest.approx(period / 6, abs=1e-6)
    starts = lines["start"][:20]
    assert starts.tolist() == np.floor((100 + period * np.arange(20)) / 6).tolist()
    # a line of 10 positions takes 10 parts of 12, the other two are flyback
    assert lines["dwell"][19] == pytest.approx(period / 6 / 12, abs=1e-6)


def test_pulses_lost_where_the_counter_wraps_are_counted() -> None:
    scan = Scan(shape=(40, 10), flyback=2)
    chosen = settings(scan)
    sync = ScanSync(chosen, scan)
    state, lines = sync._state, sync._lines
    pulses.tdc_edge(state[0], lines, chosen.tdc.start_edge, 0, 4094, 0)
    pulses.tdc_edge(state[0], lines, chosen.tdc.start_edge, 3 * 6 * 7200, 1, 0)
    assert state["missed"][0] == 2
    assert state["row"][0] == 3

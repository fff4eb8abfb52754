"""What the synchronisation of a stream's hits begins with: its settings, and no line seen."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from stemd.acquisition import Scan
from stemd.adapters.events.pulses import state as pulses
from stemd.adapters.events.pulses.state import NEVER, NONE
from stemd.adapters.events.settings import EventSettings
from stemd.adapters.events.sync_start import SyncStart
from stemd.adapters.events.ticks import TICK_NS, TICKS_PER_US


def first_state(
    settings: EventSettings, scan: Scan, start: SyncStart | None = None
) -> NDArray[Any]:
    """The state (1,) of `pulses.state.STATE` before the first hit of a stream.

    `start`: where the scan of a recording begins, None where nobody has told.
    """
    by_pulses = settings.sync == "tdc"
    state = np.zeros(1, pulses.STATE)
    ny, nx = scan.lines, scan.shape[1]
    dwell = (scan.dwell_time_us or 0.0) * TICKS_PER_US
    idle = max(settings.idle_timeout_s * 1e6 * TICKS_PER_US, 8 * dwell * nx)
    tdc = settings.tdc
    delay = tdc.line_delay_us if by_pulses else settings.clock_origin_us
    acceptance = settings.acceptance_time_ns
    values = {
        "mode": pulses.PULSES if by_pulses else pulses.CLOCK,
        "ny": ny,
        "nx": nx,
        "line_slots": scan.line_frames,
        "leading": scan.leading,
        "serpentine": scan.serpentine,
        "start_edge": tdc.start_edge,
        "stop_edge": tdc.stop_edge,
        "frame_edge": tdc.frame_edge,
        "only_chip": -1 if tdc.chip is None else tdc.chip,
        "chip_steps": 1 if tdc.stop_edge < 0 else 2,
        "delay": delay * TICKS_PER_US,
        "window": settings.reorder_window_us * TICKS_PER_US,
        "acceptance": NEVER if acceptance is None else acceptance / TICK_NS,
        "idle": idle,
        "amid": max(settings.pause_timeout_s * 1e6 * TICKS_PER_US, idle),
        "period": (tdc.line_time_us or 0.0) * TICKS_PER_US,
        "pause": -1.0,
        "last_pause": -1.0,
        "last_edge": NONE,
        # with a pulse at the end of each line the lines tell their own duration
        "dwell_given": 0.0 if by_pulses and tdc.stop_edge >= 0 else dwell,
        "now": -(1 << 62),
        "scan": -1,
        "closed": -1,
        "newest_scan": -1,
        "close_at": NEVER,
        "decide_at": NEVER,
        "first_pulse": -1,
    }
    for name, value in values.items():
        state[name] = value
    if start is not None:
        state["first_pulse"], state["first_row"] = start.first_pulse, start.first_row
        if start.chip >= 0:
            state["only_chip"] = start.chip
        if not by_pulses:
            state["closed"] = start.scan - 1
    return state

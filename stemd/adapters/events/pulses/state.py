"""What the second pass remembers: settings, the line clock, waiting pulses, lines, counters."""

from __future__ import annotations

import numpy as np

PULSES, CLOCK = 0, 1
"""What makes the lines: TDC pulses, or the dwell clock alone."""

LINES = 4096
"""Lines remembered: more than begin within any sensible reorder window."""
CHIPS = 4
WAITING = 128
"""Pulses that can wait to be understood; with more the oldest is decided at once."""
RECENT = 32
"""Intervals of which the line period is the median."""
PLACED = 16
"""Durations of lines of one scan of which the dwell time is the median."""

COMPLETE, RESTARTED, IDLE = 0, 1, 2
"""How a scan ended."""

NEVER = 1e300
NONE = -1e300
"""In the place of a time: there is none."""
COUNTER = 4096
"""The counter of a TDC input counts modulo this."""
MOST_MISSED = 3
"""Missing pulses in a row that an interval alone may prove; the counter may prove more."""
SAME_PULSE = 64.0
"""Chips that saw the same pulse differ by less than so many ticks, 100 ns."""

STATE = np.dtype(
    [
        ("mode", "i8"),
        ("ny", "i8"),
        ("nx", "i8"),
        ("line_slots", "i8"),  # dwell times from line to line, flyback included
        ("leading", "i8"),
        ("serpentine", "i8"),
        ("start_edge", "i8"),  # TDC edge that begins a line
        ("stop_edge", "i8"),  # TDC edge that ends it, -1: none
        ("frame_edge", "i8"),  # TDC edge that begins a scan, -1: none
        ("only_chip", "i8"),  # chip whose pulses count, -1: all are heard
        ("delay", "f8"),  # from pulse (or clock zero) to the first position
        ("window", "f8"),  # reorder window
        ("acceptance", "f8"),  # ticks of a dwell time in which hits count
        ("idle", "f8"),  # ticks without pulses that end a scan at its end
        ("amid", "f8"),  # ... in its middle
        ("dwell_given", "f8"),
        ("now", "i8"),
        # the line clock: the newest line that a pulse made, and the rhythm of those before
        ("tracked", "i8"),
        ("fresh", "i8"),  # 1: the next line begins a scan, whatever the count says
        ("after_reset", "i8"),
        ("last_pulse", "f8"),
        ("last_edge", "f8"),  # when the newest edge came that could begin a line, by this clock
        ("last_line", "i8"),  # scan * ny + row
        ("period", "f8"),  # line to line, ticks; 0 not known
        ("spread", "f8"),  # largest deviation of recent intervals from it
        ("intervals", "i8"),
        ("recent", "f8", (RECENT,)),
        # from scan to scan, in periods beyond one; -1 where the last two were not the same
        ("pause", "f8"),
        ("last_pause", "f8"),
        # the timing of the newest scan alone, so that its record gives the same positions
        ("announced", "i8"),  # 1: a frame pulse began it
        ("duration", "f8"),  # nx dwell times, ticks; 0 not known
        ("timed", "i8"),
        ("times", "f8", (PLACED,)),
        # what each chip counted
        ("chip_line", "i8", (CHIPS,)),
        ("chip_counter", "i8", (CHIPS,)),
        ("chip_known", "i8", (CHIPS,)),
        ("chip_steps", "i8", (CHIPS,)),  # counts a pulse: 2 where both edges are counted
        ("chip_extra", "i8", (CHIPS,)),  # edges since its last line that belong to none
        ("other_line", "i8", (CHIPS,)),  # a count out of step, to compare the next with
        ("other_counter", "i8", (CHIPS,)),
        ("other_known", "i8", (CHIPS,)),
        ("frame_mark", "i8", (CHIPS,)),  # 1: the chip's next line pulse begins a scan
        ("room", "f8", (WAITING,)),  # for what is worked out of those that wait
        ("waiting", "i8"),
        ("arrivals", "i8"),
        ("decide_at", "f8"),  # time at which waiting pulses are decided with what there is
        ("first_pulse", "i8"),  # time modulo 2^34 of the pulse that begins the first scan, or -1
        ("first_row", "i8"),
        # lines and scans
        ("lines", "i8"),  # lines ever made
        ("hint", "i8"),
        ("scan", "i8"),  # scan that hits are given out for; -1 none open
        ("closed", "i8"),  # last scan that was closed, -1 none
        ("row", "i8"),  # of the newest line
        ("newest_scan", "i8"),
        ("head", "i8"),
        ("held", "i8"),
        ("drain", "i8"),
        ("close_at", "f8"),
        ("end_reason", "i8"),
        ("outside", "i8"),  # counters from here on
        ("in_holes", "i8"),
        ("late", "i8"),
        ("overflow", "i8"),
        ("unaccepted", "i8"),
        ("start_edges", "i8"),  # that came, also those that wait or are no line's
        ("line_pulses", "i8"),
        ("copies", "i8"),
        ("other_edges", "i8"),
        ("missed", "i8"),
        ("holes", "i8"),
        ("odd_counters", "i8"),
        ("odd_times", "i8"),
        ("spurious", "i8"),
        ("shifted", "i8"),
        ("begun_anew", "i8"),
        ("before_start", "i8"),
    ]
)
COUNTERS = STATE.names[STATE.names.index("outside") :] if STATE.names else ()

LINE = np.dtype(
    [
        ("start", "f8"),
        ("stop", "f8"),
        ("dwell", "f8"),
        ("scan", "i8"),
        ("row", "i8"),
        ("line", "i8"),  # scan * ny + row
        ("pulse", "f8"),  # time of its pulse, or NONE where its neighbours tell
    ]
)

PULSE = np.dtype(
    [
        ("time", "f8"),
        ("stop", "f8"),  # time of the edge that ends its line, NONE before it has come
        ("arrived", "f8"),  # time of the stream when it came
        ("order", "i8"),
        ("mark", "i8"),  # 1: a frame pulse came before it
        ("counters", "i8", (CHIPS,)),  # of each chip that saw it, else -1
    ]
)
"""A line pulse that waits, in order of time."""

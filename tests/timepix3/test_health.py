"""A synchronisation that looks wrong is told in plain words."""

from __future__ import annotations

import numpy as np

from stemd.acquisition import Scan
from stemd.adapters.events.ticks import TDC2_RISE

from .streams import Camera, Electrons, decoder, electrons, receive, settings

SCAN = Scan(shape=(60, 20), flyback=5, dwell_time_us=1000.0)
TICKS = 640_000
WINDOW = {"reorder_window_us": 20_000.0}


def test_a_good_stream_gives_no_notice() -> None:
    sent = electrons(SCAN, 30_000, dwell=TICKS)
    assert receive(Camera().stream(sent), decoder(settings(SCAN, **WINDOW))).notices() == {}


def test_missing_pulses_are_told_with_what_came_instead() -> None:
    sent = electrons(SCAN, 30_000, dwell=TICKS)
    stream = Camera(edges=((TDC2_RISE, 0),)).stream(sent)
    text = receive(stream, decoder(settings(SCAN, **WINDOW))).notices()["no_line_pulses"]
    assert "TDC1 rising" in text
    assert "edges came on other inputs" in text


def test_an_interval_that_does_not_fit_the_dwell_time_is_told() -> None:
    sent = electrons(SCAN, 60_000, dwell=TICKS)
    wrong = SCAN.model_copy(update={"dwell_time_us": 1100.0})
    got = receive(Camera().stream(sent), decoder(settings(wrong)))
    assert "25000.0 us" in got.notices()["line_interval"]


def test_many_hits_outside_the_lines_are_told() -> None:
    sent = electrons(SCAN, 30_000, dwell=TICKS)
    short = SCAN.model_copy(update={"dwell_time_us": 300.0, "flyback": None})
    got = receive(Camera().stream(sent), decoder(settings(short, sync="tdc")))
    assert "hits_outside_lines" not in got.notices()  # a long flyback explains them
    long_pause = Electrons(
        np.concatenate([sent.time, sent.time[-1] + np.arange(60_000) * 2000]),
        np.concatenate([sent.y, np.full(60_000, 3)]),
        np.concatenate([sent.x, np.full(60_000, 3)]),
        np.concatenate([sent.probe, np.full(60_000, -1)]),
        np.append(sent.line_starts[:30], sent.time[-1] + 60_000 * 2000),
    )
    notices = receive(Camera().stream(long_pause), decoder(settings(SCAN, **WINDOW))).notices()
    assert "% of the hits" in notices["hits_outside_lines"]


def test_hits_that_cannot_wait_any_longer_are_counted() -> None:
    sent = electrons(SCAN, 30_000, dwell=TICKS)
    late = Electrons(sent.time, sent.y, sent.x, sent.probe, sent.line_starts[-1:])
    made = decoder(settings(SCAN.model_copy(update={"dwell_time_us": None}), hold_hits=1024))
    receive(Camera().stream(late), made)
    counters = made.counters()
    assert counters["outside"] + counters["overflow"] + counters["held"] == 30_000
    assert counters["held"] <= 1024

"""A synchronisation that looks wrong is told in plain words."""

from __future__ import annotations

import numpy as np
import pytest

from stemd.acquisition import Scan
from stemd.adapters.events.ticks import TDC2_RISE
from stemd.blocks import Ended

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


def test_a_clock_that_leaps_between_scans_is_no_missing_pulse() -> None:
    """The first hits of a scan may come before its first pulse, long after the last scan's."""
    camera = Camera()
    got: list[dict[str, str]] = []
    made = decoder(settings(SCAN, **WINDOW))
    for number in range(4):
        sent = electrons(SCAN, 30_000, dwell=TICKS, start=1_000_000 + number * 40 * 640_000_000)
        notices = receive(camera.stream(sent), made, eof=False)
        for message in made.finish("idle", 1):
            notices.take(message)
        got.append(notices.notices())
    assert [each.get("no_line_pulses") for each in got] == [None] * 4


def test_lines_that_take_seconds_are_no_missing_pulses() -> None:
    """A pulse every 5 s is what this scan has."""
    slow = Scan(shape=(4, 50), flyback=0, dwell_time_us=100_000.0)
    sent = electrons(slow, 60_000, dwell=100 * TICKS)
    assert "no_line_pulses" not in receive(Camera().stream(sent), decoder(settings(slow))).notices()


@pytest.mark.parametrize("dwell_us", [None, 100_000.0])
def test_the_first_pulses_of_slow_lines_are_no_missing_pulses_however_the_stream_is_cut(
    dwell_us: float | None,
) -> None:
    """Four pulses have to come before one of them is a line: here that is 15 s."""
    slow = Scan(shape=(6, 50), flyback=0, dwell_time_us=dwell_us)
    sent = electrons(slow, 120_000, dwell=100 * TICKS)
    cuts = [8192 * 8] * 100
    got = receive(Camera().stream(sent), decoder(settings(slow)), cuts, flush=lambda _: True)
    assert "no_line_pulses" not in got.notices()
    assert [message.reason for message in got.of(Ended)] == ["complete"]


def test_pulses_that_stop_after_the_first_ones_are_told() -> None:
    """Two pulses are no lines yet, and no excuse either."""
    sent = electrons(SCAN, 200_000, dwell=TICKS)
    stream = Camera(unseen=range(2, 60)).stream(sent)
    got = receive(stream, decoder(settings(SCAN, **WINDOW)), [8192] * 1000, flush=lambda _: True)
    assert "no TDC1 rising pulses for 1." in got.notices()["no_line_pulses"]


def test_pulses_that_stop_while_hits_go_on_are_told_though_no_scan_runs() -> None:
    sent = electrons(SCAN, 30_000, dwell=TICKS)
    after = sent.time[-1] + np.arange(60_000) * 640_000  # a minute of beam
    still = np.full(60_000, 3)
    idle = Electrons(
        np.concatenate([sent.time, after]),
        np.concatenate([sent.y, still]),
        np.concatenate([sent.x, still]),
        np.concatenate([sent.probe, np.full(60_000, -1)]),
        sent.line_starts,
    )
    text = receive(Camera().stream(idle), decoder(settings(SCAN, **WINDOW))).notices()
    assert "although hits arrive" in text["no_line_pulses"]


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


DENSE = Scan(shape=(32, 32), flyback=0, dwell_time_us=1.0)


def ended(lost: int, *, torn: bool = False, there: bool = False, seed: int = 1) -> str:
    """How a scan of 18 hits a position ends of which this many last hits were not sent.

    `torn`: its last chunk promises more than comes; `there`: the camera stays and is silent.
    """
    sent = electrons(DENSE, 18 * 1024, seed=seed)
    kept = len(sent.time) - lost
    time, y, x, probe = (each[:kept] for each in (sent.time, sent.y, sent.x, sent.probe))
    cut = Electrons(time, y, x, probe, sent.line_starts)
    stream = Camera().stream(cut)
    if torn:
        at = stream.rindex(b"TPX3")
        size = int.from_bytes(stream[at + 6 : at + 8], "little") + 8
        stream = stream[: at + 6] + size.to_bytes(2, "little") + stream[at + 8 :]
    made = decoder(settings(DENSE))
    got = receive(stream, made, eof=not there)
    if there:
        for message in made.finish("idle", 1):
            got.take(message)
    (over,) = got.of(Ended)
    return over.reason


def test_a_camera_that_goes_before_its_last_hits_ends_no_complete_scan() -> None:
    whole = [ended(0, seed=seed) for seed in range(20)]
    assert whole.count("complete") >= 19
    assert ended(10) == "disconnected"
    assert ended(10, there=True) == "complete", "it may have had nothing more to send"


def test_a_chunk_that_promises_more_than_came_ends_no_complete_scan() -> None:
    assert ended(2, torn=True) == "disconnected"

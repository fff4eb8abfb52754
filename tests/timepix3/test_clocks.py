"""Clocks that wrap, jump and begin again."""

from __future__ import annotations

import numpy as np
import pytest

from stemd.acquisition import Scan
from stemd.adapters.events.layout import Layout
from stemd.adapters.timepix3.words import chunk, global_time_words, pixel_words, tdc_words
from stemd.blocks import Ended, Notice

from .streams import Camera, Electrons, decoder, electrons, expected, receive, settings

SECOND = 640_000_000
SINGLE = Layout("single")


def a_day(scan: Scan, hits: int) -> Electrons:
    """Hits through 24 hours at one second a position."""
    random = np.random.default_rng(1)
    ny, nx = scan.shape
    time = ((np.arange(hits) + random.random(hits)) * (ny * nx / hits) * SECOND).astype(np.int64)
    y, x = random.integers(0, 256, hits), random.integers(0, 256, hits)
    return Electrons(time, y, x, time // SECOND, np.arange(ny) * nx * SECOND)


@pytest.mark.parametrize("sync", ["tdc", "dwell"])
def test_a_day_of_hits_crosses_every_rollover_and_none_is_misplaced(sync: str) -> None:
    scan = Scan(shape=(1440, 60), dwell_time_us=1e6)
    sent = a_day(scan, 40_000)
    assert sent.time.max() > 3000 * 2**34  # so many rollovers of the pixel clock
    assert np.diff(sent.time).max() < 2**33
    got = receive(
        Camera(layout=SINGLE, chunk_hits=8).stream(sent),
        decoder(settings(scan, sync=sync, layout="single")),
    )
    assert got.hits().shape == (40_000, 3)
    assert (got.hits() == expected(sent)).all()


@pytest.mark.parametrize("rollover", [2**34, 2**36, 3 * 2**34])
@pytest.mark.parametrize("late", [0, 25])
def test_disorder_at_a_rollover_does_no_harm(rollover: int, late: int) -> None:
    scan = Scan(shape=(20, 30), flyback=4, dwell_time_us=1.0)
    sent = electrons(scan, 8000, start=rollover - 10 * 34 * 640)
    shuffled = sent.time.copy()
    parts = Camera(late_words=late).chunks(sent)
    for index in range(2, len(parts) - 2, 4):
        parts[index : index + 3] = parts[index : index + 3][::-1]
    got = receive(b"".join(parts), decoder(settings(scan, reorder_window_us=2000.0)))
    wanted = expected(Electrons(shuffled, sent.y, sent.x, sent.probe, sent.line_starts))
    assert (got.hits() == wanted).all()


def test_silence_longer_than_the_pixel_clock_is_told_by_the_global_time() -> None:
    scan = Scan(shape=(4, 100), dwell_time_us=1e6)
    pieces = []
    for second in (3, 57, 143, 251, 333):
        pieces.append(chunk(global_time_words(second * SECOND - 1600)))
        pieces.append(chunk(pixel_words(second * SECOND + 7, 10, second % 256)))
    got = receive(b"".join(pieces), decoder(settings(scan, sync="dwell", layout="single")))
    assert got.hits()[:, 0].tolist() == [3, 57, 143, 251, 333]


def test_a_clock_reset_is_noticed_and_the_next_scan_begins_anew() -> None:
    scan = Scan(shape=(6, 20), flyback=2, dwell_time_us=1.0)
    before = electrons(scan, 3000, start=9 * SECOND)
    cut = before.time < before.line_starts[3]
    old = Electrons(
        before.time[cut], before.y[cut], before.x[cut], before.probe[cut], before.line_starts[:3]
    )
    new = electrons(scan, 3000, start=5000, seed=2)
    stream = Camera().stream(old) + Camera(counter=0).stream(new)
    got = receive(stream, decoder(settings(scan)))
    assert "clock_reset" in got.notices()
    assert [message.reason for message in got.of(Ended)] == ["restarted", "complete"]
    assert (got.hits(0) == expected(old)).all()
    assert (got.hits(1) == expected(new)).all()


def test_a_scan_goes_on_after_a_clock_reset_when_the_pulse_counter_goes_on() -> None:
    scan = Scan(shape=(6, 20), flyback=2, dwell_time_us=1.0)
    sent = electrons(scan, 3000, start=9 * SECOND)
    camera = Camera()
    at = sent.time < sent.line_starts[3]
    jump = int(sent.line_starts[3]) - 4000
    halves = [
        Electrons(sent.time[at], sent.y[at], sent.x[at], sent.probe[at], sent.line_starts[:3]),
        Electrons(
            sent.time[~at] - jump, sent.y[~at], sent.x[~at], sent.probe[~at],
            sent.line_starts[3:] - jump,
        ),
    ]  # fmt: skip
    got = receive(camera.stream(*halves), decoder(settings(scan)))
    assert "clock_reset" in got.notices()
    assert [message.reason for message in got.of(Ended)] == ["complete"]
    assert (got.hits() == expected(sent)).all()
    (runs,) = got.complete.values()
    assert sum(stop - first for first, stop in runs) == scan.positions


@pytest.mark.parametrize("column", [2, 13])
def test_what_a_clock_reset_cuts_off_a_line_is_a_hole(column: int) -> None:
    scan = Scan(shape=(6, 20), flyback=2, dwell_time_us=1.0)
    sent = electrons(scan, 6000, start=9 * SECOND)
    at = int(sent.line_starts[3]) + column * 640
    jump = at - 4000
    before, after = sent.time < at, sent.time >= at
    parts = [
        Electrons(
            sent.time[keep] - back, sent.y[keep], sent.x[keep], sent.probe[keep], starts - back
        )
        for keep, starts, back in (
            (before, sent.line_starts[:4], 0),
            (after, sent.line_starts[4:], jump),
        )
    ]
    got = receive(Camera().stream(*parts), decoder(settings(scan)))
    (runs,) = got.complete.values()
    done = np.zeros(scan.positions, bool)
    for first, stop in runs:
        done[first:stop] = True
    missing = np.flatnonzero(~done)
    assert set(missing) <= set(range(3 * 20 + column - 1, 80))
    assert set(range(3 * 20 + column + 1, 80)) <= set(missing)


@pytest.mark.parametrize("dwell_time_us", [1.0, None])
@pytest.mark.parametrize("column", [2, 13, 21])
def test_a_clock_reset_in_the_first_line_puts_no_row_too_high(
    column: int, dwell_time_us: float | None
) -> None:
    scan = Scan(shape=(6, 20), flyback=2, dwell_time_us=1.0)
    sent = electrons(scan, 6000, start=9 * SECOND)
    at = int(sent.line_starts[0]) + column * 640
    parts = [
        Electrons(
            sent.time[keep] - back, sent.y[keep], sent.x[keep], sent.probe[keep], starts - back
        )
        for keep, starts, back in (
            (sent.time < at, sent.line_starts[:1], 0),
            (sent.time >= at, sent.line_starts[1:], at - 4000),
        )
    ]
    told = scan.model_copy(update={"dwell_time_us": dwell_time_us})
    got = receive(Camera().stream(*parts), decoder(settings(told)))
    assert [message.reason for message in got.of(Ended)] == ["complete"]
    found, wanted = got.hits(), expected(sent)
    if dwell_time_us is not None:
        assert (found[found[:, 0] >= 20] == wanted[wanted[:, 0] >= 20]).all()
        assert set(found[found[:, 0] < 20, 0]) >= set(range(min(column, 20) - 1))
    rows = np.bincount(wanted[:, 0] // 20, minlength=6)[1:]
    assert np.abs(np.bincount(found[:, 0] // 20, minlength=6)[1:] - rows).max() < 20


def test_a_reset_that_looked_like_silence_is_told_by_the_global_time() -> None:
    """The clock of the pulses, of 107 s, had nearly gone round when it began again."""
    scan = Scan(shape=(9, 20), flyback=2, dwell_time_us=1000.0)
    old = electrons(scan, 0, start=103 * SECOND, dwell=640_000)
    new = electrons(scan, 300, start=700_000, dwell=640_000)
    half = new.time < new.line_starts[5]
    parts = [
        Electrons(new.time[keep], new.y[keep], new.x[keep], new.probe[keep], starts)
        for keep, starts in ((half, new.line_starts[:5]), (~half, new.line_starts[5:]))
    ]
    camera = Camera(counter=0, chunk_hits=1)
    told = int(new.line_starts[5]) - 1600
    stream = (
        Camera().stream(old)
        + chunk(global_time_words(int(old.line_starts[-1]) + 1600))
        + camera.stream(parts[0])
        + chunk(global_time_words(told // 16 * 16))
        + camera.stream(parts[1])
    )
    got = receive(stream, decoder(settings(scan)))
    assert (got.hits(1) == expected(new)).all()
    assert sum(stop - first for first, stop in got.complete[got.ids[1]]) == scan.positions
    assert {"clock_reset", "line_count_anew"} <= set(got.notices())


def test_a_reset_of_the_dwell_clock_begins_another_scan() -> None:
    scan = Scan(shape=(5, 10), dwell_time_us=10_000.0)
    random = np.random.default_rng(0)
    stream, wanted = b"", []
    for seconds, hits in ((0.4, 300), (0.5, 300)):
        time = np.sort(random.integers(0, int(seconds * SECOND), hits))
        y, x = random.integers(0, 256, hits), random.integers(0, 256, hits)
        stream += chunk(pixel_words(time, y, x))
        wanted.append(Electrons(time, y, x, time // 6_400_000, time[:0]))
    got = receive(
        stream,
        decoder(settings(scan, sync="dwell", layout="single", back_limit_ms=50.0)),
    )
    for number, sent in enumerate(wanted):
        assert (got.hits(number) == expected(sent)).all()
    assert [message.reason for message in got.of(Ended)] == ["restarted", "complete"]
    (remedy,) = [m.remedy for m in got.of(Notice) if m.kind == "clock_reset"]
    assert "a scan of its own" in remedy


def test_one_stray_time_stamp_is_not_a_clock_reset() -> None:
    scan = Scan(shape=(6, 20), flyback=2, dwell_time_us=1.0)
    sent = electrons(scan, 3000, start=9 * SECOND)
    parts = Camera().chunks(sent)
    parts.insert(len(parts) // 2, chunk(pixel_words(5 * SECOND, 1, 1)))
    made = decoder(settings(scan))
    got = receive(b"".join(parts), made)
    assert (got.hits() == expected(sent)).all()
    assert made.counters()["resets"] == 0
    assert made.counters()["stray_hits"] == 1


def test_a_fraction_of_a_tick_in_the_pulse_time_is_kept() -> None:
    scan = Scan(shape=(2, 4), dwell_time_us=1.0)
    pulses = [1000.5, 1000.5 + 2560, 1000.5 + 5120]
    stream = b"".join(
        chunk(tdc_words(time, number)) + chunk(pixel_words(int(time) + 1, 3, 4))
        for number, time in enumerate(pulses)
    )
    got = receive(stream, decoder(settings(scan, layout="single", reorder_window_us=1.0)))
    assert got.hits(0)[:, 0].tolist() == [0, 4]

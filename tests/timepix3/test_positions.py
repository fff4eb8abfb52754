"""From words to probe positions: every hit where it belongs, and nowhere else."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import settings as hypothesis_settings
from hypothesis import strategies as st

from stemd.acquisition import Scan
from stemd.adapters.events.layout import Layout
from stemd.adapters.events.ticks import (
    TDC1_FALL,
    TDC1_RISE,
    TDC2_FALL,
    TDC2_RISE,
    TICKS_PER_US,
)
from stemd.adapters.timepix3.words import chunk, tdc_words
from stemd.blocks import Ended, Started

from .streams import Camera, Electrons, decoder, electrons, expected, receive, settings

SCAN = Scan(shape=(12, 17), flyback=3, dwell_time_us=1.0)


def same(got: np.ndarray, wanted: np.ndarray) -> bool:
    return got.shape == wanted.shape and bool((got == wanted).all())


def test_every_hit_gets_the_position_it_was_made_at() -> None:
    sent = electrons(SCAN, 5000)
    got = receive(Camera().stream(sent), decoder(settings(SCAN)))
    assert same(got.hits(), expected(sent))
    assert [type(message) for message in got.messages] == [Started, Ended]
    assert got.of(Ended)[0].reason == "complete"


@hypothesis_settings(max_examples=25, deadline=None)
@given(
    cuts=st.lists(st.integers(1, 3000), max_size=60),
    flush=st.integers(1, 7),
    late=st.integers(0, 40),
    seed=st.integers(0, 1000),
)
def test_any_cut_of_the_stream_gives_the_same_hits(
    cuts: list[int], flush: int, late: int, seed: int
) -> None:
    sent = electrons(SCAN, 1500, seed=seed)
    stream = Camera(late_words=late).stream(sent)
    got = receive(
        stream, decoder(settings(SCAN)), cuts=cuts, flush=lambda number: number % flush == 0
    )
    assert same(got.hits(), expected(sent))
    (name,) = got.wire
    assert got.wire[name] == stream


def test_complete_runs_cover_every_position_once_and_only_after_its_hits() -> None:
    scan = Scan(shape=(40, 50), flyback=2, dwell_time_us=2.0)
    sent = electrons(scan, 40_000, dwell=1280)
    made = decoder(settings(scan))
    got = receive(Camera().stream(sent), made, cuts=[5000] * 100, flush=lambda _: True)
    (name,) = got.complete
    runs = got.complete[name]
    seen = np.zeros(scan.positions, int)
    for first, stop in runs:
        seen[first:stop] += 1
    assert (seen == 1).all()
    assert len(runs) > 10


def test_no_hit_comes_for_a_position_that_was_announced_complete() -> None:
    scan = Scan(shape=(40, 50), flyback=2, dwell_time_us=2.0)
    sent = electrons(scan, 40_000, dwell=1280)
    made = decoder(settings(scan, reorder_window_us=30.0))
    done = np.zeros(scan.positions, bool)
    stream = Camera(late_words=20).stream(sent)
    for start in range(0, len(stream), 4096):
        piece = stream[start : start + 4096]
        target = made.wants()[0]
        target[: len(piece)] = piece
        for message in [*made.fed(len(piece), 1), *made.flush(1, eof=False)]:
            if hasattr(message, "complete"):
                assert not done[message.probe[: message.count]].any()
                for first, stop in message.complete:
                    done[first:stop] = True
                message.release()
    assert 0.5 < done.mean() < 1.0


def test_serpentine_lines_run_backwards_and_so_do_their_runs() -> None:
    scan = Scan(shape=(9, 10), flyback=2, serpentine=True, dwell_time_us=1.0)
    sent = electrons(scan, 4000)
    got = receive(
        Camera().stream(sent),
        decoder(settings(scan, reorder_window_us=5.0)),
        cuts=[500] * 200,
        flush=lambda _: True,
    )
    assert same(got.hits(), expected(sent))
    (runs,) = got.complete.values()
    assert sorted(p for first, stop in runs for p in range(first, stop)) == list(range(90))


def test_hits_in_flyback_and_outside_lines_are_counted_and_dropped() -> None:
    sent = electrons(SCAN, 5000)
    made = decoder(settings(SCAN))
    receive(Camera().stream(sent), made)
    counters = made.counters()
    assert counters["outside"] + counters["held"] == int((sent.probe < 0).sum())
    assert counters["assigned"] == int((sent.probe >= 0).sum())
    assert counters["pixels"] == 5000


@pytest.mark.parametrize("late", [1, 17, 300])
def test_hits_that_come_before_the_pulse_of_their_line_wait_for_it(late: int) -> None:
    sent = electrons(SCAN, 5000)
    made = decoder(settings(SCAN, reorder_window_us=2000.0))
    got = receive(Camera(late_words=late).stream(sent), made)
    assert same(got.hits(), expected(sent))


def test_repeated_scans_are_acquisitions_of_their_own() -> None:
    line = SCAN.line_frames * 640
    scans = [
        electrons(SCAN, 3000, start=1_000_000 + number * (12 * line + pause), seed=number)
        for number, pause in enumerate((0, 0, 5_000_000))
    ]
    got = receive(Camera().stream(*scans), decoder(settings(SCAN)))
    assert [message.reason for message in got.of(Ended)] == ["complete"] * 3
    for number, sent in enumerate(scans):
        assert same(got.hits(number), expected(sent))


@pytest.mark.parametrize(
    ("edge", "number", "edges"),
    [
        ("rise", 1, ((TDC1_RISE, 0), (TDC1_FALL, 100))),
        ("rise", 1, ((TDC1_RISE, 0), (TDC2_RISE, 50), (TDC1_FALL, 100))),
        ("fall", 1, ((TDC1_FALL, 0),)),
        ("rise", 2, ((TDC2_RISE, 0),)),
        ("fall", 2, ((TDC2_RISE, -200), (TDC2_FALL, 0))),
    ],
)
def test_lines_begin_at_the_edge_that_was_configured(
    edge: str, number: int, edges: tuple[tuple[int, int], ...]
) -> None:
    sent = electrons(SCAN, 5000)
    made = decoder(settings(SCAN, tdc={"edge": edge, "input": number}))
    got = receive(Camera(edges=edges).stream(sent), made)
    assert same(got.hits(), expected(sent))
    assert made.counters()["line_pulses"] == 12


@pytest.mark.parametrize("edge", ["both", "both_inverted"])
def test_a_line_can_last_from_one_edge_to_the_other(edge: str) -> None:
    scan = Scan(shape=(12, 17), flyback=3)
    begin, end = (TDC1_RISE, TDC1_FALL) if edge == "both" else (TDC1_FALL, TDC1_RISE)
    sent = electrons(scan, 5000)
    made = decoder(settings(scan, tdc={"edge": edge}))
    got = receive(Camera(edges=((begin, 0), (end, 17 * 640))).stream(sent), made)
    assert same(got.hits(), expected(sent))


def test_without_a_dwell_time_the_interval_of_the_pulses_tells_it() -> None:
    scan = Scan(shape=(12, 17), flyback=3)
    sent = electrons(scan, 5000)
    got = receive(Camera().stream(sent), decoder(settings(scan)))
    assert same(got.hits(), expected(sent))


def test_pulses_copied_on_every_chip_count_once() -> None:
    sent = electrons(SCAN, 5000)
    made = decoder(settings(SCAN))
    got = receive(Camera(pulse_chips=(2, 0, 1, 3)).stream(sent), made)
    assert same(got.hits(), expected(sent))
    assert made.counters()["copies"] == 36


@pytest.mark.parametrize("missing", [(5,), (3, 4), (2, 7, 8, 9)])
def test_lost_pulses_are_found_by_the_counter_and_their_lines_filled_in(
    missing: tuple[int, ...],
) -> None:
    sent = electrons(SCAN, 5000)
    made = decoder(settings(SCAN))
    got = receive(Camera(drop=missing).stream(sent), made)
    assert same(got.hits(), expected(sent))
    assert made.counters()["missed"] == len(missing)
    assert "missed_pulses" in got.notices()


def test_pulses_that_the_input_never_saw_are_found_by_the_interval() -> None:
    sent = electrons(SCAN, 5000)
    made = decoder(settings(SCAN))
    got = receive(Camera(unseen=(4, 5)).stream(sent), made)
    assert same(got.hits(), expected(sent))
    assert made.counters()["missed"] == 2


def test_lost_edges_of_the_other_sign_are_not_lines() -> None:
    sent = electrons(SCAN, 5000)
    camera = Camera(edges=((TDC1_RISE, 0), (TDC1_FALL, 100)))
    parts = camera.chunks(sent)
    fall = next(
        index
        for index, part in enumerate(parts)
        if index > 40 and len(part) == 16 and part[-1] == 0x6A
    )
    del parts[fall]
    made = decoder(settings(SCAN))
    got = receive(b"".join(parts), made)
    assert same(got.hits(), expected(sent))
    assert made.counters()["missed"] == 0


def test_a_scan_that_is_broken_off_ends_and_the_next_begins_at_its_first_line() -> None:
    line = SCAN.line_frames * 640
    broken = electrons(SCAN, 3000)
    half = broken.time < broken.line_starts[6]
    first = Electrons(
        broken.time[half], broken.y[half], broken.x[half], broken.probe[half],
        broken.line_starts[:6],
    )  # fmt: skip
    second = electrons(SCAN, 3000, start=int(first.line_starts[-1] + 7.4 * line), seed=9)
    got = receive(Camera().stream(first, second), decoder(settings(SCAN)))
    assert [message.reason for message in got.of(Ended)] == ["restarted", "complete"]
    assert same(got.hits(0), expected(first))
    assert same(got.hits(1), expected(second))


def test_a_frame_pulse_begins_a_scan_at_any_line() -> None:
    scan = Scan(shape=(12, 17), flyback=3, dwell_time_us=1.0)
    line = scan.line_frames * 640
    before = electrons(Scan(shape=(5, 17), flyback=3), 1000)
    sent = electrons(scan, 4000, start=1_000_000 + 5 * line, seed=1)
    frame = Camera(edges=((TDC2_RISE, 0), (TDC1_RISE, 0)))
    lines_only = Camera(counter=frame.counter - 5)
    stream = lines_only.stream(before)
    frame.counter = lines_only.counter
    first, *rest = sent.line_starts
    head = Electrons(sent.time, sent.y, sent.x, sent.probe, np.array([first]))
    parts = frame.chunks(head)[:2]
    frame.edges = ((TDC1_RISE, 0),)
    frame.counter -= 1
    body = frame.chunks(Electrons(sent.time, sent.y, sent.x, sent.probe, np.array(rest)))
    got = receive(
        stream + b"".join(parts) + b"".join(body),
        decoder(settings(scan, tdc={"frame_input": 2})),
    )
    assert [message.reason for message in got.of(Ended)] == ["restarted", "complete"]
    assert same(got.hits(1), expected(sent))


@pytest.mark.parametrize("leading", [0, 5])
def test_a_dwell_clock_places_hits_without_any_pulse(leading: int) -> None:
    scan = Scan(shape=(7, 11), flyback=2, leading=leading, dwell_time_us=1.5)
    random = np.random.default_rng(3)
    frame = (leading + 7 * 13) * 960
    time = np.sort(random.integers(0, 2 * frame, 6000))
    slot = time // 960
    probe = scan.probes(slot % (frame // 960))
    y, x = random.integers(0, 512, 6000), random.integers(0, 512, 6000)
    sent = Electrons(time, y, x, probe, np.zeros(0, np.int64))
    got = receive(
        Camera().stream(sent), decoder(settings(scan, sync="dwell", reorder_window_us=20.0))
    )
    for number in range(2):
        part = slot // (frame // 960) == number
        wanted = Electrons(time[part], y[part], x[part], probe[part], sent.line_starts)
        assert same(got.hits(number), expected(wanted))
    assert [message.reason for message in got.of(Ended)] == ["complete", "complete"]


def test_acceptance_time_keeps_the_hits_early_in_their_dwell_time() -> None:
    sent = electrons(SCAN, 8000)
    got = receive(Camera().stream(sent), decoder(settings(SCAN, acceptance_time_ns=400.0)))
    phase = (sent.time - 1_000_000) % 640 * 1.5625
    keep = phase < 400.0
    wanted = Electrons(
        sent.time[keep], sent.y[keep], sent.x[keep], sent.probe[keep], sent.line_starts
    )
    assert same(got.hits(), expected(wanted))
    assert np.concatenate(got.dwell_ns).max() < 400.0


def test_the_time_within_the_dwell_time_comes_with_each_hit() -> None:
    sent = electrons(SCAN, 500).counted
    got = receive(Camera().stream(sent), decoder(settings(SCAN)))
    order = np.lexsort((np.concatenate(got.x), np.concatenate(got.y), np.concatenate(got.probe)))
    wanted = np.lexsort((sent.x, sent.y, sent.probe))
    phase = (sent.time[wanted] - 1_000_000) % (20 * 640) % 640 * 1.5625
    np.testing.assert_allclose(np.concatenate(got.dwell_ns)[order], phase, rtol=1e-6)


def test_a_single_chip_has_its_own_geometry() -> None:
    layout = Layout("single")
    sent = electrons(SCAN, 2000, layout=layout)
    got = receive(Camera(layout=layout).stream(sent), decoder(settings(SCAN, layout="single")))
    assert same(got.hits(), expected(sent))


@pytest.mark.parametrize("gap", [2, 4])
def test_a_gap_between_the_chips_moves_their_pixels_apart(gap: int) -> None:
    layout = Layout("quad", gap)
    sent = electrons(SCAN, 2000, layout=layout)
    made = decoder(settings(SCAN, gap=gap))
    got = receive(Camera(layout=layout).stream(sent), made)
    assert same(got.hits(), expected(sent))
    assert got.of(Started)[0].acquisition.detector.shape == (512 + gap, 512 + gap)


def paused(pause: int, *, announced: bool) -> tuple[bytes, bytes, Electrons]:
    """The stream of a scan before and after a pause of so many ticks in its middle, and its hits.

    The counter of the pulses goes on where it stopped. `announced`: by a frame pulse.
    """
    sent = electrons(SCAN, 4000)
    late = sent.time >= sent.line_starts[6]
    sent.time[late] += pause
    sent.line_starts[6:] += pause
    parts = [
        Electrons(sent.time[mine], sent.y[mine], sent.x[mine], sent.probe[mine], starts)
        for mine, starts in ((~late, sent.line_starts[:6]), (late, sent.line_starts[6:]))
    ]
    camera = Camera()
    before, after = (camera.stream(part) for part in parts)
    frame = chunk(tdc_words(sent.line_starts[0] - 100, 1, TDC2_RISE), 0)
    return (frame if announced else b"") + before, after, sent


@pytest.mark.parametrize(("hits_amid", "pause_s"), [(False, 7.3), (True, 7.3), (False, 0.01)])
def test_a_scan_that_a_frame_pulse_announced_may_pause_in_its_middle(
    pause_s: float, hits_amid: bool
) -> None:
    pause = int(pause_s * 1e6 * TICKS_PER_US) + 1234
    before, after, sent = paused(pause, announced=True)
    if hits_amid:  # the beam stays on
        rest = np.arange(sent.line_starts[5] + 20_000, sent.line_starts[6], 1_000_000)
        none = np.zeros(rest.size, np.int64)
        before += Camera().stream(Electrons(rest, none, none, none - 1, none[:0]))
    got = receive(before + after, decoder(settings(SCAN, tdc={"frame_input": 2})))
    assert [message.reason for message in got.of(Ended)] == ["complete"]
    assert same(got.hits(), expected(sent))
    assert "line_clock_shifted" in got.notices()


@pytest.mark.parametrize(("announced", "pause_timeout_s"), [(True, 6.0), (False, 30.0)])
def test_what_pauses_for_too_long_or_may_be_another_scan_is_two(
    announced: bool, pause_timeout_s: float
) -> None:
    before, after, _ = paused(int(7.3e6 * TICKS_PER_US), announced=announced)
    chosen = settings(
        SCAN,
        tdc={"frame_input": 2 if announced else None},
        pause_timeout_s=pause_timeout_s,
    )
    assert len(receive(before + after, decoder(chosen)).of(Started)) == 2

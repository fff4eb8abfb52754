"""Which hits count: clusters joined, hot pixels left out, times corrected."""

from __future__ import annotations

import numpy as np
import pytest
from pydantic import ValidationError

from stemd.acquisition import Scan
from stemd.adapters.events.layout import Layout
from stemd.adapters.timepix3.settings import Timepix3Settings
from stemd.adapters.timepix3.words import chunk, pixel_words, tdc_words

from .streams import Camera, Electrons, decoder, electrons, expected, receive, settings

SCAN = Scan(shape=(12, 17), flyback=3, dwell_time_us=10.0)
SINGLE = Layout("single")


def clusters(sent: Electrons, seed: int = 5) -> tuple[bytes, np.ndarray]:
    """A stream in which each electron lights 1 to 4 pixels, and the centroids as rows."""
    random = np.random.default_rng(seed)
    parts = []
    for number, begin in enumerate(sent.line_starts):
        parts.append((int(begin), tdc_words(begin, number)))
    rows = []
    for time, y, x, probe in zip(sent.time, sent.y, sent.x, sent.probe, strict=True):
        shape = [(0, 0), (0, 1), (1, 0), (1, 1)][: random.integers(1, 5)]
        tot = random.integers(1, 60, len(shape))
        late = np.concatenate([[0], random.integers(0, 30, len(shape) - 1)])
        for (dy, dx), weight, delay in zip(shape, tot, late, strict=True):
            parts.append((int(time + delay), pixel_words(time + delay, y + dy, x + dx, weight)))
        offsets = np.array(shape)
        center = (offsets * tot[:, None]).sum(0) / tot.sum()
        rows.append((probe, y + np.floor(center[0] + 0.5), x + np.floor(center[1] + 0.5)))
    parts.sort(key=lambda part: part[0])
    table = np.array(rows, np.int64)
    return b"".join(chunk(words) for _, words in parts), table[np.lexsort(table.T[::-1])]


def sparse(hits: int, seed: int = 0) -> Electrons:
    """Electrons far enough apart in time, inside lines and dwell times, that none overlap."""
    sent = electrons(SCAN, hits * 8, layout=SINGLE, dwell=6400, seed=seed)
    phase = (sent.time - 1_000_000) % 6400
    keep = np.zeros(sent.time.size, bool)
    last = 0
    for index, time in enumerate(sent.time):
        if sent.probe[index] >= 0 and phase[index] < 6300 and time - last > 400:
            keep[index], last = True, time
    y, x = sent.y % 250 + 2, sent.x % 250 + 2
    return Electrons(sent.time[keep], y[keep], x[keep], sent.probe[keep], sent.line_starts)


@pytest.mark.slow
def test_the_pixels_of_an_electron_become_one_hit_at_their_centroid() -> None:
    stream, rows = clusters(sparse(400))
    chosen = settings(SCAN, layout="single", cluster={"window_ns": 100.0})
    got = receive(stream, decoder(chosen), cuts=[777] * 500, flush=lambda number: number % 3 == 0)
    assert (got.hits() == rows).all()


def test_electrons_apart_in_time_or_space_stay_apart() -> None:
    start = 1_000_000
    hits = [(start + 100, 50, 50), (start + 110, 50, 53), (start + 100 + 6400, 50, 50)]
    words = np.concatenate([pixel_words(time, y, x) for time, y, x in hits])
    pulses = [chunk(tdc_words(start + number * 20 * 6400, number)) for number in range(2)]
    stream = pulses[0] + chunk(words) + pulses[1]
    got = receive(stream, decoder(settings(SCAN, layout="single", cluster={})))
    assert got.hits().tolist() == [[0, 50, 50], [0, 50, 53], [1, 50, 50]]


def test_two_clusters_that_a_third_pixel_joins_are_one() -> None:
    start = 1_000_000
    words = np.concatenate(
        [pixel_words(start + 100 + k, 50, x, 3) for k, x in enumerate((50, 52, 51))]
    )
    pulses = [chunk(tdc_words(start + number * 20 * 6400, number)) for number in range(2)]
    stream = pulses[0] + chunk(words) + pulses[1]
    got = receive(stream, decoder(settings(SCAN, layout="single", cluster={})))
    assert got.hits().tolist() == [[0, 50, 51]]


def hot_stream(hits: int) -> tuple[bytes, Electrons, np.ndarray]:
    """A stream with one pixel that fires all the time."""
    sent = electrons(SCAN, hits, layout=SINGLE, dwell=6400)
    hot = np.arange(hits) % 10 == 0
    y, x = np.where(hot, 77, sent.y), np.where(hot, 33, sent.x)
    mixed = Electrons(sent.time, y, x, sent.probe, sent.line_starts)
    return Camera(layout=SINGLE).stream(mixed), mixed, (y == 77) & (x == 33)


def test_hot_pixels_that_are_listed_do_not_count() -> None:
    stream, sent, hot = hot_stream(6000)
    made = decoder(settings(SCAN, layout="single", hot_pixels=[[77, 33]]))
    got = receive(stream, made)
    rest = Electrons(sent.time[~hot], sent.y[~hot], sent.x[~hot], sent.probe[~hot],
                     sent.line_starts)  # fmt: skip
    assert (got.hits() == expected(rest)).all()
    assert made.counters()["masked"] == hot.sum()


@pytest.mark.parametrize("cut", [500, 5000, 100_000])
def test_hot_pixels_are_learnt_reported_and_then_left_out(cut: int) -> None:
    stream, sent, hot = hot_stream(6000)
    made = decoder(settings(SCAN, layout="single", hot_pixels="learn", learn_hits=2000))
    got = receive(stream, made, cuts=[cut] * 1000, flush=lambda _: True)
    learning = np.arange(6000) < 2000
    keep = learning | ~hot
    rest = Electrons(sent.time[keep], sent.y[keep], sent.x[keep], sent.probe[keep],
                     sent.line_starts)  # fmt: skip
    assert (got.hits() == expected(rest)).all()
    assert "[77, 33]" in got.notices()["hot_pixels"]


def test_a_diffraction_disc_is_not_taken_for_hot_pixels() -> None:
    random = np.random.default_rng(0)
    sent = electrons(SCAN, 6000, layout=SINGLE, dwell=6400)
    y, x = (random.normal(128, 3, (2, 6000))).astype(np.int64)
    disc = Electrons(sent.time, y, x, sent.probe, sent.line_starts)
    got = receive(
        Camera(layout=SINGLE).stream(disc),
        decoder(settings(SCAN, layout="single", hot_pixels="learn", learn_hits=5000)),
    )
    assert "hot_pixels" not in got.notices()
    assert (got.hits() == expected(disc)).all()


def test_columns_with_a_time_offset_are_corrected() -> None:
    sent = electrons(SCAN, 5000)
    chip, _, column = Layout("quad").chip_coordinates(sent.y, sent.x)
    wrong = np.where((chip == 2) & (column == 5), 16, 0) - np.where(column == 255, 16, 0)
    shifted = Electrons(sent.time + wrong, sent.y, sent.x, sent.probe, sent.line_starts)
    rows = [{"chip": 2, "column": 5, "ticks": -16}]
    rows += [{"chip": number, "column": 255, "ticks": 16} for number in range(4)]
    scan = SCAN.model_copy(update={"dwell_time_us": 1.0})
    got = receive(Camera().stream(shifted), decoder(settings(scan, time_correction=rows)))
    assert (got.hits() == expected(sent)).all()


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"sync": "dwell", "scan": {"shape": [4, 4]}}, "dwell_time_us"),
        ({"scan": {"shape": [1, 4]}}, "one line"),
        ({"tdc": {"input": 1, "frame_input": 1}}, "frame_input"),
        ({"reorder_window_us": 5000.0, "back_limit_ms": 1.0}, "back_limit_ms"),
        ({"hot_pixles": []}, "hot_pixles"),
    ],
)
def test_settings_that_cannot_work_are_refused(changes: dict[str, object], said: str) -> None:
    with pytest.raises(ValidationError, match=said):
        Timepix3Settings.model_validate(changes)

"""Words and hits that are taken many at a time give what they give one by one, to the last bit."""

from __future__ import annotations

import hypothesis.strategies as st
import numpy as np
import pytest
from hypothesis import given
from hypothesis import settings as hypothesis_settings
from numpy.typing import NDArray

from stemd.acquisition import Scan
from stemd.adapters.events.front import DONE, GARBAGE, Hits
from stemd.adapters.events.positions import within_line
from stemd.adapters.events.sync import CLOSED, Output, ScanSync
from stemd.adapters.timepix3 import stretch
from stemd.adapters.timepix3.front import WordsFront
from stemd.adapters.timepix3.settings import ColumnCorrection
from stemd.adapters.timepix3.words import (
    chunk,
    global_time_words,
    heartbeat_word,
    pixel_words,
    tdc_words,
)
from stemd.engines.kernels.events import REACH, TOGETHER, accumulate, membership

from .streams import QUAD, Camera, electrons, settings

SOME = stretch.SHORTEST - 1
"""So few words are never decoded together."""
FEW = within_line.TOGETHER - 1
"""So few hits are never placed together."""
JUMPS = (-(10**9), -64_000_000, -63_999_000, -(10**7), 1_270_000, 2 * 10**6, 10**9, 2**33)
"""Ticks to the next hit, rarely. The clock's limits are 64,000,000 back and 1,280,000 ahead."""


def wild_stream(seed: int, wild: float) -> bytes:
    """Chunks of hits, and with some probability what is rare: resets, leaps, pulses, junk."""
    random = np.random.default_rng(seed)
    time = int(random.choice([20, 1_000_000, 2**34 - 30_000]))
    parts = []
    for _ in range(random.integers(2, 14)):
        count = int(random.integers(1, 300))
        steps = random.integers(-300, 900, count)
        rare = random.random(count) < wild
        steps[rare] = random.choice(JUMPS, rare.sum())
        times = time + np.cumsum(steps)
        y, x = random.integers(0, 256, (2, count))
        time = int(times.max())
        words = pixel_words(times, y, x, random.integers(0, 99))
        for at in np.flatnonzero(random.random(count) < wild):
            other = [
                tdc_words(times[at] % 2**36, at),
                global_time_words(int(times[at]) % 2**50)[:1],
                heartbeat_word(time),
                np.frombuffer(chunk(words[:1])[:8], np.uint64),
                random.integers(0, 2**63, 1).astype(np.uint64) >> np.uint64(4),
            ]
            words[at] = other[random.integers(0, len(other))][0]
        parts.append(chunk(words, int(random.integers(0, 5))))
    return b"".join(parts)


def decoded(
    data: NDArray[np.uint8], front: WordsFront, together: int, limit: int
) -> tuple[list[NDArray[np.integer]], dict[str, int], int]:
    """Hits and items of a stream, of which a call sees so many words more than the one before."""
    hits, words, record, total = Hits(), data.size // 8, 0, 0
    found: list[list[NDArray[np.integer]]] = [[], [], [], []]
    hits.limit = limit
    upto, why = 0, DONE
    while record < words:
        # behind garbage the next chunk is looked for as far as the words go
        upto = min(words, (upto if why == GARBAGE else record) + together)
        record, count, items, why = front.decode(data[: 8 * upto], record, hits)
        parts = hits.times[:count], hits.places[:count], hits.tots[:count], hits.items[:items]
        for into, part in zip(found, parts, strict=True):
            into.append(part.copy())
        found[3][-1][:, 0] += total
        total += count
        if why == GARBAGE and upto == words:
            break
    return [np.concatenate(part) for part in found], front.counters(), record


@hypothesis_settings(max_examples=50, deadline=None)
@given(
    seed=st.integers(0, 2**32),
    wild=st.sampled_from([0.0, 0.003, 0.05]),
    masks=st.booleans(),
    corrects=st.booleans(),
    limit=st.sampled_from([20, 5000]),
)
def test_words_decoded_together_are_the_hits_and_pulses_that_they_are_one_by_one(
    seed: int, wild: float, masks: bool, corrects: bool, limit: int
) -> None:
    data = np.frombuffer(bytearray(wild_stream(seed, wild)), np.uint8)
    found = []
    for together in (data.size, SOME):
        columns = [ColumnCorrection(chip=1, column=c, ticks=3 * c - 90) for c in range(0, 256, 3)]
        front = WordsFront(QUAD, correction=columns if corrects else ())
        front.set_masked([(y, x) for y in range(3, 512, 160) for x in range(512)] if masks else [])
        found.append(decoded(data, front, together, limit))
    for mine, theirs in zip(found[0][0], found[1][0], strict=True):
        assert mine.dtype == theirs.dtype
        assert (mine == theirs).all()
    assert found[0][1:] == found[1][1:]


def placed(
    hits: Hits, count: int, items: int, sync: ScanSync, together: int, room: int
) -> tuple[list[NDArray[np.generic]], dict[str, int]]:
    """Positions of hits, of which a call sees so many more than the one before."""
    out = Output.within(np.zeros(12 * room, np.uint8), room)
    parts, hit, item, ends = [], 0, 0, 0
    while True:
        upto = min(count, hit + together)
        due = int(np.searchsorted(hits.items[:items, 0], upto, "right"))
        hit, item, written, why = sync.assign(hits, upto, hit, due, item, out)
        parts.append([part[:written].copy() for part in (out.probe, out.yx, out.dwell_ns)])
        if why == CLOSED:
            ends += 1
            sync.close_scan()
        elif why == DONE and hit == count:
            break
    counters = {**sync.counters(), "ends": ends, "left": round(sync.left, 6)}
    return [np.concatenate(part) for part in zip(*parts, strict=True)], counters


@hypothesis_settings(max_examples=40, deadline=None)
@given(
    seed=st.integers(0, 2**32),
    late=st.sampled_from([0, 30, 700]),
    serpentine=st.booleans(),
    acceptance=st.sampled_from([None, 300.0]),
    sync=st.sampled_from(["tdc", "dwell"]),
    drop=st.lists(st.integers(1, 10), max_size=3),
    room=st.sampled_from([100, 20_000]),
)
def test_hits_placed_together_have_the_positions_that_they_have_one_by_one(
    seed: int,
    late: int,
    serpentine: bool,
    acceptance: float | None,
    sync: str,
    drop: list[int],
    room: int,
) -> None:
    scan = Scan(shape=(11, 37), flyback=3, dwell_time_us=1.0, serpentine=serpentine)
    sent = electrons(scan, 9000, seed=seed % 1000, start=640_000)
    camera = Camera(late_words=late, drop=drop, chunk_hits=200)
    data = np.frombuffer(bytearray(camera.stream(sent)), np.uint8)
    hits = Hits()
    _, count, items, _ = WordsFront(QUAD).decode(data, 0, hits)
    chosen = settings(
        scan, reorder_window_us=300.0, sync=sync, acceptance_time_ns=acceptance,
        clock_origin_us=1000.0, hold_hits=2000,
    )  # fmt: skip
    both = [
        placed(hits, count, items, ScanSync(chosen, scan), together, room)
        for together in (count, FEW)
    ]
    for mine, theirs in zip(both[0][0], both[1][0], strict=True):
        assert mine.tobytes() == theirs.tobytes()
    assert both[0][1] == both[1][1]
    assert both[0][0][0].size > 2000 or drop or late > 30


def test_what_is_due_within_hits_that_are_placed_together_is_done_before_the_last_of_them() -> None:
    """A decision about line pulses is due at a time, however many hits follow one another."""
    scan = Scan(shape=(11, 37), flyback=3, dwell_time_us=1.0)
    sent = electrons(scan, 30_000, start=640_000)
    data = np.frombuffer(bytearray(Camera().stream(sent)), np.uint8)
    hits = Hits()
    _, count, _, _ = WordsFront(QUAD).decode(data, 0, hits)
    chosen = settings(scan, sync="dwell", clock_origin_us=1000.0)
    sync, out = ScanSync(chosen, scan), Output.within(np.zeros(12 * 20_000, np.uint8), 20_000)
    within = int(np.searchsorted(hits.times[:count], sent.line_starts[4])) + 200
    hit, *_, why = sync.assign(hits, within, 0, 0, 0, out)
    assert (hit, why) == (within, DONE)
    last = within + 1 + within_line.TOGETHER
    times = np.maximum.accumulate(hits.times[within:last])
    sync._state["decide_at"] = due = float(times[20])
    hit, _, written, why = sync.assign(hits, last, within, 0, 0, out)
    assert (hit, written, why) == (last, last - within, DONE)
    assert times[-1] > due, "it is overdue"
    assert sync._state["decide_at"] > due, "it was looked at, and nothing is due any more"


@pytest.mark.parametrize("detectors", [0, 1, 4, 7, 12])
@pytest.mark.parametrize("reach", [1, 40, REACH, 3 * REACH])
@pytest.mark.parametrize("acceptance", [0.0, 300.0])
def test_sums_of_hits_are_those_of_numpy(detectors: int, reach: int, acceptance: float) -> None:
    random = np.random.default_rng(reach + detectors)
    hits, positions, shape = 2 * TOGETHER + 333, 4 * REACH, (30, 700)
    probe = random.integers(0, reach, hits) + random.integers(0, positions - reach)
    probe[random.random(hits) < 0.1] = -1
    probe[:TOGETHER] = -1  # none of the first counts
    y, x = random.integers(0, shape[0], hits), random.integers(0, shape[1], hits)
    dwell = random.uniform(0, 600, hits).astype(np.float32)
    masks = [random.random(shape) < 0.4 for _ in range(detectors)]
    maps = [random.integers(0, 99, positions) for _ in range(3)]
    sums = random.integers(0, 99, (detectors, positions))
    keep = (probe >= 0) & ((dwell < acceptance) if acceptance else True)
    values = [np.ones(hits), y, x]
    wanted = [m + np.bincount(probe[keep], v[keep], positions).astype(int)
              for m, v in zip(maps, values, strict=True)]  # fmt: skip
    in_sums = [s + np.bincount(probe[keep], mask[y, x][keep], positions).astype(int)
               for s, mask in zip(sums, masks, strict=True)]  # fmt: skip
    counted = accumulate(
        probe.astype(np.int32), (y << 16 | x).astype(np.uint32), dwell, hits, acceptance,
        membership(masks, shape), *maps, sums,
    )  # fmt: skip
    assert counted == np.count_nonzero(keep)
    assert (np.array(maps) == np.array(wanted)).all()
    assert (sums == np.array(in_sums).reshape(sums.shape)).all()


@pytest.mark.parametrize("shape", [(1024, 8), (8, 1025), (65535, 1)])
@pytest.mark.parametrize("detectors", [0, 1, 3, 6])
def test_the_largest_sums_of_hits_fit(shape: tuple[int, int], detectors: int) -> None:
    hits = 2 * TOGETHER + 1
    last = (shape[0] - 1) << 16 | (shape[1] - 1)
    maps = [np.zeros(3, np.int64) for _ in range(3)]
    sums = np.zeros((detectors, 3), np.int64)
    counted = accumulate(
        np.ones(hits, np.int32), np.full(hits, last, np.uint32), np.zeros(hits, np.float32), hits,
        0.0, membership([np.ones(shape, np.bool_)] * detectors, shape), *maps, sums,
    )  # fmt: skip
    wanted = [hits, hits * (shape[0] - 1), hits * (shape[1] - 1), *[hits] * detectors]
    assert counted == hits
    assert [int(each[1]) for each in (*maps, *sums)] == wanted
    assert not any(each[0] or each[2] for each in (*maps, *sums))

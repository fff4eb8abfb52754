"""Images from events equal those from the same events put into frames."""

from __future__ import annotations

import numpy as np
import pytest

from stemd.acquisition import Scan
from stemd.blocks import BlockPool, EventBlock, Message
from stemd.engines.kernels.events import accumulate, add_to_pattern, membership

from .streams import Camera, decoder, electrons, settings

SCAN = Scan(shape=(11, 9), flyback=2, dwell_time_us=1.0)
WINDOW = {"reorder_window_us": 5.0}


def messages(hits: int, cut: int = 4096) -> tuple[list[Message], np.ndarray]:
    """Messages of a stream, and the true patterns (positions, 512, 512)."""
    sent = electrons(SCAN, hits)
    truth = np.zeros((SCAN.positions, 512, 512), np.uint16)
    seen = sent.counted
    np.add.at(truth, (seen.probe, seen.y, seen.x), 1)
    stream = Camera().stream(sent)
    made = decoder(settings(SCAN, **WINDOW), BlockPool(256 << 20))
    got: list[Message] = []
    for start in range(0, len(stream), cut):
        piece = stream[start : start + cut]
        made.wants()[0][: len(piece)] = piece
        got.extend(made.fed(len(piece), 1))
        got.extend(made.flush(1, eof=False))
    got.extend(made.flush(1, eof=True))
    return got, truth


@pytest.mark.parametrize("acceptance_ns", [0.0, 300.0])
def test_integer_maps_from_events_equal_those_of_the_histogrammed_frames(
    acceptance_ns: float,
) -> None:
    got, truth = messages(20_000)
    y, x = np.mgrid[:512, :512]
    masks = [np.hypot(y - 250, x - 260) < 90, np.hypot(y - 250, x - 260) >= 120, y < x]
    lookup = membership(masks, (512, 512))
    n = SCAN.positions
    total, moment_y, moment_x = (np.zeros(n, np.int64) for _ in range(3))
    detectors = np.zeros((3, n), np.int64)
    counted = 0
    for block in got:
        if isinstance(block, EventBlock):
            counted += accumulate(
                block.probe, block.yx, block.dwell_ns, block.count, acceptance_ns, lookup,
                total, moment_y, moment_x, detectors,
            )  # fmt: skip
    if acceptance_ns:
        kept = np.concatenate(
            [b.dwell_ns[: b.count] < acceptance_ns for b in got if isinstance(b, EventBlock)]
        )
        assert counted == kept.sum() == total.sum()
        assert 0.2 < counted / truth.sum() < 0.4
        return
    frames = truth.astype(np.int64)
    assert (total == frames.sum((1, 2))).all()
    assert (moment_y == (frames * y).sum((1, 2))).all()
    assert (moment_x == (frames * x).sum((1, 2))).all()
    for index, mask in enumerate(masks):
        assert (detectors[index] == (frames * mask).sum((1, 2))).all()


def test_many_detectors_and_many_hits_in_one_position_are_counted_exactly() -> None:
    random = np.random.default_rng(0)
    hits = 5000
    probe = np.repeat(np.arange(3), [4000, 10, 990]).astype(np.int32)
    y, x = random.integers(0, 20, (2, hits))
    masks = [random.random((20, 20)) < 0.5 for _ in range(11)]
    for number in (1, 8, 11):
        detectors = np.zeros((number, 3), np.int64)
        maps = [np.zeros(3, np.int64) for _ in range(3)]
        lookup = membership(masks[:number], (20, 20))
        yx = (y << 16 | x).astype(np.uint32)
        accumulate(probe, yx, np.zeros(hits, np.float32), hits, 0.0, lookup, *maps, detectors)
        for index, mask in enumerate(masks[:number]):
            wanted = np.bincount(probe, mask[y, x], 3).astype(np.int64)
            assert (detectors[index] == wanted).all()


def test_the_mean_pattern_comes_straight_from_events() -> None:
    got, truth = messages(20_000)
    pattern = np.zeros((512, 512), np.int64)
    for block in got:
        if isinstance(block, EventBlock):
            add_to_pattern(block.probe, block.yx, block.dwell_ns, block.count, 0.0, pattern)
    assert (pattern == truth.sum(0)).all()


def test_events_with_no_position_are_skipped_by_the_kernels() -> None:
    probe = np.array([0, -1, 1], np.int32)
    yx = np.array([3 << 16 | 4, 9 << 16 | 9, 5 << 16 | 6], np.uint32)
    dwell = np.zeros(3, np.float32)
    maps = [np.zeros(2, np.int64) for _ in range(3)]
    lookup = membership([], (10, 10))
    assert accumulate(probe, yx, dwell, 3, 0.0, lookup, *maps, np.zeros((0, 2), np.int64)) == 2
    assert [part.tolist() for part in maps] == [[1, 1], [3, 5], [4, 6]]


def test_more_detectors_than_bits_are_refused() -> None:
    with pytest.raises(ValueError, match="33"):
        membership([np.zeros((2, 2), bool)] * 33, (2, 2))

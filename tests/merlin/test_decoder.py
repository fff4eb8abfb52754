"""The decoder: frames to positions, scans, and every fault a receiver must survive."""

from __future__ import annotations

import itertools
import random

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from stemd.acquisition import Scan
from stemd.adapters.frames.decoder import FrameDecoder
from stemd.adapters.merlin.encoder import Batch, Camera, encode_frame, encode_hdr, message
from stemd.adapters.merlin.stream import MerlinFormat
from stemd.blocks import BlockPool, FrameBlock
from stemd.errors import FormatError
from tests.merlin.streams import (
    SMALL,
    Outcome,
    Seen,
    acquisition,
    decode,
    feed,
    frame,
    hdr,
    pattern,
)

SCAN = Scan(shape=(2, 3), flyback=1)  # frames 1 2 3 (4) 5 6 7 (8)


def assert_placed(seen: Seen, camera: Camera, first: int = 1) -> None:
    """Every pattern stands where plain arithmetic on its number puts it."""
    scan = seen.acquisition.scan
    numbers = np.array([s for s, p in zip(seen.sequence, seen.probe, strict=True) if p >= 0])
    expected = scan.probes(numbers.astype(np.int64))
    np.testing.assert_array_equal(sorted(expected), sorted(seen.patterns))
    for number, probe in zip(numbers.tolist(), expected.tolist(), strict=True):
        np.testing.assert_array_equal(seen.patterns[probe], pattern(camera, number + first))


@pytest.mark.parametrize(
    "camera",
    [
        Camera((8, 8), 1),
        Camera((6, 10), 6),
        Camera((7, 5), 12),
        Camera((514, 514), 24, chips=4),
        Camera((4, 4), 48),
        Camera((3, 256), 1, raw=True),
        Camera((2, 256), 6, raw=True),
        Camera((4, 512), 12, raw=True, chips=4),
        Camera((4, 512), 24, raw=True, chips=4),
    ],
    ids=str,
)
def test_a_scan_of_any_pixel_type_comes_out_as_it_was_encoded(camera: Camera) -> None:
    data = acquisition(camera, range(1, 9), 8)
    outcome = decode(data, SCAN)
    (seen,) = outcome.scans
    assert (seen.reason, seen.probe) == ("complete", [0, 1, 2, -1, 3, 4, 5, -1])
    assert seen.sequence == list(range(8))
    assert_placed(seen, camera)
    assert seen.wire == b"".join(encode_frame(pattern(camera, n), camera, n) for n in range(1, 9))
    assert seen.acquisition.detector.shape == camera.shape
    assert seen.acquisition.detector.bit_depth == camera.depth
    assert seen.acquisition.sidecars == (("raw.hdr", encode_hdr(camera, 8)),)
    assert not outcome.notices


def test_repeats_are_one_scan_whose_positions_are_counted_on() -> None:
    camera = Camera((8, 8), 6)
    repeats = SCAN.model_copy(update={"repeats": 3})
    outcome = decode(acquisition(camera, range(1, 25), 24), repeats)
    (seen,) = outcome.scans
    assert seen.reason == "complete"
    assert [p for p in seen.probe if p >= 0] == list(range(18))
    assert_placed(seen, camera)
    assert not outcome.notices


def test_a_camera_that_is_set_to_one_of_several_repeats_is_told() -> None:
    camera = Camera((8, 8), 6)
    repeats = SCAN.model_copy(update={"repeats": 3})
    outcome = decode(acquisition(camera, range(1, 9), 8), repeats)
    assert "frame_count" in outcome.notices


FAULTS = st.sampled_from(
    ["garbage", "lost", "twice", "length", "length-0", "no-plus-one", "cut", "spaces", "swap"]
)


@st.composite
def faulty_streams(draw: st.DrawFn) -> tuple[bytes, Scan]:
    """A few acquisitions of different size, faults included, that share one scan geometry."""
    scan = Scan(
        shape=(draw(st.integers(1, 3)), draw(st.integers(1, 4))),
        flyback=draw(st.integers(0, 2)),
        leading=draw(st.integers(0, 2)),
        serpentine=draw(st.booleans()),
    )
    out = b""
    for _ in range(draw(st.integers(1, 3))):
        camera = draw(st.sampled_from([SMALL, Camera((3, 5), 6), Camera((2, 256), 12, raw=True)]))
        count = scan.frames * draw(st.integers(1, 2)) + draw(st.integers(-1, 2))
        fault = draw(FAULTS)
        at = draw(st.integers(0, count))
        noise = draw(st.binary(max_size=40)) + draw(st.sampled_from([b"", b"MPX,", b"MPX,00000"]))
        plus = fault != "no-plus-one"
        out += message(encode_hdr(camera, draw(st.sampled_from([count, 0]))), counts_comma=plus)
        for n in range(1, count + 1):
            payload = encode_frame(pattern(camera, n), camera, n)
            sent = message(payload, counts_comma=plus)
            if n == at:
                match fault:
                    case "garbage":
                        sent = noise + sent
                    case "lost":
                        sent = b""
                    case "twice":
                        sent += sent
                    case "length":
                        sent = b"MPX,9999999999," + payload
                    case "length-0":
                        sent = b"MPX,0000000000," + payload
                    case "cut":
                        sent = sent[: draw(st.integers(0, len(sent)))]
                    case "swap":
                        sent = frame(camera, n + 1) + sent
            out += sent
    return out[: len(out) - draw(st.integers(0, 30))], scan


@pytest.mark.slow
@settings(deadline=None, max_examples=60)
@given(faulty_streams(), st.integers(0, 999), st.sampled_from([1, 700, 5000]))
def test_any_cut_of_the_stream_gives_the_same_patterns_and_counts(
    stream: tuple[bytes, Scan], seed: int, block_bytes: int
) -> None:
    data, scan = stream
    whole = decode(data, scan)
    pick = random.Random(seed).choice
    cuts = (pick([1, 2, 14, 15, 16, 400, 3000, -1]) for _ in itertools.count())
    assert decode(data, scan, cuts, block_bytes).key() == whole.key()


def test_one_byte_at_a_time_gives_the_same_as_all_at_once() -> None:
    data = acquisition(SMALL, [1, 2, 3, 4, 6, 7, 8], 8) + b"noise" + acquisition(SMALL, [1, 2], 8)
    slow = decode(data, SCAN, itertools.repeat(1))
    assert slow.key() == decode(data, SCAN).key()
    assert [s.reason for s in slow.scans] == ["complete", "disconnected"]


@settings(deadline=None, max_examples=30)
@given(st.sets(st.integers(2, 24)), st.integers(0, 2), st.integers(0, 2), st.booleans())
def test_lost_frames_leave_holes_and_shift_nothing(
    lost: set[int], flyback: int, leading: int, serpentine: bool
) -> None:
    scan = Scan(shape=(4, 4), flyback=flyback, leading=leading, serpentine=serpentine)
    sent = [n for n in range(1, scan.frames + 1) if n not in lost]
    outcome = decode(acquisition(SMALL, sent, scan.frames), scan)
    (seen,) = outcome.scans
    numbers = np.array(sent, np.int64) - 1
    assert seen.probe == scan.probes(numbers).tolist()
    assert_placed(seen, SMALL)
    missing = scan.positions - len(seen.patterns)
    if scan.frames not in lost:
        assert (seen.reason, outcome.notices["missing_frames"]) == ("complete", missing)


def test_sequence_numbers_wrap_at_a_million_or_take_a_seventh_digit() -> None:
    scan = Scan(shape=(1000, 1000), flyback=0)
    for shown in (lambda n: n % 1_000_000, lambda n: n):
        data = hdr(SMALL, 0) + b"".join(
            frame(SMALL, n, shown(n)) for n in (999_998, 999_999, 1_000_000, 1_000_001, 1_000_002)
        )
        first, second = decode(data, scan).scans
        assert (first.probe, first.reason) == ([999_997, 999_998, 999_999], "complete")
        assert (second.probe, second.sequence) == ([0, 1], [0, 1])
        np.testing.assert_array_equal(second.patterns[1], pattern(SMALL, 1_000_002))


def test_several_scans_in_one_acquisition_follow_each_other_and_extra_frames_are_counted() -> None:
    outcome = decode(acquisition(SMALL, range(1, 19), 16), SCAN)
    assert [s.reason for s in outcome.scans] == ["complete", "complete"]
    assert_placed(outcome.scans[1], SMALL, first=9)
    assert outcome.notices == {"extra_frames": 2}


def test_an_endless_acquisition_starts_the_next_scan_by_itself() -> None:
    outcome = decode(acquisition(SMALL, range(1, 21), 0), SCAN)
    assert [s.reason for s in outcome.scans] == ["complete", "complete", "disconnected"]
    assert outcome.scans[2].probe == [0, 1, 2, -1]
    assert not outcome.notices


def test_whole_scans_that_were_lost_do_not_shift_the_next() -> None:
    sent = [1, 2, 3, 27, 28, 29, 30, 31, 32]
    first, second = decode(acquisition(SMALL, sent, 0), SCAN).scans
    assert (first.reason, first.probe) == ("complete", [0, 1, 2])
    assert (second.reason, second.probe) == ("complete", [2, -1, 3, 4, 5, -1])


@pytest.mark.parametrize(
    ("frames", "flyback"), [(12, 0), (16, 1), (15, 1), (20, 2), (18, 2), (24, 0), (13, 0)]
)
def test_flyback_is_detected_from_the_cameras_frame_count(frames: int, flyback: int) -> None:
    outcome = decode(acquisition(SMALL, [1], frames), Scan(shape=(4, 3)))
    assert outcome.scans[0].acquisition.scan.flyback == flyback
    assert outcome.notices["frame_count"] == (frames == 13)


def test_a_scan_whose_last_flyback_the_camera_does_not_take_is_complete() -> None:
    outcome = decode(acquisition(SMALL, range(1, 8), 7), Scan(shape=(2, 3)))
    assert (outcome.scans[0].reason, outcome.scans[0].probe[-1]) == ("complete", 5)


def test_skipped_numbers_of_flyback_frames_that_were_not_sent_place_correctly() -> None:
    outcome = decode(acquisition(SMALL, [1, 2, 3, 5, 6, 7], 7), SCAN)
    assert (outcome.scans[0].reason, outcome.scans[0].probe) == ("complete", [0, 1, 2, 3, 4, 5])
    assert not outcome.notices


def test_repeated_frames_belong_to_no_position_and_late_ones_to_theirs() -> None:
    outcome = decode(acquisition(SMALL, [1, 2, 2, 1, 5, 3, 6, 7, 8], 8), SCAN)
    (seen,) = outcome.scans
    assert seen.probe == [0, 1, -1, -1, 3, 2, 4, 5, -1]
    assert_placed(seen, SMALL)
    assert outcome.notices == {"repeated_frames": 2}


def test_garbage_between_messages_is_counted_and_costs_no_frame() -> None:
    junk = b"MPX,0000000012,what? MPX," + bytes(range(256)) * 40
    data = hdr(SMALL, 8) + junk + b"".join(frame(SMALL, n) + junk for n in range(1, 9))
    outcome = decode(b"junk" + data, SCAN)
    assert [s.reason for s in outcome.scans] == ["complete"]
    assert_placed(outcome.scans[0], SMALL)
    assert outcome.notices == {"skipped_bytes": 4 + 9 * len(junk)}


@pytest.mark.parametrize("declared", [b"9999999999", b"0000000000", b"0000000600"])
def test_a_length_that_lies_is_told_and_costs_no_frame(declared: bytes) -> None:
    good = acquisition(SMALL, range(1, 9), 8)
    head = good.index(b"MPX,", 1)
    for at in (0, head, head + len(frame(SMALL, 1)) * 3):
        data = good[: at + 4] + declared + good[at + 14 :]
        outcome = decode(data, SCAN)
        assert [s.reason for s in outcome.scans] == ["complete"]
        assert_placed(outcome.scans[0], SMALL)
        if at == 0 and declared == b"0000000600":  # a short HDR: its rest is between messages
            assert outcome.notices == {"skipped_bytes": 2048 - 599}
        else:
            assert outcome.notices["bad_length"] == 1
            assert any("limit" in text for text in outcome.texts)


@pytest.mark.parametrize("eof", [False, True])
def test_whole_frames_behind_a_fault_are_given_out_by_one_flush(eof: bool) -> None:
    lying = b"MPX,0000000077," + frame(SMALL, 1)[15:]
    decoder = FrameDecoder(MerlinFormat(), BlockPool(1 << 20, 1 << 16), SCAN)
    outcome = Outcome()
    outcome.take(feed(decoder, hdr(SMALL, 8) + lying + frame(SMALL, 2) + b"?" + frame(SMALL, 3)))
    outcome.take(decoder.flush(0, eof=eof))
    assert outcome.scans[0].probe == [0, 1, 2]


def test_a_header_beyond_a_limit_allocates_nothing_and_is_told() -> None:
    bad = message(encode_frame(pattern(SMALL, 2), SMALL, 2).replace(b"0010,0006", b"9999,9999"))
    data = hdr(SMALL, 8) + frame(SMALL, 1) + bad + b"".join(frame(SMALL, n) for n in range(3, 9))
    outcome = decode(data, SCAN)
    assert outcome.scans[0].probe == [0, 2, -1, 3, 4, 5, -1]
    assert outcome.notices["bad_header"] == 1
    assert outcome.notices["skipped_bytes"] == len(bad)
    assert any("limit of 67108864 bytes" in text for text in outcome.texts)


def test_lengths_that_do_not_count_the_comma_are_accepted_in_silence() -> None:
    payloads = [encode_hdr(SMALL, 8)]
    payloads += [encode_frame(pattern(SMALL, n), SMALL, n) for n in range(1, 9)]
    outcome = decode(b"".join(message(p, counts_comma=False) for p in payloads) * 2, SCAN)
    assert [s.reason for s in outcome.scans] == ["complete", "complete"]
    assert_placed(outcome.scans[1], SMALL)
    assert not outcome.notices


def test_a_hdr_where_a_frame_was_due_ends_the_scan_and_starts_the_next() -> None:
    data = acquisition(SMALL, range(1, 6), 8) + acquisition(SMALL, range(1, 9), 8)
    first, second = decode(data, SCAN).scans
    assert (first.reason, len(first.patterns)) == ("restarted", 4)
    assert (second.reason, len(second.patterns)) == ("complete", 6)


def test_numbers_that_begin_again_without_a_hdr_start_a_new_scan() -> None:
    data = acquisition(SMALL, range(1, 9), 8) + b"".join(frame(SMALL, n) for n in range(1, 9))
    assert [s.reason for s in decode(data, SCAN).scans] == ["complete", "complete"]
    big = Scan(shape=(50, 60), flyback=0)
    data = acquisition(SMALL, [1, 2, 2000], 3000) + frame(SMALL, 1) + frame(SMALL, 2)
    first, second = decode(data, big).scans
    assert (first.reason, second.probe) == ("restarted", [0, 1])


def test_another_detector_size_in_the_next_acquisition_is_taken_up() -> None:
    other = Camera((12, 4), 6)
    data = acquisition(SMALL, range(1, 9), 8) + acquisition(other, range(1, 9), 8)
    first, second = decode(data, SCAN).scans
    assert_placed(first, SMALL)
    assert_placed(second, other)
    assert second.acquisition.detector.shape == (12, 4)


def test_a_stream_joined_in_the_middle_places_by_number() -> None:
    data = frame(SMALL, 6)[100:] + b"".join(frame(SMALL, n) for n in range(7, 12))
    first, second = decode(data, SCAN).scans
    assert (first.probe, first.reason) == ([5, -1], "complete")
    assert second.probe == [0, 1, 2]
    assert second.acquisition.sidecars == ()


def test_the_end_between_hdr_and_first_frame_leaves_no_scan() -> None:
    outcome = decode(hdr(SMALL, 8) + frame(SMALL, 1)[:200], SCAN)
    assert outcome.scans == []
    assert outcome.notices == {"partial_frame": 1}


def test_a_partial_frame_is_counted_and_never_delivered() -> None:
    outcome = decode(acquisition(SMALL, [1, 2, 3], 8)[:-1], SCAN)
    assert outcome.scans[0].probe == [0, 1]
    assert outcome.notices == {"partial_frame": 1}


@pytest.mark.parametrize(("sent", "reason"), [(7, "complete"), (6, "idle"), (1, "idle")])
def test_an_idle_end_is_complete_when_only_trailing_flyback_is_missing(
    sent: int, reason: str
) -> None:
    outcome = decode(acquisition(SMALL, range(1, sent + 1), 8), SCAN, reason="idle")
    assert outcome.scans[0].reason == reason


def test_trailing_flyback_that_comes_late_opens_no_scan() -> None:
    decoder = FrameDecoder(MerlinFormat(), BlockPool(1 << 16, 2048), SCAN)
    outcome = Outcome()
    outcome.take(feed(decoder, acquisition(SMALL, range(1, 8), 0)))
    outcome.take(decoder.end("idle", 1))
    outcome.take(feed(decoder, b"".join(frame(SMALL, n) for n in range(8, 17))))
    outcome.take(decoder.flush(2, eof=False))
    assert [(s.reason, len(s.patterns)) for s in outcome.scans] == [("complete", 6)] * 2


def test_the_end_of_a_scan_is_told_with_its_last_byte() -> None:
    decoder = FrameDecoder(MerlinFormat(), BlockPool(1 << 20, 1 << 16), SCAN)
    outcome = Outcome()
    outcome.take(feed(decoder, acquisition(SMALL, range(1, 17), 0)))
    assert [s.reason for s in outcome.scans] == ["complete", "complete"]


def test_a_new_scan_geometry_counts_from_the_next_scan_on() -> None:
    decoder = FrameDecoder(MerlinFormat(), BlockPool(1 << 20, 1 << 16), SCAN)
    outcome = Outcome()
    outcome.take(feed(decoder, acquisition(SMALL, range(1, 5), 0)))
    outcome.take(decoder.flush(0, eof=False))
    decoder.scan = Scan(shape=(1, 2), flyback=0)
    outcome.take(feed(decoder, b"".join(frame(SMALL, n) for n in range(5, 13))))
    outcome.take(decoder.flush(0, eof=True))
    assert [s.acquisition.scan.shape for s in outcome.scans] == [(2, 3), (1, 2), (1, 2)]
    assert [s.reason for s in outcome.scans] == ["complete"] * 3


@pytest.mark.parametrize(
    ("frames", "told", "shape"), [(12, (3, 4), (3, 4)), (9, None, (3, 3)), (7, None, (1, 7))]
)
def test_without_a_configured_scan_the_camera_tells_it(
    frames: int, told: tuple[int, int] | None, shape: tuple[int, int]
) -> None:
    data = hdr(SMALL, frames, scan_shape=told)
    data += b"".join(frame(SMALL, n) for n in range(1, frames + 1))
    (seen,) = decode(data, None).scans
    assert (seen.acquisition.scan.shape, seen.reason) == (shape, "complete")


def test_an_endless_acquisition_of_unknown_size_is_an_error_with_a_remedy() -> None:
    with pytest.raises(FormatError, match="size of the scan") as caught:
        decode(acquisition(SMALL, [1], 0), None)
    assert "scan.shape" in caught.value.remedy


def test_counters_tell_the_fate_of_every_frame() -> None:
    scan = Scan(shape=(2, 2), flyback=1, leading=2)
    decoder = FrameDecoder(MerlinFormat(), BlockPool(1 << 16, 2048), scan)
    Outcome().take(feed(decoder, b"xyz" + acquisition(SMALL, [1, 2, 3, 4, 4, 5, 6, 7], 0)))
    Outcome().take(decoder.flush(0, eof=False))
    counters = decoder.counters
    assert (counters.frames, counters.leading, counters.flyback, counters.repeated) == (8, 2, 1, 1)


def test_blocks_are_views_of_pool_memory_and_all_of_it_comes_back() -> None:
    pool = BlockPool(1 << 16, 2048)
    decoder = FrameDecoder(MerlinFormat(), pool, Scan(shape=(4, 4), flyback=0))
    kept = [
        m
        for m in feed(decoder, acquisition(SMALL, range(1, 10), 16), itertools.repeat(777))
        if isinstance(m, FrameBlock)
    ]
    assert all(m.buffer is not None and np.shares_memory(m.wire, m.buffer.bytes) for m in kept)
    assert pool.free < pool.buffers
    for block in kept:
        block.release()
    decoder.reset()
    assert pool.free == pool.buffers


@pytest.mark.parametrize("camera", [SMALL, Camera((2, 256), 6, raw=True)])
def test_a_batch_is_the_same_bytes_as_single_messages(camera: Camera) -> None:
    time_ns, step = 1_709_251_199_999_000_321, 777_001  # over midnight, 29 February 2024
    batch = Batch(camera, 5)
    for i in range(5):
        batch.put(i, pattern(camera, i + 1))
    batch.stamp(np.arange(999_997, 1_000_002), time_ns, step)
    expected = b"".join(
        message(
            encode_frame(
                pattern(camera, i + 1), camera, (999_997 + i) % 1_000_000, time_ns + i * step
            )
        )
        for i in range(4)
    )
    assert bytes(batch.view(4)) == expected

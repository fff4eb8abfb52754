"""Streams to scans: any cut, any disorder, every fault of a control unit and its network."""

from __future__ import annotations

import itertools
import random

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from stemd.acquisition import Scan
from stemd.adapters.dectris import legacy, stream2, zmtp
from stemd.adapters.dectris.compression import Algorithm, compress_image, expand_array
from stemd.adapters.dectris.decoder import StreamDecoder
from stemd.adapters.dectris.kernels.expanding import expand_images
from stemd.adapters.dectris.kernels.scanning import find_messages
from stemd.blocks import BlockPool
from stemd.errors import FormatError
from tests.dectris.streams import (
    HELLO,
    SCAN,
    SHAPE,
    Kind,
    decode,
    end,
    feed,
    frame,
    image,
    series,
    start,
)
from tests.merlin.streams import Outcome, Seen


def assert_placed(seen: Seen, dtype: str = "u2") -> None:
    """Every image stands where plain arithmetic on its number puts it."""
    numbers = [s for s, p in zip(seen.sequence, seen.probe, strict=True) if p >= 0]
    expected = seen.acquisition.scan.probes(np.array(numbers, np.int64)).tolist()
    assert sorted(expected) == sorted(seen.patterns)
    for number, probe in zip(numbers, expected, strict=True):
        np.testing.assert_array_equal(seen.patterns[probe], image(number, dtype))


@pytest.mark.parametrize("kind", ["cbor", "legacy"])
@pytest.mark.parametrize("algorithm", ["bslz4", "lz4", "none"])
@pytest.mark.parametrize("dtype", ["u1", "u2", "u4"])
def test_a_scan_of_any_type_and_compression_comes_out_as_it_was_encoded(
    kind: Kind, algorithm: Algorithm, dtype: str
) -> None:
    outcome = decode(series(kind=kind, algorithm=algorithm, dtype=dtype))
    (seen,) = outcome.scans
    assert (seen.reason, seen.probe) == ("complete", [0, 1, 2, -1, 3, 4, 5, -1])
    assert_placed(seen, dtype)
    assert seen.acquisition.detector.shape == SHAPE
    assert (seen.acquisition.detector.dtype, not outcome.notices) == (dtype, True)
    images = b"".join(frame(n, kind=kind, algorithm=algorithm, dtype=dtype) for n in range(8))
    assert seen.wire == images
    assert seen.acquisition.sidecars == (("raw.start", start(kind=kind)),)


@settings(deadline=None, max_examples=40)
@given(st.data())
def test_any_cut_of_any_disorder_gives_the_same(data: st.DataObject) -> None:
    kind = data.draw(st.sampled_from(["cbor", "legacy"]))
    messages = []
    for number in range(1, data.draw(st.integers(1, 3)) + 1):
        numbers = data.draw(st.lists(st.integers(0, 9), max_size=10))
        what = data.draw(st.sampled_from(["u1", "u2"]))
        images = [frame(n, kind=kind, series=number, dtype=what) for n in numbers]
        spoiled = data.draw(st.sampled_from(["", "damage", "unknown", "ping"]))
        if spoiled == "damage" and images:
            images[0] = images[0].replace(b"bslz4", b"bslzz").replace(b"bs16-", b"bz16-")
        if spoiled == "unknown":
            images.append(zmtp.message(b"\xa1\x64type\x64what"))
        if spoiled == "ping":
            images.append(zmtp.frame(b"\x04PING\x00\x0ahello", command=True))
        ends = [start(kind=kind, series=number), end(kind=kind, series=number)]
        ends = ends if data.draw(st.booleans()) else ends[:1] if data.draw(st.booleans()) else []
        messages += [*ends[:1], *images, *ends[1:]]
    stream = b"".join(messages)
    seed = data.draw(st.integers(0, 1000))
    rng = random.Random(seed)
    cuts = iter(lambda: rng.choice([1, 7, 50, 300, 5000]), None)
    assert decode(stream, cuts=cuts).key() == decode(stream).key()


@settings(deadline=None, max_examples=150)
@given(st.integers(0, 2**32), st.sampled_from(["cbor", "legacy"]), st.integers(1, 30))
def test_hostile_bytes_raise_nothing(seed: int, kind: Kind, changes: int) -> None:
    rng = random.Random(seed)
    stream = bytearray(series(kind=kind))
    for _ in range(changes):
        at = rng.randrange(len(stream))
        stream[at : at + rng.choice([0, 1, 1, 4])] = rng.randbytes(rng.choice([0, 1, 1, 9]))
    decode(bytes(stream))


def test_lost_images_are_holes() -> None:
    outcome = decode(series([0, 2, 4, 6, 7]))
    (seen,) = outcome.scans
    assert (seen.reason, sorted(seen.patterns)) == ("complete", [0, 2, 3, 5])
    assert outcome.notices["missing_frames"] == 2
    assert_placed(seen)


def test_damaged_images_are_holes_and_are_told() -> None:
    good, bad = frame(1), bytearray(frame(2))
    head = bad.index(b"bslz4") + 8
    bad[head : head + 4] = b"\xff" * 4
    short = frame(0)[:40]
    outcome = decode(start() + good + bytes(bad) + frame(4) + frame(5) + frame(6) + short)
    (seen,) = outcome.scans
    assert sorted(seen.patterns) == [1, 3, 4, 5]
    assert (outcome.notices["bad_frame"], outcome.notices["partial_frame"]) == (1, 1)
    assert_placed(seen)


def test_a_series_of_several_scans_and_the_next_one_are_scans_of_their_own() -> None:
    outcome = decode(series(range(16), 16) + series(series=2))
    assert [s.reason for s in outcome.scans] == ["complete"] * 3
    assert [sorted(s.patterns) for s in outcome.scans] == [list(range(6))] * 3


def test_a_series_that_is_aborted_ends_its_scan_at_once() -> None:
    outcome = decode(series(range(3)), reason="idle")
    assert [(s.reason, len(s.patterns)) for s in outcome.scans] == [("stopped", 3)]


def test_a_series_that_begins_anew_ends_the_one_before() -> None:
    outcome = decode(start() + frame(0) + frame(1) + series(series=2))
    assert [(s.reason, len(s.patterns)) for s in outcome.scans] == [
        ("restarted", 2),
        ("complete", 6),
    ]


def test_an_end_that_comes_late_ends_nothing() -> None:
    late = start() + frame(0) + start(series=2) + frame(0, series=2) + end(series=1)
    outcome = decode(late + b"".join(frame(n, series=2) for n in range(1, 8)))
    assert [s.reason for s in outcome.scans] == ["restarted", "complete"]


def test_a_series_that_began_before_we_came_is_placed_by_its_numbers() -> None:
    outcome = decode(b"".join(frame(n) for n in range(3, 8)) + end())
    (seen,) = outcome.scans
    assert (seen.reason, sorted(seen.patterns)) == ("complete", [3, 4, 5])
    assert outcome.notices["no_start"] == 1
    assert_placed(seen)


def test_another_type_or_size_in_the_next_series_is_another_scan() -> None:
    stream = series() + series(series=2, dtype="u4") + series(series=3, shape=(5, 4))
    outcome = decode(stream)
    found = [(s.reason, s.acquisition.detector.dtype) for s in outcome.scans]
    assert found == [("complete", "u2"), ("complete", "u4"), ("complete", "u2")]
    assert outcome.scans[2].acquisition.detector.shape == (5, 4)


def test_without_a_scan_the_number_of_images_tells_it_else_it_is_asked_for() -> None:
    outcome = decode(series(range(9), 9), scan=None)
    assert outcome.scans[0].acquisition.scan.shape == (3, 3)
    outcome = decode(series(range(9), 9, kind="legacy"), scan=None)
    assert outcome.scans[0].acquisition.scan.shape == (3, 3)
    with pytest.raises(FormatError, match=r"scan\.shape"):
        decode(frame(0), scan=None)


@pytest.mark.parametrize("absurd", [8, 999_999, (1 << 40) - 1])
@pytest.mark.parametrize("after", [0, 1, 3, 6])
def test_a_number_that_cannot_be_costs_no_other_image_its_place(absurd: int, after: int) -> None:
    picture = {"threshold_1": stream2.encode_array(image(0), "bslz4")}
    odd = zmtp.message(stream2.encode_image(1, absurd, picture))
    images = [frame(n) for n in range(8)]
    outcome = decode(start() + b"".join([*images[:after], odd, *images[after:]]) + end())
    (seen,) = outcome.scans
    assert (seen.reason, sorted(seen.patterns)) == ("complete", list(range(6)))
    assert outcome.notices == {"extra_frames": 1}
    assert_placed(seen)


@pytest.mark.parametrize(
    ("encoding", "good"),
    [
        ("bs16-lz4<", True),
        ("bs16-lz4>", False),
        ("bs32-lz4<", False),
        ("bs16<", False),
        ("bs16-zstd<", False),
        ("lz4>", False),
        ("bs16-lz4", False),
    ],
)
def test_an_image_in_an_encoding_that_is_not_known_is_no_image(encoding: str, good: bool) -> None:
    parts = legacy.encode_image(1, 0, image(0), "bslz4")
    parts[1] = parts[1].replace(b"bs16-lz4<", encoding.encode())
    outcome = decode(start(kind="legacy") + zmtp.message(*parts))
    assert len(outcome.scans) == good
    assert outcome.notices["bad_frame"] == (not good)


def test_a_second_client_that_takes_every_other_image_is_told_once() -> None:
    scan = Scan(shape=(20, 20), flyback=0)
    outcome = decode(start(400) + b"".join(frame(n) for n in range(0, 400, 2)), scan)
    assert outcome.notices["stolen_frames"] == 1
    assert "50 of 100" in " ".join(outcome.texts)
    lost = decode(start(400) + b"".join(frame(n) for n in range(400) if n % 7), scan)
    assert lost.notices["stolen_frames"] == 0


def channels(number: int) -> bytes:
    """A message with the images of three thresholds."""
    data = {
        name: stream2.encode_array(image(number + 100 * k), "bslz4")
        for k, name in enumerate(("threshold_1", "threshold_2", "difference"))
    }
    return zmtp.message(stream2.encode_image(1, number, data))


@pytest.mark.parametrize(
    ("channel", "offset"), [("", 0), ("threshold_2", 100), ("difference", 200)]
)
def test_one_of_several_channels_is_used(channel: str, offset: int) -> None:
    begin = start(channels=("threshold_1", "threshold_2", "difference"))
    outcome = decode(begin + b"".join(channels(n) for n in range(8)), channel=channel)
    (seen,) = outcome.scans
    np.testing.assert_array_equal(seen.patterns[0], image(offset))
    np.testing.assert_array_equal(seen.patterns[5], image(6 + offset))
    assert outcome.notices["channels"] == (not channel)


def test_a_channel_that_is_not_there_is_told() -> None:
    outcome = decode(series(), channel="threshold_9")
    assert not outcome.scans
    assert outcome.notices["no_channel"] == 8


@pytest.mark.parametrize("dtype", ["u1", "u2", "u4"])
def test_pixels_without_a_value_count_nothing_and_the_mask_goes_with_the_scan(dtype: str) -> None:
    picture = image(0, dtype)
    picture[2, 3] = np.iinfo(dtype).max
    data = {"threshold_1": stream2.encode_array(picture, "bslz4")}
    mask = np.zeros(SHAPE, np.uint32)
    mask[2, 3], mask[4, 4] = 1, 16
    for begin in (start(mask=mask), start(mask=mask, kind="legacy")):
        outcome = decode(begin + zmtp.message(stream2.encode_image(1, 0, data)))
        (seen,) = outcome.scans
        picture[2, 3] = 0
        np.testing.assert_array_equal(seen.patterns[0], picture)
        np.testing.assert_array_equal(seen.acquisition.detector.mask, mask != 0)


def test_a_legacy_header_may_come_as_a_message_for_each_of_its_parts() -> None:
    config = {"nimages": 1, "ntrigger": 9, "trigger_mode": "exte"}
    mask = np.zeros(SHAPE, np.uint32)
    mask[2, 3] = 1
    parts = legacy.encode_start(1, config, mask)
    begin = b"".join(zmtp.message(part) for part in parts[:2])
    images = b"".join(frame(n, kind="legacy") for n in range(9))
    outcome = decode(begin + images, None)
    (seen,) = outcome.scans
    assert seen.acquisition.scan.shape == (3, 3)
    assert seen.acquisition.sidecars == (("raw.start", zmtp.message(*parts[:2])),)
    assert not outcome.notices
    late = decode(begin + images + zmtp.message(parts[1]), None)
    assert late.notices["unknown_message"] == 1


def test_a_legacy_header_without_detail_says_nothing_and_that_is_enough() -> None:
    begin = zmtp.message(*legacy.encode_start(1, {}, detail=False))
    outcome = decode(begin + b"".join(frame(n, kind="legacy") for n in range(8)))
    assert [s.reason for s in outcome.scans] == ["complete"]


@pytest.mark.parametrize(
    ("hello", "words"),
    [
        (b"HTTP/1.1 400 Bad Request\r\n", "does not speak ZeroMQ"),
        (zmtp.greeting()[:10] + b"\x01" + zmtp.greeting()[11:], "version 1"),
        (zmtp.greeting().replace(b"NULL\0", b"CURVE"), "CURVE"),
        (zmtp.greeting() + zmtp.ready("PUB"), "is a PUB"),
        (zmtp.greeting() + zmtp.frame(b"\x05ERROR\x03why", command=True), "why"),
        (zmtp.greeting() + b"\x40\x00", "no message"),
        (HELLO + b"\x02" + b"\x7f" * 8, "no message"),
    ],
    ids=range(7),
)
def test_a_peer_that_is_no_camera_is_told_and_given_up(hello: bytes, words: str) -> None:
    decoder, outcome = StreamDecoder(BlockPool(1 << 20), SCAN), Outcome()
    outcome.take(feed(decoder, hello))
    assert decoder.broken
    assert words in " ".join(outcome.texts)
    outcome.take(feed(decoder, bytes(1 << 21)))
    assert decoder.garbage_bytes >= 1 << 21


def test_a_length_that_lies_allocates_nothing() -> None:
    decoder, outcome = StreamDecoder(BlockPool(1 << 20), SCAN), Outcome()
    outcome.take(feed(decoder, HELLO + b"\x02" + (400 << 20).to_bytes(8, "big") + bytes(1000)))
    assert len(decoder.wants()[0]) < 2 << 20
    assert not decoder.broken


def test_a_message_larger_than_all_memory_at_hand_is_taken_whole() -> None:
    big = zmtp.message(stream2.encode_start(1, SHAPE, "u2", 8, user_data="x" * (5 << 20)))
    outcome = decode(big + b"".join(frame(n) for n in range(8)), cuts=itertools.repeat(100_000))
    assert [s.reason for s in outcome.scans] == ["complete"]


def test_a_ping_is_answered() -> None:
    decoder = StreamDecoder(BlockPool(1 << 20), SCAN)
    Outcome().take(feed(decoder, HELLO))
    assert decoder.outgoing() == zmtp.greeting() + zmtp.ready("PULL")
    Outcome().take(feed(decoder, zmtp.frame(b"\x04PING\x00\x0ahello", command=True)))
    assert decoder.outgoing() == zmtp.frame(b"\x04PONGhello", command=True)


def test_each_kernel_is_compiled_once_for_whatever_comes() -> None:
    decode(frame(0))
    decode(series(range(8)))
    decode(series(range(8), kind="legacy", algorithm="lz4", dtype="u1"))
    expand_array(compress_image(image(1), "bslz4"), "bslz4", 2, image(1).nbytes)
    for kernel in (expand_images, find_messages):
        assert len(kernel.signatures) == 1

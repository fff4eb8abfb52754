"""Words, chunks and what is neither."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import settings as hypothesis_settings
from hypothesis import strategies as st

from stemd.acquisition import Scan
from stemd.adapters.events.clock import COUNTERS
from stemd.adapters.events.front import Hits
from stemd.adapters.events.layout import Layout
from stemd.adapters.timepix3.front import WordsFront
from stemd.adapters.timepix3.words import (
    chunk,
    global_time_words,
    heartbeat_word,
    pixel_words,
    tdc_words,
)
from stemd.errors import ConfigError

from .streams import Camera, decoder, electrons, expected, receive, settings

SCAN = Scan(shape=(12, 17), flyback=3, dwell_time_us=1.0)


def bits(word: int, high: int, low: int) -> int:
    """Bits high..low of a word, both counted."""
    return (word >> low) & ((1 << (high - low + 1)) - 1)


def pixel_by_hand(word: int) -> tuple[int, int, int, int]:
    """(time in ticks, y, x, ToT) of a pixel word, field by field from its description."""
    double_column, super_pixel, pixel = bits(word, 59, 53), bits(word, 52, 47), bits(word, 46, 44)
    y = super_pixel * 4 + pixel % 4
    x = double_column * 2 + pixel // 4
    coarse = bits(word, 15, 0) * 2**14 + bits(word, 43, 30)
    return coarse * 16 - bits(word, 19, 16), y, x, bits(word, 29, 20)


def decode_all(data: bytes, front: WordsFront) -> tuple[np.ndarray, np.ndarray, np.ndarray, int]:
    hits = Hits()
    used, count, items, _ = front.decode(np.frombuffer(bytearray(data), np.uint8), 0, hits)
    assert used == len(data) // 8
    return (
        hits.times[:count].copy(),
        hits.places[:count].copy(),
        hits.items[:items].copy(),
        count,
    )


@given(
    time=st.integers(16, 2**34 - 1),
    y=st.integers(0, 255),
    x=st.integers(0, 255),
    tot=st.integers(0, 1023),
)
def test_a_pixel_word_means_what_its_description_says(time: int, y: int, x: int, tot: int) -> None:
    (word,) = pixel_words(time, y, x, tot)
    assert bits(int(word), 63, 60) == 0xB
    told, *place = pixel_by_hand(int(word))
    assert (told % 2**34, *place) == (time, y, x, tot)


@hypothesis_settings(max_examples=50, deadline=None)
@given(word=st.integers(0, 2**60 - 1))
def test_the_decoder_reads_any_pixel_word_as_its_description_says(word: int) -> None:
    word |= 0xB << 60
    front = WordsFront(Layout("single"))
    times, places, _, _ = decode_all(np.array([word], "<u8").tobytes(), front)
    time, y, x, _ = pixel_by_hand(word)
    assert times[0] in (time, time % 2**34)  # the clock may begin a little before zero
    assert (places[0] >> 16, places[0] & 0xFFFF) == (y, x)


@given(sixths=st.integers(0, 6 * 2**36 - 1), counter=st.integers(0, 4095))
def test_a_pulse_comes_back_to_a_sixth_of_a_tick(sixths: int, counter: int) -> None:
    words = tdc_words(sixths / 6, counter)
    front = WordsFront(Layout("single"))
    _, _, items, _ = decode_all(words.astype("<u8").tobytes(), front)
    assert items[0, 1] == 0xF
    assert items[0, 2] % (6 * 2**34) == sixths % (6 * 2**34)
    assert items[0, 3] == counter
    assert bits(int(words[0]), 8, 5) in range(1, 13)


@pytest.mark.parametrize(
    ("chip", "y", "x", "place"),
    [
        (0, 0, 0, (0, 256)),
        (0, 255, 255, (255, 511)),
        (1, 0, 0, (511, 511)),
        (1, 10, 20, (501, 491)),
        (2, 0, 0, (511, 255)),
        (2, 10, 20, (501, 235)),
        (3, 10, 20, (10, 20)),
    ],
)
def test_the_chips_of_a_quad_lie_as_the_vendor_places_them(
    chip: int, y: int, x: int, place: tuple[int, int]
) -> None:
    front = WordsFront(Layout("quad"))
    _, places, _, _ = decode_all(chunk(pixel_words(99, y, x), chip), front)
    assert (places[0] >> 16, places[0] & 0xFFFF) == place


def test_detector_and_chip_coordinates_are_inverse() -> None:
    layout = Layout("quad", 2)
    y, x = np.mgrid[:514, :514]
    chip, row, column = layout.chip_coordinates(y.ravel(), x.ravel())
    real = chip >= 0
    assert real.sum() == 4 * 65536
    back = layout.place(chip[real], row[real], column[real])
    assert (back[0] == y.ravel()[real]).all()
    assert (back[1] == x.ravel()[real]).all()


def test_other_words_are_skipped_and_counted() -> None:
    odd = np.array(
        [0x5F << 56, 0x5A << 56, 0x50 << 56, 0x71A0 << 48, 0x7200 << 48, 0x21 << 56, 0xA << 60,
         0xC << 60, 0x1 << 60],
        np.uint64,
    )  # fmt: skip
    sent = electrons(SCAN, 3000)
    parts = Camera().chunks(sent)
    parts.insert(30, chunk(odd, 1))
    parts.insert(40, chunk(np.concatenate([heartbeat_word(1), global_time_words(1_100_000)]), 2))
    made = decoder(settings(SCAN))
    got = receive(b"".join(parts), made)
    assert (got.hits() == expected(sent)).all()
    counters = made.counters()
    assert (counters["control"], counters["integrated"], counters["unknown"]) == (9, 1, 2)
    assert "unknown_words" in got.notices()


def test_bare_words_without_chunk_headers_are_read_too() -> None:
    sent = electrons(SCAN, 3000, layout=Layout("single"))
    parts = Camera(layout=Layout("single")).chunks(sent)
    bare = b"".join(part[8:] for part in parts)
    made = decoder(settings(SCAN, layout="single"))
    got = receive(bare, made)
    assert (got.hits() == expected(sent)).all()
    assert made.counters()["chunks"] == 0


@hypothesis_settings(max_examples=20, deadline=None)
@given(
    garbage=st.binary(min_size=1, max_size=300),
    where=st.integers(1, 60),
    cuts=st.lists(st.integers(1, 999), max_size=30),
)
def test_garbage_between_chunks_is_skipped_and_counted(
    garbage: bytes, where: int, cuts: list[int]
) -> None:
    garbage = garbage.replace(b"T", b"t")
    sent = electrons(SCAN, 3000)
    parts = Camera().chunks(sent)
    parts.insert(where, garbage)
    made = decoder(settings(SCAN), headers_required=True)
    got = receive(b"".join(parts), made, cuts=cuts, flush=lambda number: number % 3 == 0)
    assert (got.hits() == expected(sent)).all()
    assert made.skipped_bytes == len(garbage)
    (name,) = got.wire
    assert got.wire[name] == b"".join(parts)


def test_a_chunk_that_is_shorter_than_it_says_costs_nothing_but_itself() -> None:
    sent = electrons(SCAN, 3000)
    parts = Camera().chunks(sent)
    lying = bytearray(parts[20])
    lying[6:8] = (len(lying) - 8 + 80).to_bytes(2, "little")
    parts[20] = bytes(lying)
    made = decoder(settings(SCAN))
    got = receive(b"".join(parts), made)
    assert (got.hits() == expected(sent)).all()
    assert made.counters()["broken_chunks"] == 1


def test_chips_that_the_layout_does_not_have_are_counted() -> None:
    sent = electrons(SCAN, 3000)
    parts = Camera().chunks(sent)
    parts.insert(10, chunk(pixel_words(np.arange(5) + 10**6, 1, 1), 7))
    made = decoder(settings(SCAN))
    got = receive(b"".join(parts), made)
    assert (got.hits() == expected(sent)).all()
    assert made.counters()["foreign_chip"] == 5


@hypothesis_settings(max_examples=60, deadline=None)
@given(data=st.binary(max_size=4000), required=st.booleans(), cut=st.integers(1, 500))
def test_no_bytes_whatever_break_the_decoder(data: bytes, required: bool, cut: int) -> None:
    made = decoder(settings(SCAN), headers_required=required)
    receive(data, made, cuts=[cut] * 1000, flush=lambda number: number % 2 == 0)
    assert all(made.counters()[name] >= 0 for name in COUNTERS)


@hypothesis_settings(max_examples=60, deadline=None)
@given(
    words=st.lists(
        st.tuples(st.sampled_from([0xB, 0x6F, 0x44, 0x45, 0xB, 0xB]), st.integers(0, 2**60 - 1)),
        max_size=300,
    ),
    chip=st.integers(0, 3),
)
def test_words_with_any_times_break_nothing(words: list[tuple[int, int]], chip: int) -> None:
    values = [kind << (60 if kind < 16 else 56) | low % 2**56 for kind, low in words]
    made = decoder(settings(SCAN, hold_hits=1024))
    receive(chunk(np.array(values, np.uint64), chip), made)
    counters = made.counters()
    fates = (
        "assigned",
        "outside",
        "late",
        "overflow",
        "held",
        "left_over",
        "false_ahead",
        "masked",
    )
    assert counters["pixels"] == sum(counters[name] for name in fates)


def test_a_scan_must_be_known() -> None:
    with pytest.raises(ConfigError, match="scan"):
        decoder(settings(SCAN).model_copy(update={"scan": None}))

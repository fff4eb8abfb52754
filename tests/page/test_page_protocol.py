"""The page's messages, with no socket: layout, round trips, refusals."""

from __future__ import annotations

import json
import struct
from contextlib import suppress

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp
from page_harness import Microscope

from stemd import image_frames
from stemd.documents import compact_json
from stemd.image_frames import decode_image, encode_image, reduced, reduction
from stemd.page import protocol
from stemd.page.protocol import parse
from stemd.results import Result

IMAGES = hnp.arrays(
    np.float32,
    hnp.array_shapes(min_dims=2, max_dims=2, max_side=9),
    elements=st.floats(width=32, allow_nan=False, allow_infinity=False),
)


def test_a_frame_has_the_documented_layout_and_aligned_pixels() -> None:
    image = np.array([[1.5, -2.0, 3.0]], np.float32)
    data = encode_image({"shape": [1, 3], "name": "µ"}, image, final=True)
    magic, version, flags, zero, meta_bytes, pixel_bytes = struct.unpack_from("<4sBBHII", data)
    assert (magic, version, flags, zero, pixel_bytes) == (b"STEI", 1, 1, 0, 12)
    assert (16 + meta_bytes) % 4 == 0
    assert json.loads(data[16 : 16 + meta_bytes]) == {"shape": [1, 3], "name": "µ"}
    assert struct.unpack("<3f", data[16 + meta_bytes :]) == (1.5, -2.0, 3.0)


@given(IMAGES, st.text(max_size=20))
def test_every_image_survives_the_round_trip(image: np.ndarray, name: str) -> None:
    meta, back = decode_image(
        encode_image({"shape": list(image.shape), "name": name}, image, final=False)
    )
    assert meta["name"] == name
    np.testing.assert_array_equal(back, image)


@given(IMAGES)
def test_pixels_of_16_bits_are_right_to_half_a_step_of_the_range(image: np.ndarray) -> None:
    meta = {"shape": list(image.shape), "units": "px"}
    data = image_frames.encode_short_image(meta, image, final=False)
    told, back = decode_image(data)
    assert len(data) % 4 == 0, "frames follow one another, and pixels stay aligned"
    span = float(image.max()) - float(image.min())
    assert ("code" in told) == (span == 0 or 1e-30 < span < 1e30)
    error = np.abs(back.astype(np.float64) - image.astype(np.float64)).max()
    assert (back[image == 0] == 0).all(), "a 0 may be a blank"
    assert error <= span / 65534 / 2 * 1.04 + float(np.abs(image).max()) * 2.0**-23


@given(hnp.arrays(np.int64, (3, 5), elements=st.integers(0, 65535)), st.integers(-(2**23), 2**23))
def test_counts_of_16_bits_are_exact(counts: np.ndarray, offset: int) -> None:
    image = (counts + offset).astype(np.float32)
    meta = {"shape": [3, 5], "units": "counts"}
    _, back = decode_image(image_frames.encode_short_image(meta, image, final=True))
    np.testing.assert_array_equal(back, image)


def test_an_image_with_values_that_are_not_finite_keeps_its_floats() -> None:
    image = np.array([[1.5, np.nan], [np.inf, -2.0]], np.float32)
    told, back = decode_image(
        image_frames.encode_short_image({"shape": [2, 2]}, image, final=False)
    )
    assert "code" not in told
    np.testing.assert_array_equal(back, image)


def test_images_in_any_memory_order_and_byte_order_are_sent_alike() -> None:
    image = np.arange(12, dtype=np.float32).reshape(3, 4)
    plain = encode_image({"shape": [3, 4]}, image, final=False)
    assert encode_image({"shape": [3, 4]}, np.asfortranarray(image), final=False) == plain
    assert encode_image({"shape": [3, 4]}, image.astype(">f4"), final=False) == plain


@pytest.mark.parametrize("cut", [0, 5, 15, 17, 30])
def test_a_frame_that_is_cut_off_is_refused(cut: int) -> None:
    data = encode_image({"shape": [2, 2]}, np.zeros((2, 2), np.float32), final=False)
    with pytest.raises(ValueError, match="image frame"):
        decode_image(data[:cut])


@given(st.integers(1, 5000), st.integers(1, 5000), st.integers(1, 4096))
def test_the_reduction_is_the_smallest_power_of_two_that_fits(h: int, w: int, side: int) -> None:
    step = reduction((h, w), side)
    assert step & (step - 1) == 0
    assert max(h, w) <= side * step
    assert step == 1 or max(h, w) > side * step // 2


def test_a_reduced_image_is_the_mean_of_its_boxes() -> None:
    image = np.arange(30, dtype=np.float32).reshape(5, 6)
    boxes = reduced(image, 2, mean=True)
    expected = [[image[y : y + 2, x : x + 2].mean() for x in (0, 2, 4)] for y in (0, 2)]
    np.testing.assert_allclose(boxes, expected)


def test_angles_are_picked_not_averaged() -> None:
    image = np.array([[3.1, -3.1], [-3.1, 3.1]], np.float32)
    np.testing.assert_array_equal(reduced(image, 2, mean=False), image[:1, :1])


def test_the_meta_of_a_reduced_image_keeps_its_calibration() -> None:
    scope = Microscope(shape=(16, 32))
    snapshot = scope.snapshot(100)
    meta = image_frames.image_meta("merlin", snapshot, snapshot.results[0], 4)
    assert meta["shape"] == [4, 8]
    assert meta["full_shape"] == [16, 32]
    assert meta["pixel_size"] == pytest.approx(0.8)
    assert meta["positions_done"] == 100
    assert meta["positions_total"] == 512


def test_documents_with_nan_and_numpy_values_become_strict_json() -> None:
    text = compact_json(
        {"a": float("nan"), "b": np.float32(2.5), "c": (np.int64(3), np.array([1.0]))}
    )
    assert json.loads(text, parse_constant=pytest.fail) == {"a": None, "b": 2.5, "c": [3, [1.0]]}


@pytest.mark.parametrize(
    ("text", "word"),
    [
        ("nonsense", "message"),
        ("[]", "message"),
        ('{"type": "shutdown"}', "type|tag"),
        ('{"type": "watch"}', "images"),
        ('{"type": "watch", "images": {"p": {"ricom": -1}}}', "ricom"),
        ('{"type": "watch", "images": {"p": {"ricom": 1}}, "more": 1}', "more"),
        ('{"type": "request", "pipeline": "p", "kind": "shell", "request": {}}', "kind"),
    ],
)
def test_a_wrong_message_is_refused_in_one_line_that_names_the_place(text: str, word: str) -> None:
    with pytest.raises(ValueError, match=word) as caught:
        parse(text)
    assert "\n" not in str(caught.value)


@given(st.text(max_size=200))
def test_no_text_whatever_breaks_the_parser(text: str) -> None:
    with suppress(ValueError):  # any other exception fails the test
        assert parse(text).type


def test_a_phase_is_averaged_when_it_is_reduced_and_a_direction_is_not() -> None:
    image = np.zeros((2, 2), np.float32)
    for name, wraps in (
        ("airpi_phase", False),
        ("ssb_phase", False),
        ("airpi_phase_restored", False),
        ("field_direction", True),
    ):
        assert image_frames.is_angle(Result(name, image, "rad")) is wraps


def test_drawn_names_one_image_or_several() -> None:
    one = parse('{"type": "drawn", "pipeline": "merlin", "name": "adf"}')
    several = parse('{"type": "drawn", "pipeline": "merlin", "name": ["adf", "bf", "adf"]}')
    assert isinstance(one, protocol.Drawn)
    assert isinstance(several, protocol.Drawn)
    assert (one.names, several.names) == (["adf"], ["adf", "bf", "adf"])
    with pytest.raises(ValueError, match="name"):
        parse('{"type": "drawn", "pipeline": "merlin", "name": []}')

"""Packed pixels against index formulas written out with NumPy."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from stemd.adapters.merlin.encoder import Camera, encode_frame, encode_pixels
from stemd.adapters.merlin.geometry import geometry_of
from stemd.adapters.merlin.header import FrameHeader, header_length
from stemd.adapters.merlin.packing import unpack_frames
from stemd.errors import FormatError


def plain_plane(words: NDArray[np.uint8], bits: int) -> NDArray[np.int64]:
    """Wire bytes to pixels in wire order: the last pixel of every 8-byte word comes first."""
    if bits == 1:
        values = words.reshape(-1, 8)
        big = np.zeros(len(values), np.uint64)
        for k in range(8):
            big = (big << np.uint64(8)) | values[:, k].astype(np.uint64)
        shifts = np.arange(64, dtype=np.uint64)
        return ((big[:, None] >> shifts) & np.uint64(1)).astype(np.int64).reshape(-1)
    if bits == 6:
        return words.reshape(-1, 8)[:, ::-1].astype(np.int64).reshape(-1)
    return words.view(">u2").reshape(-1, 4)[:, ::-1].astype(np.int64).reshape(-1)


def plain_unpack(wire: NDArray[np.uint8], depth: int, chips: int) -> NDArray[np.int64]:
    """The pattern, pixel by pixel after the layout in FORMATS terms."""
    if depth == 24:
        first, second = wire.reshape(2, -1)
        flat = (plain_plane(first, 12) << 12) + plain_plane(second, 12)
    else:
        flat = plain_plane(wire, depth)
    rows = flat.reshape(-1, 256 * chips)
    if chips == 1:
        return rows
    height = 2 * len(rows)
    out = np.full((height, 512), -1, np.int64)
    for r in range(len(rows)):
        for c in range(256):
            out[height - 1 - r, 511 - c] = rows[r, c]
            out[height - 1 - r, 255 - c] = rows[r, 256 + c]
            out[r, 256 + c] = rows[r, 512 + c]
            out[r, c] = rows[r, 768 + c]
    return out


@pytest.mark.parametrize("depth", [1, 6, 12, 24])
@pytest.mark.parametrize("chips", [1, 4])
@settings(max_examples=8, deadline=None)
@given(rows=st.integers(1, 5), count=st.integers(1, 3), seed=st.integers(0, 99))
def test_raw_frames_unpack_as_the_index_formulas_say(
    depth: int, chips: int, rows: int, count: int, seed: int
) -> None:
    camera = Camera(
        (rows * (2 if chips == 4 else 1), 512 if chips == 4 else 256), depth, True, chips
    )
    geometry = camera.geometry()
    rng = np.random.default_rng(seed)
    top = 64 if depth == 6 else 256
    frames = rng.integers(0, top, count * geometry.frame_bytes, np.uint8)
    if depth in (12, 24):  # the upper four bits of a 12-bit count are never set
        for i in range(count):
            start = i * geometry.frame_bytes + geometry.header_bytes
            frames[start : (i + 1) * geometry.frame_bytes : 2] &= 0x0F
    out = np.zeros(count * geometry.unpacked_bytes, np.uint8)
    unpack_frames(frames, geometry, count, out)
    got = out.view("<" + geometry.dtype).reshape(count, *geometry.shape)
    for i in range(count):
        start = i * geometry.frame_bytes + geometry.header_bytes
        wire = frames[start : (i + 1) * geometry.frame_bytes]
        np.testing.assert_array_equal(got[i], plain_unpack(wire, depth, chips))


@pytest.mark.parametrize("depth", [1, 6, 12, 24])
@pytest.mark.parametrize("chips", [1, 4])
def test_packing_is_the_inverse_of_the_index_formulas_up_to_the_full_count(
    depth: int, chips: int
) -> None:
    shape = (6, 512) if chips == 4 else (3, 256)
    image = np.random.default_rng(depth).integers(0, 1 << depth, shape, np.uint32)
    image.flat[:2] = 0, (1 << depth) - 1
    wire = np.frombuffer(encode_pixels(image, Camera(shape, depth, True, chips)), np.uint8)
    assert wire.size * 8 == image.size * {1: 1, 6: 8, 12: 16, 24: 32}[depth]
    np.testing.assert_array_equal(plain_unpack(wire, depth, chips), image)


@pytest.mark.parametrize(("depth", "dtype"), [(6, "u1"), (12, ">u2"), (24, ">u4"), (48, ">u8")])
def test_processed_frames_are_big_endian_rows_as_they_stand(depth: int, dtype: str) -> None:
    camera = Camera((514, 514) if depth == 12 else (5, 9), depth, chips=4)
    image = np.random.default_rng(1).integers(0, 1 << depth, camera.shape, np.uint64)
    payload = encode_frame(image, camera, 7)
    geometry = camera.geometry()
    assert (geometry.shape, geometry.packed, geometry.header_bytes) == (camera.shape, False, 768)
    pixels = np.frombuffer(payload, dtype, offset=768).reshape(camera.shape)
    np.testing.assert_array_equal(pixels, image)


HEADER = FrameHeader(1, header_length(4), 4, 1024, 256, "R64", "2x2", "0F", 1)


def test_the_wire_layout_of_a_raw_header_gives_the_pattern() -> None:
    quad = geometry_of(HEADER)
    assert (quad.shape, quad.pixel_bytes, quad.dtype) == ((512, 512), 32768, "u1")
    deep = geometry_of(replace(HEADER, width=2048, depth=24))
    assert (deep.shape, deep.pixel_bytes, deep.dtype) == ((512, 512), 2048 * 256 * 2, "u4")
    single = FrameHeader(1, 384, 1, 256, 64, "R64", "2x2", "01", 12)
    assert geometry_of(single).shape == (64, 256)


@pytest.mark.parametrize(
    "header",
    [
        replace(HEADER, chips=2),
        replace(HEADER, width=1000),
        replace(HEADER, depth=5),
        replace(HEADER, length=770),
    ],
)
def test_a_raw_arrangement_that_is_not_known_is_refused_with_a_remedy(header: FrameHeader) -> None:
    with pytest.raises(FormatError, match="arrangement") as caught:
        geometry_of(header)
    assert "FILEFORMAT 0" in caught.value.remedy


def test_a_raw_camera_of_an_impossible_shape_is_refused() -> None:
    with pytest.raises(FormatError, match="does not exist"):
        Camera((64, 64), 6, raw=True).header()

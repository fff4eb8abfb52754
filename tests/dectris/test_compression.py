"""Compressed images against the public plugins of HDF5, and against damage."""

from __future__ import annotations

from typing import Any

import h5py
import hdf5plugin
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from numpy.typing import NDArray

from stemd.adapters.dectris.compression import (
    Algorithm,
    compress_image,
    compress_plain_lz4,
    expand_array,
)
from stemd.adapters.dectris.expander import Expander
from stemd.adapters.dectris.kernels import lz4, table
from stemd.adapters.dectris.kernels.memory import SLACK_BYTES

FILTERS: dict[str, Any] = {"bslz4": hdf5plugin.Bitshuffle(cname="lz4"), "lz4": hdf5plugin.LZ4()}


def expanded(
    data: bytes, algorithm: Algorithm, like: NDArray[Any]
) -> NDArray[np.unsignedinteger] | None:
    found = expand_array(data, algorithm, like.dtype.itemsize, like.nbytes)
    return None if found is None else found.view(like.dtype).reshape(like.shape)


def pictures(dtype: str) -> list[NDArray[Any]]:
    """Sparse, dense, empty, full; sizes that no block divides."""
    rng = np.random.default_rng(1)
    most = np.iinfo(dtype).max
    return [
        rng.poisson(0.1, (96, 96)).astype(dtype),
        rng.integers(0, most, (67, 53), endpoint=True).astype(dtype),
        np.zeros((128, 200), dtype),
        np.full((9, 11), most, dtype),
        (np.arange(150 * 150) % 251).reshape(150, 150).astype(dtype),
        np.ones((1, 1), dtype),
    ]


@pytest.mark.parametrize("dtype", ["u1", "u2", "u4"])
@pytest.mark.parametrize("algorithm", ["bslz4", "lz4"])
def test_the_plugins_of_hdf5_read_what_we_write_and_we_what_they_write(
    dtype: str, algorithm: Algorithm
) -> None:
    with h5py.File("memory", "w", driver="core", backing_store=False) as file:
        for index, picture in enumerate(pictures(dtype)):
            shape = (1, *picture.shape)
            theirs = file.create_dataset(
                f"theirs{index}", data=picture[None], chunks=shape, **FILTERS[algorithm]
            )
            _, chunk = theirs.id.read_direct_chunk((0, 0, 0))
            np.testing.assert_array_equal(expanded(chunk, algorithm, picture), picture)
            ours = file.create_dataset(
                f"ours{index}", shape, dtype, chunks=shape, **FILTERS[algorithm]
            )
            ours.id.write_direct_chunk((0, 0, 0), compress_image(picture, algorithm))
            np.testing.assert_array_equal(ours[0], picture)


def in_line(packed: list[bytes]) -> tuple[NDArray[np.uint8], NDArray[np.int64]]:
    """Compressed images one behind the other, as a receive leaves them, and their rows."""
    rows = np.zeros((len(packed), table.COLUMNS), np.int64)
    ends = np.cumsum([len(each) for each in packed])
    rows[:, table.DATA], rows[:, table.DATA_END] = ends - [len(each) for each in packed], ends
    rows[:, table.ALGORITHM] = table.BSLZ4
    return np.frombuffer(bytearray(b"".join(packed) + bytes(SLACK_BYTES)), np.uint8), rows


@pytest.mark.parametrize("dtype", ["u1", "u2", "u4"])
@pytest.mark.parametrize("algorithm", ["bslz4", "lz4", "none"])
def test_values_at_the_types_maximum_become_0_wherever_they_stand(
    dtype: str, algorithm: Algorithm
) -> None:
    most = np.iinfo(dtype).max
    picture = pictures(dtype)[1]  # no vector and no block divides it
    picture[np.random.default_rng(2).random(picture.shape) < 0.3] = most
    data, rows = in_line([compress_image(picture, algorithm, 512)])
    rows[:, table.ALGORITHM] = ["none", "lz4", "bslz4"].index(algorithm)
    out, good = np.zeros(picture.nbytes, np.uint8), np.zeros(1, np.uint8)
    assert Expander().expand(data, rows, picture.itemsize, picture.nbytes, out, good) == 1
    found = out.view(dtype).reshape(picture.shape)
    np.testing.assert_array_equal(found, np.where(picture == most, 0, picture))


@pytest.mark.parametrize("damaged", [(), (0,), (37, 63)])
def test_several_threads_give_the_same_bytes_as_one(damaged: tuple[int, ...]) -> None:
    rng = np.random.default_rng(3)
    packed = [compress_image(rng.poisson(0.3, (128, 90)).astype("u2"), "bslz4") for _ in range(64)]
    for index in damaged:
        packed[index] = packed[index][:-9]
    data, rows = in_line(packed)
    image, found = 128 * 90 * 2, []
    for threads in (1, 2, 5):
        out, good = np.zeros(64 * image, np.uint8), np.zeros(64, np.uint8)
        expander = Expander(threads)
        count = expander.expand(data, rows, 2, image, out, good)
        expander.close()
        assert count == 64 - len(damaged)
        assert not np.any(good[list(damaged)])
        found.append(out[: count * image].tobytes())
    assert found[0] == found[1] == found[2]


def test_an_lz4_block_without_a_head_is_known_as_such() -> None:
    picture = pictures("u2")[0]
    np.testing.assert_array_equal(expanded(compress_plain_lz4(picture), "lz4", picture), picture)


def test_a_head_that_nobody_filled_in_is_forgiven_and_a_false_one_is_not() -> None:
    picture = pictures("u2")[0]
    packed = compress_image(picture, "bslz4")
    np.testing.assert_array_equal(expanded(bytes(12) + packed[12:], "bslz4", picture), picture)
    assert expanded(b"\0\0\0\0\0\0\0\1" + packed[8:], "bslz4", picture) is None


@settings(deadline=None, max_examples=60)
@given(
    arrays(np.uint16, st.tuples(st.integers(1, 70), st.integers(1, 70))),
    st.sampled_from(["none", "lz4", "bslz4"]),
    st.sampled_from([64, 512, 8192]),
)
def test_any_image_comes_back(picture: NDArray[Any], algorithm: Algorithm, block: int) -> None:
    packed = compress_image(picture, algorithm, block)
    np.testing.assert_array_equal(expanded(packed, algorithm, picture), picture)


@settings(deadline=None, max_examples=200)
@given(
    st.sampled_from(["lz4", "bslz4"]),
    st.lists(st.tuples(st.integers(0, 10_000), st.integers(0, 255)), min_size=1, max_size=6),
    st.integers(0, 400),
)
def test_damage_is_noticed_or_changes_values_but_never_more(
    algorithm: Algorithm, changes: list[tuple[int, int]], cut: int
) -> None:
    picture = pictures("u2")[0]
    packed = bytearray(compress_image(picture, algorithm))
    for at, value in changes:
        packed[at % len(packed)] = value
    found = expand_array(bytes(packed[: len(packed) - cut]), algorithm, 2, picture.nbytes)
    assert found is None or found.nbytes == picture.nbytes


@settings(deadline=None, max_examples=60)
@given(st.data())
def test_a_pattern_that_repeats_at_any_distance_is_expanded(data: st.DataObject) -> None:
    """Each way to copy a match: near and far, short and long, up to the last byte."""
    block, expected = bytearray(), bytearray()
    for _ in range(data.draw(st.integers(1, 6))):
        literals = data.draw(st.binary(min_size=1, max_size=40))
        expected += literals
        distance = data.draw(st.integers(1, min(40, len(expected))))
        length = data.draw(st.integers(4, 90))
        block.append(min(len(literals), 15) << 4 | min(length - 4, 15))
        block += bytes([len(literals) - 15] if len(literals) >= 15 else [])
        block += literals + distance.to_bytes(2, "little")
        block += bytes([length - 19] if length >= 19 else [])
        for _ in range(length):
            expected.append(expected[-distance])
    block += b"\x10."
    expected += b"."
    source = np.frombuffer(bytearray(block + bytes(SLACK_BYTES)), np.uint8)
    target = np.full(len(expected) + SLACK_BYTES + 8, 7, np.uint8)
    assert lz4.expand(source, 0, len(block), target, 0, len(expected)) == len(expected)
    assert target[: len(expected)].tobytes() == bytes(expected)
    assert np.all(target[len(expected) + SLACK_BYTES :] == 7)


@pytest.mark.parametrize(
    "block",
    [
        b"",
        b"\x10",  # a literal that is not there
        b"\x00\x00\x00",  # a distance of 0
        b"\x10a\x02\x00\x00",  # a distance to before the beginning
        b"\xf0" + b"\xff" * 9,  # a length that has no end
        b"\x1fa\x01\x00" + b"\xff" * 40 + b"\x00" + b"\x00",  # a match beyond the end
        b"\x50abcde",  # too short
    ],
    ids=range(7),
)
def test_an_lz4_block_that_lies_writes_nothing_beyond_its_end(block: bytes) -> None:
    source = np.frombuffer(bytearray(block + bytes(SLACK_BYTES)), np.uint8)
    target = np.full(64 + 2 * SLACK_BYTES, 7, np.uint8)
    assert lz4.expand(source, 0, len(block), target, 0, 64) != 64
    assert np.all(target[64 + SLACK_BYTES :] == 7)

"""Arrays of every kind give the images of their counts, or one sentence that says why not."""

from __future__ import annotations

import threading
import tracemalloc
from pathlib import Path
from typing import Any

import dask.array as da
import h5py
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from stemd import api

Array = np.ndarray[Any, Any]
SHAPE = (6, 11, 16, 20)


@pytest.fixture(scope="module")
def counts() -> Array:
    """A scan of which no axis is like another, with a position without counts."""
    data = np.random.default_rng(3).poisson(4.0, SHAPE).astype(np.uint16)
    data[2, 3] = 0
    return data


def wanted_com(data: Array) -> tuple[Array, Array]:
    """Centre of mass minus the mean of all centres, by the definition, in float64."""
    values = np.asarray(data, np.float64)
    total = values.sum((2, 3))
    some = total > 0
    y = (values.sum(3) * np.arange(values.shape[2])).sum(2)[some] / total[some]
    x = (values.sum(2) * np.arange(values.shape[3])).sum(2)[some] / total[some]
    found_y, found_x = np.zeros(total.shape), np.zeros(total.shape)
    found_y[some], found_x[some] = y - y.mean(), x - x.mean()
    return found_y, found_x


def test_com_is_the_definition_with_y_before_x(counts: Array) -> None:
    images = api.com(counts)
    y, x = wanted_com(counts)
    np.testing.assert_allclose(images["com_y"], y, atol=1e-5)
    np.testing.assert_allclose(images["com_x"], x, atol=1e-5)
    assert list(images) == ["com_y", "com_x", "field_magnitude", "field_direction"]
    assert images["com_y"].units == "px"
    assert images.status == "complete"
    assert (images.positions_done, images.missing) == (66, 0)


VARIANTS = {
    "big-endian": lambda a: a.astype(">u2"),
    "bytes": lambda a: a.astype(np.uint8),
    "uint64": lambda a: a.astype(np.uint64),
    "int8": lambda a: a.astype(np.int8),
    "big-endian signed": lambda a: a.astype(">i4"),
    "float of whole numbers": lambda a: a.astype(np.float32),
    "half": lambda a: a.astype(np.float16),
    "Fortran order": np.asfortranarray,
    "detector axes first": lambda a: np.ascontiguousarray(a.transpose(2, 3, 0, 1)).transpose(
        2, 3, 0, 1
    ),
    "every second of a larger one": lambda a: np.repeat(np.repeat(a, 2, 1), 2, 3)[:, ::2, :, ::2],
    "flipped twice": lambda a: np.ascontiguousarray(a[::-1, :, :, ::-1])[::-1, :, :, ::-1],
    "dask": lambda a: da.from_array(a, chunks=(4, 3, 16, 7)),
    "dask in one chunk": lambda a: da.from_array(a, chunks=a.shape),
    "lists": lambda a: a.tolist(),
}


@pytest.mark.parametrize("kind", VARIANTS)
def test_every_kind_of_array_gives_the_same_images(counts: Array, kind: str) -> None:
    engines = ["com", "sum", "virtual_detector:detectors_px={bf=[0,5.5]}", "pacbed"]
    first = api.process(counts, engines)
    other = api.process(VARIANTS[kind](counts), engines)
    assert list(first) == list(other)
    for name, image in first.items():
        assert np.asarray(image).tobytes() == np.asarray(other[name]).tobytes(), name


def test_booleans_count_as_ones(counts: Array) -> None:
    found = api.process(counts > 4, ["sum"])["sum"]
    np.testing.assert_array_equal(found, (counts > 4).sum((2, 3)))


def test_a_read_only_array_is_read(counts: Array) -> None:
    locked = counts.copy()
    locked.flags.writeable = False
    np.testing.assert_array_equal(api.process(locked, ["sum"])["sum"], counts.sum((2, 3)))


def test_three_axes_and_a_scan_are_four_axes(counts: Array) -> None:
    flat = counts.reshape(-1, *counts.shape[2:])
    one, other = api.ricom(counts, kernel_size=5), api.ricom(flat, scan=(6, 11), kernel_size=5)
    assert one.image.tobytes() == other.image.tobytes()


def test_flyback_is_left_out_only_where_it_is_told(counts: Array) -> None:
    with pytest.raises(api.StemdError, match="6 x 11 patterns"):
        api.com(counts, scan=(6, 10))
    found = api.process(counts, ["sum"], scan={"shape": (6, 10), "flyback": 1})["sum"]
    np.testing.assert_array_equal(found, counts.sum((2, 3))[:, :10])


def test_serpentine_turns_odd_lines(counts: Array) -> None:
    found = api.process(counts, ["sum"], scan={"serpentine": True})["sum"]
    want = counts.sum((2, 3))
    want[1::2] = want[1::2, ::-1]
    np.testing.assert_array_equal(found, want)


def test_memory_maps_and_files_are_read_where_they_lie(tmp_path: Path, counts: Array) -> None:
    np.save(tmp_path / "scan.npy", counts)
    mapped = np.load(tmp_path / "scan.npy", mmap_mode="r")
    with h5py.File(tmp_path / "scan.h5", "w") as file:
        file.create_dataset("patterns", data=counts, chunks=(2, 4, 16, 20))
    first = api.icom(counts).image.tobytes()
    assert api.icom(mapped).image.tobytes() == first
    assert api.icom(str(tmp_path / "scan.npy")).image.tobytes() == first
    assert api.icom(tmp_path / "scan.h5", scan=(6, 11)).image.tobytes() == first
    with h5py.File(tmp_path / "scan.h5") as file:
        assert api.icom(file["patterns"], jobs=3).image.tobytes() == first


def test_dask_is_computed_a_band_at_a_time_and_each_chunk_once() -> None:
    computed: list[tuple[int, ...]] = []
    lock = threading.Lock()

    def band(block_info: Any = None) -> Array:
        about = block_info[None]
        with lock:
            computed.append(tuple(about["chunk-location"]))
        return np.full(about["chunk-shape"], 3, np.uint16)

    # 128 MiB in all, in 32 chunks of 4 MiB
    data = da.map_blocks(
        band, chunks=((8,) * 16, (32,) * 2, (128,), (64,)), dtype=np.uint16, meta=np.empty(0, "u2")
    )
    tracemalloc.start()
    found = api.process(data, ["sum"], jobs=1)["sum"]
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert found.image.min() == found.image.max() == 3 * 128 * 64
    assert peak < 64 * 1024 * 1024
    # the first chunks are read once more, for the frames that decide about centres
    assert len(computed) <= 2 * 16 + 2


def test_a_line_larger_than_a_band_is_read_in_pieces(
    counts: Array, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("stemd.adapters.recordings.bands.BAND_BYTES", 3 * 16 * 20 * 2)
    monkeypatch.setattr("stemd.adapters.recordings.bands.MOST_BYTES", 4 * 16 * 20 * 2)
    lazy = da.from_array(counts, chunks=(3, 2, 16, 20))
    first = api.com(counts)
    for name, image in api.com(lazy).items():
        assert image.image.tobytes() == first[name].image.tobytes()


@pytest.mark.parametrize(
    ("bad", "says", "remedy"),
    [
        (np.zeros(5), "shape (5,)", "4D"),
        (np.zeros((5, 5)), "shape (5, 5)", "restore"),
        (np.zeros((2, 2, 2, 2, 2)), "shape (2, 2, 2, 2, 2)", "4D"),
        (np.zeros((0, 3, 8, 8), "u2"), "empty", "some"),
        (np.zeros((3, 3, 8, 0), "u2"), "empty", "some"),
        (np.zeros((12, 8, 8), "u2"), "12 patterns", "scan=(3, 4)"),
        (np.ones((3, 3, 8, 8)) * 1j, "complex128", "abs"),
        (np.ones((3, 3, 8, 8)) / 2, "float64", "rint"),
        (-np.ones((3, 3, 8, 8), int), "int64", "unsigned"),
        (np.full((3, 3, 8, 8), np.nan), "not finite", "rint"),
        (np.full((3, 3, 8, 8), np.inf, "f4"), "not finite", "rint"),
        (np.full((3, 3, 8, 8), 2**40, "u8"), "2^32", "values come from"),
        (np.full((3, 3, 8, 8), None), "object", "counts"),
        (np.ma.masked_equal(np.ones((3, 3, 8, 8), int), 1), "masked", "filled"),
        ([[1, 2], [3]], "not an array", "equal length"),
        (5, "int", "path"),
        (None, "NoneType", "path"),
    ],
)
def test_what_is_not_counts_is_refused_with_a_remedy(bad: Any, says: str, remedy: str) -> None:
    with pytest.raises(api.StemdError) as error:
        api.com(bad)
    assert says in error.value.message
    assert remedy in error.value.remedy
    assert "\n" not in error.value.message


@pytest.mark.parametrize(
    ("asked", "says"),
    [
        ({"scan": (5, 11)}, "6 x 11"),
        ({"scan": (6, 11, 2)}, "(6, 11, 2)"),
        ({"scan": "6x11"}, "6x11"),
        ({"scan": (6.5, 11)}, "6.5"),
        ({"scan": (0, 66)}, "shape"),
        ({"scan": {"step": 1}}, "step"),
        ({"optics": {"rotation": 3}}, "rotation_deg"),
        ({"optics": {"energy_ev": np.nan}}, "energy_ev"),
        ({"optics": 3}, "table"),
        ({"jobs": -1}, "jobs"),
        ({"jobs": 1.5}, "jobs"),
        ({"progress": "yes"}, "progress"),
        ({"engines": ["ricum"]}, "ricum"),
        ({"engines": ["ricom:kernel_size=4"]}, "kernel_size"),
        ({"engines": {"ricom": {"size": 5}}}, "size"),
        ({"engines": [{"kernel_size": 5}]}, "type"),
        ({"engines": ["ricom", "ricom"]}, "ricom"),
        ({"engines": []}, "no engine"),
        ({"engines": ["virtual_detector:detectors={bf=[0,1]}"]}, "pixel_size_mrad"),
        ({"camera": {"host": "x"}}, "type"),
        ({"correct": True, "engines": ["sum"]}, "restored"),
    ],
)
def test_what_is_asked_for_wrongly_is_named(
    counts: Array, asked: dict[str, Any], says: str
) -> None:
    with pytest.raises(api.StemdError) as error:
        api.process(counts, **asked)
    assert says in str(error.value)


@settings(max_examples=40, deadline=None)
@given(
    st.data(),
    hnp.array_shapes(min_dims=1, max_dims=5, min_side=0, max_side=5),
    st.sampled_from(("u1", ">u2", "u8", "i2", "f4", "f8", "?", "c8", "U1", "M8[s]")),
)
def test_an_array_gives_its_sums_or_one_sentence(
    data: st.DataObject, shape: tuple[int, ...], kind: str
) -> None:
    array = data.draw(hnp.arrays(kind, shape))
    asked = data.draw(st.sampled_from((None, (2, 2), shape[:2], (1, shape[0]))))
    try:
        found = api.process(array, ["sum"], scan=asked, jobs=1)["sum"]
    except api.StemdError as refused:
        error = refused
    else:
        flat = array.reshape(-1, *shape[-2:]).astype(np.float64).sum((1, 2))
        np.testing.assert_allclose(np.asarray(found).ravel(), flat, rtol=1e-6)
        return
    assert error.message
    assert error.remedy or ":" in error.message

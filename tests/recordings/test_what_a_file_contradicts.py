"""What a file says that contradicts what was told, or is not there although it seems to be."""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import Any

import h5py
import numpy as np
import pytest

from stemd.acquisition import Scan
from stemd.adapters.files import open_recording
from stemd.adapters.recordings.calibration import Axis, calibration_of
from stemd.blocks import FrameBlock, Notice
from stemd.engines.whole_counts import whole_counts
from stemd.errors import FormatError
from tests.recordings.writers import Array, counts


def read(path: Path, **options: Any) -> tuple[Array, list[Notice]]:
    """Which positions a recording has, and what it says."""
    recording = open_recording(path, **options)
    try:
        probes = [block.probe for block in recording.blocks(0, recording.frames)]
        return np.concatenate(probes), [n for n in recording.notices if isinstance(n, Notice)]
    finally:
        recording.close()


@pytest.mark.parametrize("chunks", [(1, 1, 4, 4), (2, 7, 8, 9), (1, 3, 8, 9)])
@pytest.mark.parametrize("order", [(0, 1, 2, 3), (1, 0, 2, 3)])
def test_patterns_that_were_never_written_are_missing(
    tmp_path: Path, chunks: tuple[int, ...], order: tuple[int, ...]
) -> None:
    path, data = tmp_path / "cut.h5", counts((6, 7, 8, 9)).transpose(order)
    with h5py.File(path, "w") as file:
        fitting = tuple(map(min, chunks, data.shape))
        dataset = file.create_dataset("data", data.shape, data.dtype, chunks=fitting)
        dataset[:4] = data[:4]
    probes, notices = read(path)
    lacking = data.shape[1] * (data.shape[0] - 4)
    np.testing.assert_array_equal(np.flatnonzero(probes >= 0), np.arange(4 * data.shape[1]))
    (notice,) = (n for n in notices if n.kind == "unwritten_patterns")
    assert notice.count == lacking
    assert f"{lacking} of 42 patterns were never written" in notice.text


def test_of_a_pattern_that_was_written_in_part_nothing_counts(tmp_path: Path) -> None:
    path, data = tmp_path / "part.h5", counts((2, 3, 8, 9))
    with h5py.File(path, "w") as file:
        dataset = file.create_dataset("data", data.shape, data.dtype, chunks=(1, 1, 4, 9))
        dataset[0] = data[0]
        dataset[1, 0] = data[1, 0]
        dataset[1, 2, 4:] = data[1, 2, 4:]
    probes, _ = read(path, dataset="/data")
    assert probes.tolist() == [0, 1, 2, 3, -1, -1]


@pytest.mark.parametrize("chunks", [None, (1, 1, 8, 9)])
def test_a_file_into_which_nothing_was_written_is_refused(
    tmp_path: Path, chunks: tuple[int, ...] | None
) -> None:
    path = tmp_path / "none.h5"
    with h5py.File(path, "w") as file:
        file.create_dataset("data", (2, 3, 8, 9), "u2", chunks=chunks)
    with pytest.raises(FormatError, match="nothing was ever written into /data"):
        open_recording(path)


def test_in_a_series_the_files_that_were_cut_off_lack_their_own_patterns(tmp_path: Path) -> None:
    path, data = tmp_path / "s.h5", counts((42, 8, 9))
    with h5py.File(path, "w") as file:
        first = file.create_dataset("entry/data/data_000001", (20, 8, 9), "u2", chunks=(1, 8, 9))
        first[:15] = data[:15]
        file["entry/data/data_000002"] = data[20:]
    probes, _ = read(path)
    np.testing.assert_array_equal(np.flatnonzero(probes < 0), np.arange(15, 20))


@pytest.mark.parametrize("lead", [(12,), (4, 3)], ids=["frames", "scan"])
def test_the_sources_of_a_virtual_dataset_lack_their_own_patterns(
    tmp_path: Path, lead: tuple[int, ...]
) -> None:
    path, data = tmp_path / "v.h5", counts((12, 8, 9))
    with h5py.File(tmp_path / "first.h5", "w") as file:
        file.create_dataset("a", (8, 8, 9), "u2", chunks=(1, 8, 9))[1:5] = data[:4]
    with h5py.File(path, "w") as file:
        file.create_dataset("b", (6, 8, 9), "u2", chunks=(2, 8, 9))[2:6] = data[6:10]
        layout = h5py.VirtualLayout((*lead, 8, 9), "u2")
        first, second = (
            h5py.VirtualSource("first.h5", "a", (8, 8, 9)),
            h5py.VirtualSource(file["b"]),
        )
        row = 12 // lead[0]
        layout[: 6 // row] = first[1:7]
        layout[6 // row :] = second
        file.create_virtual_dataset("data", layout)
    probes, notices = read(path, dataset="/data")
    np.testing.assert_array_equal(np.flatnonzero(probes < 0), [4, 5, 6, 7])
    assert "4 of 12 patterns were never written" in " ".join(n.text for n in notices)


@pytest.mark.parametrize(
    ("scan", "doubted"),
    [
        (Scan(shape=(7, 6)), True),
        (Scan(shape=(6, 5), flyback=2), False),
        (Scan(shape=(6, 6), flyback=1), False),
        (Scan(shape=(7, 5), flyback=1), True),
        (Scan(shape=(6, 7)), False),
        (None, False),
    ],
)
def test_a_scan_that_the_files_own_axes_contradict_is_doubted(
    tmp_path: Path, scan: Scan | None, doubted: bool
) -> None:
    path = tmp_path / "a.npy"
    np.save(path, counts((6, 7, 8, 9)))
    _, notices = read(path, scan=scan)
    assert ["scan_shape" in n.kind for n in notices] == [True] * doubted
    for notice in notices:
        assert "6 x 7 patterns" in notice.text


def test_a_line_of_patterns_is_any_scan(tmp_path: Path) -> None:
    path = tmp_path / "a.npy"
    np.save(path, counts((6, 7, 8, 9)).reshape(1, 42, 8, 9))
    assert not read(path, scan=Scan(shape=(6, 7)))[1]


def test_an_array_that_is_cut_off_says_so(tmp_path: Path) -> None:
    path = tmp_path / "a.npy"
    np.save(path, counts((6, 7, 8, 9)))
    path.write_bytes(path.read_bytes()[:-10])
    with pytest.raises(FormatError, match=r"is cut off: it has 6,038 of the 6,048 bytes"):
        open_recording(path)


def test_a_second_array_in_a_file_is_told(tmp_path: Path) -> None:
    path, other = tmp_path / "a.npy", tmp_path / "b.npy"
    np.save(path, counts((6, 7, 8, 9)))
    shutil.copy(path, other)
    path.write_bytes(path.read_bytes() + other.read_bytes())
    (notice,) = read(path)[1]
    assert notice.text == f"{other.stat().st_size:,} bytes after the array are not read"


def test_a_mask_of_another_size_than_the_patterns_is_told(tmp_path: Path) -> None:
    path = tmp_path / "m_master.h5"
    with h5py.File(path, "w") as file:
        file["entry/data/data_000001"] = counts((42, 8, 9))
        file["entry/instrument/detector/detectorSpecific/pixel_mask"] = np.ones((9, 8), "u4")
    (notice,) = (n for n in read(path)[1] if n.kind == "mask_not_read")
    assert notice.text == "the file's pixel mask is of 9 x 8 pixels, the patterns of 8 x 9"


@pytest.mark.parametrize("value", [2**32, 2**63 + 5])
def test_counts_beyond_32_bits_are_refused_before_a_sum_turns_negative(
    tmp_path: Path, value: int
) -> None:
    path, data = tmp_path / "a.npy", counts((6, 7, 8, 9)).astype("u8")
    data[5, 6, 0, 0] = value
    np.save(path, data)
    with pytest.raises(FormatError, match="values beyond 32 bits"):
        read(path)


@pytest.mark.parametrize("unit", [1e-20, 1.0, 0.37, 1e6, 1e20])
def test_real_numbers_of_any_size_are_counts_for_what_takes_counts(
    tmp_path: Path, unit: float
) -> None:
    path, data = tmp_path / "a.npy", counts((2, 3, 8, 9)).astype("f4") * np.float32(unit)
    np.save(path, data)
    recording = open_recording(path)
    (block,) = recording.blocks(0, recording.frames)
    assert isinstance(block, FrameBlock)
    found = whole_counts(block).patterns().reshape(data.shape).astype(np.float64)
    recording.close()
    worth = found.sum() / data.sum(dtype=np.float64)
    np.testing.assert_allclose(found, data * worth, atol=0.51 if worth < 100 else worth * unit)


@pytest.mark.parametrize(
    ("scan", "left_out"),
    [
        (Scan(shape=(6, 4)), 24),
        (Scan(shape=(4, 12)), 0),
        (Scan(shape=(6, 4), flyback=4), 0),
        (None, 0),
    ],
)
def test_flyback_that_only_the_number_of_patterns_tells_of_is_told(
    tmp_path: Path, scan: Scan | None, left_out: int
) -> None:
    path = tmp_path / "a.npy"
    np.save(path, counts((48, 8, 9)))
    _, notices = read(path, scan=scan)
    assert [n.count for n in notices if n.kind == "flyback_guessed"] == [left_out] * bool(left_out)


@pytest.mark.parametrize(
    ("shape", "scan", "words"),
    [
        ((49, 8, 9), None, "7 lines of 7"),
        ((48, 8, 9), None, "a single line"),
        ((48, 8, 9), Scan(shape=(6, 8)), ""),
        ((6, 8, 8, 9), None, ""),
        ((1, 8, 9), None, ""),
    ],
)
def test_a_size_that_nothing_tells_is_said_to_be_a_guess(
    tmp_path: Path, shape: tuple[int, ...], scan: Scan | None, words: str
) -> None:
    path = tmp_path / "a.npy"
    np.save(path, counts(shape))
    said = [n.text for n in read(path, scan=scan)[1] if n.kind == "size_guessed"]
    assert [text.rpartition("taken for ")[2] for text in said] == [words] * bool(words)


@pytest.mark.parametrize("scale", [1e300, 1e-30])
def test_a_step_that_nobody_can_mean_is_not_taken_and_ends_nothing(scale: float) -> None:
    found = calibration_of(
        [Axis("y", scale, "nm"), Axis("x", scale, "nm")], [Axis("k", scale, "mrad")]
    )
    assert (found.step_size_angstrom, found.pixel_size_mrad) == (None, None)

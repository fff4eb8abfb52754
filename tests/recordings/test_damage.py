"""Recordings that are cut off or changed anywhere: one clear error, or patterns."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import h5py
import hdf5plugin
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from stemd.adapters.files import open_recording
from stemd.blocks import FrameBlock
from stemd.errors import FormatError, StemdError
from tests.recordings.writers import WRITERS, counts


def _packed(path: Path, data: Any) -> None:
    with h5py.File(path, "w") as file:
        file.create_dataset("a", data=data, chunks=(1, 1, 8, 8), **hdf5plugin.Bitshuffle())


KINDS = {name: writer for name, writer in WRITERS.items() if name != "scan.zspy"}
KINDS["bitshuffle.h5"] = _packed


def _whole(folder: Path, name: str) -> tuple[Path, bytes]:
    path = folder / name
    data = counts((2, 3, 128, 128), "f4") if name == "scan.xml" else counts((3, 4, 8, 8))
    KINDS[name](path, data)
    return path, path.read_bytes()


def _read(path: Path) -> int:
    """Patterns that could be read, of the first few blocks."""
    recording = open_recording(path)
    found = 0
    try:
        for number, block in enumerate(recording.blocks(0, recording.frames)):
            assert isinstance(block, FrameBlock)
            assert block.patterns().shape == (block.count, *recording.acquisition.detector.shape)
            found += block.count
            if number == 3:
                break
    finally:
        recording.close()
    return found


def _one_sentence(error: StemdError, path: Path) -> None:
    assert path.name in error.message
    assert error.remedy
    assert "\n" not in error.message


@pytest.mark.parametrize("name", KINDS)
@pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning")
def test_a_damaged_recording_gives_patterns_or_one_sentence(
    name: str, tmp_path_factory: pytest.TempPathFactory
) -> None:
    path, whole = _whole(tmp_path_factory.mktemp("damage"), name)
    places = st.integers(0, len(whole) - 1) | st.integers(0, min(len(whole), 4096) - 1)
    changes = st.lists(st.tuples(places, st.integers(0, 255)), min_size=1, max_size=12)

    @settings(
        max_examples=25, deadline=None, database=None, derandomize=True,
        suppress_health_check=list(HealthCheck),
    )  # fmt: skip
    @given(st.none() | places, changes)
    def damaged(cut: int | None, changed: list[tuple[int, int]]) -> None:
        data = bytearray(whole)
        for at, value in changed:
            data[at] = value
        path.write_bytes(data[:cut])
        try:
            _read(path)
        except StemdError as error:
            _one_sentence(error, path)

    damaged()


@pytest.mark.parametrize("name", KINDS)
@pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning")
def test_half_a_recording_is_told(name: str, tmp_path: Path) -> None:
    path, whole = _whole(tmp_path, name)
    path.write_bytes(whole[: len(whole) // 2])
    try:
        found = _read(path)
    except StemdError as error:
        _one_sentence(error, path)
    else:
        recording = open_recording(path)
        recording.close()
        assert found < 12, name
        assert recording.notices, name


def test_a_chunk_that_claims_more_than_it_holds_is_not_unpacked(tmp_path: Path) -> None:
    """The filter would believe it, and end the process."""
    path = tmp_path / "a.h5"
    _packed(path, counts((3, 4, 8, 8)))
    with h5py.File(path) as file:
        at = file["a"].id.get_chunk_info(5).byte_offset
    data = bytearray(path.read_bytes())
    data[at + 4] = 8
    path.write_bytes(data)
    with pytest.raises(FormatError, match=r"the chunk at \(1, 1, 0, 0\) of /a claims") as error:
        open_recording(path)
    assert error.value.remedy


def test_a_heap_of_texts_that_never_ends_is_not_read(tmp_path: Path) -> None:
    """The library would count its objects for ever."""
    path = tmp_path / "scan.hspy"
    data = counts((3, 4, 8, 8))
    KINDS["scan.hspy"](path, data)
    stored = bytearray(path.read_bytes())
    at = stored.find(b"GCOL")
    assert at > 0
    stored[at + 16 : at + 32] = bytes(16)  # an object of no number and no size
    path.write_bytes(stored)
    recording = open_recording(path)
    assert recording.frames == 12
    assert [notice.kind for notice in recording.notices] == ["damaged_texts"]  # type: ignore[union-attr]
    assert recording.acquisition.scan.step_size_angstrom is None
    recording.close()

"""Recordings by suffix, arrays as recordings, and replay as a live source."""

from __future__ import annotations

import threading
from pathlib import Path
from typing import Literal

import h5py
import numpy as np
import pytest
from numpy.typing import NDArray

from stemd import plugins
from stemd.acquisition import Scan
from stemd.adapters.files import FilesAdapter, FilesSettings, open_recording
from stemd.blocks import BlockPool, FrameBlock
from stemd.errors import CameraError, FormatError
from tests.merlin.streams import SMALL, Outcome
from tests.merlin.test_recording import write

RNG = np.random.default_rng(5)
DATA = RNG.integers(0, 60000, (3, 4, 6, 5), np.uint16)


def images(recording: object) -> dict[int, NDArray[np.uint64]]:
    found = {}
    for block in recording.blocks(0, recording.frames):  # type: ignore[attr-defined]
        for probe, image in zip(block.probe.tolist(), block.patterns(), strict=True):
            found[probe] = image.astype(np.uint64)
    return found


def save(path: Path, array: NDArray[np.generic]) -> Path:
    if path.suffix == ".npy":
        np.save(path, array)
    else:
        with h5py.File(path, "w") as file:
            file["small"] = np.zeros((2, 2, 2))
            file.create_group("a")["data"] = array
            file["image"] = np.zeros((50, 500))
    return path


@pytest.mark.parametrize("suffix", [".npy", ".h5", ".hdf5"])
@pytest.mark.parametrize("dtype", ["u1", "<u2", ">u2", "u4", "u8", "i4", "f4", "f8"])
def test_an_array_of_any_count_type_is_a_recording(tmp_path: Path, suffix: str, dtype: str) -> None:
    array = (DATA % 251).astype(dtype)
    recording = open_recording(save(tmp_path / f"a{suffix}", array))
    assert recording.acquisition.scan.shape == (3, 4)
    found = images(recording)
    for probe in range(12):
        np.testing.assert_array_equal(found[probe], array[probe // 4, probe % 4])
    recording.close()


@pytest.mark.parametrize("suffix", [".npy", ".h5"])
def test_a_stack_needs_a_scan_a_square_or_is_one_line(tmp_path: Path, suffix: str) -> None:
    path = save(tmp_path / f"a{suffix}", DATA.reshape(12, 6, 5))
    assert open_recording(path).acquisition.scan.shape == (1, 12)
    flown = open_recording(path, Scan(shape=(3, 3)))
    assert flown.acquisition.scan.flyback == 1
    np.testing.assert_array_equal(images(flown)[3], DATA[1, 0])
    with pytest.raises(FormatError, match="12 patterns do not fit"):
        open_recording(path, Scan(shape=(5, 5)))


def test_an_array_in_fortran_order_is_read_by_position(tmp_path: Path) -> None:
    found = images(open_recording(save(tmp_path / "a.npy", np.asfortranarray(DATA))))
    np.testing.assert_array_equal(found[7], DATA[1, 3])


@pytest.mark.parametrize("order", ["C", "F"])
@pytest.mark.parametrize("shape", [(1, 3, 4, 6, 5), (3, 1, 4, 6, 5), (1, 1, 3, 4, 6, 5)])
def test_axes_of_one_step_are_left_out(
    tmp_path: Path, shape: tuple[int, ...], order: Literal["C", "F"]
) -> None:
    array = np.asarray(DATA.reshape(shape), order=order)
    recording = open_recording(save(tmp_path / "a.npy", array))
    assert recording.acquisition.scan.shape == (3, 4)
    np.testing.assert_array_equal(images(recording)[7], DATA[1, 3])


def test_an_array_without_patterns_is_called_empty(tmp_path: Path) -> None:
    with pytest.raises(FormatError, match=r"is empty, its shape is \(0, 4, 6, 5\)"):
        open_recording(save(tmp_path / "a.npy", DATA[:0]))


def test_integers_beyond_32_bits_are_refused(tmp_path: Path) -> None:
    array = np.ones((2, 2, 3, 3), np.int64)
    array[1, 1, 2, 0] = 2**40
    recording = open_recording(save(tmp_path / "a.npy", array))
    with pytest.raises(FormatError, match="beyond 32 bits") as caught:
        images(recording)
    assert caught.value.remedy


def test_complex_patterns_are_refused(tmp_path: Path) -> None:
    with pytest.raises(FormatError, match="complex64"):
        open_recording(save(tmp_path / "a.npy", np.ones((2, 2, 3, 3), np.complex64)))


def test_files_that_cannot_be_opened_are_named_with_the_known_types(tmp_path: Path) -> None:
    (tmp_path / "a.xyz").write_bytes(b"1")
    (tmp_path / "a.mib").write_bytes(b"")
    (tmp_path / "a.npy").write_bytes(b"not an array")
    (tmp_path / "a.h5").write_bytes(b"not hdf")
    np.save(tmp_path / "flat.npy", np.zeros(5))
    for name, what in (
        ("gone.mib", "does not exist"),
        ("a.xyz", "not a known type"),
        ("a.mib", "is empty"),
        ("a.npy", "not a .npy file"),
        ("a.h5", "not an HDF5 file"),
        ("flat.npy", r"shape \(5,\)"),
        ("", "not a file"),
    ):
        with pytest.raises(FormatError, match=what) as caught:
            open_recording(tmp_path / name)
        assert caught.value.remedy
    with pytest.raises(FormatError) as caught:
        open_recording(tmp_path / "a.xyz")
    assert {".mib", ".npy", ".h5"} <= set(caught.value.remedy.replace(",", " ").split())


def test_a_recording_replays_as_a_live_source(tmp_path: Path) -> None:
    path = write(tmp_path, list(range(1, 10)), frames=9)
    plugin = plugins.load("adapters", "files")
    for rate in (None, 400.0):
        adapter = plugin.build(FilesSettings(path=path, rate_hz=rate, scan=Scan(shape=(3, 3))))
        outcome = Outcome()
        outcome.take(adapter.read(BlockPool(), threading.Event()))
        (seen,) = outcome.scans
        assert (seen.reason, seen.probe) == ("complete", list(range(9)))
        assert seen.wire == path.read_bytes()
        assert [link.connected for link in outcome.links] == [True, False]


def test_a_repeated_replay_goes_on_until_it_is_stopped(tmp_path: Path) -> None:
    path = write(tmp_path, list(range(1, 5)), SMALL)
    adapter = FilesAdapter(FilesSettings(path=path, repeat=True))
    stop, ids = threading.Event(), set()
    for message in adapter.read(BlockPool(), stop):
        if isinstance(message, FrameBlock):
            ids.add(message.acquisition.id)
            message.release()
        if len(ids) == 3:
            stop.set()
    assert len(ids) == 3
    with pytest.raises(CameraError, match="is a file"):
        adapter.command("start", {})

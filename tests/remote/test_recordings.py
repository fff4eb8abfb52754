"""Every kind of recording gives from afar what it gives from a local file."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import fsspec
import h5py
import numpy as np
import pytest

from stemd.acquisition import Scan
from stemd.adapters.files import open_recording
from stemd.adapters.merlin.hdr import encode_hdr
from stemd.adapters.recordings.address import RemoteFile
from stemd.adapters.recordings.remote_stream import AHEAD
from stemd.blocks import FrameBlock
from stemd.errors import CameraError, FormatError
from stemd.offline.cluster.recipe import Recipe

from ..cluster.scenes import (
    plainly,
    recipe,
    same,
    wandering_discs,
    write_events,
    write_mib,
    write_npy,
)
from ..timepix3 import test_advapix as advapix
from .server import RangeServer

FRAMES = Scan(shape=(19, 41), flyback=2, leading=3)
SMALL = Scan(shape=(10, 13))
EVENTS = Scan(shape=(24, 31), flyback=3, dwell_time_us=1.0)


def mib(folder: Path) -> Recipe:
    return recipe(write_mib(folder / "a.mib", SMALL), SMALL)


def mib_with_hdr(folder: Path) -> Recipe:
    made = mib(folder)
    values = {"Frames in Acquisition (Number)": "130", "ScanX": "13", "ScanY": "10"}
    (folder / "a.hdr").write_bytes(encode_hdr(values))
    return replace(made, scan=None)


def mib_with_holes(folder: Path) -> Recipe:
    return recipe(write_mib(folder / "b.mib", SMALL, lost=(7, 8, 60)), SMALL)


def mib_raw(folder: Path) -> Recipe:
    return recipe(write_mib(folder / "c.mib", SMALL, raw=True), SMALL)


def npy(folder: Path) -> Recipe:
    return recipe(write_npy(folder / "a.npy", FRAMES), FRAMES)


def hdf5(folder: Path) -> Recipe:
    path = folder / "a.h5"
    with h5py.File(path, "w") as file:
        patterns = wandering_discs(SMALL.positions).reshape(*SMALL.shape, 32, 32)
        file.create_dataset("deep/patterns", data=patterns, chunks=(2, 5, 32, 32))
    return recipe(path, SMALL)


def tpx3(folder: Path) -> Recipe:
    return recipe(folder / "a.tpx3", EVENTS, write_events(folder / "a.tpx3", EVENTS))


def words(folder: Path) -> Recipe:
    return recipe(folder / "a.raw", EVENTS, write_events(folder / "a.raw", EVENTS))


def t3p(folder: Path) -> Recipe:
    path = folder / "a.t3p"
    path.write_bytes(advapix.shuffled(advapix.hits(60_000), 100_000).tobytes())
    return recipe(path, advapix.SCAN, advapix.chosen())


KINDS = [mib, mib_with_hdr, mib_with_holes, mib_raw, npy, hdf5, tpx3, words, t3p]


@pytest.fixture
def memory(tmp_path: Path) -> Iterator[Callable[[str], str]]:
    """Puts a file of the test's folder, and what is beside it, on fsspec's memory file system."""
    system = fsspec.filesystem("memory")

    def put(name: str) -> str:
        for path in tmp_path.glob(f"{Path(name).stem}.*"):
            system.pipe_file(f"/put/{path.name}", path.read_bytes())
        return f"memory://put/{name}"

    yield put
    if system.exists("/put"):
        system.rm("/put", recursive=True)


@pytest.mark.slow
@pytest.mark.parametrize("where", ["web", "memory"])
@pytest.mark.parametrize("kind", KINDS)
def test_images_are_those_of_the_local_file(
    kind: Callable[[Path], Recipe],
    where: str,
    tmp_path: Path,
    server: RangeServer,
    memory: Callable[[str], str],
    small_ranges: int,
) -> None:
    made = kind(tmp_path)
    assert isinstance(made.path, Path)
    name = made.path.name
    url = server.url(name) if where == "web" else memory(name)
    afar = replace(made, path=RemoteFile(url))
    same(plainly(afar), plainly(made))
    same(plainly(afar, jobs=3), plainly(made))
    if where == "web" and kind is not hdf5:
        assert max(stop - first for _, first, stop in server.asked) <= small_ranges


def test_a_pass_over_a_file_asks_for_each_byte_about_once(
    tmp_path: Path, server: RangeServer, small_ranges: int
) -> None:
    made = mib(tmp_path)
    assert isinstance(made.path, Path)
    plainly(replace(made, path=RemoteFile(server.url("a.mib"))))
    asked = sum(stop - first for name, first, stop in server.asked if name == "a.mib")
    assert asked < made.path.stat().st_size + 100_000


def test_a_block_that_is_kept_keeps_its_bytes(
    tmp_path: Path, server: RangeServer, small_ranges: int
) -> None:
    made = mib(tmp_path)
    patterns = np.concatenate(
        [np.array(block.patterns()) for block in _blocks(open_recording(made.path, SMALL))]
    )
    recording = open_recording(RemoteFile(server.url("a.mib")), SMALL)
    kept: list[FrameBlock] = []
    for block in _blocks(recording):
        if len(kept) < 5:
            block.retain()
            kept.append(block)
        block.release()
    assert np.array_equal(
        np.concatenate([block.patterns() for block in kept]),
        patterns[: sum(block.count for block in kept)],
    )


def _blocks(recording: Any) -> Iterator[FrameBlock]:
    for block in recording.blocks(0, recording.frames):
        assert isinstance(block, FrameBlock)
        yield block


@pytest.mark.parametrize("kind", [mib, npy, tpx3])
def test_a_file_that_breaks_in_the_middle_is_an_error_that_says_where(
    kind: Callable[[Path], Recipe],
    tmp_path: Path,
    server: RangeServer,
    small_ranges: int,
    no_waits: int,
) -> None:
    made = kind(tmp_path)
    assert isinstance(made.path, Path)
    afar = replace(made, path=RemoteFile(server.url(made.path.name)))
    middle = made.path.stat().st_size // 2
    server.fault = lambda name, first: "cut" if middle < first < 2 * middle - 70_000 else ""
    with pytest.raises(CameraError, match=r"cannot be read at byte \d+") as error:
        plainly(afar, jobs=2)
    assert f"/{made.path.name}" in error.value.message
    assert len(server.asked) < 40 + AHEAD * no_waits


def test_text_of_events_is_for_local_files_only() -> None:
    with pytest.raises(FormatError, match="local files only"):
        open_recording(RemoteFile("memory://x/a.t3pa"), EVENTS)


@pytest.mark.parametrize("suffix", [".mib", ".npy", ".h5", ".tpx3", ".t3p"])
def test_an_empty_file_is_an_error(suffix: str, tmp_path: Path, server: RangeServer) -> None:
    (tmp_path / f"a{suffix}").write_bytes(b"")
    with pytest.raises((FormatError, CameraError), match=f"a{suffix}"):
        open_recording(RemoteFile(server.url(f"a{suffix}")), EVENTS)


@pytest.mark.parametrize("cut", [5, 60, 5000])
def test_a_npy_file_that_is_none_is_an_error(cut: int, tmp_path: Path, server: RangeServer) -> None:
    path = write_npy(tmp_path / "a.npy", SMALL)
    path.write_bytes(path.read_bytes()[:cut])
    with pytest.raises(FormatError, match=r"a\.npy is not a \.npy file"):
        open_recording(RemoteFile(server.url("a.npy")), SMALL)
    np.save(path, np.asfortranarray(wandering_discs(SMALL.positions)))
    with pytest.raises(FormatError, match="C order"):
        open_recording(RemoteFile(server.url("a.npy")), SMALL)

"""HDF5 by content: series and links, filters, masks, what is chosen and what is refused."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import h5py
import hdf5plugin
import numpy as np
import pytest

from stemd import api
from stemd.acquisition import Scan
from stemd.adapters.files import open_recording
from stemd.adapters.recordings.hdf5.choice import Chosen
from stemd.adapters.recordings.hdf5.joined import Joined
from stemd.blocks import Notice
from stemd.cli.main import main
from stemd.errors import FormatError
from tests.recordings import writers
from tests.recordings.test_formats import patterns
from tests.recordings.writers import Array, counts


def told(path: Path, **options: Any) -> list[Notice]:
    recording = open_recording(path, **options)
    recording.close()
    return [notice for notice in recording.notices if isinstance(notice, Notice)]


@pytest.mark.parametrize(
    "options",
    [
        hdf5plugin.Bitshuffle(),
        hdf5plugin.LZ4(),
        hdf5plugin.Blosc(),
        hdf5plugin.Zstd(),
        {"compression": "gzip", "shuffle": True},
        {},
    ],
    ids=["bitshuffle-lz4", "lz4", "blosc", "zstd", "gzip", "none"],
)
def test_every_usual_compression_is_read(tmp_path: Path, options: Any) -> None:
    path, data = tmp_path / "scan_master.h5", counts(dtype="u4")
    writers.dectris(path, data, each=20, **options)
    want = data.reshape(-1, 16, 16)
    np.testing.assert_array_equal(patterns(path), want)
    np.testing.assert_array_equal(patterns(tmp_path / "scan_data_000001.h5")[:, 4], want[:, 4])


def test_a_master_gives_scan_mask_dwell_time_and_name(tmp_path: Path) -> None:
    path = tmp_path / "scan_master.h5"
    writers.dectris(path, counts())
    recording = open_recording(path)
    assert recording.acquisition.scan == Scan(shape=(4, 5), flyback=0, dwell_time_us=10.0)
    assert recording.acquisition.detector.name == "Dectris ARINA"
    assert np.argwhere(recording.acquisition.detector.mask).tolist() == [[3, 4]]
    kinds = {notice.kind: notice.text for notice in told(path)}
    assert "3 arrays follow each other" in kinds["joined"]
    recording.close()


def test_a_series_in_one_file_is_one_scan(tmp_path: Path) -> None:
    path, data = tmp_path / "scan_master.h5", counts().reshape(20, 16, 16)
    with h5py.File(path, "w") as file:
        file["entry/data/data_000002"] = data[12:]
        file["entry/data/data_000001"] = data[:12]
    np.testing.assert_array_equal(patterns(path), data)
    some = open_recording(path)
    for first, stop in ((0, 20), (11, 13), (12, 20), (5, 12)):
        blocks = list(some.blocks(first, stop))
        found = np.concatenate([block.patterns() for block in blocks])  # type: ignore[union-attr]
        np.testing.assert_array_equal(found, data[first:stop])


def test_a_file_of_the_series_that_is_not_there_is_named(tmp_path: Path) -> None:
    path = tmp_path / "scan_master.h5"
    writers.dectris(path, counts())
    (tmp_path / "scan_data_000002.h5").unlink()
    with pytest.raises(FormatError, match=r"scan_data_000002\.h5, which is not there") as error:
        open_recording(path)
    assert "copy scan_data_000002.h5" in error.value.remedy
    with h5py.File(path, "a") as file:
        del file["entry/data/data_000002"]
    (gap,) = (notice for notice in told(path) if notice.kind == "data_files_missing")
    assert "of 3 data files these are not there: 2" in gap.text
    assert [n.count for n in told(path) if n.kind == "unwritten_patterns"] == [7]


@pytest.mark.parametrize("kind", ["absolute", "upwards", "through another"])
def test_a_link_out_of_the_folder_is_not_followed(tmp_path: Path, kind: str) -> None:
    sent = tmp_path / "sent"
    sent.mkdir()
    with h5py.File(tmp_path / "other.h5", "w") as file:
        file["a"] = counts()
    target = {"absolute": str(tmp_path / "other.h5"), "upwards": "../other.h5"}.get(kind)
    if target is None:
        target = "beside.h5"
        with h5py.File(sent / target, "w") as file:
            file["a"] = h5py.ExternalLink("../other.h5", "/a")
    with h5py.File(sent / "scan.h5", "w") as file:
        file["a"] = h5py.ExternalLink(target, "/a")
    with pytest.raises(FormatError, match=r"in another file|links to another"):
        open_recording(sent / "scan.h5")


def test_a_broken_link_that_does_not_matter_is_a_warning(tmp_path: Path) -> None:
    path, data = tmp_path / "scan.h5", counts()
    with h5py.File(path, "w") as file:
        file["patterns"] = data
        file["spectrum"] = h5py.ExternalLink("gone.h5", "/s")
        file["nowhere"] = h5py.SoftLink("/not/there")
        file["again"] = h5py.SoftLink("/patterns")
    np.testing.assert_array_equal(patterns(path), data.reshape(-1, 16, 16))
    (notice,) = told(path)
    assert (notice.kind, notice.level) == ("link_not_read", "warning")
    assert "gone.h5" in notice.text


def _virtual(path: Path, source: str, data: Array, name: str = "a") -> None:
    layout = h5py.VirtualLayout(data.shape, data.dtype)
    layout[:] = h5py.VirtualSource(source, name, data.shape)
    with h5py.File(path, "w") as file:
        file.create_virtual_dataset("v", layout)


def test_a_virtual_dataset_needs_its_sources(tmp_path: Path) -> None:
    data = counts()
    with h5py.File(tmp_path / "source.h5", "w") as file:
        file["a"] = data
    _virtual(tmp_path / "whole.h5", "source.h5", data)
    np.testing.assert_array_equal(patterns(tmp_path / "whole.h5"), data.reshape(-1, 16, 16))
    _virtual(tmp_path / "gone.h5", "no.h5", data)
    with pytest.raises(FormatError, match=r"are in no\.h5, which is not there") as error:
        open_recording(tmp_path / "gone.h5")
    assert "copy no.h5" in error.value.remedy
    _virtual(tmp_path / "other.h5", "source.h5", data, "b")
    with pytest.raises(FormatError, match=r"b of source\.h5, which has no such dataset"):
        open_recording(tmp_path / "other.h5")
    layout = h5py.VirtualLayout((8, 5, 16, 16), data.dtype)
    layout[:4] = h5py.VirtualSource("source.h5", "a", data.shape)
    with h5py.File(tmp_path / "half.h5", "w") as file:
        file.create_virtual_dataset("v", layout)
    found = api.process(tmp_path / "half.h5", ["sum"])
    np.testing.assert_array_equal(np.asarray(found["sum"])[:4], data.sum((2, 3)))
    assert [n.count for n in told(tmp_path / "half.h5") if n.kind == "unwritten_patterns"] == [20]
    layout[4:, :, ::2] = h5py.VirtualSource("source.h5", "a", data.shape)[:, :, ::2]
    with h5py.File(tmp_path / "half.h5", "w") as file:
        file.create_virtual_dataset("v", layout)
    with pytest.raises(FormatError, match=r"2,560 of the 10,240 values of /v have no source"):
        open_recording(tmp_path / "half.h5")
    with h5py.File(tmp_path / "source.h5", "w") as file:
        file["a"] = data[:3]
    with pytest.raises(
        FormatError, match=r"more values of a of source\.h5 than .* 3 x 5 x 16 x 16"
    ):
        open_recording(tmp_path / "whole.h5")


@pytest.mark.parametrize("fill", [0, -1, 7])
def test_between_the_modules_of_a_virtual_dataset_no_pixel_counts(
    tmp_path: Path, fill: int
) -> None:
    """A module that lacks in some patterns costs these, a gap that all have is masked."""
    data = counts((6, 5, 16, 16), "i4")
    layout = h5py.VirtualLayout((6, 5, 19, 16), data.dtype)
    source = h5py.VirtualSource("source.h5", "a", data.shape)
    layout[:, :, :8] = source[:, :, :8]
    layout[:4, :, 11:] = source[:4, :, 8:]
    with h5py.File(tmp_path / "source.h5", "w") as file:
        file["a"] = data
    path = tmp_path / "scan.h5"
    with h5py.File(path, "w") as file:
        file.create_virtual_dataset("v", layout, fillvalue=fill)
    recording = open_recording(path)
    mask = recording.acquisition.detector.mask
    assert mask is not None
    assert np.flatnonzero(mask.all(axis=1)).tolist() == [8, 9, 10]
    assert mask.sum() == 48
    probes = np.concatenate([block.probe for block in recording.blocks(0, recording.frames)])
    recording.close()
    assert np.flatnonzero(probes >= 0).tolist() == list(range(20))
    found = api.process(path, ["sum"])
    np.testing.assert_array_equal(np.asarray(found["sum"])[:4], data[:4].sum((2, 3)))


@pytest.mark.parametrize("kind", ["link", "virtual"])
def test_a_file_that_was_moved_with_its_master_is_found_beside_it(
    tmp_path: Path, kind: str
) -> None:
    data, gone = counts(), "/data/2023/gone/source.h5"
    path = tmp_path / "scan.h5"
    with h5py.File(path, "w") as file:
        if kind == "link":
            file["v"] = h5py.ExternalLink(gone, "/a")
    if kind == "virtual":
        _virtual(path, gone, data)
    with pytest.raises(FormatError, match="in another file, /data/2023") as error:
        open_recording(path)
    assert f"copy source.h5 into {tmp_path}" in error.value.remedy
    with h5py.File(tmp_path / "source.h5", "w") as file:
        file["a"] = data
    np.testing.assert_array_equal(patterns(path), data.reshape(-1, 16, 16))


def test_a_file_that_is_cut_off_or_still_written_is_called_so(tmp_path: Path) -> None:
    path, data = tmp_path / "scan.h5", counts()
    with h5py.File(path, "w", libver="latest") as file:
        file["a"] = data
        file.flush()
        half = path.read_bytes()
        file.swmr_mode = True
        file.flush()
        crashed = path.read_bytes()
    whole = path.read_bytes()
    path.write_bytes(crashed)
    np.testing.assert_array_equal(patterns(path), data.reshape(-1, 16, 16))
    assert [(n.kind, n.level) for n in told(path)] == [("still_written", "warning")]
    for content, text in (
        (whole[:-1], f"is cut off: it has {len(whole) - 1:,} of its {len(whole):,} bytes"),
        (half, "is marked as open for writing"),
        (b"\x89HDF\r\n\x1a\n" + bytes(9000), "cannot be opened as HDF5"),
        (b"something else", "is not an HDF5 file"),
    ):
        path.write_bytes(content)
        with pytest.raises(FormatError, match=text) as error:
            open_recording(path)
        assert error.value.remedy


def test_an_empty_array_is_called_empty(tmp_path: Path) -> None:
    path = tmp_path / "scan.h5"
    with h5py.File(path, "w") as file:
        file.create_dataset("entry/frames", (0, 16, 16), "u2", maxshape=(None, 16, 16))
    with pytest.raises(FormatError, match=r"/entry/frames is empty, its shape is \(0, 16, 16\)"):
        open_recording(path)


@pytest.mark.parametrize("marked", ["group", "dataset", "default", "none", "both"])
def test_of_several_arrays_the_one_that_nexus_calls_the_signal_is_taken(
    tmp_path: Path, marked: str
) -> None:
    path, data = tmp_path / "scan.nxs", counts()
    with h5py.File(path, "w") as file:
        for name in ("data", "processed"):
            group = file.create_group(f"entry/{name}")
            group["frames"] = data if name == "data" else data + 1
            if marked in ("default", "both") or (marked == "group" and name == "data"):
                group.attrs["signal"] = "frames"
        if marked == "dataset":
            file["entry/data/frames"].attrs["signal"] = 1
        if marked == "default":
            file.attrs["default"], file["entry"].attrs["default"] = "entry", "data"
    if marked in ("none", "both"):
        with pytest.raises(FormatError, match="several arrays"):
            open_recording(path)
        return
    np.testing.assert_array_equal(patterns(path), data.reshape(-1, 16, 16))
    (notice,) = told(path)
    assert (notice.level, "calls /entry/data/frames its signal" in notice.text) == ("info", True)


@pytest.mark.parametrize("default", ["/entry/data", ".", "/entry"])
def test_a_default_that_is_a_path_or_leads_back_to_itself_ends(
    tmp_path: Path, default: str
) -> None:
    path, data = tmp_path / "scan.nxs", counts()
    with h5py.File(path, "w") as file:
        for name in ("data", "processed"):
            group = file.create_group(f"entry/{name}")
            group["frames"] = data if name == "data" else data + 1
            group.attrs["signal"] = "frames"
        file.attrs["default"], file["entry"].attrs["default"] = "entry", default
    if default == "/entry/data":
        np.testing.assert_array_equal(patterns(path), data.reshape(-1, 16, 16))
        return
    with pytest.raises(FormatError, match="several arrays"):
        open_recording(path)


def test_a_virtual_dataset_that_grows_with_its_source_is_read(tmp_path: Path) -> None:
    """As programs write them whose detector is still counting."""
    data, grows = counts(), (None, *counts().shape[1:])
    with h5py.File(tmp_path / "source.h5", "w") as file:
        file.create_dataset("a", data=data, maxshape=grows)
    layout = h5py.VirtualLayout(data.shape, data.dtype, maxshape=grows)
    source = h5py.VirtualSource("source.h5", "a", data.shape, maxshape=grows)
    layout[: h5py.h5s.UNLIMITED] = source[: h5py.h5s.UNLIMITED]
    with h5py.File(tmp_path / "grows.h5", "w") as file:
        file.create_virtual_dataset("v", layout)
    np.testing.assert_array_equal(patterns(tmp_path / "grows.h5"), data.reshape(-1, 16, 16))


def test_the_filters_of_a_virtual_datasets_sources_are_known(tmp_path: Path) -> None:
    """In a process of its own: the filters are registered in this one."""
    data = counts()
    with h5py.File(tmp_path / "source.h5", "w") as file:
        chunks = (1, *data.shape[1:])
        file.create_dataset("a", data=data, chunks=chunks, **hdf5plugin.Bitshuffle(cname="lz4"))
    _virtual(tmp_path / "whole.h5", "source.h5", data)
    command = [sys.executable, "-m", "stemd", "check", "--json", str(tmp_path / "whole.h5")]
    found = subprocess.run(command, capture_output=True, text=True, check=False)
    assert found.returncode == 0, found.stderr
    assert json.loads(found.stdout)["counts"] == data.sum()


def test_axes_of_one_step_are_left_out(tmp_path: Path) -> None:
    """As fpd writes Merlin's scans: colours and a summary of fewer dimensions."""
    path, data = tmp_path / "fpd.hdf5", counts((4, 5, 16, 16))
    with h5py.File(path, "w") as file:
        file["fpd_expt/fpd_data/data"] = data[:, :, None]
        file["fpd_expt/fpd_sum_im/data"] = data.sum((2, 3))[:, :, None]
        file["fpd_expt/fpd_sum_dif/data"] = data.sum((0, 1))[None]
    recording = open_recording(path)
    assert recording.acquisition.scan.shape == (4, 5)
    np.testing.assert_array_equal(patterns(path), data.reshape(-1, 16, 16))
    recording.close()


def test_what_is_more_than_one_scan_is_chosen_from(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path, data = tmp_path / "both.h5", counts((2, 4, 5, 16, 16))
    with h5py.File(path, "w") as file:
        file["scans/counters"] = data
    assert main(["check", str(path)]) == 1
    captured = capsys.readouterr().err
    assert "(2, 4, 5, 16, 16), which is more than one scan" in captured
    assert "--dataset '/scans/counters[0,:,:,:,:]'" in captured
    for index in ("[1]", "[1,:,:,:,:]", "[-1,:,:]"):
        found = patterns(path, dataset=f"/scans/counters{index}")
        np.testing.assert_array_equal(found, data[1].reshape(-1, 16, 16))
    np.testing.assert_array_equal(patterns(path, dataset="scans/counters[:,2]"),
                                  data[:, 2].reshape(-1, 16, 16))  # fmt: skip
    for wrong in ("[2]", "[0,0,0]", "[0:1]", "[x]", "[0", "/nothing"):
        with pytest.raises(FormatError):
            open_recording(path, dataset=wrong if "/" in wrong else f"/scans/counters{wrong}")


def test_two_arrays_that_may_be_meant_are_listed(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path = tmp_path / "two.h5"
    with h5py.File(path, "w") as file:
        file["first"], file["second"] = counts(), counts((4, 5, 16, 12), "u1")
        file["small"] = counts((4, 5, 4, 4))
    assert main(["process", str(path), "--out", str(tmp_path / "o")]) == 1
    captured = capsys.readouterr().err
    assert "/first (4, 5, 16, 16) uint16; /second (4, 5, 16, 12) uint8" in captured
    argv = ["process", str(path), "--dataset", "/second", "--engine", "sum", "--json"]
    assert main([*argv, "--out", str(tmp_path / "o")]) == 0
    assert '"shape": [16, 12]' in capsys.readouterr().out


def test_pixels_without_data_do_not_count_and_are_told(tmp_path: Path) -> None:
    path, data = tmp_path / "scan.h5", counts()
    data[:, :, 5:7, 8] = 65535
    data[1, 1, 0, 0] = 65535  # one bright pixel of one pattern is a count
    np.save(tmp_path / "scan.npy", data)
    with h5py.File(path, "w") as file:
        file["a"] = data
    want = data.astype(int)
    want[:, :, 5:7, 8] = 0
    for each in (path, tmp_path / "scan.npy"):
        images = api.process(each, ["sum"])
        np.testing.assert_array_equal(images["sum"], want.sum((2, 3)))
        assert "2 detector pixels are masked: [5, 8], [6, 8]" in images.about.notices
    # a disc that saturates 8 bits is no mask, but pixels that stand alone are
    small = np.minimum(data, 254).astype("u1")
    small[:, :, 9:12, 3:6] = 255
    np.save(tmp_path / "disc.npy", small)
    small[:, :, 5:7, 8] = 255
    np.save(tmp_path / "alone.npy", small)
    masks = []
    for name in ("disc", "alone"):
        recording = open_recording(tmp_path / f"{name}.npy")
        masks.append(recording.acquisition.detector.mask)
        recording.close()
    assert masks[0] is None
    assert np.argwhere(masks[1]).tolist() == [[5, 8], [6, 8]]


def test_an_emd_file_is_read_by_the_labels_of_its_axes(tmp_path: Path) -> None:
    """Berkeley's format has axes in any order: scan and detector, y and x are told by labels."""
    data = counts((3, 4, 16, 12))
    steps = {"y": (0.5, "[n_m]"), "x": (0.25, "[n_m]"), "ky": (0.1, "1/nm"), "kx": (0.1, "1/nm")}
    for order in (("y", "x", "ky", "kx"), ("kx", "ky", "x", "y"), ("ky", "kx", "y", "x")):
        path = tmp_path / f"{order[0]}{order[1]}.emd"
        stored = data.transpose([["y", "x", "ky", "kx"].index(name) for name in order])
        with h5py.File(path, "w") as file:
            group = file.create_group("data/scan")
            group.attrs["emd_group_type"] = 1
            group["data"] = stored
            for number, name in enumerate(order, 1):
                axis = group.create_dataset(f"dim{number}", data=steps[name][0] * np.arange(2))
                axis.attrs["name"], axis.attrs["units"] = name, steps[name][1]
        recording = open_recording(path)
        assert recording.acquisition.scan.shape == (3, 4), order
        assert recording.acquisition.scan.step_size_angstrom == pytest.approx(2.5)
        recording.close()
        np.testing.assert_array_equal(patterns(path), data.reshape(-1, 16, 12))


def test_a_contiguous_array_is_mapped_from_any_offset(tmp_path: Path) -> None:
    path, data = tmp_path / "scan.h5", counts((6, 50, 32, 32))
    with h5py.File(path, "w") as file:
        file["first"] = np.arange(3333, dtype="u1")
        file["patterns"] = data
        offset = file["patterns"].id.get_offset()
    assert offset > 0
    np.testing.assert_array_equal(patterns(path), data.reshape(-1, 32, 32))


def test_a_velox_file_is_said_to_hold_images(tmp_path: Path) -> None:
    path = tmp_path / "haadf.emd"
    with h5py.File(path, "w") as file:
        file["Version"] = np.array([b'{"format":"Velox","version":"1.9"}'])
        file["Data/Image/abc/Data"] = counts((64, 64, 8))
    with pytest.raises(FormatError, match="holds images and spectra") as error:
        open_recording(path)
    assert "restore" in error.value.remedy


def test_the_files_of_a_series_share_the_memory_for_chunks(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "scan_master.h5"
    writers.dectris(path, counts(), each=2)
    caches: list[int] = []
    joined = Joined.__init__

    def noted(self: Joined, chosen: Chosen, *order: Any) -> None:
        plists = [part.file.id.get_access_plist() for part in chosen.parts]
        caches.extend(plist.get_cache()[2] for plist in plists)
        joined(self, chosen, *order)

    monkeypatch.setattr(Joined, "__init__", noted)
    np.testing.assert_array_equal(patterns(path), counts().reshape(-1, 16, 16))
    assert len(caches) == 10
    assert sum(caches) <= 64 * 1024 * 1024

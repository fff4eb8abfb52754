"""Recordings in other programs' formats: every frame, its place and its calibration."""

from __future__ import annotations

import importlib
import json
import shutil
import warnings
import zipfile
from pathlib import Path
from typing import Any

import h5py
import numpy as np
import pytest

from stemd import api
from stemd.acquisition import Scan
from stemd.adapters.files import open_recording
from stemd.adapters.recordings import bands
from stemd.adapters.recordings.kinds import kind_of
from stemd.beam import Beam
from stemd.cli.main import main
from stemd.cli.process_inputs import inputs_of
from stemd.errors import FormatError
from tests.recordings import writers
from tests.recordings.writers import PIXEL_INVERSE_NM, STEP_NM, WRITERS, Array, counts

RSCIIO = {
    "scan.blo": "blockfile",
    "scan_000.tvips": "tvips",
    "scan.prz": "pantarhei",
    "scan.hspy": "hspy",
    "scan.nxs": "nexus",
    "scan.emd": "emd",
    "scan.mrc": "mrc",
    "scan.dm3": "digitalmicrograph",
    "scan.dm4": "digitalmicrograph",
    "scan.zspy": "zspy",
    "scan.xml": "empad",
}
IN_A_ROW = ("scan_000.tvips", "scan.mrc")
"""Formats that do not tell the scan: 20 patterns need --scan."""


def written(folder: Path, name: str) -> tuple[Path, Array]:
    if name == "scan.xml":
        data = counts((2, 3, 128, 128), "f4")
    else:
        data = counts(dtype="u1" if name.endswith(".blo") else "u2")
    WRITERS[name](folder / name, data)
    return folder / name, data


def patterns(path: Path, scan: Scan | None = None, **options: Any) -> Array:
    recording = open_recording(path, scan, **options)
    try:
        blocks = list(recording.blocks(0, recording.frames))
        scale = recording.acquisition.detector.scale
        found: Array = np.concatenate([block.patterns() for block in blocks]) * scale
        assert np.array_equal(
            np.concatenate([block.probe for block in blocks]), np.arange(len(found))
        )
        return found
    finally:
        recording.close()


@pytest.mark.parametrize("name", WRITERS)
def test_all_frames_of_every_format_are_read_in_their_order(tmp_path: Path, name: str) -> None:
    path, data = written(tmp_path, name)
    want = data.reshape(-1, *data.shape[-2:]).astype(float)
    np.testing.assert_array_equal(patterns(path, Scan(shape=data.shape[:2])), want)
    recording = open_recording(path)
    shape = (1, 20) if name in IN_A_ROW else data.shape[:2]
    assert recording.acquisition.scan.shape == shape
    recording.close()


@pytest.mark.parametrize("name", RSCIIO)
@pytest.mark.filterwarnings("ignore")
def test_rosettasciio_reads_the_same_frames(tmp_path: Path, name: str) -> None:
    path, _ = written(tmp_path, name)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        signals = importlib.import_module(f"rsciio.{RSCIIO[name]}").file_reader(str(path))
    (signal,) = (each for each in signals if each["data"].ndim > 2)
    stack = signal["data"].reshape(-1, *signal["data"].shape[-2:])
    np.testing.assert_array_equal(patterns(path), stack)


@pytest.mark.parametrize("name", ["scan.hspy", "scan.nxs", "py4dstem.h5"])
def test_h5py_reads_the_same_frames(tmp_path: Path, name: str) -> None:
    path, data = written(tmp_path, name)
    found: list[Array] = []

    def look(_: str, item: Any) -> None:
        if isinstance(item, h5py.Dataset) and item.ndim == 4:
            found.append(item[...])

    with h5py.File(path) as file:
        file.visititems(look)
    stack = found[0].reshape(-1, *data.shape[-2:])
    np.testing.assert_array_equal(patterns(path), stack)


@pytest.mark.parametrize(
    ("name", "step", "energy"),
    [
        ("scan.blo", True, True),
        ("scan.hspy", True, True),
        ("scan.zspy", True, True),
        ("scan.nxs", True, False),
        ("scan.emd", True, False),
        ("scan.dm3", True, False),
        ("scan.dm4", True, False),
        ("scan.xml", True, False),
        ("py4dstem.h5", True, False),
        ("scan_000.tvips", False, True),
    ],
)
def test_what_a_file_says_of_its_calibration_is_known(
    tmp_path: Path, name: str, step: bool, energy: bool
) -> None:
    recording = open_recording(written(tmp_path, name)[0])
    scan, optics = recording.acquisition.scan, recording.acquisition.optics
    recording.close()
    assert scan.step_size_angstrom == (pytest.approx(10 * STEP_NM) if step else None)
    assert optics.get("energy_ev") == (300e3 if energy else None)
    if name in ("scan.hspy", "scan.zspy"):
        pixel = 1e3 * 0.1 * PIXEL_INVERSE_NM * Beam(300e3).wavelength
        assert optics["pixel_size_mrad"] == pytest.approx(pixel)
        assert optics["convergence_semi_angle_mrad"] == 20.0
    if name == "scan.blo":  # 0.025 cm a pixel at 2 m
        assert optics["pixel_size_mrad"] == pytest.approx(0.125)


def test_a_scan_that_is_told_keeps_what_it_is_told_and_takes_the_rest(tmp_path: Path) -> None:
    path, _ = written(tmp_path, "scan.hspy")
    told = open_recording(path, Scan(shape=(4, 5), step_size_angstrom=7.0))
    assert told.acquisition.scan.step_size_angstrom == 7.0
    other = open_recording(path, Scan(shape=(4, 5), dwell_time_us=3.0))
    assert other.acquisition.scan.step_size_angstrom == pytest.approx(0.5)
    assert other.acquisition.scan.dwell_time_us == 3.0


def test_optics_that_nobody_tells_are_the_files(tmp_path: Path) -> None:
    path, _ = written(tmp_path, "scan.hspy")
    out = ["--engine", "sum", "--out", str(tmp_path / "o")]
    assert main(["process", str(path), "--optics", "energy_ev=200e3", *out]) == 0
    optics = json.loads((tmp_path / "o" / "scan" / "scan.json").read_text())["optics"]
    assert optics["energy_ev"] == 200e3
    assert optics["convergence_semi_angle_mrad"] == 20.0
    assert api.process(path, ["sum"]).about.optics.energy_ev == 300e3


@pytest.mark.parametrize(
    "name", ["scan.blo", "scan.hspy", "scan.mrc", "scan.dm4", "scan_master.h5"]
)
def test_content_decides_whatever_the_ending(tmp_path: Path, name: str) -> None:
    path, data = written(tmp_path, name)
    for ending in (".mib", ".toml", ""):
        other = path.with_name("renamed" + ending)
        shutil.copy(path, other)
        found = patterns(other, Scan(shape=data.shape[:2]))
        assert found.shape == (20, 16, 16)


def test_a_raw_file_of_an_empad_is_told_by_its_size(tmp_path: Path) -> None:
    path, data = written(tmp_path, "scan.xml")
    raw = path.with_name("scan_x3_y2.raw")
    np.testing.assert_array_equal(patterns(raw), data.reshape(-1, 128, 128))
    recording = open_recording(raw)
    assert recording.acquisition.detector.name == "EMPAD"
    assert recording.acquisition.scan.shape == (2, 3)
    recording.close()
    raw.write_bytes(raw.read_bytes()[:-4])
    cut = open_recording(raw)
    assert [notice.kind for notice in cut.notices[:2]] == ["partial_frame", "missing_frames"]  # type: ignore[union-attr]
    assert (cut.frames, cut.acquisition.scan.shape) == (5, (2, 3))
    cut.close()
    raw.rename(tmp_path / "scan_x1_y2.raw")
    with pytest.raises(FormatError, match="its scan is 2 x 1"):
        open_recording(tmp_path / "scan_x1_y2.raw")


@pytest.mark.parametrize("name", ["scan_x3_y2.raw", "gold_x3_y2.raw"])
def test_a_raw_file_of_an_empad_may_lack_the_rows_of_metadata(tmp_path: Path, name: str) -> None:
    data = counts((2, 3, 128, 128), "f4")
    (tmp_path / name).write_bytes(data.astype("<f4").tobytes())
    np.testing.assert_array_equal(patterns(tmp_path / name), data.reshape(-1, 128, 128))


def test_an_empad_xml_leads_to_no_file_elsewhere(tmp_path: Path) -> None:
    path, _ = written(tmp_path, "scan.xml")
    sent = tmp_path / "sent"
    sent.mkdir()
    text = path.read_text().replace("scan_x3_y2.raw", str(tmp_path / "scan_x3_y2.raw"))
    (sent / "scan.xml").write_text(text)
    with pytest.raises(FormatError, match="in another file"):
        open_recording(sent / "scan.xml")
    path.with_name("scan_x3_y2.raw").unlink()
    with pytest.raises(FormatError, match="is not there"):
        open_recording(path)


def test_a_prz_that_was_never_compressed_is_read_as_well(tmp_path: Path) -> None:
    path, data = written(tmp_path, "scan.prz")
    plain = tmp_path / "plain.prz"
    with zipfile.ZipFile(path) as packed, zipfile.ZipFile(plain, "w") as stored:
        for name in packed.namelist():
            stored.writestr(name, packed.read(name))
    np.testing.assert_array_equal(patterns(plain), data.reshape(-1, 16, 16))


def test_a_tvips_series_goes_on_in_the_next_file(tmp_path: Path) -> None:
    path, data = written(tmp_path, "scan_000.tvips")
    whole = path.read_bytes()
    each = (len(whole) - 256) // 20
    cut = 256 + 12 * each
    path.write_bytes(whole[:cut])
    path.with_name("scan_001.tvips").write_bytes(whole[cut:])
    np.testing.assert_array_equal(patterns(path), data.reshape(-1, 16, 16))
    path.with_name("scan_001.tvips").rename(path.with_name("scan_003.tvips"))
    (notice,) = (n for n in open_recording(path).notices if n.kind == "files_missing")  # type: ignore[union-attr]
    assert notice.text.startswith("scan_003.tvips is not read")  # type: ignore[union-attr]


def test_of_a_lazy_format_only_some_patterns_are_in_memory(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    largest: list[int] = []
    real = bands.by_bands

    def watched(array: Any, read: Any = None, **limits: int) -> Any:
        assert limits["most_bytes"] <= 64 * 2**20

        def noted(index: Any) -> Any:
            found = read(index)
            largest.append(found.nbytes)
            return found

        return real(array, noted, good_bytes=20_000, most_bytes=40_000)

    for module in ("foreign", "zspy", "hdf5.file"):
        monkeypatch.setattr(f"stemd.adapters.recordings.{module}.by_bands", watched)
    monkeypatch.setattr("stemd.adapters.recordings.foreign._CHUNK", "4KiB")
    for name in ("scan.mrc", "scan.blo", "scan.dm4", "scan.zspy", "scan.hspy"):
        data = counts((16, 16, 16, 16), "u1" if name.endswith(".blo") else "u2")
        largest.clear()
        WRITERS[name](tmp_path / name, data)
        np.testing.assert_array_equal(patterns(tmp_path / name), data.reshape(-1, 16, 16))
        assert max(largest) <= 40_000, name


def test_a_file_that_nobody_knows_says_what_was_tried(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path = tmp_path / "scan.bin"
    path.write_bytes(bytes(range(256)) * 40)
    for command in ("check", "process"):
        assert main([command, str(path)]) == 1
        told = capsys.readouterr().err
        assert ".bin is not a known type of recording" in told
        assert "00 01 02 03" in told
        assert "numpy.save" in told
        assert "TOML" not in told


@pytest.mark.parametrize("name", ["scan.hspy", "scan.blo", "scan.dm4", "scan.zspy", "scan.xml"])
def test_recordings_are_checked_as_recordings(
    tmp_path: Path, name: str, capsys: pytest.CaptureFixture[str]
) -> None:
    path, data = written(tmp_path, name)
    assert main(["check", str(path)]) == 0
    told = capsys.readouterr().out
    positions = data.shape[0] * data.shape[1]
    assert f"{positions} of {positions}" in told
    assert "nothing looks wrong" in told


def test_images_and_spectra_are_no_patterns_and_are_named(tmp_path: Path) -> None:
    path = tmp_path / "image.mrc"
    writers.mrc(path, counts((1, 1, 16, 16)))
    with pytest.raises(FormatError, match=r"no diffraction patterns: an array \(16, 16\)") as error:
        open_recording(path)
    assert "restore" in error.value.remedy


@pytest.mark.parametrize("module", ["rsciio", "h5py", "zarr", "hdf5plugin"])
def test_a_missing_package_is_one_sentence_with_a_remedy(
    tmp_path: Path, module: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    name = {"rsciio": "scan.mrc", "h5py": "scan.hspy", "zarr": "scan.zspy"}.get(module, "a.h5")
    if module == "hdf5plugin":
        import hdf5plugin

        with h5py.File(tmp_path / name, "w") as file:
            file.create_dataset("a", data=counts(), chunks=(1, 1, 16, 16), **hdf5plugin.LZ4())
    else:
        written(tmp_path, name)
    monkeypatch.setitem(__import__("sys").modules, module, None)
    if module == "rsciio":
        monkeypatch.setattr("importlib.util.find_spec", lambda name: None)
    with pytest.raises(FormatError, match="is not installed") as error:
        open_recording(tmp_path / name)
    assert error.value.remedy.startswith("pip install 'stemd[")


def test_a_folder_of_recordings_has_each_once(tmp_path: Path) -> None:
    for name in ("scan_master.h5", "scan.xml", "scan_000.tvips"):
        written(tmp_path, name)
    shutil.copy(tmp_path / "scan_000.tvips", tmp_path / "scan_001.tvips")
    (tmp_path / "settings.xml").write_text("<settings/>")
    found = {each.path.name for each in inputs_of([tmp_path])}
    assert found == {"scan_master.h5", "scan.xml", "scan_000.tvips"}


@pytest.mark.parametrize(
    ("name", "head", "says", "remedy"),
    [
        ("scan.hdr", b"HDR,\t\r\nTime", "the header of a Merlin recording", "scan.mib"),
        ("scan.zip", b"PK\x03\x04" + bytes(99), "a zip archive", "unpack it"),
        ("scan.mib.gz", b"\x1f\x8b\x08" + bytes(99), "packed by gzip", "unpack it"),
        ("scan.dat", b" <!DOCTYPE html><html>log in", "a web page", "download the file again"),
        ("scan.tif", b"II*\0" + bytes(99), "a TIFF file", "stemd restore"),
        ("one.cbor", b"\xd9\xd9\xf7\xa1", "a message of a DECTRIS stream", "recorded"),
        ("notes.md", b"# notes\n- not a config", "neither a recording nor a config", "toml"),
        ("deep.txt", b"x = " + b"[" * 5000, "neither a recording nor a config", "toml"),
    ],
)
def test_a_file_of_another_kind_is_called_by_its_name(
    tmp_path: Path,
    name: str,
    head: bytes,
    says: str,
    remedy: str,
    capsys: pytest.CaptureFixture[str],
) -> None:
    (tmp_path / "scan.mib").write_bytes(b"")
    (tmp_path / name).write_bytes(head)
    assert main(["check", str(tmp_path / name)]) == 1
    told = capsys.readouterr().err
    assert says in told
    assert remedy in told
    assert "is not TOML" not in told


@pytest.mark.parametrize("name", ["SCAN_X3_Y2.RAW", "Export7.raw"])
def test_an_empad_file_is_known_by_its_values_whatever_its_name(tmp_path: Path, name: str) -> None:
    data = np.random.default_rng(3).normal(2.0, 3.0, (6, 130, 128)).astype("<f4")
    data.tofile(tmp_path / name)
    recording = open_recording(tmp_path / name)
    assert recording.acquisition.detector.name == "EMPAD"
    assert recording.frames == 6
    words = np.full(130 * 128 // 2, 0xB790AFC3C01471F0, "<u8")
    words.tofile(tmp_path / "words.raw")
    assert kind_of(tmp_path / "words.raw") is None

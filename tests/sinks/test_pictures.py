"""Images as PNG pictures and as a NeXus file, read back by public readers."""

from __future__ import annotations

import io
import json
from dataclasses import replace
from pathlib import Path

import h5py
import numpy as np
import PIL.Image
import pytest
import rsciio.nexus
from hypothesis import given
from hypothesis import strategies as st

from stemd.cli.main import main
from stemd.errors import StemdError
from stemd.plugins import NoSettings
from stemd.results import Result, Snapshot
from stemd.storage.folder import ScanFolder, ScanSummary
from stemd.storage.letters import written
from stemd.storage.nexus import NexusWriter, encode_nexus
from stemd.storage.png import BAR_PART, PngWriter, bar_length, encode_png, encode_preview
from stemd.storage.store import Store
from tests.conftest import a_snapshot, an_acquisition


def opened(data: bytes) -> PIL.Image.Image:
    picture = PIL.Image.open(io.BytesIO(data))
    picture.load()
    return picture


def ramp(**fields: object) -> Result:
    image = np.linspace(0.0, 1.0, 600 * 520, dtype=np.float32).reshape(520, 600)
    return Result("adf", image, "counts", **fields)  # type: ignore[arg-type]


def test_a_picture_is_grey_from_dark_to_bright_as_the_image_is() -> None:
    grey = np.asarray(opened(encode_png(ramp())).convert("RGB"))
    assert grey.shape == (520, 600, 3)
    assert (grey[..., 0] == grey[..., 1]).all()
    assert (np.diff(grey[:, 300, 0].astype(int)) >= 0).all()
    assert (grey[0, 0, 0], grey[-1, -1, 0]) == (0, 255)


@pytest.mark.parametrize(
    ("shape", "size", "reduced", "enlarged"),
    [
        ((513, 900), (450, 257), 2, 1),
        ((1, 4096), (512, 1), 8, 1),
        ((512, 512), (512, 512), 1, 1),
        ((257, 200), (200, 257), 1, 1),
        ((2, 3), (510, 340), 1, 170),
    ],
)
def test_a_preview_has_512_pixels_at_most_and_keeps_its_scale(
    shape: tuple[int, int], size: tuple[int, int], reduced: int, enlarged: int
) -> None:
    image = np.linspace(1.0, 2.0, shape[0] * shape[1], dtype=np.float32).reshape(shape)
    result = Result("adf", image, "counts", pixel_size=0.5)
    snapshot = replace(a_snapshot(an_acquisition()), results=[result], final=True)
    picture = opened(encode_preview(result, snapshot))
    assert picture.size == size
    assert picture.mode == "P", "8 bits"
    about = json.loads(picture.text["Description"])  # type: ignore[attr-defined]
    assert (about["reduced"], about["enlarged"]) == (reduced, enlarged)
    assert about["shape"] == list(shape)
    if min(size) > 200:
        codes = np.asarray(picture)
        length, pixels = bar_length(0.05 * reduced / enlarged, size[0])
        bar = codes[-4 * max(1, size[0] // 256) :, : size[0] // 2] == 255
        assert bar.sum(axis=1).max() == pixels, length


def test_a_preview_is_of_the_means_and_what_is_not_scanned_chooses_no_shade() -> None:
    rng = np.random.default_rng(1)
    image = (100.0 + rng.random((1023, 1024))).astype(np.float32)
    image[700:] = 0.0
    image[3, 5] = np.nan
    result = Result("adf", image, "counts")
    growing = replace(a_snapshot(an_acquisition()), results=[result])
    picture = opened(encode_preview(result, growing))
    about = json.loads(picture.text["Description"])  # type: ignore[attr-defined]
    assert 100.0 < about["shown_from"] < about["shown_to"] < 101.0
    codes = np.asarray(picture).astype(float)
    means = image[:700].reshape(350, 2, 512, 2).mean(axis=(1, 3))
    means[1, 2] = np.nanmean(image[2:4, 4:6])
    assert np.corrcoef(codes[:350].ravel(), means.ravel())[0, 1] > 0.99
    assert (codes[350:] == 0).all()
    angles = replace(result, image=np.full((600, 600), 179.0, np.float32), units="deg")
    angles.image[1::2] = -179.0
    circle = np.asarray(opened(encode_preview(angles, replace(growing, final=True))))
    assert (circle > 250).all(), "of 179 and -179 degrees the mean would be 0"


def test_holes_of_a_finished_scan_are_dark_and_choose_no_shade(tmp_path: Path) -> None:
    scan = an_acquisition((100, 100))
    image = 50.0 + np.random.default_rng(2).random((100, 100), np.float32)
    image[20:25] = 0.0
    whole = a_snapshot(scan, final=True)
    result = Result("adf", image, "counts")
    for missing, darkest in ((500, 50.0), (0, 0.0)):
        done = scan.scan.positions - missing
        PngWriter(NoSettings()).write(
            tmp_path, replace(whole, results=[result], positions_done=done), {}
        )
        picture = opened((tmp_path / "adf.png").read_bytes())
        about = json.loads(picture.text["Description"])  # type: ignore[attr-defined]
        assert about["shown_from"] == pytest.approx(darkest, abs=0.1), missing
        assert (np.asarray(picture)[6 * 21 : 6 * 24] == 0).all()


def test_a_small_image_is_enlarged_pixel_by_pixel_and_says_so() -> None:
    image = np.array([[0.0, 1.0], [2.0, 3.0]], np.float32)
    picture = opened(encode_png(Result("adf", image, "counts"), {"name": "adf"}))
    assert picture.size == (512, 512)
    grey = np.asarray(picture.convert("L")).reshape(2, 256, 2, 256)
    assert (grey == grey[:, :1, :, :1]).all()
    about = json.loads(picture.text["Description"])  # type: ignore[attr-defined]
    assert about["name"] == "adf"
    assert about["enlarged"] == 256
    assert about["shown_from"] == pytest.approx(0.0, abs=0.01)


def test_the_scale_bar_is_as_long_as_it_says() -> None:
    picture = np.asarray(opened(encode_png(ramp(pixel_size=0.5))).convert("L"))
    # 600 pixels of 0.05 nm are 30 nm; a quarter of them holds a bar of 5 nm: 100 pixels
    row = picture[520 - 5]
    bar = np.flatnonzero(row[:200] == 255)
    assert bar.size == 100
    assert (np.diff(bar) == 1).all()
    text = written("5 nm")
    seen = picture[520 - 14 - 4 - 12 + 4 : 520 - 12, 4 : 4 + 2 * text.shape[1]] == 255
    assert (seen[:14:2, ::2] == text).all()


def test_the_scale_bar_of_an_enlarged_image_counts_the_image_s_own_pixels() -> None:
    image = np.zeros((100, 100), np.float32)
    picture = opened(encode_png(Result("adf", image, "counts", pixel_size=0.5)))
    assert picture.size == (600, 600)
    # 100 pixels of 0.05 nm are 5 nm; 1 nm is 20 of them, each enlarged to 6
    assert np.count_nonzero(np.asarray(picture.convert("L"))[600 - 5] == 255) == 120


@given(pixel=st.floats(1e-4, 1e4), width=st.integers(64, 5000))
def test_a_bar_is_a_round_number_and_at_most_a_quarter_of_the_width(
    pixel: float, width: int
) -> None:
    length, pixels = bar_length(pixel, width)
    assert f"{length:.0e}"[0] in "125"
    assert length == pytest.approx(float(f"{length:.0e}"))
    assert BAR_PART * width / 2.5 - 1 <= pixels <= BAR_PART * width + 1


def test_directions_have_a_circle_of_colours_that_closes() -> None:
    image = np.linspace(-np.pi, np.pi, 512 * 512, dtype=np.float32).reshape(512, 512)
    picture = np.asarray(opened(encode_png(Result("field_direction", image, "rad"))).convert("RGB"))
    assert (picture[0, 0] == picture[-1, -1]).all()
    assert picture[256, 256].tolist() != picture[0, 0].tolist()


@pytest.mark.parametrize("value", [0.0, 7.0, np.nan, np.inf])
def test_an_image_without_contrast_or_numbers_is_a_picture_all_the_same(value: float) -> None:
    image = np.full((3, 5), value, np.float32)
    assert opened(encode_png(Result("adf", image, "counts", pixel_size=0.2))).size == (515, 309)


def test_one_image_that_cannot_be_written_keeps_no_other_from_it(tmp_path: Path) -> None:
    good = a_snapshot(an_acquisition(), final=True)
    bad = Result("../adf", good.results[0].image, "counts")
    snapshot = Snapshot(good.acquisition, [bad, *good.results], 54, 54, True, 1, 1, 1)
    written = PngWriter(NoSettings()).write(tmp_path, snapshot, {})
    assert [record.name for record in written.files] == ["ricom.png"]
    assert len(written.errors) == 1


SETTINGS = {
    "optics": {"energy_ev": 300e3, "center": "auto", "mask": None},
    "about": {"sample": "Gold", "operator": "Zoë", "comment": "drifts", "tags": ["night"]},
}


def test_a_nexus_file_has_every_image_with_its_axes_and_says_how_it_was_made(
    tmp_path: Path,
) -> None:
    snapshot = a_snapshot(an_acquisition(), names=("bf", "ricom"), final=True)
    pacbed = Result("pacbed", np.ones((4, 5), np.float32), "counts", "detector", 0.5)
    named = Result("title", np.ones((4, 5), np.float32), "counts")
    snapshot = Snapshot(
        snapshot.acquisition, [*snapshot.results, pacbed, named], 54, 54, True, 1, 1, 1
    )
    (record,) = NexusWriter(NoSettings()).write(tmp_path, snapshot, SETTINGS).files
    assert record.name == f"{snapshot.acquisition.id}.h5"
    path = tmp_path / record.name
    with h5py.File(path) as file:
        entry = file[file.attrs["default"]]
        assert entry.attrs["NX_class"] == "NXentry"
        assert entry.attrs["default"] == "ricom"
        data = entry["ricom"]
        assert (data.attrs["NX_class"], data.attrs["signal"]) == ("NXdata", "data")
        assert list(data.attrs["axes"]) == ["y", "x"]
        assert np.array_equal(data["data"], snapshot.results[1].image)
        assert data["data"].attrs["units"] == "a.u."
        assert data["x"][:2].tolist() == pytest.approx([0.0, 0.02])
        assert data["x"].attrs["units"] == "nm"
        assert entry["pacbed/y"].attrs["units"] == "mrad"
        assert entry["title_image/data"].shape == (4, 5)
        assert entry["title"].asstr()[()] == snapshot.acquisition.id
        assert entry["sample/name"].asstr()[()] == "Gold"
        assert entry["experiment_description"].asstr()[()] == "drifts; night"
        assert entry["instrument/optics/energy_ev"][()] == 300e3
        assert json.loads(entry["settings"].asstr()[()]) == SETTINGS
    read = rsciio.nexus.file_reader(str(path), dataset_key="ricom")[0]
    assert read["data"].shape == (6, 9)
    assert [axis["scale"] for axis in read["axes"]] == pytest.approx([0.02, 0.02])


def test_images_that_are_made_again_take_their_places_and_the_others_stay(
    tmp_path: Path,
) -> None:
    acquisition = an_acquisition()
    writer = NexusWriter(NoSettings())
    writer.write(tmp_path, a_snapshot(acquisition, names=("bf", "ricom"), fill=1.0), SETTINGS)
    writer.write(tmp_path, a_snapshot(acquisition, names=("ricom",), fill=2.0), SETTINGS)
    with h5py.File(tmp_path / f"{acquisition.id}.h5") as file:
        assert file["scan/bf/data"][0, 0] == 1.0
        assert file["scan/ricom/data"][0, 0] == 2.0
    with pytest.raises(StemdError, match="cannot be written"):
        encode_nexus(a_snapshot(acquisition), {}, b"no HDF5")


def test_a_nexus_file_that_is_written_again_does_not_grow_and_says_nothing_old() -> None:
    noise = np.random.default_rng(1).random((64, 64), np.float32)
    results = [Result(name, noise, "counts") for name in ("adf", "ricom")]
    both = replace(a_snapshot(an_acquisition(), final=True), results=results)
    about = {"sample": "a\0b", "operator": "Zoë"}
    first = data = encode_nexus(both, {"optics": {"defocus_nm": 5.0}, "about": about})
    for _ in range(5):
        again = replace(both, results=results[1:])
        data = encode_nexus(again, {"optics": {}, "about": {"sample": "c"}}, data)
    assert len(data) <= len(first) + 1024
    with h5py.File(io.BytesIO(first)) as file:
        assert file["scan/sample/name"].asstr()[()] == "ab"
    with h5py.File(io.BytesIO(data)) as file:
        assert np.array_equal(file["scan/adf/data"], noise)
        assert file["scan/sample/name"].asstr()[()] == "c"
        assert "user" not in file["scan"]
        assert "defocus_nm" not in file["scan/instrument/optics"]


def test_the_images_of_a_past_scan_are_exported_in_other_forms(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    store = Store(tmp_path / "data", "titan")
    acquisition = an_acquisition()
    folder = ScanFolder.of_scan(store.data_dir, acquisition, "cam", "titan")
    summary = ScanSummary("complete", np.ones(54, np.bool_), settings=SETTINGS)
    folder.create(summary)
    snapshot = a_snapshot(acquisition, names=("ricom", "bf"), final=True)
    folder.write_results(snapshot, SETTINGS, ("tiff", "hdf5"))
    document = folder.write_summary(summary)
    store.catalogue.begin(acquisition, "cam", "titan", folder.path)
    store.catalogue.end(acquisition.id, document)
    entry = store.catalogue.get(acquisition.id)
    assert entry is not None
    assert sorted(entry["results"]) == ["bf", "ricom"]
    store.close()
    out = tmp_path / "out"
    command = ["scans", "export", acquisition.id, "--data-dir", str(tmp_path / "data")]
    assert main([*command, "--out", str(out), "--as", "png,hdf5"]) == 0
    names = {path.name for path in out.iterdir()}
    assert names == {"ricom.png", "bf.png", f"{acquisition.id}.h5"}
    assert {Path(line).name for line in capsys.readouterr().out.splitlines()} == names
    with h5py.File(out / f"{acquisition.id}.h5") as file:
        assert np.array_equal(file["scan/bf/data"], snapshot.results[1].image)
        assert json.loads(file["scan/bf/description"].asstr()[()])["kernel_size"] == 21
    assert main([*command, "--as", "bmp"]) == 2
    assert "bmp" in capsys.readouterr().err


def test_a_recording_becomes_pictures_with_one_command(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    rng = np.random.default_rng(1)
    np.save(tmp_path / "scan.npy", rng.poisson(5.0, (6, 9, 8, 8)).astype(np.uint16))
    command = ["process", str(tmp_path / "scan.npy"), "--out", str(tmp_path / "out")]
    command += ["--engine", "sum"]
    assert main([*command, "--as", "jpeg"]) == 2
    assert "--as: there is no sink of type 'jpeg'" in capsys.readouterr().err
    assert main([*command, "--as", "png"]) == 0
    folder = tmp_path / "out" / "scan"
    assert {path.name for path in folder.iterdir()} == {"sum.tif", "sum.png", "scan.json"}
    names = {file["name"] for file in json.loads((folder / "scan.json").read_text())["files"]}
    assert names == {"sum.tif", "sum.png"}
    with PIL.Image.open(folder / "sum.png") as picture:
        assert picture.size == (9 * 57, 6 * 57)

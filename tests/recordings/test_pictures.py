"""Files of images: all of them by name, stacks as stacks, y before x, other things refused."""

from __future__ import annotations

import json
import threading
from pathlib import Path
from typing import Any

import h5py
import numpy as np
import pytest
import tifffile

from stemd import api
from stemd.adapters.images import ImagesAdapter, ImagesSettings
from stemd.adapters.recordings.pictures import read_image, read_images
from stemd.blocks import BlockPool, ImageBlock, Started
from stemd.errors import FormatError
from tests.recordings.writers import Array, mrc, signal

RNG = np.random.default_rng(5)
pytestmark = pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning")


def image(ny: int = 12, nx: int = 17) -> Array:
    return RNG.integers(0, 1000, (ny, nx)).astype("u2")


def berkeley(path: Path, **images: tuple[Array, str, str]) -> None:
    """Groups of the EMD format: (data, name of the first axis, of the second), 0.5 nm a pixel."""
    with h5py.File(path, "w") as file:
        file.attrs["version_major"], file.attrs["version_minor"] = 0, 2
        for name, (data, first, second) in images.items():
            group = file.create_group(f"data/{name}")
            group.attrs["emd_group_type"] = 1
            group["data"] = data
            for number, axis in enumerate((first, second), 1):
                steps = group.create_dataset(
                    f"dim{number}", data=0.5 * np.arange(data.shape[number - 1])
                )
                steps.attrs["name"], steps.attrs["units"] = axis, "[n_m]"


def velox(path: Path, images: dict[str, Array], *, spectra: bool = False) -> None:
    """What Velox writes of images: (y, x, frames), and beside each frame its metadata as JSON."""
    with h5py.File(path, "w") as file:
        file["Version"] = np.array([b'{"format": "Velox", "version": "11"}'])
        for number, (name, data) in enumerate(images.items()):
            group = file.create_group(f"Data/Image/{number:032x}")
            stack = data if data.ndim == 3 else data[..., None]
            group["Data"] = stack
            about = {
                "BinaryResult": {
                    "DetectorIndex": "3", "PixelUnitX": "m", "PixelSize": {"width": "5e-11"},
                },
                "Detectors": {"Detector-3": {"DetectorName": name}},
            }  # fmt: skip
            text = np.frombuffer(json.dumps(about).encode().ljust(4096, b"\0"), "u1")
            group["Metadata"] = np.repeat(text[:, None], stack.shape[2], 1)
        if spectra:
            file.create_group("Data/SpectrumImage")
            file.create_group("Data/SpectrumStream")


def found(path: Path) -> dict[str, Array]:
    return {picture.name: picture.pixels for picture in read_images(path)}


@pytest.mark.parametrize("order", [("y", "x"), ("x", "y")])
def test_an_emd_image_lies_as_the_labels_of_its_axes_say(
    tmp_path: Path, order: tuple[str, str]
) -> None:
    data = image()
    stored = data if order == ("y", "x") else data.T
    berkeley(tmp_path / "a.emd", only=(stored, *order))
    picture = read_image(tmp_path / "a.emd")
    np.testing.assert_array_equal(picture.pixels, data)
    assert picture.pixel_size_angstrom == pytest.approx(5.0)
    assert picture.suffix == ".emd"
    assert picture.wire.tobytes() == (tmp_path / "a.emd").read_bytes()


def test_an_emd_image_that_rosettasciio_wrote_is_the_same(tmp_path: Path) -> None:
    data = image()
    about = signal(np.zeros((1, 1, *data.shape), "u2"))
    axes = [{**axis, "navigate": False, "units": "nm"} for axis in about["axes"][:2]]
    for axis, size in zip(axes, data.shape, strict=True):
        axis["size"] = size
    import rsciio.emd

    rsciio.emd.file_writer(str(tmp_path / "a.emd"), {**about, "data": data, "axes": axes})
    np.testing.assert_array_equal(read_image(tmp_path / "a.emd").pixels, data)


def test_all_images_of_a_file_are_there_by_name(tmp_path: Path) -> None:
    haadf, bf = image(), image(8, 9)
    berkeley(tmp_path / "two.emd", HAADF=(haadf, "y", "x"), BF=(bf, "y", "x"))
    images = found(tmp_path / "two.emd")
    assert sorted(images) == ["BF", "HAADF"]
    np.testing.assert_array_equal(images["HAADF"], haadf)
    np.testing.assert_array_equal(read_image(tmp_path / "two.emd", "BF").pixels, bf)
    for wrong, says in ((None, "holds 2 images"), ("DF", "no image 'DF'")):
        with pytest.raises(FormatError, match=says) as error:
            read_image(tmp_path / "two.emd", wrong)
        assert "HAADF" in error.value.remedy


def test_a_velox_file_gives_its_detectors_and_names_its_spectra(tmp_path: Path) -> None:
    haadf, bf = image(16, 16), image(16, 16)
    velox(tmp_path / "a.emd", {"HAADF": haadf, "BF": bf}, spectra=True)
    images = found(tmp_path / "a.emd")
    assert sorted(images) == ["BF", "HAADF"]
    np.testing.assert_array_equal(images["HAADF"], haadf)
    assert read_image(tmp_path / "a.emd", "BF").pixel_size_angstrom == pytest.approx(0.5)
    frames = np.stack([haadf, bf, haadf], axis=-1)
    velox(tmp_path / "b.emd", {"HAADF": frames})
    images = found(tmp_path / "b.emd")
    assert list(images) == ["HAADF[0]", "HAADF[1]", "HAADF[2]"]
    np.testing.assert_array_equal(images["HAADF[1]"], bf)


def test_a_velox_file_without_images_says_what_it_holds(tmp_path: Path) -> None:
    velox(tmp_path / "a.emd", {}, spectra=True)
    with pytest.raises(FormatError, match=r"holds no image, but SpectrumImage \(spectra\)"):
        read_image(tmp_path / "a.emd")


@pytest.mark.parametrize("suffix", [".tif", ".mrc"])
def test_a_stack_is_all_of_its_images_in_order(tmp_path: Path, suffix: str) -> None:
    path, data = tmp_path / f"a{suffix}", np.stack([image(), image(), image()])
    if suffix == ".tif":
        tifffile.imwrite(path, data, photometric="minisblack")
    else:
        mrc(path, data[None])
    images = list(read_images(path))
    assert [each.name[-3:] for each in images] == ["[0]", "[1]", "[2]"]
    for each, want in zip(images, data, strict=True):
        np.testing.assert_array_equal(each.pixels, want)
        np.testing.assert_array_equal(tifffile.imread(_file(tmp_path, each.wire)), want)
    assert len({each.id for each in images}) == 3


def _file(folder: Path, wire: Any) -> Path:
    (folder / "wire.tif").write_bytes(wire.tobytes())
    return folder / "wire.tif"


@pytest.mark.parametrize(
    ("shape", "navigate", "units", "says"),
    [
        ((20,), [False], "eV", "spectrum"),
        ((4, 5, 20), [True, True, False], "eV", "spectra"),
        ((16, 16), [False, False], "1/nm", "diffraction pattern"),
        ((4, 5, 16, 16), [True, True, False, False], "1/nm", "diffraction patterns"),
    ],
)
def test_what_is_no_image_is_refused_by_its_name(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch,
    shape: tuple[int, ...], navigate: list[bool], units: str, says: str,
) -> None:  # fmt: skip
    about = {
        "data": np.ones(shape, "f4"),
        "axes": [
            {"index_in_array": n, "navigate": flag, "units": "nm" if flag else units, "scale": 1.0}
            for n, flag in enumerate(navigate)
        ],
        "metadata": {"General": {"title": "thing"}},
        "told": [],
    }
    monkeypatch.setattr(
        "stemd.adapters.recordings.signals.read_signals", lambda *args, **more: [about]
    )
    (tmp_path / "a.dm4").write_bytes(b"any")
    size = " x ".join(str(n) for n in shape)
    with pytest.raises(FormatError, match=rf"holds no image, but thing \({says}, {size}\)"):
        list(read_images(tmp_path / "a.dm4"))


def test_pixels_that_are_not_a_number_stay_so(tmp_path: Path) -> None:
    data = image().astype("f4")
    data[3, 4] = np.nan
    tifffile.imwrite(tmp_path / "a.tif", data)
    berkeley(tmp_path / "a.emd", only=(data, "y", "x"))
    for name in ("a.tif", "a.emd"):
        np.testing.assert_array_equal(read_image(tmp_path / name).pixels, data)
    with pytest.raises(api.StemdError, match="not finite"):
        api.restore(tmp_path / "a.tif")


def test_the_adapter_makes_a_scan_of_every_image(tmp_path: Path) -> None:
    tifffile.imwrite(tmp_path / "a.tif", np.stack([image(), image()]))
    berkeley(tmp_path / "b.emd", HAADF=(image(), "y", "x"), BF=(image(8, 9), "y", "x"))
    adapter = ImagesAdapter(ImagesSettings(folder=tmp_path, existing=True, poll_s=0.05))
    stop, shapes, sources = threading.Event(), [], []
    for message in adapter.read(BlockPool(), stop):
        if isinstance(message, Started):
            sources.append(Path(message.acquisition.source).name)
        if isinstance(message, ImageBlock):
            shapes.append(message.image.shape)
            if len(shapes) == 4:
                stop.set()
    assert sorted(shapes) == [(8, 9), (12, 17), (12, 17), (12, 17)]
    assert sorted(sources) == ["a.tif: image[0]", "a.tif: image[1]", "b.emd: BF", "b.emd: HAADF"]


def test_white_that_is_zero_is_shown_bright(tmp_path: Path) -> None:
    grey = np.arange(48, dtype=np.uint8).reshape(6, 8)
    tifffile.imwrite(tmp_path / "a.tif", 255 - grey, photometric="miniswhite")
    np.testing.assert_array_equal(read_image(tmp_path / "a.tif").pixels, grey)


def test_a_stack_whose_images_are_behind_y_and_x_is_refused(tmp_path: Path) -> None:
    stack = np.zeros((96, 80, 6), np.uint16)
    tifffile.imwrite(tmp_path / "a.tif", stack, photometric="minisblack")
    with pytest.raises(FormatError, match="its axes seem to be y, x, image"):
        list(read_images(tmp_path / "a.tif"))
    tifffile.imwrite(tmp_path / "b.tif", stack.transpose(2, 0, 1), photometric="minisblack")
    assert len(list(read_images(tmp_path / "b.tif"))) == 6


def test_compression_that_needs_another_package_is_named(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from PIL import Image

    Image.fromarray(np.zeros((40, 40), np.uint8)).save(tmp_path / "a.tif", compression="tiff_lzw")
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None)
    with pytest.raises(FormatError, match="needs the package imagecodecs") as error:
        list(read_images(tmp_path / "a.tif"))
    assert error.value.remedy == "save it uncompressed, or with deflate"

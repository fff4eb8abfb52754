"""The TIFF writer, read back by public readers."""

from __future__ import annotations

import hashlib
import io
import json
from pathlib import Path
from xml.etree.ElementTree import fromstring

import numpy as np
import PIL.Image
import pytest
import rsciio.tiff
import tifffile
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from stemd.errors import FormatError
from stemd.results import Result, Snapshot
from stemd.storage.tiff import _escaped, _quoted, encode_tiff, write_tiff
from tests.conftest import a_snapshot, an_acquisition


def snapshot_of(result: Result) -> Snapshot:
    return Snapshot(an_acquisition(), [result], 1, 54, True, 1, 1, 1)


@given(
    image=hnp.arrays(np.float32, hnp.array_shapes(min_dims=2, max_dims=2, max_side=20)),
    units=st.text(max_size=30),
    pixel_size=st.none() | st.floats(1e-4, 1e6),
)
def test_any_image_and_any_text_come_back_bit_for_bit(
    image: np.ndarray, units: str, pixel_size: float | None
) -> None:
    result = Result("adf", image, units, pixel_size=pixel_size)
    payload = encode_tiff(result, snapshot_of(result))
    assert payload[:4] == b"II*\0"
    with tifffile.TiffFile(io.BytesIO(payload)) as file:
        (page,) = file.pages
        assert page.dtype == np.float32
        assert page.compression == 1
        assert page.asarray().tobytes() == image.tobytes()
        description = json.loads(page.description)
    assert page.description.isascii()
    assert description["units"] == units
    assert description["pixel_size_angstrom"] == pixel_size


@pytest.mark.parametrize("extra", [{}, {"shape_of_it": [3, 3], "inner": {"shape": [1, 2, 3]}}])
def test_no_public_reader_has_anything_to_say_about_an_image(
    extra: dict[str, object],
    tmp_path: Path,
    caplog: pytest.LogCaptureFixture,
    recwarn: pytest.WarningsRecorder,
) -> None:
    result = Result("adf", np.ones((4, 6), np.float32), "counts", pixel_size=0.2, extra=extra)
    published, on_disk = tmp_path / "published.tif", tmp_path / "adf.tif"
    published.write_bytes(encode_tiff(result, snapshot_of(result)))
    write_tiff(on_disk, result, snapshot_of(result), extra)
    for path in (published, on_disk):
        assert tifffile.imread(path).shape == (4, 6)
        with tifffile.TiffFile(path) as file:
            assert file.series[0].shape == (4, 6)
            assert not file.is_shaped
        with PIL.Image.open(path) as picture:
            assert picture.size == (6, 4)
        assert rsciio.tiff.file_reader(str(path))[0]["data"].shape == (4, 6)
    assert caplog.messages == []
    assert [str(each.message) for each in recwarn] == []


def test_an_image_that_is_a_transposed_or_strided_view_is_written_as_it_looks() -> None:
    base = np.arange(48, dtype=np.float32).reshape(6, 8)
    for view in (base.T, base[::2, ::3], base[::-1]):
        result = Result("adf", view, "")
        payload = encode_tiff(result, snapshot_of(result))
        assert np.array_equal(tifffile.imread(io.BytesIO(payload)), view)


def test_the_resolution_of_a_published_image_is_in_pixels_per_centimetre() -> None:
    snapshot = a_snapshot(an_acquisition())
    with tifffile.TiffFile(io.BytesIO(encode_tiff(snapshot.results[0], snapshot))) as file:
        tags = file.pages.first.tags
        per_cm, one = tags["XResolution"].value
        assert tags["ResolutionUnit"].value == tifffile.RESUNIT.CENTIMETER
    assert 1e8 / (per_cm / one) == pytest.approx(0.2, rel=1e-6)  # angstrom a pixel


@pytest.mark.parametrize("shape", [(0, 4), (4,), (2, 3, 4)])
def test_what_is_not_an_image_is_refused(shape: tuple[int, ...]) -> None:
    result = Result("adf", np.zeros(shape, np.float32), "")
    with pytest.raises(FormatError, match="two axes"):
        encode_tiff(result, snapshot_of(result))


def test_imagej_and_ome_readers_both_find_nanometres_in_a_file_on_disk(tmp_path: Path) -> None:
    snapshot = a_snapshot(an_acquisition(), final=True)
    path = tmp_path / "ricom.tif"
    record = write_tiff(path, snapshot.results[0], snapshot, {"revision": 3})
    assert record.sha256 == hashlib.sha256(path.read_bytes()).hexdigest()
    assert record.bytes == path.stat().st_size
    with tifffile.TiffFile(path) as file:
        assert np.array_equal(file.asarray(), snapshot.results[0].image)
        assert file.is_ome
        assert file.imagej_metadata["unit"] == "nm"
        pixels_per_nm, one = file.pages.first.tags["XResolution"].value
        assert one / pixels_per_nm == pytest.approx(0.02)
        ome = tifffile.xml2dict(file.ome_metadata)["OME"]["Image"]
    assert (ome["Pixels"]["PhysicalSizeX"], ome["Pixels"]["PhysicalSizeXUnit"]) == (0.02, "nm")
    description = json.loads(ome["Description"])
    assert description["settings"] == {"revision": 3}
    assert description["scan"] == snapshot.acquisition.id
    axes = rsciio.tiff.file_reader(str(path))[0]["axes"]
    assert [axis["scale"] for axis in axes] == pytest.approx([0.02, 0.02])


def test_an_image_of_the_detector_plane_is_calibrated_in_mrad(tmp_path: Path) -> None:
    pattern = np.ones((5, 7), np.float32)
    result = Result("pacbed", pattern, "counts", axes="detector", pixel_size=0.5)
    path = tmp_path / "pacbed.tif"
    write_tiff(path, result, snapshot_of(result))
    with tifffile.TiffFile(path) as file:
        assert file.imagej_metadata["unit"] == "mrad"
        per_mrad, one = file.pages.first.tags["YResolution"].value
        assert one / per_mrad == 0.5
        assert "PhysicalSize" not in file.ome_metadata
        assert np.array_equal(file.asarray(), pattern)


@given(st.text(st.characters(codec="ascii", exclude_categories=["Cc"])))
def test_any_name_and_any_description_come_back_from_the_xml_of_a_file(text: str) -> None:
    element = fromstring(f"<a name={_quoted(text)}>{_escaped(text)}</a>")
    assert element.get("name") == text
    assert (element.text or "") == text

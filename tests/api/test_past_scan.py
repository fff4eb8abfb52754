"""A scan that stemd wrote is opened, looked at and processed again from a notebook."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import dask.array as da
import numpy as np
import pytest

from stemd import api
from stemd.adapters.merlin.encoder import Camera, encode_frame
from tests.daemon.test_process import write_mib

Array = np.ndarray[Any, Any]


@pytest.fixture
def counts() -> Array:
    return np.random.default_rng(5).poisson(3.0, (4, 5, 256, 256)).astype(np.uint16)


@pytest.fixture
def folder(tmp_path: Path, counts: Array) -> Path:
    """A processed scan with a record beside it, as the daemon leaves one."""
    record = write_mib(tmp_path / "raw.mib", counts.reshape(-1, 256, 256))
    optics = {"rotation_deg": 30.0, "energy_ev": 200e3, "pixel_size_mrad": 0.5}
    scan = {"shape": (4, 5), "step_size_angstrom": 0.4}
    images = api.process(record, ["sum", "ricom", "pacbed"], scan=scan, optics=optics)
    images.save(tmp_path / "scan")
    shutil.move(record, tmp_path / "scan" / "raw.mib")
    return tmp_path / "scan"


def test_everything_is_there_as_it_was_written(folder: Path, counts: Array) -> None:
    for name in (folder, str(folder), folder / "scan.json"):
        scan = api.open_scan(name)
        assert (scan.path, scan.status, scan.missing) == (folder, "complete", 0)
        assert scan.scan.shape == (4, 5)
        assert scan.optics.rotation_deg == 30.0
        assert scan.record == folder / "raw.mib"
    images = scan.images
    assert set(images) == {"sum", "ricom", "pacbed"}
    np.testing.assert_array_equal(images["sum"], counts.sum((2, 3)))
    assert (images["sum"].units, images["sum"].pixel_size) == ("counts", 0.4)
    assert (images["pacbed"].axes, images["pacbed"].pixel_size) == ("detector", 0.5)
    assert images["ricom"].details["kernel_size"] == 61
    assert scan.id in repr(scan)
    with pytest.raises(api.StemdError, match="files already"):
        images.save(folder / "again")


def test_it_is_processed_again_with_single_settings_changed(folder: Path, counts: Array) -> None:
    scan = api.open_scan(folder)
    again = scan.process(["sum", "ricom", "pacbed"])
    for name, image in scan.images.items():
        assert again[name].image.tobytes() == image.image.tobytes(), name
        assert again[name].pixel_size == image.pixel_size
    turned = scan.process(["ricom"], optics={"rotation_deg": 0.0})
    assert turned.about.optics.energy_ev == 200e3
    wanted = api.ricom(counts, optics={"rotation_deg": 0.0})
    assert turned["ricom"].image.tobytes() == wanted.image.tobytes()
    assert scan.process(["sum"], scan={"step_size_angstrom": 1.0})["sum"].pixel_size == 1.0


def test_patterns_are_read_when_they_are_indexed(folder: Path, counts: Array) -> None:
    with api.open_scan(folder).patterns() as patterns:
        assert (patterns.shape, patterns.dtype, patterns.ndim) == (counts.shape, np.uint16, 4)
        for index in (
            (2, 3),
            (-1, -5),
            1,
            (slice(1, 4, 2), slice(None)),
            (..., 7),
            (2, ..., slice(3, 9)),
            (slice(3, 0, -1), 1, slice(None), 5),
            (0, 0, 10, 11),
            (slice(2, 2),),
            ...,
        ):
            np.testing.assert_array_equal(patterns[index], counts[index])
        np.testing.assert_array_equal(np.asarray(patterns), counts)
        lazy = da.from_array(patterns, chunks=(2, 5, 256, 256))
        np.testing.assert_array_equal(
            lazy.sum(axis=(0, 1)).compute(scheduler="sync"), counts.sum((0, 1))
        )
        assert (
            api.com(patterns)["com_y"].image.tobytes() == api.com(counts)["com_y"].image.tobytes()
        )
        for bad in ((4, 0), (0, 5), (0, 0, 0, 0, 0), (..., ...), 1.5):
            with pytest.raises(IndexError):
                patterns[bad]


def test_patterns_of_lost_frames_are_zero_and_the_others_in_their_place(
    tmp_path: Path, counts: Array
) -> None:
    camera = Camera(shape=(256, 256))
    flat = counts.reshape(-1, 256, 256)
    lost = (0, 6, 7, 19)
    record = tmp_path / "raw.mib"
    record.write_bytes(
        b"".join(encode_frame(p, camera, i + 1) for i, p in enumerate(flat) if i not in lost)
    )
    images = api.process(record, ["sum"], scan=(4, 5))
    want = counts.copy()
    want.reshape(-1, 256, 256)[list(lost)] = 0
    np.testing.assert_array_equal(images["sum"], want.sum((2, 3)))
    images.save(tmp_path / "scan")
    scan = api.open_scan(tmp_path / "scan")
    assert scan.record == record
    with scan.patterns() as patterns:
        np.testing.assert_array_equal(patterns[...], want)


def test_serpentine_and_flyback_are_undone(tmp_path: Path, counts: Array) -> None:
    record = write_mib(tmp_path / "raw.mib", counts.reshape(-1, 256, 256))
    asked = {"shape": (4, 4), "flyback": 1, "serpentine": True}
    api.process(record, ["sum"], scan=asked).save(tmp_path / "scan")
    scan = api.open_scan(tmp_path / "scan")
    want = counts[:, :4].copy()
    want[1::2] = want[1::2, ::-1]
    np.testing.assert_array_equal(scan.images["sum"], want.sum((2, 3)))
    with scan.patterns() as patterns:
        np.testing.assert_array_equal(patterns[...], want)


def test_what_is_not_a_scan_is_refused(folder: Path, tmp_path: Path) -> None:
    with pytest.raises(api.StemdError, match=r"no scan\.json"):
        api.open_scan(tmp_path)
    file = folder / "scan.json"
    document = json.loads(file.read_text())
    for text, says in (
        ("{", "cannot be read"),
        ("[]", "not an object"),
        (json.dumps({key: document[key] for key in document if key != "optics"}), "no optics"),
        (json.dumps(document | {"scan": {"shape": [0, 1]}}), "shape"),
    ):
        file.write_text(text)
        with pytest.raises(api.StemdError, match=says):
            api.open_scan(folder)


def test_without_a_record_it_says_what_to_do(folder: Path) -> None:
    (folder / "raw.mib").unlink()
    scan = api.open_scan(folder)
    assert scan.record is None
    assert len(scan.images) == 3
    for call in (scan.process, scan.patterns):
        with pytest.raises(api.StemdError, match="holds no record"):
            call()
    (folder / "sum.tif").write_bytes(b"II*\0")
    with pytest.raises(api.StemdError, match=r"sum\.tif"):
        _ = api.open_scan(folder).images

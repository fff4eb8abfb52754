"""A record as the vendor's own files, read by HDF5's library and by stemd."""

from __future__ import annotations

from pathlib import Path

import h5py
import hdf5plugin  # noqa: F401 registers the filters
import numpy as np
import pytest
from rsciio.arina import file_reader as read_arina
from rsciio.nexus import file_reader as read_nexus

from stemd.acquisition import Scan
from stemd.adapters.dectris import hdf5
from stemd.adapters.dectris.compression import Algorithm
from stemd.adapters.files import open_recording
from stemd.cli.main import main
from tests.dectris.streams import SHAPE, Kind, frame, image, start

NUMBERS = (0, 1, 2, 4, 5, 6, 7)


@pytest.mark.parametrize("kind", ["cbor", "legacy"])
@pytest.mark.parametrize("algorithm", ["bslz4", "lz4", "none"])
def test_the_vendors_files_hold_every_image_and_the_mask(
    tmp_path: Path,
    kind: Kind,
    algorithm: Algorithm,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.setattr(hdf5, "IMAGES_PER_FILE", 5)
    record = tmp_path / "scan.dectris"
    record.write_bytes(b"".join(frame(n, kind=kind, algorithm=algorithm) for n in NUMBERS))
    mask = np.zeros(SHAPE, np.uint32)
    mask[1, 2] = 1
    (tmp_path / "scan.start").write_bytes(start(mask=mask, kind=kind))
    assert main(["export", str(record), "--out", str(tmp_path / "out")]) == 0
    master = tmp_path / "out" / "scan_master.h5"
    assert str(master) in capsys.readouterr().out
    with h5py.File(master) as file:
        data = [file[f"entry/data/data_{k:06d}"][...] for k in (1, 2)]
        np.testing.assert_array_equal(
            file["entry/instrument/detector/detectorSpecific/pixel_mask"], mask
        )
    images = np.concatenate(data)
    assert images.shape == (8, *SHAPE)
    assert np.all(images[3] == 65535)  # it did not come
    for number in NUMBERS:
        np.testing.assert_array_equal(images[number], image(number))
    assert not list(master.parent.glob("*.part"))
    recording = open_recording(master, Scan(shape=(2, 4)))
    assert recording.frames == 8
    assert recording.acquisition.detector.mask is not None
    recording.close()


def test_rosettasciio_reads_the_same_images(tmp_path: Path) -> None:
    """Its reader of ARINA's files takes square detectors only; it exchanges height and width."""
    record = tmp_path / "scan.dectris"
    record.write_bytes(b"".join(frame(n, shape=(16, 16)) for n in range(9)))
    assert main(["export", str(record), "--out", str(tmp_path)]) == 0
    expected = np.stack([image(n, "u2", (16, 16)) for n in range(9)])
    master = str(tmp_path / "scan_master.h5")
    (arina,) = read_arina(master)
    np.testing.assert_array_equal(arina["data"].reshape(expected.shape), expected)
    (nexus,) = read_nexus(master)
    np.testing.assert_array_equal(nexus["data"], expected)


def test_another_file_is_refused_in_words(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["export", "scan.mib", "--out", str(tmp_path)]) == 2
    assert "raw.dectris" in capsys.readouterr().err
    assert main(["export", "not-there.dectris", "--out", str(tmp_path)]) != 0
    assert "not-there" in capsys.readouterr().err

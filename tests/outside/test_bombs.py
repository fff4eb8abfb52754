"""Files that would take all memory, or read what their sender may not, are refused."""

from __future__ import annotations

import base64
import resource
import subprocess
import sys
import time
import zlib
from collections.abc import Callable
from pathlib import Path

import h5py
import numpy as np
import pytest
import tifffile

from stemd import api
from stemd.adapters.images import ImagesAdapter, ImagesSettings
from stemd.adapters.recordings.pictures import MAX_PIXELS, read_image
from stemd.cli.main import main
from stemd.errors import CameraError, FormatError, ModelError
from stemd.inference.model_file import read_model

MOST_MIB = 300
"""Resident memory that a refusal may take beside what there was."""


def _peak_mib() -> float:
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024


def _bomb(path: Path, shape: tuple[int, int], unpacked: int) -> None:
    """A TIFF file of one deflated strip that unpacks to so many zeros."""
    packer = zlib.compressobj(9)
    block = bytes(2**24)
    packed = b"".join(packer.compress(block) for _ in range(unpacked // len(block)))
    packed += packer.flush()
    tifffile.imwrite(
        path,
        iter([packed]),
        shape=shape,
        dtype=np.uint8,
        compression="deflate",
        rowsperstrip=shape[0],
    )


def _large(path: Path) -> None:
    _bomb(path, (15_000, 15_000), 2**24)


def _deflated(path: Path) -> None:
    _bomb(path, (2000, 2000), 2**30)


def _sparse(path: Path) -> None:
    with path.open("wb") as file:
        file.truncate(4 * 2**30)


@pytest.mark.parametrize(
    ("make", "words"),
    [(_large, "15000 x 15000 pixels"), (_deflated, "unpacks to more"), (_sparse, "4,294,967,296")],
)
def test_images_that_would_fill_the_memory_are_refused_by_their_size(
    make: Callable[[Path], None], words: str, tmp_path: Path
) -> None:
    path = tmp_path / "bomb.tif"
    make(path)
    before, began = _peak_mib(), time.monotonic()
    with pytest.raises(FormatError, match=words) as error:
        read_image(path)
    assert str(path) in error.value.message
    assert error.value.remedy
    with pytest.raises(FormatError, match=words):
        api.restore(path)
    assert _peak_mib() - before < MOST_MIB
    assert time.monotonic() - began < 20.0


@pytest.mark.parametrize("make", [_large, _deflated])
def test_a_restore_command_with_a_bomb_is_refused(
    make: Callable[[Path], None], tmp_path: Path
) -> None:
    path = tmp_path / "bomb.tif"
    make(path)
    text = base64.b64encode(path.read_bytes()).decode()
    before = _peak_mib()
    with pytest.raises(CameraError, match=r"args\.tiff"):
        ImagesAdapter(ImagesSettings()).command("restore", {"tiff": text})
    assert _peak_mib() - before < MOST_MIB


def test_an_image_of_usual_compression_is_read(tmp_path: Path) -> None:
    image = np.arange(300 * 200, dtype=np.uint16).reshape(300, 200)
    for kind in ("deflate", None):
        tifffile.imwrite(tmp_path / "a.tif", image, compression=kind, rowsperstrip=7)
        np.testing.assert_array_equal(read_image(tmp_path / "a.tif").pixels, image)
    assert MAX_PIXELS >= 8192 * 8192


def _secret(folder: Path) -> Path:
    path = folder / "secret.bin"
    path.write_bytes(bytes(range(256)) * 8)
    return path


def _external(path: Path, secret: Path) -> None:
    with h5py.File(path, "w") as file:
        shape = (2, 2, 16, 16)
        file.create_dataset("a", shape, np.uint8, external=[(str(secret), 0, 1024)])


def _virtual(path: Path, secret: Path) -> None:
    source = secret.with_name("other.h5")
    with h5py.File(source, "w") as file:
        file["a"] = np.ones((2, 2, 16, 16), np.uint8)
    layout = h5py.VirtualLayout((2, 2, 16, 16), np.uint8)
    layout[:] = h5py.VirtualSource(str(source), "a", (2, 2, 16, 16))
    with h5py.File(path, "w") as file:
        file.create_virtual_dataset("a", layout)


@pytest.mark.parametrize("make", [_external, _virtual])
def test_values_in_a_file_elsewhere_are_not_read(
    make: Callable[[Path, Path], None], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    for name in ("sent", "kept"):
        (tmp_path / name).mkdir()
    secret = _secret(tmp_path / "kept")
    path = tmp_path / "sent" / "a.h5"
    make(path, secret)
    assert main(["process", str(path), "--engine", "sum", "--out", str(tmp_path / "o")]) == 1
    told = capsys.readouterr().err
    assert "are in another file" in told
    assert str(secret.parent) in told
    assert not (tmp_path / "o").exists()


@pytest.mark.parametrize("make", [_external, _virtual])
def test_values_beside_a_recording_are_read(
    make: Callable[[Path, Path], None], tmp_path: Path
) -> None:
    make(tmp_path / "a.h5", _secret(tmp_path))
    path = tmp_path / "a.h5"
    assert main(["process", str(path), "--engine", "sum", "--out", str(tmp_path / "o")]) == 0


def test_a_chunk_of_gigabytes_is_refused(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path = tmp_path / "a.h5"
    with h5py.File(path, "w") as file:
        shape = (4, 4, 16384, 16384)
        file.create_dataset("a", shape, np.uint16, chunks=(1, 4, 16384, 16384), compression="gzip")
    assert main(["process", str(path), "--engine", "sum", "--out", str(tmp_path / "o")]) == 1
    assert "a pattern or chunk of /a has 2,147,483,648 bytes" in capsys.readouterr().err


def test_two_gigabytes_of_zeros_are_no_model_at_once(tmp_path: Path) -> None:
    path = tmp_path / "zeros.onnx"
    with path.open("wb") as file:
        file.truncate(2**31 - 1)
    before, began = _peak_mib(), time.monotonic()
    with pytest.raises(ModelError, match=r"zeros\.onnx: is not a complete ONNX model"):
        read_model(path)
    assert time.monotonic() - began < 2.0
    assert _peak_mib() - before < 50
    found = subprocess.run(
        [sys.executable, "-m", "stemd", "models", "check", str(path)],
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert found.returncode == 1
    assert "is not a complete ONNX model" in found.stderr

"""`stemd restore`: files, stacks and folders of images, without a daemon."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
import tifffile

from stemd.cli.main import main
from tests.inference import models


def image(seed: int, shift: int = 0) -> np.ndarray:
    y, x = np.mgrid[:72, :80]
    bright = 20.0 + 12.0 * np.cos(0.5 * (y + shift)) * np.cos(0.6 * x)
    bright += 30.0 * np.exp(-((y + shift - 30.0) ** 2 + (x - 44.0) ** 2) / 50.0)
    return np.random.default_rng(seed).poisson(np.maximum(bright, 0.0)).astype(np.uint16)


@pytest.fixture
def model(tmp_path: Path) -> str:
    folder = tmp_path / "model"
    folder.mkdir()
    return str(models.write(folder, models.box_blur(halo="4")))


def test_each_image_of_a_folder_gets_a_restored_one_with_a_picture_beside_it(
    tmp_path: Path, model: str, capsys: pytest.CaptureFixture[str]
) -> None:
    folder = tmp_path / "day"
    folder.mkdir()
    for n in (9, 10):
        tifffile.imwrite(folder / f"scan_{n}.tif", image(n))
    out = tmp_path / "out"
    code = main(["restore", str(folder), "--model", model, "--out", str(out), "--json"])
    assert code == 0
    documents = [json.loads(line) for line in capsys.readouterr().out.splitlines()]
    assert [Path(each["source"]).name for each in documents] == ["scan_9.tif", "scan_10.tif"]
    found = tifffile.imread(out / "scan_9" / "image_restored.tif")
    assert found.shape == (72, 80)
    assert found.mean() == pytest.approx(image(9).mean(), rel=1e-3)
    assert (tifffile.imread(out / "scan_9" / "image_uncertainty.tif") > 0).all()
    from matplotlib.image import imread

    picture = imread(out / "scan_9" / "image_restored.png")
    grey = picture[..., 0]
    times = grey.shape[0] // 72
    assert grey.shape == (72 * times, 80 * times)
    small = grey[: 40 * times : times, : 40 * times : times]  # beside the scale bar
    assert np.corrcoef(small.ravel(), found[:40, :40].ravel())[0, 1] > 0.98
    saved = json.loads((out / "scan_9" / "image_restored.json").read_text())
    assert saved["model"] == "tiny"
    assert 0.0 <= saved["departing"] <= 1.0


def test_frames_of_a_stack_are_summed_where_they_belong_and_then_restored(
    tmp_path: Path, model: str, capsys: pytest.CaptureFixture[str]
) -> None:
    path = tmp_path / "stack.tif"
    stack = np.stack([image(n, n % 2) for n in range(5)])
    tifffile.imwrite(
        path, stack, imagej=True, resolution=(50.0, 50.0), metadata={"unit": "nm", "axes": "TYX"}
    )
    out = tmp_path / "out"
    options = ["--frames", "align", "--frame-time-s", "0.5", "--out", str(out), "--no-png"]
    assert main(["restore", str(path), "--model", model, *options]) == 0
    said = capsys.readouterr().out
    assert "5 of 5 frames" in said
    assert "nm/s" in said
    document = json.loads((out / "stack" / "image_restored.json").read_text())
    shifts = np.array(document["shifts_px"])
    np.testing.assert_allclose(shifts[:, 0], [0, 1, 0, 1, 0], atol=0.3)
    total = tifffile.imread(out / "stack" / "image_sum.tif")
    assert total.mean() == pytest.approx(5 * stack.mean(), rel=0.05)
    assert document["pixel_size_angstrom"] == pytest.approx(0.2)
    assert not list((out / "stack").glob("*.png"))


def test_a_file_that_cannot_be_read_does_not_keep_the_others_from_being_restored(
    tmp_path: Path, model: str, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "broken.tif").write_bytes(b"II*\0nothing")
    tifffile.imwrite(tmp_path / "good.tif", image(1))
    files = [str(tmp_path / name) for name in ("broken.tif", "good.tif")]
    out = tmp_path / "out"
    assert main(["restore", *files, "--model", model, "--out", str(out)]) == 1
    assert "broken.tif" in capsys.readouterr().err
    assert (out / "good" / "image_restored.tif").exists()


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        (["nothing.txt"], "no image that can be restored"),
        ([".", "--threads", "0"], "--threads 0"),
        (["one.tif", "--frames", "align"], "only one image"),
        (["one.tif", "sub/one.tif"], "both be written"),
        (["sub/empty"], "a folder without images"),
        (["one.tif", "--backend", "abacus"], "abacus"),
        (["one.tif", "--model", "restorashun"], "restorashun"),
    ],
)
def test_what_cannot_be_done_is_said_in_words(
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    arguments: list[str],
    says: str,
) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "sub" / "empty").mkdir(parents=True)
    for path in ("one.tif", "sub/one.tif"):
        tifffile.imwrite(tmp_path / path, image(0))
    assert main(["restore", *arguments]) in (1, 2)
    assert says in capsys.readouterr().err

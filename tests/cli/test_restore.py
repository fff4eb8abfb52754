"""`stemd restore`: files, stacks and folders of images, without a daemon."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
import tifffile

from benchmarks.restoration.defects import titanate
from stemd.acquisition import Acquisition, Detector, Scan
from stemd.adapters.recordings.pictures import read_images
from stemd.adapters.recordings.scan_times import ScanTimes, of_digital_micrograph, of_velox
from stemd.cli.main import main
from stemd.engines.kernels.scan_distortions import sample
from stemd.engines.restoration.estimate.hum import Hum
from stemd.results import Result, Snapshot
from stemd.storage.tiff import write_tiff
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


def test_an_image_on_its_side_and_its_label_are_seen(
    tmp_path: Path, model: str, capsys: pytest.CaptureFixture[str]
) -> None:
    from stemd.engines.restoration.distortions import Distortions, Tail, distort

    rng = np.random.default_rng(78)
    truth = titanate(rng).electrons(2e4)
    seen = distort(truth, Distortions(tail=Tail("exponential", 1.5)), rng)
    seen[100:120, 40:90] = 7.0
    for name, pixels in (("upright", seen), ("lying", seen.T)):
        tifffile.imwrite(tmp_path / f"{name}.tif", np.ascontiguousarray(pixels, np.float32))
        arguments = ["restore", str(tmp_path / f"{name}.tif"), "--model", model]
        assert main([*arguments, "--out", str(tmp_path / "out")]) == 0
    shown = capsys.readouterr().err
    assert shown.count("ran along y") == 1
    assert shown.count("not recorded") == 2
    upright, lying = (
        tifffile.imread(tmp_path / "out" / name / "image_restored.tif")
        for name in ("upright", "lying")
    )
    np.testing.assert_allclose(lying, upright.T, rtol=1e-5)
    np.testing.assert_array_equal(upright[100:120, 40:90], 7.0)
    saved = json.loads((tmp_path / "out" / "lying" / "image_restored.json").read_text())
    assert saved["lines_along"] == "y"
    assert saved["blank"] == pytest.approx(1000 / seen.size, rel=0.01)
    # what is told is believed
    assert main([*arguments, "--lines", "x", "--out", str(tmp_path / "told")]) == 0
    saved = json.loads((tmp_path / "told" / "lying" / "image_restored.json").read_text())
    assert "lines_along" not in saved


def test_frames_on_their_side_drift_as_they_lie(tmp_path: Path, model: str) -> None:
    frames = np.stack([image(n, shift=n) for n in range(6)])
    documents = []
    for name, stack in (("upright", frames), ("lying", frames.transpose(0, 2, 1))):
        tifffile.imwrite(tmp_path / f"{name}.tif", np.ascontiguousarray(stack))
        arguments = ["restore", str(tmp_path / f"{name}.tif"), "--model", model, "--frames"]
        lines = {"upright": "x", "lying": "y"}[name]
        assert main([*arguments, "align", "--lines", lines, "--out", str(tmp_path / "out")]) == 0
        folder = tmp_path / "out" / name
        documents.append(json.loads((folder / "image_restored.json").read_text()))
        documents[-1]["shape"] = tifffile.imread(folder / "image_sum.tif").shape
    upright, lying = documents
    assert lying["drift_px_per_frame"] == upright["drift_px_per_frame"][::-1]
    assert lying["shifts_px"] == [shift[::-1] for shift in upright["shifts_px"]]
    assert lying["corner"] == upright["corner"][::-1]
    assert lying["shape"] == upright["shape"][::-1]


def test_a_label_that_does_not_drift_holds_no_frame_back(tmp_path: Path, model: str) -> None:
    frames = np.stack([image(n, shift=2 * n) for n in range(6)])
    drifts = {}
    for name in ("clean", "labelled"):
        if name == "labelled":
            frames[:, 4:14, 6:40] = 90
        tifffile.imwrite(tmp_path / f"{name}.tif", frames)
        arguments = ["restore", str(tmp_path / f"{name}.tif"), "--model", model, "--frames"]
        assert main([*arguments, "align", "--lines", "x", "--out", str(tmp_path / "out")]) == 0
        saved = json.loads((tmp_path / "out" / name / "image_restored.json").read_text())
        drifts[name] = np.array(saved["drift_px_per_frame"])
    assert saved["blank_in_frames"] == pytest.approx(340 / frames[0].size, rel=0.01)
    np.testing.assert_allclose(drifts["labelled"], drifts["clean"], atol=0.15)
    assert abs(drifts["clean"][0]) > 1.5


def test_mains_hum_is_undone_where_the_times_of_the_scan_are_known(
    tmp_path: Path, model: str, capsys: pytest.CaptureFixture[str]
) -> None:
    rng = np.random.default_rng(77)
    truth = titanate(rng).electrons(2e4)
    hum = Hum(np.array([0.4 + 0.0j, 0.8j]), 50.0 * np.array([2.6e-3, 1e-5]))
    seen = rng.poisson(sample(truth, *hum.shifts(truth.shape), True).clip(0.0)).astype(np.float32)
    path = tmp_path / "hum.tif"
    tifffile.imwrite(path, seen)
    out = ["--out", str(tmp_path / "out"), "--no-png", "--json", "--model", model]
    times = ["--dwell-time-us", "10", "--line-time-us", "2600"]
    found = []
    for told in ([], times, [*times[:3], "1920"]):
        assert main(["restore", str(path), *out, *told]) == 0
        found.append(json.loads(capsys.readouterr().out).get("hum_px"))
    assert found[0] is None
    assert found[1] == pytest.approx(0.63, rel=0.3)
    assert found[2] is None
    assert main(["restore", str(path), *out, *times[2:]]) == 2
    assert "--line-time-us needs --dwell-time-us" in capsys.readouterr().err


def test_times_are_read_from_the_files_of_microscopes(tmp_path: Path) -> None:
    digiscan = {"Sample Time": 16.0, "Flyback": 500.0, "Rotation": 0.0}
    tags = {"ImageList": {"TagGroup0": {"ImageTags": {"DigiScan": digiscan}}}}
    assert of_digital_micrograph(tags, 512) == ScanTimes(16e-6, pytest.approx(8.692e-3))
    assert of_digital_micrograph({"ImageList": {}}, 512) is None
    import h5py

    path = tmp_path / "velox.emd"
    about = {"Scan": {"DwellTime": "2e-06", "FrameTime": "0.5"}}
    with h5py.File(path, "w") as file:
        file["Version"] = json.dumps({"format": "Velox", "version": "1.0"})
        image = file.create_group("Data/Image/a1")
        image["Data"] = np.arange(64 * 80, dtype="u2").reshape(64, 80, 1)
        text = np.frombuffer(json.dumps(about).encode() + b"\0", np.uint8)
        image["Metadata"] = text[:, None]
    (picture,) = read_images(path)
    assert picture.times == ScanTimes(2e-6, 0.5 / 64)
    assert of_velox({"Scan": {"DwellTime": "2e-2", "FrameTime": "0.5"}}, 64) is None
    assert of_velox({}, 64) is None
    place = Scan(shape=(40, 50), flyback=6, dwell_time_us=20.0)
    own = Acquisition(place, Detector("x", (4, 4), "u2", 16))
    snapshot = Snapshot(own, (), 2000, 2000, True, 1, 1, 1)
    result = Result("adf", np.ones((40, 50), np.float32), "counts", "scan", 0.5)
    for scan, times in (
        (place, ScanTimes(pytest.approx(20e-6), pytest.approx(1.12e-3))),
        (None, None),
    ):
        told = {} if scan is None else {"scan": scan.model_dump(mode="json")}
        write_tiff(tmp_path / "adf.tif", result, snapshot, told)
        (picture,) = read_images(tmp_path / "adf.tif")
        assert picture.times == times
        assert picture.pixel_size_angstrom == pytest.approx(0.5)


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


def test_pixels_without_a_value_stay_without_one_and_are_counted(
    tmp_path: Path, model: str, capsys: pytest.CaptureFixture[str]
) -> None:
    holed = image(1).astype(np.float32)
    holed[20:22] = np.nan
    holed[40, 7] = np.inf
    path = tmp_path / "holed.tif"
    tifffile.imwrite(path, holed)
    assert main(["restore", str(path), "--model", model, "--out", str(tmp_path)]) == 0
    assert "pixels that are no finite numbers: 161; they stay so" in capsys.readouterr().err
    for name in ("restored", "uncertainty"):
        found = tifffile.imread(tmp_path / "holed" / f"image_{name}.tif")
        np.testing.assert_array_equal(np.isnan(found), ~np.isfinite(holed))


def test_frames_that_show_nothing_or_something_else_are_told(
    tmp_path: Path, model: str, capsys: pytest.CaptureFixture[str]
) -> None:
    other = np.flip(image(9), 0) + 5 * image(10)[:, ::-1]
    frames = np.stack([image(n) for n in range(4)] + [other, other[::-1]] * 2).astype(np.float32)
    frames[4:] = np.random.default_rng(2).poisson(frames[4])
    frames = np.insert(frames, 2, np.nan, axis=0)
    path = tmp_path / "frames.tif"
    tifffile.imwrite(path, frames)
    command = ["restore", str(path), "--model", model, "--out", str(tmp_path), "--frames", "align"]
    assert main(command) == 0
    said = capsys.readouterr().err
    assert "without a single finite value were left out: 2" in said
    document = json.loads((tmp_path / "frames" / "image_restored.json").read_text())
    assert document["two_kinds"]["second"] == [5, 6, 7, 8], "as they stand in the file, from 0"
    tifffile.imwrite(path, np.full((5, 72, 80), np.nan, np.float32))
    assert main(command) == 1
    assert f"{path}: no pixel is a finite number" in capsys.readouterr().err
    tifffile.imwrite(path, image(3).astype(np.float32) * 1e20)
    assert main(["restore", str(path), "--model", model, "--out", str(tmp_path)]) == 1
    assert "e+21 are more than 1e+12" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("factor", "said"), [(1e300, "values up to"), (1e-300, "all values are below 1e-45")]
)
def test_values_that_32_bits_do_not_hold_are_told(
    factor: float, said: str, tmp_path: Path, model: str, capsys: pytest.CaptureFixture[str]
) -> None:
    path = tmp_path / "frame.tif"
    tifffile.imwrite(path, image(3).astype(np.float64) * factor)
    assert main(["restore", str(path), "--model", model, "--out", str(tmp_path / "out")]) == 1
    err = capsys.readouterr().err
    assert f"{path}: {said}" in err
    assert "Warning" not in err
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize("amount", ["2e9", "1e-10"])
@pytest.mark.parametrize(
    "option", ["--pixel-size-angstrom", "--frame-time-s", "--dwell-time-us", "--line-time-us"]
)
def test_an_amount_that_no_microscope_has_is_refused(
    option: str, amount: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    tifffile.imwrite(tmp_path / "frame.tif", image(3))
    assert main(["restore", str(tmp_path / "frame.tif"), option, amount]) == 2
    assert f"{option} {float(amount):g} must be from 1e-09 to 1e+09" in capsys.readouterr().err


def test_frames_of_noise_are_added_as_they_come_and_said_to_be_so(
    tmp_path: Path, model: str, capsys: pytest.CaptureFixture[str]
) -> None:
    path = tmp_path / "noise.tif"
    tifffile.imwrite(path, np.random.default_rng(3).poisson(20.0, (6, 72, 80)).astype(np.float32))
    command = ["restore", str(path), "--model", model, "--out", str(tmp_path), "--frames", "align"]
    assert main(command) == 0
    captured = capsys.readouterr()
    assert "6 of 6 frames" in captured.out
    assert "the sum is not aligned" in captured.err


def test_a_stack_that_was_cut_off_is_refused_with_its_name(
    tmp_path: Path, model: str, capsys: pytest.CaptureFixture[str]
) -> None:
    path = tmp_path / "stack.tif"
    with tifffile.TiffWriter(path) as writer:
        for n in range(6):
            writer.write(image(n), contiguous=False)
    data = path.read_bytes()
    path.write_bytes(data[: len(data) // 2])
    assert main(["restore", str(path), "--model", model, "--out", str(tmp_path)]) == 1
    said = capsys.readouterr().err
    assert f"{path}: is cut off or damaged" in said
    assert "copy it again" in said

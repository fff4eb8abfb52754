"""`stemd.api` makes the images of `stemd process`, bit for bit, and tells what went wrong."""

from __future__ import annotations

import threading
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import tifffile

from stemd import api
from stemd.adapters.merlin.encoder import Camera, encode_frame
from stemd.cli.main import main
from tests.daemon.test_process import write_mib
from tests.engines import airpi_scenes
from tests.inference import models

Array = np.ndarray[Any, Any]
OPTICS = {"energy_ev": 300e3, "convergence_semi_angle_mrad": 20, "pixel_size_mrad": 3}


@pytest.fixture(scope="module")
def counts() -> Array:
    """480 patterns of a network's training scene in a quad-sized detector."""
    patterns = np.zeros((480, 256, 256), np.uint16)
    patterns[:, 90:154, 99:163] = airpi_scenes.random_patterns(480)
    return patterns


def by_command(path: Path, out: Path, *arguments: str) -> dict[str, Array]:
    assert main(["process", str(path), "--scan", "20x24", "--out", str(out), *arguments]) == 0
    return {file.stem: tifffile.imread(file) for file in (out / path.stem).glob("*.tif")}


def same(images: api.Images, wanted: dict[str, Array]) -> None:
    assert set(images) == set(wanted)
    for name, image in images.items():
        assert image.image.tobytes() == wanted[name].tobytes(), name


def test_every_engine_makes_what_the_command_makes(tmp_path: Path, counts: Array) -> None:
    model = airpi_scenes.write(tmp_path, airpi_scenes.reader())
    path = write_mib(tmp_path / "scan.mib", counts)
    optics = ",".join(f"{key}={value}" for key, value in OPTICS.items())
    engines = [
        *("com", "ricom:kernel_size=9,band_pass=[1,8]", "icom", "sum", "pacbed", "pattern"),
        "virtual_detector:detectors={bf=[0,20],adf=[22,60]}",
        *("ssb:regularisation=0.2", f"airpi:model={model},backend=onnxruntime"),
    ]
    arguments = [part for engine in engines for part in ("--engine", engine)]
    arguments += ["--optics", f"{optics},rotation_deg=7.5", "--step-size-angstrom", "0.2"]
    wanted = by_command(path, tmp_path / "out", *arguments)
    scan = {"shape": (20, 24), "step_size_angstrom": 0.2}
    turned = OPTICS | {"rotation_deg": 7.5}
    for data in (path, str(path), counts, counts.reshape(20, 24, 256, 256)):
        same(api.process(data, engines, scan=scan, optics=turned), wanted)

    asked: dict[str, Any] = {"scan": scan, "optics": turned}
    stack = counts.reshape(20, 24, 256, 256)
    alone = {
        **api.com(stack, **asked),
        "ricom": api.ricom(stack, kernel_size=9, band_pass=(1, 8), **asked),
        "icom": api.icom(path, **asked),
        **api.virtual_detectors(stack, {"bf": (0, 20), "adf": (22, 60)}, **asked),
        "ssb_phase": api.ssb(path, regularisation=0.2, **asked),
        **api.airpi(stack, model=model, backend="onnxruntime", **asked),
    }
    for name, image in alone.items():
        assert image.image.tobytes() == wanted[name].tobytes(), name
        assert image.name == name
    assert alone["ssb_phase"].units == "rad"
    assert alone["ricom"].pixel_size == 0.2


def test_saved_images_are_the_files_of_the_command(tmp_path: Path, counts: Array) -> None:
    path = write_mib(tmp_path / "scan.mib", counts)
    wanted = by_command(path, tmp_path / "out")
    images = api.process(path, scan=(20, 24))
    assert images.save(tmp_path / "saved") == tmp_path / "saved"
    found = {file.stem: tifffile.imread(file) for file in (tmp_path / "saved").glob("*.tif")}
    assert found.keys() == wanted.keys()
    for name, image in found.items():
        assert image.tobytes() == wanted[name].tobytes(), name
    one, other = (api.open_scan(folder) for folder in (tmp_path / "saved", tmp_path / "out/scan"))
    for key in ("status", "scan", "optics", "detector", "counters", "positions_done", "notes"):
        assert one.document[key] == other.document[key], key


def test_an_image_knows_its_calibration_and_cannot_be_changed(counts: Array) -> None:
    images = api.process(
        counts,
        ["sum", "pacbed"],
        scan={"shape": (20, 24), "step_size_angstrom": 0.5},
        optics=api.Optics(pixel_size_mrad=3.0),
    )
    image, pattern = images["sum"], images["pacbed"]
    assert (image.units, image.axes, image.pixel_size, image.pixel_units) == (
        "counts", "scan", 0.5, "angstrom",
    )  # fmt: skip
    assert image.extent == (-0.25, 11.75, 9.75, -0.25)
    assert (pattern.axes, pattern.pixel_size, pattern.pixel_units) == ("detector", 3.0, "mrad")
    assert image.shape == (20, 24)
    assert pattern.about is images.about
    assert images.about.detector_shape == (256, 256)
    with pytest.raises(ValueError, match="read-only"):
        image.image[0, 0] = 1
    changed = np.array(image)
    changed += 1
    np.testing.assert_array_equal(np.asarray(image, np.float64) + 1, changed)
    assert "20x24, counts, 0.5 angstrom/pixel" in repr(images)
    assert api.com(counts, scan=(20, 24))["com_x"].pixel_units == "px"


def test_a_name_that_is_not_there_lists_those_that_are(counts: Array) -> None:
    images = api.process(counts, ["sum"], scan=(20, 24))
    assert images.get("adf") is None
    with pytest.raises(KeyError, match="there are: sum"):
        images["adf"]


def test_missing_positions_are_counted_and_zero(tmp_path: Path, counts: Array) -> None:
    camera = Camera(shape=(256, 256))
    path = tmp_path / "scan.mib"
    frames = [encode_frame(p, camera, i + 1) for i, p in enumerate(counts) if not 3 <= i < 13]
    path.write_bytes(b"".join(frames))
    images = api.process(path, ["sum"], scan=(20, 24), jobs=2)
    assert (images.status, images.missing, images.positions_done) == ("incomplete", 10, 470)
    want = counts.sum((1, 2))
    want[3:13] = 0
    np.testing.assert_array_equal(images["sum"], want.reshape(20, 24))
    assert images.notices
    assert "10 of 480 positions missing" in repr(images["sum"])


def test_an_engine_that_fails_is_told_and_the_others_are_given(counts: Array) -> None:
    with pytest.warns(api.StemdWarning, match="engine ssb failed: optics.convergence"):
        images = api.process(counts, ["ssb", "sum"], scan=(20, 24))
    assert list(images) == ["sum"]
    assert "convergence_semi_angle_mrad" in images.failed["ssb"]
    with pytest.raises(KeyError, match="engine ssb failed"):
        images["ssb_phase"]
    for call in (
        lambda: api.ssb(counts, scan=(20, 24)),
        lambda: api.process(counts, ["ssb"], scan=(20, 24)),
    ):
        with pytest.raises(api.StemdError, match="convergence_semi_angle_mrad") as error:
            call()
        assert error.value.remedy.startswith("set optics.")


def test_probe_positions_are_corrected_as_by_the_command(tmp_path: Path, counts: Array) -> None:
    model = models.write(tmp_path, models.box_blur())
    engines = ["sum", f"restoration:input=sum,model={model}"]
    path = write_mib(tmp_path / "scan.mib", counts)
    arguments = [part for engine in engines for part in ("--engine", engine)]
    wanted = by_command(path, tmp_path / "out", *arguments, "--correct", "sum")
    same(api.process(path, engines, scan=(20, 24), correct="sum"), wanted)
    same(api.process(counts, engines, scan=(20, 24), correct=True), wanted)


def test_restore_makes_what_the_engine_makes(tmp_path: Path, counts: Array) -> None:
    model = str(models.write(tmp_path, models.box_blur()))
    images = api.process(
        counts,
        ["sum", {"type": "restoration", "input": "sum", "model": model}],
        scan={"shape": (20, 24), "step_size_angstrom": 0.3},
    )
    wanted = images["sum_restored"]
    found = api.restore(images["sum"], model=model)
    assert (found.name, found.units, found.pixel_size) == ("sum_restored", "counts", 0.3)
    assert found.image.tobytes() == wanted.image.tobytes()
    plain = api.restore(images["sum"].image.astype(np.float64), model=model)
    assert plain.name == "image_restored"
    assert plain.image.tobytes() == wanted.image.tobytes()
    tifffile.imwrite(tmp_path / "image.tif", np.asarray(images["sum"]))
    assert api.restore(tmp_path / "image.tif", model=model).image.tobytes() == plain.image.tobytes()


@pytest.mark.parametrize(
    ("bad", "says"),
    [
        (np.zeros((3, 5, 5)), "shape (3, 5, 5)"),
        (np.zeros((0, 5)), "shape (0, 5)"),
        (np.zeros((5, 5)) * 1j, "complex"),
        (np.full((5, 5), np.nan), "finite"),
        (np.full((5, 5), 1e300), "finite"),
        ([[1], [2, 3]], "not an array"),
        ("nowhere.tif", "nowhere.tif"),
    ],
)
def test_what_cannot_be_restored_is_refused(bad: Any, says: str) -> None:
    with pytest.raises(api.StemdError) as error:
        api.restore(bad)
    assert says in error.value.message
    assert error.value.remedy


def test_a_network_that_is_not_there_is_named() -> None:
    with pytest.raises(api.StemdError, match="no-such-network"):
        api.restore(np.ones((32, 32)), model="no-such-network")


@pytest.mark.parametrize("jobs", [1, 3])
def test_an_interrupt_ends_every_thread(counts: Array, jobs: int) -> None:
    began = threading.Event()

    def interrupted(done: int, total: int) -> None:
        began.set()
        raise KeyboardInterrupt

    slow = np.concatenate([counts] * 4)
    with pytest.raises(KeyboardInterrupt):
        api.process(slow, ["com"], scan=(80, 24), jobs=jobs, progress=interrupted)
    assert began.is_set()
    assert not [thread for thread in threading.enumerate() if thread.name.startswith("process-")]


def test_a_folder_of_a_scan_is_sent_to_open_scan(tmp_path: Path) -> None:
    (tmp_path / "scan.json").write_text("{}")
    with pytest.raises(api.StemdError, match="open_scan"):
        api.com(tmp_path)

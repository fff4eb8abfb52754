"""What a scan's data say of its optics, against the virtual microscope that made it."""

from __future__ import annotations

import re
import threading
import tracemalloc
from dataclasses import replace
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest

from stemd.aberrations import Aberrations
from stemd.acquisition import Optics, Scan
from stemd.beam import Beam
from stemd.engines.base import PositionMaps
from stemd.engines.bright_field import optics as bright_field_optics
from stemd.engines.bright_field.measuring import disc_found
from stemd.engines.lens.found import DiscFound
from stemd.engines.rotation import clear_turn
from stemd.engines.vectors import descan_of
from stemd.results import Snapshot
from stemd.scan.drift import Seen, drift_between
from stemd.scan.measured_optics import (
    NAMES,
    lines_measured,
    measured_optics,
    nothing_measured,
    other_than_told,
    said_by_data,
)
from stemd.scan.plain_optics import plain_rotation
from stemd.scan.run import ScanRun
from stemd.virtual.diffraction import Camera
from stemd.virtual.microscope import Microscope, Setup
from tests.conftest import an_acquisition, wait_until
from tests.engines.scenes import acquisition_of, blocks_of, engine, settings_of

SIDE, STEP = 36, 0.3
SMALL = Scan(shape=(20, 20), step_size_angstrom=STEP)
SETUP = Setup(
    Scan(shape=(SIDE, SIDE), step_size_angstrom=STEP),
    "mos2_twisted",
    beam=Beam(300e3, 20.0, 90.0),
    lens=Aberrations(astigmatism_x=18.0, astigmatism_y=-12.0),
    camera=Camera((32, 32), 2.5, 25.0, False, (0.6, -0.4), (0.0, 0.3)),
    dose=900.0,
)


def run_of(
    setup: Setup,
    scan: int = 0,
    engines: tuple[str, ...] = ("direct",),
    lines: int = SIDE,
    live: bool = False,
    **told: Any,
) -> ScanRun:
    """A finished scan of the microscope, with what is told of the optics."""
    microscope = Microscope(setup)
    frames = setup.scan.frames
    counts = np.concatenate(list(microscope.counts(scan, 0, frames, np.uint16)))
    optics = Optics(
        **{
            "energy_ev": 300e3, "convergence_semi_angle_mrad": 20.0, "pixel_size_mrad": 2.5,
            "rotation_deg": 25.0, **told,
        }
    )  # fmt: skip
    search = {"search_defocus_nm": 12.0, "search_astigmatism_nm": 3.0}
    choices = [
        engine(name, **({} if name in ("ricom", "icom", "com") else search)) for name in engines
    ]
    acquisition = acquisition_of(
        counts.astype(np.uint16), setup.scan.shape, step_size_angstrom=STEP
    )
    run = ScanRun(acquisition, settings_of(choices, optics), choices, live=live)
    counts = counts[: lines * setup.scan.shape[1]]
    for block in blocks_of(acquisition, counts.astype(np.uint16), (90, 31)):
        run.reduce(block)
    run.end("complete")
    run.snapshot(final=True)
    assert not run.failed
    return run


@pytest.fixture(scope="module")
def document() -> dict[str, Any]:
    found = measured_optics(run_of(SETUP, rotation_deg=0.0, center=(15.5, 15.5)))
    assert found is not None
    return found


def near(entry: dict[str, Any], truth: float, least: float) -> bool:
    return abs(entry["value"] - truth) < max(3.0 * entry["sigma"], least)


def test_the_lens_is_measured_with_its_errors(document):
    focus, round_ = document["defocus_nm"], document["astigmatism_nm"]
    assert near(focus, 9.0, 0.4)
    assert focus["sigma"] < 0.5
    assert focus["told"] == 0.0
    assert focus["agrees"] is False
    assert near(round_, np.hypot(1.8, 1.2), 0.3)
    assert round_["angle_deg"] == pytest.approx(-16.8, abs=5.0)
    assert document["quality"] > 0.9
    assert document["coma_nm"] is None or document["coma_nm"]["agrees"]


def test_the_camera_is_found_turned_and_the_disc_where_it_is(document):
    assert near(document["rotation_deg"], 25.0, 1.0)
    assert document["rotation_deg"]["agrees"] is False
    assert document["flip"]["agrees"] is True
    center = document["center"]
    assert center["value"] == pytest.approx([16.1, 15.1], abs=0.1)
    assert center["told"] == [15.5, 15.5]
    assert center["agrees"] is False
    assert near(document["convergence_semi_angle_mrad"], 20.0, 0.3)
    assert document["convergence_semi_angle_mrad"]["agrees"] is True
    said = other_than_told(document | {"usable": {}})
    assert said is not None
    assert "the disc at [16." in said.text
    assert other_than_told(document) is None, "what is usable is told by the engine"


UPRIGHT = replace(
    SETUP,
    beam=Beam(300e3, 20.0, 0.0),
    lens=Aberrations(),
    camera=Camera((32, 32), 2.5),
    dose=20_000.0,
)


@pytest.mark.parametrize(("specimen", "off"), [("mos2", 90.0), ("mos2_twisted", -90.0)])
def test_a_camera_told_a_quarter_of_a_turn_off_is_found_as_it_stands(specimen, off):
    run = run_of(replace(UPRIGHT, specimen=specimen), rotation_deg=off)
    found = measured_optics(run)
    assert found is not None
    assert near(found["rotation_deg"], 0.0, 1.0)
    assert found["rotation_deg"]["agrees"] is False
    said = next(each["text"] for each in run.notices if "a camera turned by" in each["text"])
    assert "defocus" not in said, "that is as it was told"


def test_a_camera_that_stands_in_one_of_two_ways_and_in_neither_as_told_is_said_to():
    """Of atoms that are not clearly bright nothing tells a camera that is turned by half a turn."""
    run = run_of(replace(UPRIGHT, specimen="srtio3"), rotation_deg=90.0)
    found = measured_optics(run)
    assert found is not None
    assert found["rotation_deg"] is None
    assert found["agrees"] is False
    said = next(each for each in run.notices if each["kind"] == "direct_camera_turned")
    assert re.search(r"by -?[0-2]\.\d or by -?1[78]\d\.\d degrees without flip", said["text"])
    right = run_of(replace(UPRIGHT, specimen="srtio3"), rotation_deg=0.0)
    assert not [each for each in right.notices if "turned" in each["text"]]


@pytest.mark.parametrize("specimen", ["srtio3", "mos2"])
def test_a_mirrored_camera_is_not_taken_for_one_that_is_turned(specimen):
    """A crystal's mirror image may be the crystal turned by another angle, less well explained."""
    mirrored = replace(UPRIGHT, specimen=specimen, dose=900.0)
    mirrored = replace(mirrored, camera=Camera((32, 32), 2.5, 67.0, True))
    run = run_of(mirrored, rotation_deg=0.0, flip=False)
    found = measured_optics(run)
    assert found is not None
    assert near(found["rotation_deg"], 67.0, 1.0)
    assert found["flip"]["value"] is True
    assert found["flip"]["agrees"] is False


def test_a_scan_that_goes_on_is_measured_and_says_that_it_is_not_the_whole():
    microscope = Microscope(SETUP)
    counts = np.concatenate(list(microscope.counts(0, 0, SIDE * SIDE, np.uint16)))
    optics = Optics(energy_ev=300e3, convergence_semi_angle_mrad=20.0, pixel_size_mrad=2.5,
                    rotation_deg=25.0)  # fmt: skip
    choice = engine("measured_optics", search_defocus_nm=12.0, search_astigmatism_nm=3.0)
    acquisition = acquisition_of(counts, (SIDE, SIDE), step_size_angstrom=STEP)
    run = ScanRun(acquisition, settings_of([choice], optics), [choice], live=True)
    blocks = list(blocks_of(acquisition, counts, (SIDE,)))
    try:
        for block in blocks[:-2]:
            run.reduce(block)
        flyback = np.full(SIDE, -1)
        (aside,) = blocks_of(acquisition, counts[:SIDE], (SIDE,), flyback)

        def measured() -> bool:
            run.reduce(aside)  # any block makes the engine look
            return lines_measured(run) > 0

        wait_until(measured, "the lines so far are measured", 60.0)
        so_far = measured_optics(run)
        assert so_far is not None
        assert so_far["preliminary"] is True
        assert 32 <= so_far["lines"] <= SIDE - 2
        assert near(so_far["defocus_nm"], 9.0, 0.4)
    finally:
        for block in blocks[-2:]:
            run.reduce(block)
        run.end("complete")
        run.serve(lambda snapshot: None, lambda: 10.0)
    assert not run.failed
    whole = measured_optics(run)
    assert whole is not None
    assert whole["preliminary"] is False
    assert whole["lines"] == SIDE


def test_a_tilted_detector_shows_in_the_disc():
    tilted = Camera((64, 64), 1.0, tilt_deg=25.0, tilt_to_deg=30.0)
    setup = replace(SETUP, scan=SMALL, specimen="vacuum", lens=Aberrations(), beam=Beam())

    def disc_of(camera: Camera) -> DiscFound:
        found = Microscope(replace(setup, camera=camera, dose=3e4))
        pattern = sum(part.sum(axis=0, dtype=np.int64) for part in found.counts(0, 0, 40))
        disc = disc_found(np.asarray(pattern), None)
        assert disc is not None
        return disc

    straight, oval = disc_of(replace(tilted, tilt_deg=0.0)), disc_of(tilted)
    assert straight.oval[0] < 3.0 * straight.oval_sigma < 0.03
    longer = 1.0 / np.cos(np.radians(25.0)) - 1.0
    assert oval.oval[0] == pytest.approx(longer, abs=0.015)
    assert oval.oval[1] == pytest.approx(30.0, abs=4.0)


def test_what_may_be_used_is_what_is_not_as_told(document):
    usable = document["usable"]
    assert {"defocus_nm", "astigmatism_nm", "rotation_deg"} <= usable.keys()
    assert "energy_ev" not in usable
    assert document["agrees"] is False
    run = run_of(SETUP, engines=("measured_optics",), **usable)
    assert run.snapshot(final=True).results == []
    again = measured_optics(run)
    assert again is not None
    assert again["defocus_nm"]["agrees"] is True
    assert again["rotation_deg"]["agrees"] is True
    assert again["usable"] == {}


def test_dose_and_descan_need_no_engine(document):
    run = run_of(SETUP, engines=("ricom",))
    plain = measured_optics(run)
    assert plain is not None
    assert plain["defocus_nm"] is None
    assert plain["engine"] is None
    assert plain["agrees"] is None, "nobody has looked at the lens"
    assert plain["dose_e_per_square_angstrom"]["value"] == pytest.approx(900 / STEP**2, rel=0.02)
    assert plain["masked_pixels"]["value"] == 0
    assert plain["drift_nm_per_s"] is None
    assert set(NAMES) <= plain.keys()


def test_a_wrong_centre_and_rotation_are_told_without_an_engine_that_measures():
    setup = replace(SETUP, beam=Beam(300e3, 20.0, 0.0), dose=20000.0)
    middle = (15.5 + 0.6, 15.5 - 0.4)
    well = measured_optics(run_of(setup, engines=("com",), center=middle))
    assert well is not None
    assert well["center"]["agrees"] is True
    assert well["rotation_deg"]["agrees"] is True
    assert well["rotation_deg"]["value"] == pytest.approx(25.0, abs=5.0)
    assert other_than_told(well) is None
    # half a turn cannot be told from the shifts
    turned = measured_optics(run_of(setup, engines=("com",), rotation_deg=-155.0))
    assert turned is not None
    assert turned["rotation_deg"]["agrees"] is True
    assert turned["center"] is None, "nobody has told one"
    wrong = measured_optics(
        run_of(setup, engines=("com",), center=(middle[0] + 3.0, middle[1]), rotation_deg=115.0)
    )
    assert wrong is not None
    assert wrong["agrees"] is False
    assert wrong["center"]["value"] == pytest.approx(middle, abs=0.2)
    said = other_than_told(wrong)
    assert said is not None
    assert "a camera that is turned by" in said.text
    assert "the disc at" in said.text


def test_the_rotation_of_a_large_scan_is_that_of_its_middle_and_takes_little_memory(monkeypatch):
    """Of 4096 x 4096 positions it took a gigabyte at the end of each scan."""
    monkeypatch.setattr("stemd.engines.vectors.FIELD_SIDE", 64)
    side = 512
    maps = PositionMaps(an_acquisition((side, side)))
    maps.done[:], maps.total[:] = True, 1000
    y, x = np.indices((side, side)) / 5.0
    # the slopes of atoms, seen by a camera that is turned by a quarter
    maps.moment_y[:] = (1000.0 * np.sin(x)).ravel()
    maps.moment_x[:] = (-1000.0 * np.sin(y)).ravel()
    run = SimpleNamespace(
        settings=SimpleNamespace(optics=Optics(center=(0.0, 0.0))), maps=maps,
        ended=threading.Event(), acquisition=an_acquisition((side, side)),
    )  # fmt: skip
    run.ended.set()
    tracemalloc.start()
    try:
        found = plain_rotation(run)
        taken = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    assert found is not None
    assert abs(found["value"]) == pytest.approx(90.0, abs=1.0)
    assert taken < 8 * side**2


def test_finished_images_are_published_before_anything_is_measured():
    """They waited for it: the last image of a scan came up to 0.5 s late on a busy computer."""
    run = run_of(SETUP, engines=("com",))
    published: list[Snapshot] = []
    final = run.serve(lambda snapshot: None, lambda: 1.0, published.append)
    (first,) = published
    assert first.final
    assert [each.name for each in first.results] == [each.name for each in final.results]
    assert run.images.early == {each.name for each in final.results}


def test_shifts_of_the_microscope_s_own_claim_no_rotation():
    """A pattern that is moved from line to line and along each line, and chance."""
    random = np.random.default_rng(4)
    for _ in range(20):
        y, x = (
            random.normal(0.0, 1.0, (64, 1)) + random.normal(0.0, 1.0, (1, 64)) + 0.1 * noise
            for noise in random.normal(0.0, 1.0, (2, 64, 64))
        )
        assert clear_turn(y, x, flip=False) is None


def test_nothing_is_measured_where_that_is_switched_off_or_nothing_has_come():
    assert measured_optics(run_of(SETUP, engines=("ricom",), measured="off")) is None
    empty = ScanRun(an_acquisition(), settings_of([], Optics()), [])
    assert measured_optics(empty) is None
    document = nothing_measured(empty)
    assert document["scan"] == empty.acquisition.id
    assert all(document[name] is None for name in NAMES)
    assert document["not_measured"] == "no position of the scan has counts"


@pytest.mark.parametrize("pixel_size_mrad", [1.25, 3.25])
def test_where_the_disc_has_another_size_than_told_no_lens_is_claimed(pixel_size_mrad):
    run = run_of(replace(SETUP, scan=SMALL), pixel_size_mrad=pixel_size_mrad)
    found = measured_optics(run)
    assert found is not None
    angle = 20.0 * pixel_size_mrad / 2.5
    assert found["convergence_semi_angle_mrad"]["value"] == pytest.approx(angle, rel=0.03)
    assert found["defocus_nm"] is None
    assert found["usable"] == {}
    said = other_than_told(found)
    assert said is not None
    assert "semi-angle of" in said.text
    assert "pixel size" in said.remedy
    assert "pixel size" in found["not_measured"]
    assert "dose" not in found["not_measured"]


def test_a_scan_whose_lens_there_was_no_time_to_measure_says_so(monkeypatch):
    monkeypatch.setitem(bright_field_optics._rest_until, "measured_optics", np.inf)
    run = run_of(replace(SETUP, scan=SMALL), engines=("measured_optics",), live=True)
    found = measured_optics(run)
    assert found is not None
    assert found["defocus_nm"] is None
    assert found["agrees"] is None
    (said,) = [n for n in run.notices if n["kind"] == "measured_optics_not_measured"]
    assert said["level"] == "info"
    assert "follow each other" in said["text"]
    assert "follow each other" in found["not_measured"]


def test_vacuum_claims_no_lens():
    found = measured_optics(run_of(replace(SETUP, scan=SMALL, specimen="vacuum")))
    assert found is not None
    assert found["defocus_nm"] is None
    assert found["rotation_deg"] is None
    assert found["usable"] == {}
    assert found["agrees"] is None
    assert found["convergence_semi_angle_mrad"]["agrees"] is True


def test_the_plane_of_the_centre_of_mass_is_found_beside_an_outlier():
    maps = PositionMaps(an_acquisition((24, 30)))
    y, x = np.indices((24, 30))
    maps.done[:] = True
    maps.total[:] = 1000
    plane_y, plane_x = 12.0 + 1.5 * (y / 23 - 0.5), 11.0 + 0.5 * (y / 23 - 0.5) - (x / 29 - 0.5)
    plane_y[:3, :3] += 40.0
    maps.moment_y[:] = np.rint(1000 * plane_y.ravel())
    maps.moment_x[:] = np.rint(1000 * plane_x.ravel())
    found = descan_of(maps)
    assert found is not None
    np.testing.assert_allclose(found.across, [[1.5, 0.0], [0.5, -1.0]], atol=0.01)
    assert found.middle == pytest.approx((12.0, 11.0), abs=0.01)
    assert descan_of(PositionMaps(an_acquisition((24, 30)))) is None


@pytest.mark.parametrize("lines", [36, 13])
def test_descan_is_taken_out_before_the_centre_of_mass_is_integrated(lines):
    def images(descan: tuple[float, float], **told: Any) -> dict[str, np.ndarray]:
        camera = Camera((32, 32), 2.5, 25.0, False, (0.0, 0.0), descan)
        setup = replace(SETUP, beam=Beam(), lens=Aberrations(), camera=camera, dose=1e5)
        run = run_of(setup, engines=("ricom", "icom", "com"), lines=lines, **told)
        results = run.snapshot(final=True).results
        return {each.name: each.image[:lines] for each in results}

    straight, wandering = images((0.0, 0.0)), images((2.5, -1.5))
    for name in ("ricom", "icom"):
        alike = np.corrcoef(straight[name].ravel(), wandering[name].ravel())[0, 1]
        assert alike > 0.98, name
    assert np.abs(wandering["com_y"] - straight["com_y"]).max() > 0.3  # told as it is
    given = images((2.5, -1.5), center=(15.5, 15.5))
    assert np.corrcoef(straight["icom"].ravel(), given["icom"].ravel())[0, 1] < 0.8


@pytest.mark.parametrize(
    ("across", "told"), [((1.6, -0.4), "by 1.6 pixels from"), ((0.3, 0.0), None)]
)
def test_a_disc_that_wanders_is_told(across: tuple[float, float], told: str | None) -> None:
    """Of the disc's 8 pixels a tenth is little."""
    camera = Camera((32, 32), 2.5, 25.0, False, (0.0, 0.0), across)
    run = run_of(replace(SETUP, camera=camera), engines=("com",))
    document = measured_optics(run)
    assert document is not None
    texts = [said.text for said in said_by_data(document, run.settings.optics)]
    assert told is None or any(told in text for text in texts), texts
    assert told is not None or not any("wanders" in text for text in texts), texts


def seen(field: np.ndarray, time_s: float) -> Seen:
    gradient = np.stack(np.gradient(field))
    return Seen(gradient, 0.03, time_s)


def test_drift_is_how_far_the_image_has_moved_and_a_crystal_says_nothing():
    rng = np.random.default_rng(2)
    k = np.fft.fftfreq(80)
    smooth = np.exp(-((k[:, None] ** 2 + k[None, :] ** 2) / 0.1**2))
    field = np.fft.ifft2(np.fft.fft2(rng.normal(size=(80, 80))) * smooth).real
    moved = np.roll(field, (3, -2), (0, 1))
    found = drift_between(seen(field[10:70, 10:70], 5.0), seen(moved[10:70, 10:70], 7.0))
    assert found is not None
    (y, x), sigma = found
    assert (y, x) == pytest.approx((3 * 0.03 / 2, -2 * 0.03 / 2), abs=3 * sigma)
    assert sigma < 0.01
    lattice = np.add.outer(np.cos(np.arange(60)), np.cos(np.arange(60)))
    assert drift_between(seen(lattice, 5.0), seen(lattice, 7.0)) is None
    assert drift_between(None, seen(lattice, 7.0)) is None

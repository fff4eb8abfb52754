"""AIRPI's finished image is held to the bright field, through the lens that the data have."""

from __future__ import annotations

import threading
import time
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from stemd.aberrations import Aberrations
from stemd.acquisition import Optics
from stemd.beam import Beam
from stemd.blocks import Notice
from stemd.engines.airpi.bright import HeldTo
from stemd.engines.airpi.object import ExitWaveObject
from stemd.engines.airpi.side_by_side import in_order, side_by_side
from stemd.engines.airpi.slopes import Frame
from stemd.engines.airpi.strong import Fitted, Strong
from stemd.engines.bright_field.engine import BrightFieldEngine
from stemd.engines.lens.found import LensFound
from stemd.engines.lens.measure import Measured, StoppedError
from stemd.results import Result
from stemd.scan.part import ScanPart
from stemd.scan.run import ScanRun
from tests.engines import weak_phase
from tests.engines.airpi_scenes import linear, write
from tests.engines.scenes import acquisition_of, blocks_of, engine, settings_of

BEAM = Beam(300e3, 20.0)
POSITIONS, FIELD, PER_ANGLE = 32, 8.0, 4
STEP = FIELD / POSITIONS
ELECTRONS = 2000.0
LENS = Aberrations(defocus=90.0, astigmatism_x=15.0)
OPTICS = Optics(
    energy_ev=BEAM.energy_ev, convergence_semi_angle_mrad=20.0, pixel_size_mrad=20.0 / PER_ANGLE,
    center=(2.0 * PER_ANGLE, 2.0 * PER_ANGLE),
)  # fmt: skip


@pytest.fixture(scope="module")
def nothing(tmp_path_factory: pytest.TempPathFactory) -> str:
    """A network that sees nothing: whatever is in the image comes from elsewhere."""
    return write(tmp_path_factory.mktemp("airpi"), linear(), "nothing")


@pytest.fixture(scope="module")
def truth() -> NDArray[np.float64]:
    return weak_phase.random_phase(64, POSITIONS, 0.1, 5, 12.0)


@pytest.fixture(scope="module")
def patterns(truth: NDArray[np.float64]) -> NDArray[np.uint16]:
    """Counts of a lens that nobody has told of."""
    shares = weak_phase.patterns(truth, FIELD, POSITIONS, BEAM, LENS, PER_ANGLE)
    side = shares.shape[2]
    rng = np.random.default_rng(3)
    return rng.poisson(shares * ELECTRONS).astype(np.uint16).reshape(-1, side, side)


def run_of(
    patterns: NDArray[Any],
    model: str,
    notices: list[Notice],
    live: bool = False,
    recorded: bool = False,
    **table: Any,
) -> ScanRun:
    acquisition = acquisition_of(patterns, (POSITIONS, POSITIONS), step_size_angstrom=STEP)
    own = {"backend": "onnxruntime", "repetition": 1, "use_centre_of_mass": False, **table}
    choices = [engine("airpi", model=model, **own)]
    run = ScanRun(
        acquisition, settings_of(choices, OPTICS), choices, notice=notices.append, live=live,
        recorded=lambda: recorded,
    )  # fmt: skip
    for block in blocks_of(acquisition, patterns, [50]):
        run.reduce(block)
    run.end("complete")
    return run


def results(run: ScanRun) -> dict[str, Result]:
    found = {result.name: result for result in run.snapshot(final=True).results}
    assert not run.failed
    return found


def at_positions(result: Result) -> NDArray[np.float64]:
    """The image at the scan's positions, by the nearest pixel."""
    assert result.pixel_size is not None
    place = np.rint(np.arange(POSITIONS) * STEP / result.pixel_size).astype(int)
    place = place + result.extra["origin"][0]
    return result.image[np.ix_(place, place)].astype(np.float64)


def on_scan(truth: NDArray[np.float64]) -> NDArray[np.float64]:
    return truth[:: truth.shape[0] // POSITIONS, :: truth.shape[0] // POSITIONS]


def test_what_the_network_does_not_see_comes_from_the_data_through_the_measured_lens(
    nothing: str, patterns: NDArray[np.uint16], truth: NDArray[np.float64]
) -> None:
    notices: list[Notice] = []
    found = results(run_of(patterns, nothing, notices))
    image, inner = found["airpi_phase"], np.s_[4:-4, 4:-4]
    seen, true = at_positions(image)[inner], on_scan(truth)[inner]
    assert np.corrcoef(seen.ravel(), true.ravel())[0, 1] > 0.8
    assert image.extra["held_to"]["lens"] == "measured"
    assert image.extra["held_to"]["network"] == 0.0, "it shows nothing, and is left out"
    assert image.extra["held_to"]["defocus_nm"] == pytest.approx(9.0, abs=1.5)
    uncertainty = found["airpi_uncertainty"]
    assert uncertainty.units == "rad"
    error = (seen - seen.mean()) - (true - true.mean())
    assert 0.5 < uncertainty.image.max() / error.std() < 2.0
    assert [notice.kind for notice in notices] == ["airpi_lens_disagrees"]


def test_beside_a_camera_the_image_does_not_wait_for_a_lens_that_takes_long(
    nothing: str, patterns: NDArray[np.uint16], monkeypatch: pytest.MonkeyPatch
) -> None:
    """What is told then, and that the record makes a better image."""
    for until_s, hurried in ((60.0, False), (0.0, True)):
        monkeypatch.setattr("stemd.engines.airpi.keeper.LENS_BY_S", until_s)
        monkeypatch.setattr("stemd.engines.airpi.keeper.LEAST_LENS_S", 0.0)
        notices: list[Notice] = []
        run = run_of(patterns, nothing, notices, live=True, when_slow="skip")
        final = run.serve(lambda snapshot: None, lambda: 100.0)
        found = {result.name: result for result in final.results}
        held = found["airpi_phase"].extra["held_to"]
        assert held["lens"] == ("told" if hurried else "measured")
        assert "airpi_uncertainty" in found
        kind = "airpi_hurried" if hurried else "airpi_lens_disagrees"
        assert [notice.kind for notice in notices] == [kind]
        assert run.lacking() == ({"airpi": POSITIONS**2} if hurried else {})


def test_the_lens_of_a_faint_specimen_is_looked_for_only_as_long_as_there_is_time(
    nothing: str, patterns: NDArray[np.uint16], monkeypatch: pytest.MonkeyPatch
) -> None:
    """That second search went on however late it was. What was told stands then, and the network
    has not been waited for: its lines are made in another thread."""
    at = Measured(LENS, np.zeros(7), 0.0, 0.0, np.zeros(4), 40.0, 0.0, lead=1.0)
    unsure = LensFound(Aberrations(), at, 0.0, False, 0.0, False, (LENS,))
    assert not unsure.sure
    threads: list[str] = []

    def search(*of: Any) -> Any:
        threads.append(threading.current_thread().name)
        while of[-1]():
            time.sleep(0.01)
        raise StoppedError

    monkeypatch.setattr("stemd.engines.airpi.bright.likely_lenses", search)
    monkeypatch.setattr("stemd.engines.airpi.keeper.LENS_BY_S", 0.5)
    monkeypatch.setattr("stemd.engines.airpi.keeper.LEAST_LENS_S", 0.0)
    monkeypatch.setattr(BrightFieldEngine, "_measure", lambda *of: None)
    monkeypatch.setattr(HeldTo, "lens_found", property(lambda of: unsure))
    monkeypatch.setattr(ExitWaveObject, "power_density", lambda of: np.ones(20))
    notices: list[Notice] = []
    run = run_of(patterns, nothing, notices, live=True, when_slow="skip")
    final = run.serve(lambda snapshot: None, lambda: 100.0)
    held = next(each for each in final.results if each.name == "airpi_phase").extra["held_to"]
    assert held["lens"] == "told"
    assert threads == ["airpi-take"]
    assert "airpi_hurried" in {notice.kind for notice in notices}
    assert run.lacking() == {"airpi": POSITIONS**2}, "the record makes what there was no time for"


def test_of_several_things_those_are_made_for_which_there_is_time() -> None:
    assert side_by_side(str, [3, 1, 2]) == side_by_side(str, [3, 1, 2], 2) == ["3", "1", "2"]
    assert side_by_side(str, [3, 1, 2], until=0.0) == ["3"]
    assert side_by_side(str, [3, 1, 2], 2, until=0.0) == ["3"]
    assert side_by_side(str, [], 2) == []
    with pytest.raises(ZeroDivisionError):
        side_by_side(lambda number: 1 // number, [1, 0], 2)
    assert list(in_order(str, range(50))) == list(in_order(str, range(50), 2))
    left = in_order(lambda number: 1 // number, [1, 0, 1], 2)
    assert next(left) == 1
    with pytest.raises(ZeroDivisionError):
        next(left)


@pytest.fixture
def seen(truth: NDArray[np.float64], monkeypatch: pytest.MonkeyPatch) -> NDArray[np.float32]:
    """The middle of the image, which a strong specimen's fit is said to have found."""
    middle = on_scan(truth)[8:-8, 8:-8].astype(np.float32)
    found = Strong(1.0, 1.0, middle, Frame(STEP, (8 * STEP, 8 * STEP)), 1.0, 1.0)
    monkeypatch.setattr("stemd.engines.airpi.finishing.strong", lambda *of: found)
    monkeypatch.setattr("stemd.engines.airpi.keeper.LENS_BY_S", 6000.0)
    return middle


def test_of_a_strong_specimen_the_record_makes_what_there_was_no_time_for(
    nothing: str,
    patterns: NDArray[np.uint16],
    seen: NDArray[np.float32],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Beside a camera the image is the nearest to what was fitted in the middle, and it is told."""
    notices: list[Notice] = []
    run = run_of(patterns, nothing, notices, live=True, when_slow="skip")
    live = {each.name: each for each in run.serve(lambda _: None, lambda: 100.0).results}
    held = live["airpi_phase"].extra["held_to"]
    assert (held["specimen"], held["fitted"]) == ("strong", 0.0)
    # the network shows nothing
    image = at_positions(live["airpi_phase"])[8:-8, 8:-8]
    assert np.corrcoef(image.ravel(), seen.ravel())[0, 1] > 0.9
    assert sorted(each.kind for each in notices) == ["airpi_lens_disagrees", "airpi_unfitted"]
    assert [each.level for each in notices if each.kind == "airpi_unfitted"] == ["warning"]
    assert run.lacking() == {"airpi": POSITIONS**2}
    shape = live["airpi_phase"].image.shape
    seen_by_cells = 0.5 * np.cos(2.0 * np.pi * np.arange(shape[0]) / 8.0)  # beyond: every other row
    made = np.tile((seen_by_cells + 0.5 * (-1.0) ** np.arange(shape[0]))[:, None], shape[1])
    monkeypatch.setattr(
        "stemd.engines.airpi.finishing.fitted",
        lambda image, *of: Fitted(
            made[: image.shape[0], : image.shape[1]].astype(np.float32),
            0.25,
            np.ones(image.shape, np.bool_),
        ),
    )
    notices.clear()
    whole = results(run_of(patterns, nothing, notices))
    image = whole["airpi_phase"].image
    known = image[image.any(axis=1)][:, image.any(axis=0)]
    spectrum = np.abs(np.fft.rfft(known[:32].mean(axis=1))) / 16.0
    assert spectrum[4] == pytest.approx(0.5, abs=0.05), "what cells see is the fitted one's"
    assert spectrum[16] < 0.02, "what is finer and what is coarse are the joined one's"
    assert known[: known.shape[0] // 8 * 8].reshape(-1, 8, known.shape[1]).mean(axis=1).std() > 5e-3
    error = whole["airpi_uncertainty"].image
    assert np.sqrt(np.mean(error[error > 0.0] ** 2)) == pytest.approx(0.25, rel=1e-3)
    assert [each.kind for each in notices] == ["airpi_lens_disagrees"]


@pytest.mark.usefixtures("seen")
@pytest.mark.parametrize(("complete", "level"), [(True, "info"), (False, "warning")])
def test_nobody_is_warned_of_what_the_record_makes_by_itself(
    nothing: str,
    patterns: NDArray[np.uint16],
    complete: bool,
    level: str,
) -> None:
    notices: list[Notice] = []
    run = run_of(patterns, nothing, notices, live=True, recorded=True, complete=complete)
    run.serve(lambda _: None, lambda: 100.0)
    levels = {each.kind: each.level for each in notices}
    assert levels["airpi_unfitted"] == level
    assert levels["airpi_lens_disagrees"] == "warning"
    told = [each for each in run.notices if each["kind"] == "airpi_unfitted"]
    assert [each["level"] for each in told] == [level]


def test_parts_of_a_scan_are_held_to_the_whole(nothing: str, patterns: NDArray[np.uint16]) -> None:
    whole = results(run_of(patterns, nothing, []))
    acquisition = acquisition_of(patterns, (POSITIONS, POSITIONS), step_size_angstrom=STEP)
    choices = [engine("airpi", model=nothing, backend="onnxruntime", repetition=1,
                      use_centre_of_mass=False)]  # fmt: skip
    settings = settings_of(choices, OPTICS)
    run = ScanRun(acquisition, settings, choices)
    for block in blocks_of(acquisition, patterns[:500], [50]):
        run.reduce(block)
    part = ScanPart(run)
    for block in blocks_of(acquisition, patterns[500:], [50], np.arange(500, len(patterns))):
        part.reduce(block)
    part.merge()
    run.end("complete")
    np.testing.assert_allclose(
        results(run)["airpi_phase"].image, whole["airpi_phase"].image, atol=1e-5
    )


def test_without_room_for_the_bright_field_the_image_is_made_and_it_is_told_once(
    nothing: str, patterns: NDArray[np.uint16]
) -> None:
    notices: list[Notice] = []
    found = results(run_of(patterns, nothing, notices, memory_mb=0.001))
    assert [notice.kind for notice in notices] == ["airpi_not_held"]
    assert "memory_mb" in notices[0].remedy
    assert "airpi_uncertainty" not in found
    assert not found["airpi_phase"].image.any()


def test_the_bright_field_is_left_out_where_it_is_not_wanted(
    nothing: str, patterns: NDArray[np.uint16], tmp_path: Path
) -> None:
    found = results(run_of(patterns, nothing, [], use_bright_field=False))
    assert set(found) == {"airpi_phase", "airpi_weight"}
    assert not found["airpi_phase"].image.any()


@pytest.mark.parametrize("shape", [(2, 2), (1, 7), (24, 8)])
def test_the_smallest_scans_have_an_image_too(
    nothing: str, patterns: NDArray[np.uint16], shape: tuple[int, int]
) -> None:
    few = patterns[: shape[0] * shape[1]]
    acquisition = acquisition_of(few, shape, step_size_angstrom=STEP)
    choices = [engine("airpi", model=nothing, backend="onnxruntime")]
    run = ScanRun(acquisition, settings_of(choices, OPTICS), choices)
    for block in blocks_of(acquisition, few, [3]):
        run.reduce(block)
    run.end("complete")
    assert np.isfinite(results(run)["airpi_phase"].image).all()

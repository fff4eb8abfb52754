"""AIRPI where the data are sure of no lens, and of specimens that no lens explains."""

from __future__ import annotations

from functools import partial

import numpy as np
import pytest
from numpy.typing import NDArray

from stemd.blocks import Notice
from stemd.engines.airpi import keeper
from stemd.engines.airpi import object as stemd_object
from stemd.engines.airpi.bright import HeldSettings
from stemd.scan.run import ScanRun
from tests.engines import test_airpi_held, test_direct, weak_phase
from tests.engines.airpi_scenes import linear, write
from tests.engines.scenes import acquisition_of, blocks_of, engine, settings_of
from tests.engines.test_direct_averaged import FAINT, NEAR

FOCUS = test_airpi_held.Aberrations()


@pytest.fixture(scope="module")
def nothing(tmp_path_factory: pytest.TempPathFactory) -> str:
    """A network that sees nothing: whatever is in the image comes from elsewhere."""
    return write(tmp_path_factory.mktemp("airpi"), linear(), "nothing")


@pytest.mark.parametrize("dark_field", [True, False])
def test_where_no_lens_is_sure_the_image_is_through_those_that_may_be_it(
    nothing: str, monkeypatch: pytest.MonkeyPatch, dark_field: bool
) -> None:
    """With what the specimen scatters out of the disc the lens is found, else there are several."""
    if not dark_field:
        monkeypatch.setattr(stemd_object, "power_density", lambda counts, known: None)

    side, step = test_direct.POSITIONS, test_direct.FIELD / test_direct.POSITIONS
    truth = weak_phase.random_phase(96, side, 0.05, 5, 16.0)
    shares = weak_phase.patterns(
        truth, test_direct.FIELD, side, test_direct.BEAM, test_direct.LENS, test_direct.PER_ANGLE
    )
    patterns = np.random.default_rng(1).poisson(shares * FAINT).astype(np.uint16)
    patterns = patterns.reshape(-1, *shares.shape[2:])
    monkeypatch.setattr(keeper, "HeldSettings", partial(HeldSettings, **NEAR))

    def likeness(measured: str) -> tuple[float, dict[str, object], list[str]]:
        acquisition = acquisition_of(patterns, (side, side), step_size_angstrom=step)
        optics = test_airpi_held.OPTICS.model_copy(update={"measured": measured})
        choices = [engine("airpi", model=nothing, backend="onnxruntime", repetition=1)]
        run = ScanRun(acquisition, settings_of(choices, optics), choices)
        for block in blocks_of(acquisition, patterns, [50]):
            run.reduce(block)
        run.end("complete")
        image = test_airpi_held.results(run)["airpi_phase"]
        assert image.pixel_size is not None
        place = np.rint(np.arange(side) * step / image.pixel_size).astype(int)
        place = place + image.extra["origin"][0]
        seen = image.image[np.ix_(place, place)].ravel()
        true = test_direct.on_scan(truth).ravel()
        kinds = [str(each["kind"]) for each in run.notices]
        return float(np.corrcoef(seen, true)[0, 1]), image.extra["held_to"], kinds

    told, _, said = likeness("off")
    assert "airpi_lens_unsure" not in said
    mean, held, said = likeness("report")
    assert said.count("airpi_lens_unsure") == 1
    assert mean > told + 0.2
    if dark_field:
        assert held["defocus_nm"] == pytest.approx(test_direct.LENS.defocus / 10.0, abs=2.0)
        return
    assert held["lens"] == "averaged"
    lenses = held["lenses"]
    assert isinstance(lenses, list)
    assert len(lenses) > 1
    assert sum(each["part"] for each in lenses) == pytest.approx(1.0, abs=0.01)


def columns(strength: float) -> NDArray[np.float64]:
    """A lattice of atom columns, (64, 64), radian at their middles."""
    pixel = np.arange(64) * test_airpi_held.FIELD / 64
    apart = np.minimum(pixel, test_airpi_held.FIELD - pixel)
    atom = np.exp(-0.5 * (np.hypot(*np.meshgrid(apart, apart, indexing="ij")) / 0.2) ** 2)
    lattice = np.zeros_like(atom)
    for row, y in enumerate(range(0, 64, 16)):
        for x in range(8 * (row % 2), 64, 16):
            lattice += np.roll(atom, (y, x), (0, 1))
    return strength * (lattice - lattice.mean())


@pytest.mark.parametrize(
    ("radian", "angstrom", "slices", "electrons", "told"),
    [(10.0, 100.0, 8, 2000.0, True), (1.0, 0.0, 1, 2000.0, False), (1.0, 0.0, 1, 5.0, False)],
)
def test_a_specimen_that_is_too_thick_is_told_once(
    nothing: str, radian: float, angstrom: float, slices: int, electrons: float, told: bool
) -> None:
    shares = weak_phase.patterns(
        columns(radian), test_airpi_held.FIELD, test_airpi_held.POSITIONS, test_airpi_held.BEAM,
        FOCUS, test_airpi_held.PER_ANGLE, angstrom, slices,
    )  # fmt: skip
    counts = np.random.default_rng(3).poisson(shares * electrons).astype(np.uint16)
    notices: list[Notice] = []
    run = test_airpi_held.run_of(counts.reshape(-1, *shares.shape[2:]), nothing, notices)
    for _ in range(2):
        run.snapshot(final=True)
    kinds = [notice.kind for notice in notices]
    assert kinds.count("airpi_thick") == told
    assert "airpi_doubt" not in kinds

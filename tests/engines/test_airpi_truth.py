"""AIRPI's final image, made by the network that ships, beside the specimen that was scanned."""

from __future__ import annotations

import numpy as np
import pytest
from numpy.typing import NDArray
from scipy import ndimage

from stemd.acquisition import Optics, Scan
from stemd.beam import Beam
from stemd.results import Result
from stemd.scan.run import ScanRun
from stemd.virtual.diffraction import Camera
from stemd.virtual.microscope import Microscope, Setup
from tests.engines.scenes import acquisition_of, blocks_of, engine, settings_of

F64 = NDArray[np.float64]

BEAM = Beam(300e3, 20.0)
SHAPE, STEP, PIXEL_MRAD, ELECTRONS = (48, 48), 0.35, 1.5, 2000.0
RIM = 1.0
"""Angstrom at the scan's border where positions have neighbours on one side only."""
COARSE = 8.0
"""Standard deviation in positions of the blur behind which an image is coarse."""


@pytest.fixture(scope="module")
def microscope() -> Microscope:
    """It has a film with a hole, a gold particle on it, and a dislocation."""
    scan = Scan(shape=SHAPE, step_size_angstrom=STEP)
    camera = Camera((64, 64), PIXEL_MRAD)
    return Microscope(Setup(scan, "nanoparticle", beam=BEAM, camera=camera, dose=ELECTRONS, seed=1))


@pytest.fixture(scope="module")
def images(microscope: Microscope) -> dict[str, Result]:
    """Those of the whole scan, without a camera that waits."""
    positions = SHAPE[0] * SHAPE[1]
    patterns = np.concatenate([part.copy() for part in microscope.counts(0, 0, positions)])
    acquisition = acquisition_of(patterns, SHAPE, step_size_angstrom=STEP)
    choices = [engine("airpi")]
    optics = Optics(
        energy_ev=BEAM.energy_ev, convergence_semi_angle_mrad=20.0, pixel_size_mrad=PIXEL_MRAD
    )
    run = ScanRun(acquisition, settings_of(choices, optics), choices)
    for block in blocks_of(acquisition, patterns, [SHAPE[1]]):
        run.reduce(block)
    run.end("complete")
    found = {result.name: result for result in run.snapshot(final=True).results}
    assert not run.failed
    return found


@pytest.fixture(scope="module")
def seen_and_true(images: dict[str, Result], microscope: Microscope) -> tuple[F64, F64]:
    """Image and true phase, radian, at the image's pixels within the scan.

    Both up to twice the semi-angle; no engine is asked for more.
    """
    result = images["airpi_phase"]
    pixel = result.pixel_size
    assert pixel is not None
    kept, places = inner_pixels(result)
    origin = places[0][0], places[1][0]
    shape = places[0].size, places[1].size
    potential = microscope.specimen.potential(origin, shape, pixel, 0.5 / pixel)
    true = BEAM.sigma * potential.astype(np.float64)
    return seen_by_cells(result.image[kept], pixel), seen_by_cells(true, pixel)


def inner_pixels(result: Result) -> tuple[tuple[NDArray[np.int64], ...], list[F64]]:
    """Pixels of an image without the scan's rim, and where they are in angstrom."""
    pixel = result.pixel_size
    assert pixel is not None
    places, kept = [], []
    for first, size, positions in zip(
        result.extra["origin"], result.image.shape, SHAPE, strict=True
    ):
        at = (np.arange(size) - first) * pixel
        inside = (at >= RIM) & (at <= (positions - 1) * STEP - RIM)
        places.append(at[inside])
        kept.append(np.flatnonzero(inside))
    return np.ix_(*kept), places


def seen_by_cells(image: NDArray[np.floating], pixel: float) -> F64:
    """Waves up to twice the semi-angle, of mean 0."""
    h, w = image.shape
    spectrum = np.fft.rfft2(np.pad(image, [(h, h), (w, w)], mode="symmetric"))
    frequency = np.hypot(
        np.fft.fftfreq(3 * h, pixel)[:, None], np.fft.rfftfreq(3 * w, pixel)[None, :]
    )
    spectrum[frequency > 2.0 * BEAM.aperture] = 0.0
    low = np.fft.irfft2(spectrum, (3 * h, 3 * w))[h : 2 * h, w : 2 * w]
    return np.asarray(low - low.mean(), np.float64)


def coarse(image: F64, pixel: float) -> F64:
    blurred = ndimage.gaussian_filter(image, COARSE * STEP / pixel, mode="reflect")
    return np.asarray(blurred - blurred.mean(), np.float64)


def alike(a: F64, b: F64) -> float:
    return float(np.corrcoef(a.ravel(), b.ravel())[0, 1])


def test_what_is_thicker_is_brighter(
    images: dict[str, Result], seen_and_true: tuple[F64, F64]
) -> None:
    """A hole had been brighter than the crystal about it, and the whole image still right by 0.93.

    The specimen is a strong one: its fine structure is fitted to the counts in tiles.
    """
    result = images["airpi_phase"]
    assert result.pixel_size is not None
    assert result.extra["held_to"]["specimen"] == "strong"
    seen, true = (coarse(image, result.pixel_size) for image in seen_and_true)
    assert alike(seen, true) > 0.95
    assert 0.7 < np.polyfit(true.ravel(), seen.ravel(), 1)[0] < 1.2


def test_the_atoms_are_where_they_are_and_as_strong(
    images: dict[str, Result], seen_and_true: tuple[F64, F64]
) -> None:
    pixel = images["airpi_phase"].pixel_size
    assert pixel is not None
    seen, true = (image - coarse(image, pixel) for image in seen_and_true)
    assert alike(seen, true) > 0.975  # joined with the linear estimate, and not fitted, 0.971
    assert 0.85 < np.polyfit(true.ravel(), seen.ravel(), 1)[0] < 1.1


def test_the_uncertainty_holds_for_all_of_it(
    images: dict[str, Result], seen_and_true: tuple[F64, F64]
) -> None:
    """It is larger where the phase is: atoms are what is not known exactly."""
    seen, true = seen_and_true
    phase, sigma = (images[f"airpi_{name}"] for name in ("phase", "uncertainty"))
    kept, _ = inner_pixels(phase)
    error = sigma.image[kept]
    within = np.abs(seen - true) < error
    assert 0.55 < within.mean() < 0.9
    strong = np.abs(phase.image[kept])
    bright = strong > np.quantile(strong, 0.9)
    assert error[bright].mean() > 1.2 * error[~bright].mean()
    assert 0.0 < error.min() <= error.max() < np.pi / np.sqrt(3.0) + 1e-6

"""SSB against the equation written out, a weak phase object, other cuts, and its limits."""

from __future__ import annotations

import math
import threading
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from stemd.acquisition import Acquisition, Detector, Optics, Scan
from stemd.beam import Beam
from stemd.blocks import Buffer, EventBlock, Notice
from stemd.engines.base import PositionMaps, SlowEngine, SpreadEngine
from stemd.engines.bright_field.discs import BrightField
from stemd.engines.bright_field.lattice import Lattice
from stemd.engines.ssb.engine import PLUGIN, SsbEngine, SsbSettings
from stemd.errors import StemdError
from stemd.scan.part import ScanPart
from stemd.scan.run import ScanRun
from tests.engines.scenes import acquisition_of, blocks_of, engine, settings_of

F64 = NDArray[np.float64]
BEAM = Beam(300e3, 20.0)
SIDE = 32
STEP = 0.25
CENTER = (14.0, 17.0)
DISC_PX = 6.3
"""Detector pixels a semi-angle: the pixel is 1 / (SIDE * STEP) and the aperture so many of it."""


def until(true: Callable[[], bool]) -> None:
    """Wait until it is so."""
    for _ in range(6000):
        if true():
            return
        threading.Event().wait(0.01)
    raise AssertionError("it never came to that")


def beam(defocus: float = 0.0, cs_mm: float = 0.0) -> Beam:
    alpha = DISC_PX / (SIDE * STEP) * BEAM.wavelength * 1e3
    return Beam(300e3, alpha, defocus, cs_mm)


def optics(**changed: Any) -> Optics:
    alpha = beam().convergence_semi_angle_mrad
    return Optics(
        energy_ev=300e3, convergence_semi_angle_mrad=alpha, pixel_size_mrad=alpha / DISC_PX
    ).model_copy(update={"center": CENTER, **changed})


def weak_phase() -> F64:
    """A smooth random phase of 0.01 radian without frequencies beyond 1.7 semi-angles."""
    k = np.fft.fftfreq(SIDE) * SIDE
    noise = np.fft.fft2(np.random.default_rng(5).normal(size=(SIDE, SIDE)))
    radius = np.hypot(k[:, None], k[None, :])
    kept = np.where((radius < 1.7 * DISC_PX) & (radius > 0), noise, 0.0)
    phase = np.fft.ifft2(kept).real
    return np.asarray(0.01 * phase / phase.std())


def patterns_of(phase: F64, lens: Beam, flip: bool = False) -> NDArray[np.uint32]:
    """4D scan of a phase object, a position each of its pixels, big counts and no noise."""
    k = np.fft.fftfreq(SIDE, STEP)
    wave = lens.radial_wave(np.hypot(k[:, None], k[None, :]), 1e-9)
    through = np.exp(1j * phase)
    rows = []
    for y in range(SIDE):
        for x in range(SIDE):
            ramp = np.exp(-2j * math.pi * STEP * (k[:, None] * y + k[None, :] * x))
            seen = np.fft.fft2(np.fft.ifft2(wave * ramp) * through)
            rows.append(np.abs(seen) ** 2)
    whole = np.roll(np.stack(rows), (int(CENTER[0]), int(CENTER[1])), (1, 2))
    if flip:  # the camera sees y and x exchanged about the centre
        whole = np.roll(np.stack(rows), (int(CENTER[1]), int(CENTER[0])), (1, 2))
        whole = whole.transpose(0, 2, 1)
    return np.ascontiguousarray(np.rint(whole * 1e6)).astype("<u4")


def image_of(
    patterns: NDArray[Any], shape: tuple[int, int], where: Optics, jobs: int = 1, **own: Any
) -> NDArray[np.float32]:
    """The finished image; with several jobs the scan is cut into as many parts."""
    choice = engine("ssb", **own)
    acquisition = acquisition_of(patterns, shape, step_size_angstrom=STEP)
    run = ScanRun(acquisition, settings_of([choice], where), [choice])
    parts = [ScanPart(run) for _ in range(jobs - 1)]
    for number, block in enumerate(blocks_of(acquisition, patterns, (3, 1, 4))):
        goal = ([run, *parts])[number * jobs * 2 // len(patterns) % jobs]
        goal.reduce(block)
    for part in parts:
        part.merge()
    run.end("complete")
    final = run.snapshot(final=True)
    assert not run.failed
    (result,) = final.results
    assert (result.name, result.units, result.axes) == ("ssb_phase", "rad", "scan")
    return result.image


def written_out(
    patterns: NDArray[Any], shape: tuple[int, int], lens: Beam, regularisation: float
) -> F64:
    """The sum over the aperture's pixels at all Q of the whole plane, as the papers have it."""
    ny, nx = shape
    data = patterns.reshape(ny, nx, *patterns.shape[1:]).astype(float)
    rows, columns = np.indices(patterns.shape[1:])
    ky, kx = (rows - CENTER[0]) / DISC_PX, (columns - CENTER[1]) / DISC_PX
    qy = np.fft.fftfreq(ny, STEP)[:, None] / lens.aperture
    qx = np.fft.fftfreq(nx, STEP)[None, :] / lens.aperture
    disc = np.argwhere(np.hypot(ky, kx) < 1.0)
    sums = {1: np.zeros(shape, complex), -1: np.zeros(shape, complex)}
    number = np.zeros(shape)
    wave = lambda k: np.exp(-1j * lens.aberration(k * lens.aperture))  # noqa: E731
    for i, j in disc:
        y, x = ky[i, j], kx[i, j]
        seen = np.fft.fft2(data[:, :, i, j])
        for sign in (1, -1):
            near = np.hypot(y - sign * qy, x - sign * qx)
            far = np.hypot(y + sign * qy, x + sign * qx)
            band = (near < 1) & (far >= 1)
            number += band
            overlap = np.conj(wave(np.hypot(y, x))) * wave(near)
            if sign < 0:
                overlap = np.conj(overlap)
            sums[sign] += np.where(band, seen * np.conj(overlap), 0.0)
    spectrum = (sums[1] - sums[-1]) / 1j
    weight = number + 2 * regularisation * len(disc)
    spectrum = np.divide(spectrum, weight, out=np.zeros_like(spectrum), where=weight > 0)
    counts = data[:, :, disc[:, 0], disc[:, 1]].mean()
    return np.asarray(np.fft.ifft2(spectrum).real / counts)


@pytest.mark.parametrize("regularisation", [0.0, 0.2])
@pytest.mark.parametrize("defocus", [0.0, 40.0])
def test_it_is_the_sum_over_the_side_bands_written_out(
    regularisation: float, defocus: float
) -> None:
    patterns = np.random.default_rng(1).poisson(3.0, (12 * 17, 32, 36)).astype(">u2")
    lens = beam(defocus, 0.002)
    image = image_of(
        patterns, (12, 17), optics(defocus_nm=defocus / 10, cs_mm=0.002),
        regularisation=regularisation, pixels_per_angle=8,
    )  # fmt: skip
    expected = written_out(patterns, (12, 17), lens, regularisation)
    np.testing.assert_allclose(image, expected, atol=2e-5 * np.abs(expected).max())


@pytest.mark.parametrize("defocus", [0.0, 60.0])
def test_a_weak_phase_object_comes_out_in_radian_bright_where_its_phase_is_high(
    defocus: float,
) -> None:
    phase = weak_phase()
    patterns = patterns_of(phase, beam(defocus))
    seen = optics(defocus_nm=defocus / 10)
    image = image_of(patterns, phase.shape, seen, regularisation=0.0)
    assert np.abs(image - phase).max() < 0.03 * np.abs(phase).max()


def test_flip_and_rotation_are_taken_out() -> None:
    phase = weak_phase()
    straight = image_of(patterns_of(phase, beam()), phase.shape, optics(), regularisation=0.0)
    flipped = patterns_of(phase, beam(), flip=True)
    image = image_of(flipped, phase.shape, optics(flip=True), regularisation=0.0)
    np.testing.assert_allclose(image, straight, atol=1e-6)
    # a camera turned so that a shift to the right of the scan is a shift up on it
    turned = patterns_of(phase, beam())
    about = np.rot90(turned, 1, (1, 2)).copy()
    middle = (SIDE - 1 - CENTER[1], CENTER[0])
    image = image_of(about, phase.shape, optics(rotation_deg=-90.0, center=middle),
                     regularisation=0.0)  # fmt: skip
    np.testing.assert_allclose(image, straight, atol=1e-6)


@given(seed=st.integers(0, 100), jobs=st.integers(2, 5), center=st.sampled_from(["auto", CENTER]))
@settings(deadline=None, max_examples=15)
def test_any_cut_into_parts_gives_the_same_image(seed: int, jobs: int, center: Any) -> None:
    rng = np.random.default_rng(seed)
    mean = 400.0 * np.exp(-np.hypot(*(np.indices((32, 36)).T - np.array(CENTER)).T) / 3.0)
    patterns = rng.poisson(mean * 0.05, (120, 32, 36)).astype("<u2")
    patterns[70:] *= 9  # some parts need wider integers than others
    whole = image_of(patterns, (10, 12), optics(center=center))
    parts = image_of(patterns, (10, 12), optics(center=center), jobs=jobs)
    np.testing.assert_array_equal(whole, parts)
    assert whole.std() > 0


def test_what_was_gathered_elsewhere_gives_the_same_image() -> None:
    patterns = np.random.default_rng(3).poisson(90.0, (64, 30, 30)).astype("<u2")
    acquisition = acquisition_of(patterns, (8, 8), step_size_angstrom=STEP)
    where = settings_of([], optics(center=(14.5, 14.5)))
    maps = PositionMaps(acquisition)
    maps.total[:], maps.done[:] = patterns.sum(axis=(1, 2)), True
    blocks = list(blocks_of(acquisition, patterns, (8,)))

    def made() -> SsbEngine:
        one = SsbEngine(SsbSettings())
        assert isinstance(one, SpreadEngine)
        assert isinstance(one, SlowEngine)
        one.start(acquisition, where, maps)
        return one

    whole, total = made(), made()
    for block in blocks:
        whole.consume(block)
    for some in (blocks[5:], blocks[:3], blocks[3:5]):
        part = made()
        for block in some:
            part.consume(block)
        back = made()
        back.restore(part.gathered())
        total.merge(back)
    total.merge(made())  # a part in which nothing was seen
    (expected,), (image,) = whole.snapshot(final=True), total.snapshot(final=True)
    np.testing.assert_array_equal(image.image, expected.image)


def test_events_give_what_their_frames_give() -> None:
    rng = np.random.default_rng(2)
    shape, detector = (9, 7), (32, 36)
    patterns = rng.poisson(0.4, (63, *detector)).astype("<u2")
    patterns[5, 14, 17] = 700  # more than one byte holds
    frames = image_of(patterns, shape, optics())
    probe, y, x = (np.repeat(part, patterns[patterns > 0]) for part in np.nonzero(patterns))
    order = np.argsort(probe + rng.uniform(0, 3.0, probe.size))
    probe, yx = probe[order], (y[order] << 16 | x[order]).astype(np.uint32)
    choice = engine("ssb")
    where = Acquisition(
        Scan(shape=shape, step_size_angstrom=STEP), Detector("events", detector, "u1", 1)
    )
    run = ScanRun(where, settings_of([choice], optics()), [choice])
    for some in np.array_split(np.arange(probe.size), 6):
        runs = [(0, 63)] if some[-1] == probe.size - 1 else []
        run.reduce(EventBlock(where, probe[some].astype(np.int32), yx[some],
                              np.zeros(some.size, np.float32), some.size,
                              np.zeros(4, np.uint8), 1, runs))  # fmt: skip
    run.end("complete")
    (result,) = run.snapshot(final=True).results
    np.testing.assert_array_equal(result.image, frames)


@pytest.mark.parametrize(
    ("missing", "key"),
    [
        ({"energy_ev": None}, "optics.energy_ev"),
        ({"convergence_semi_angle_mrad": None}, "optics.convergence_semi_angle_mrad"),
        ({"pixel_size_mrad": None}, "optics.pixel_size_mrad"),
        ({}, "scan.step_size_angstrom"),
    ],
)
def test_what_is_missing_is_told_once_and_the_other_engines_go_on(
    missing: dict[str, None], key: str
) -> None:
    patterns = np.ones((16, 32, 36), "<u2")
    step = STEP if missing else None
    acquisition = acquisition_of(patterns, (4, 4), step_size_angstrom=step)
    engines = [engine("ssb"), engine("sum")]
    told: list[StemdError] = []
    run = ScanRun(acquisition, settings_of(engines, optics(**missing)), engines,
                  report=lambda name, error: told.append(error))  # fmt: skip
    for block in blocks_of(acquisition, patterns, (4,)):
        run.reduce(block)
    run.end("complete")
    assert [result.name for result in run.snapshot(final=True).results] == ["sum"]
    assert len(told) == 1
    assert key in told[0].message
    assert key.split(".")[1] in told[0].remedy


def test_memory_is_bounded_by_coarser_cells_and_then_by_an_error() -> None:
    patterns = np.ones((4, 64, 64), "<u2")
    acquisition = acquisition_of(patterns, (256, 256), step_size_angstrom=STEP)
    where = optics(pixel_size_mrad=beam().convergence_semi_angle_mrad / 24, center=(31.5, 31.5))

    def started(memory_mb: float) -> SsbEngine:
        choice = engine("ssb", memory_mb=memory_mb)
        one = PLUGIN.build(choice.settings)
        one.start(acquisition, settings_of([choice], where), PositionMaps(acquisition))
        return one  # type: ignore[no-any-return]

    fine, coarse = started(100.0), started(12.0)
    assert fine._kept.lattice.bin == 3
    assert coarse._kept.lattice.bin > 3
    assert 256 * 256 * coarse._kept.lattice.cells * 2 <= 12e6
    with pytest.raises(StemdError, match="memory_mb"):
        started(1.0)


def test_counts_that_outgrow_the_memory_are_an_error_and_never_cut() -> None:
    lattice = Lattice(1, 4)
    patterns = np.full((2048, 9, 9), 250, "<u4")
    acquisition = acquisition_of(patterns, (32, 64), step_size_angstrom=STEP)
    kept = BrightField(lattice, (9, 9), 2048, 2048 * lattice.cells * 2)
    kept.place((4.0, 4.0))
    (block,) = blocks_of(acquisition, patterns, (2048,))
    kept.add(block, 0.0)
    assert kept.bytes == 2048 * lattice.cells
    kept.add(block, 0.0)
    assert kept.bytes == 2048 * lattice.cells * 2
    np.testing.assert_array_equal(kept.images(slice(0, 3), 2048), 500.0)
    (bright,) = blocks_of(acquisition, patterns * 1000, (2048,))
    with pytest.raises(StemdError, match="memory_mb"):
        kept.add(bright, 0.0)


def test_beside_a_camera_it_appears_while_the_scan_runs_and_ends_as_without_one() -> None:
    phase = weak_phase()
    patterns = patterns_of(phase, beam())
    expected = image_of(patterns, phase.shape, optics())
    choice = engine("ssb")
    acquisition = acquisition_of(patterns, phase.shape, step_size_angstrom=STEP)
    run = ScanRun(acquisition, settings_of([choice], optics()), [choice], live=True)
    blocks = list(blocks_of(acquisition, patterns, (SIDE,)))
    for block in blocks[:24]:
        run.reduce(block)
    until(lambda: bool(run.snapshot(final=False).results))
    seen = run.snapshot(final=False).results
    assert seen[0].image[:16].std() > 0
    assert not seen[0].image[24:].any()
    for block in blocks[24:]:
        run.reduce(block)
    run.end("complete")
    final = run.serve(lambda snapshot: None, lambda: 100.0)
    assert not run.failed
    np.testing.assert_array_equal(final.results[0].image, expected)


class _Gate:
    """Holds up whoever puts patterns into the store, until it is opened."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.entered, self.open = threading.Event(), threading.Event()
        add = BrightField.add

        def gated(kept: BrightField, block: Any, acceptance_ns: float) -> None:
            self.entered.set()
            assert self.open.wait(60.0)
            add(kept, block, acceptance_ns)

        monkeypatch.setattr(BrightField, "add", gated)


def held_up(
    patterns: NDArray[Any], shape: tuple[int, int], gate: _Gate, **more: Any
) -> tuple[ScanRun, list[Buffer]]:
    """A live scan of which everything was given to an engine that hangs."""
    choices = [engine("ssb"), engine("ricom", kernel_size=5)]
    acquisition = acquisition_of(patterns, shape, step_size_angstrom=STEP)
    run = ScanRun(acquisition, settings_of(choices, optics()), choices, live=True, **more)
    users: list[Buffer] = []
    for block in blocks_of(acquisition, patterns, [SIDE]):
        block.buffer = Buffer(None, 0, 0, 0)
        block.buffer.retain()
        users.append(block.buffer)
        run.reduce(block)  # returns though nothing is taken in
        block.release()
    assert gate.entered.wait(60.0)
    assert not gate.open.is_set()
    return run, users


def test_a_slow_ssb_never_holds_the_reader_up_and_says_what_it_leaves_out(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    phase = weak_phase()
    patterns = patterns_of(phase, beam())
    line = SIDE * patterns[0].nbytes
    monkeypatch.setattr(
        "stemd.engines.beside.block_queue.BlockQueue.__init__.__defaults__", (8 * line, 12 * line)
    )
    monkeypatch.setattr("stemd.engines.bright_field.optics._rest_until", {})
    gate, told = _Gate(monkeypatch), list[Notice]()
    run, users = held_up(patterns, phase.shape, gate, notice=told.append)
    run.end("complete")
    published: list[Any] = []
    serving = threading.Thread(
        target=lambda: published.append(
            run.serve(lambda s: None, lambda: 100.0, lambda early: published.append(early))
        )
    )
    serving.start()
    until(lambda: bool(published))
    assert [result.name for result in published[0].results] == ["ricom"], "riCOM is out already"
    gate.open.set()
    serving.join(60.0)
    assert not run.failed
    assert all(buffer._users == 0 for buffer in users), "every block was given back"
    (image,) = [r for r in published[-1].results if r.name == "ssb_phase"]
    # a block counts in the queue until it is done; 8 lines are the camera's own, 12 are copies
    assert run.counters["ssb_left_out"] == image.extra["left_out"] == 12 * SIDE
    assert run.lacking() == {"ssb": 12 * SIDE}
    assert [notice.count for notice in told] == [0, 12 * SIDE]
    assert "stemd process" in told[-1].remedy
    # the lines that are there are as if the others had never been scanned
    known = acquisition_of(patterns, phase.shape, step_size_angstrom=STEP)
    alone = ScanRun(known, settings_of([engine("ssb")], optics()), [engine("ssb")])
    for block in blocks_of(known, patterns[: 20 * SIDE], [SIDE]):
        alone.reduce(block)
    alone.end("stopped")
    (expected,) = alone.snapshot(final=True).results
    np.testing.assert_array_equal(image.image, expected.image)


def test_a_scan_that_is_given_up_gives_every_block_back(monkeypatch: pytest.MonkeyPatch) -> None:
    gate, told = _Gate(monkeypatch), list[Notice]()
    # patterns that are all alike, or have the same in every pixel, are told
    patterns = np.random.default_rng(6).poisson(1.0, (16 * SIDE, 32, 36)).astype("<u2")
    run, users = held_up(patterns, (16, SIDE), gate, notice=told.append)
    run.end("complete")
    run.engines.abandon("later scans were waiting")
    gate.open.set()
    final = run.serve(lambda s: None, lambda: 100.0)
    assert [result.name for result in final.results] == ["ricom"]
    assert all(buffer._users == 0 for buffer in users)
    assert [notice.kind for notice in told] == ["ssb_not_made"]
    assert run.lacking() == {"ssb": 16 * SIDE}


def test_what_fails_beside_a_scan_is_one_error_and_ricom_goes_on(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    def failing(kept: BrightField, block: Any, acceptance_ns: float) -> None:
        raise StemdError("no memory is left", "buy some")

    monkeypatch.setattr(BrightField, "add", failing)
    choices = [engine("ssb"), engine("ricom", kernel_size=5)]
    patterns = np.ones((16, 32, 36), "<u2")
    acquisition = acquisition_of(patterns, (4, 4), step_size_angstrom=STEP)
    told: list[str] = []
    run = ScanRun(acquisition, settings_of(choices, optics()), choices, live=True,
                  report=lambda name, error: told.append(f"{name}: {error}"))  # fmt: skip
    for block in blocks_of(acquisition, patterns, [4]):
        run.reduce(block)
    run.end("complete")
    final = run.serve(lambda s: None, lambda: 100.0)
    assert [result.name for result in final.results] == ["ricom"]
    assert len(told) == 1
    assert "no memory is left" in told[0]

"""AIRPI's engine with tiny networks whose answers are known."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Sequence
from dataclasses import replace
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from stemd.acquisition import Acquisition, Optics
from stemd.blocks import Buffer, EventBlock, Notice
from stemd.engines.airpi.features import WINDOW, pixel_angstrom
from stemd.engines.airpi.model import Loaded
from stemd.errors import StemdError
from stemd.results import Result
from stemd.scan.processing import process_recording
from stemd.scan.run import ScanRun
from tests.engines.airpi_scenes import (
    BEAM,
    OPTICS,
    linear,
    random_patterns,
    reader,
    write,
)
from tests.engines.scenes import acquisition_of, blocks_of, engine, settings_of

SHAPE = (9, 11)
STEP = 0.2


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> str:
    return write(tmp_path_factory.mktemp("airpi"), reader())


def chosen(model: str, **table: Any) -> Any:
    """The engine with a network that knows nothing of the patterns' physics: what it says is not
    to be held to them.
    """
    free = {"use_centre_of_mass": False, "use_bright_field": False}
    own = {"backend": "onnxruntime", "batch": 4, **free}
    return engine("airpi", **{"model": model, **own, **table})


def run_of(
    acquisition: Acquisition, choice: Any, optics: Optics, **more: Any
) -> tuple[ScanRun, list[tuple[str, StemdError]]]:
    errors: list[tuple[str, StemdError]] = []
    choices = [choice, engine("ricom", kernel_size=5)]
    run = ScanRun(
        acquisition, settings_of(choices, optics), choices,
        report=lambda name, error: errors.append((name, error)), **more,
    )  # fmt: skip
    return run, errors


def images_of(
    patterns: NDArray[Any], choice: Any, optics: Optics = OPTICS, sizes: Sequence[int] = (4,),
    shape: tuple[int, int] = SHAPE, probes: NDArray[np.int64] | None = None, **more: Any,
) -> dict[str, Result]:  # fmt: skip
    acquisition = acquisition_of(patterns, shape, step_size_angstrom=STEP)
    run, errors = run_of(acquisition, choice, optics, **more)
    for block in blocks_of(acquisition, patterns, sizes, probes):
        run.reduce(block)
    run.end("complete")
    final = run.serve(lambda snapshot: None, lambda: 100.0)
    assert not run.failed, errors
    return {result.name: result for result in final.results}


@pytest.mark.parametrize("live", [False, True])
def test_a_scan_without_a_single_count_has_no_phase_and_no_weight(model: str, live: bool) -> None:
    patterns = random_patterns(SHAPE[0] * SHAPE[1])
    choice = chosen(model, use_centre_of_mass=True, use_bright_field=True)
    some = images_of(patterns, choice, live=live)
    assert some["airpi_weight"].image.any()
    none = images_of(np.zeros_like(patterns), choice, live=live)
    assert none["airpi_phase"].image.shape == some["airpi_phase"].image.shape
    assert not any(result.image.any() for result in none.values())


def same(a: dict[str, Result], b: dict[str, Result], within: float = 1e-5) -> None:
    for name in ("airpi_phase", "airpi_weight"):
        np.testing.assert_allclose(a[name].image, b[name].image, rtol=0, atol=within)


@pytest.mark.slow
def test_a_patch_falls_where_its_position_is_to_a_tenth_of_a_pixel(tmp_path: Path) -> None:
    y, x = np.mgrid[:WINDOW, :WINDOW] - WINDOW // 2
    phase = 0.06 * x - 0.04 * y
    change = np.exp(1j * phase) - 1
    path = write(tmp_path, linear(bias=np.stack([change.real, change.imag])))
    line, column = 4, 7
    got = images_of(
        random_patterns(1), chosen(path, oversample=2, least_transfer=1.0),
        probes=np.array([line * 11 + column]),
    )  # fmt: skip
    result = got["airpi_phase"]
    pixel = pixel_angstrom(BEAM) / 2
    assert result.pixel_size == pytest.approx(pixel)
    assert result.units == "rad"
    origin = result.extra["origin"][0]
    assert result.image.shape == tuple(round(n * STEP / pixel) + 2 * WINDOW - 1 for n in SHAPE)
    row, col = (round(origin + n * STEP / pixel, 1) for n in (line, column))
    v, u = np.indices(result.image.shape)
    known = got["airpi_weight"].image > 0.3
    assert known.sum() > 20
    expected = (0.06 * (u - col) - 0.04 * (v - row)) / 2
    found = result.image[known] - result.image[known].mean()
    np.testing.assert_allclose(found, expected[known] - expected[known].mean(), atol=5e-3)
    far = np.hypot(v - row, u - col) > 2 * WINDOW
    assert not result.image[far].any()


def test_it_is_bright_where_the_wave_is_ahead(tmp_path: Path) -> None:
    y, x = np.mgrid[:WINDOW, :WINDOW] - WINDOW // 2
    change = np.exp(0.2j * np.exp(-(y**2 + x**2) / 4.0)) - 1
    path = write(tmp_path, linear(bias=np.stack([change.real, change.imag])))
    got = images_of(random_patterns(1), chosen(path), probes=np.array([4 * 11 + 7]))
    phase = got["airpi_phase"].image
    weight = got["airpi_weight"].image
    assert phase.flat[weight.argmax()] > 0.05
    assert abs(phase[weight > 0].mean()) < 1e-3


def test_what_all_patches_agree_on_as_a_whole_cannot_be_seen(tmp_path: Path) -> None:
    bias = np.zeros((2, WINDOW, WINDOW))
    bias[1] = 0.1
    path = write(tmp_path, linear(bias=bias))
    got = images_of(random_patterns(99), chosen(path))
    np.testing.assert_allclose(got["airpi_phase"].image, 0.0, atol=1e-5)


@pytest.mark.parametrize("table", [{}, {"repetition": 2}, {"repetition": 3, "every": 2}])
@pytest.mark.parametrize("center", ["auto", (31.5, 31.5)])
def test_blocks_and_threads_make_no_difference(model: str, table: Any, center: Any) -> None:
    patterns = random_patterns(99)
    optics = OPTICS.model_copy(update={"center": center})
    whole = images_of(patterns, chosen(model, **table), optics, [99])
    assert np.ptp(whole["airpi_phase"].image) > 1e-3, "the network sees something"
    same(whole, images_of(patterns, chosen(model, **table), optics, [1, 7, 3]))
    same(whole, images_of(patterns, chosen(model, when_slow="skip", **table), optics, live=True))


class _Recorded:
    """A recording in memory, as process_recording reads one."""

    notices = ()
    splits = True

    def __init__(self, patterns: NDArray[Any], shape: tuple[int, int], size: int) -> None:
        self.acquisition = acquisition_of(patterns, shape, step_size_angstrom=STEP)
        self.frames = len(patterns)
        self._patterns, self._size = patterns, size

    def blocks(self, start: int, stop: int) -> Any:
        probes = np.arange(start, stop)
        part = self._patterns[start:stop]
        yield from blocks_of(self.acquisition, part, [self._size], probes)

    def close(self) -> None:
        pass


@pytest.mark.parametrize("repetition", [1, 2])
def test_parts_of_a_file_give_the_object_of_the_whole(model: str, repetition: int) -> None:
    shape = (37, 11)
    patterns = random_patterns(37 * 11)
    optics = OPTICS.model_copy(update={"center": "auto"})
    choices = [chosen(model, repetition=repetition)]
    whole = images_of(patterns, choices[0], optics, [50], shape)
    for jobs in (1, 3):
        run, final = process_recording(
            _Recorded(patterns, shape, 13), settings_of(choices, optics), choices, jobs
        )
        assert not run.failed
        got = {result.name: result for result in final.results}
        same(whole, got)
        assert got["airpi_phase"].extra["groups"] == 37 * 11
        assert got["airpi_phase"].extra["late"] == 0


@pytest.mark.parametrize("cuts", [[100, 101, 250], [11, 64, 66, 200, 330], [70]])
def test_parts_gathered_elsewhere_give_it_too(model: str, cuts: list[int]) -> None:
    shape = (37, 11)
    patterns = random_patterns(37 * 11)
    optics = OPTICS.model_copy(update={"center": "auto"})
    choice = chosen(model)
    settings = settings_of([choice], optics)
    whole = images_of(patterns, choice, optics, [50], shape)
    recorded = _Recorded(patterns, shape, 5)
    acquisition = recorded.acquisition
    run = ScanRun(acquisition, settings, [choice])

    def built() -> Any:
        made = choice.plugin.build(choice.settings)
        made.start(acquisition, settings, run.maps)
        return made

    edges = [0, max(64, cuts[0]), *(cut for cut in cuts if cut > 64 and cut != cuts[0]), 407]
    total, found = built(), None
    for first, stop in pairwise(edges):
        part = built()
        if first:
            part.follow(found)
        for block in recorded.blocks(first, stop):
            part.consume(block)
        found = found or part.found()
        again = built()
        again.restore(part.gathered())
        total.merge(again)
    got = {result.name: result for result in total.snapshot(final=True)}
    same(whole, got)


def events_of(
    acquisition: Acquisition, patterns: NDArray[Any], hits: int, seed: int = 4
) -> list[EventBlock]:
    """The counts of all patterns as hits, shuffled within a position, cut into blocks."""
    rng = np.random.default_rng(seed)
    probe, y, x = np.nonzero(patterns)
    times = patterns[probe, y, x].astype(np.int64)
    probe, y, x = (np.repeat(a, times) for a in (probe, y, x))
    order = np.lexsort((rng.random(probe.size), probe))
    probe, yx = probe[order].astype(np.int32), (y << 16 | x)[order].astype(np.uint32)
    blocks, over = [], 0
    for first in range(0, probe.size, hits):
        part = slice(first, first + hits)
        last = first + hits >= probe.size
        until = len(patterns) if last else int(probe[first + hits])
        runs = [(over, until)] if until > over else []
        n = probe[part].size
        dwell = np.zeros(n, np.float32)
        wire = np.zeros(8 * n, np.uint8)
        blocks.append(EventBlock(acquisition, probe[part], yx[part], dwell, n, wire, 1, runs))
        over = until
    return blocks


@pytest.mark.parametrize("hits", [700, 20_000])
@pytest.mark.parametrize("live", [False, True])
def test_events_give_the_object_of_their_frames(model: str, hits: int, live: bool) -> None:
    patterns = random_patterns(99)
    choice = chosen(model, when_slow="skip")
    frames = images_of(patterns, choice)
    acquisition = acquisition_of(patterns, SHAPE, step_size_angstrom=STEP)
    run, errors = run_of(acquisition, choice, OPTICS, live=live)
    for block in events_of(acquisition, patterns, hits):
        run.reduce(block)
    run.end("complete")
    final = run.serve(lambda snapshot: None, lambda: 100.0)
    assert not errors
    same(frames, {result.name: result for result in final.results})


def test_detectors_that_are_turned_flipped_or_shifted_give_the_same_object(model: str) -> None:
    patterns = random_patterns(99)
    choice = chosen(model)
    plain = images_of(patterns, choice)
    moved = np.roll(patterns, (3, -2), axis=(1, 2))
    same(plain, images_of(moved, choice, OPTICS.model_copy(update={"center": (34.5, 29.5)})))
    flipped = np.ascontiguousarray(patterns.transpose(0, 2, 1))
    same(plain, images_of(flipped, choice, OPTICS.model_copy(update={"flip": True})))
    # a detector whose patterns appear turned clockwise is turned back counter-clockwise
    turned = np.ascontiguousarray(np.rot90(patterns, -1, axes=(1, 2)))
    same(plain, images_of(turned, choice, OPTICS.model_copy(update={"rotation_deg": 90.0})))


def deflected(seed: int = 3) -> NDArray[np.uint16]:
    """Discs that atoms deflect to and fro, far from the detector's border, a pattern a position."""
    rng = np.random.default_rng(seed)
    line, column = np.divmod(np.arange(99), 11)
    shift_y, shift_x = np.sin(line / 1.3), np.cos(0.7 * column + 0.4 * line)
    v, u = np.mgrid[:64, :64] - 31.5
    inside = np.hypot(v - shift_y[:, None, None], u - shift_x[:, None, None]) < 9.0
    return rng.poisson(20.0 * inside).astype(np.uint16)


def test_the_centre_of_mass_is_turned_flipped_and_shifted_with_the_patterns(model: str) -> None:
    patterns, choice = deflected(), chosen(model, use_centre_of_mass=True)
    plain = images_of(patterns, choice)
    without = images_of(patterns, chosen(model))
    change = plain["airpi_phase"].image - without["airpi_phase"].image
    assert np.abs(change).max() > 0.1
    for centre in ((34.5, 29.5), "auto"):
        moved = np.roll(patterns, (3, -2), axis=(1, 2))
        same(plain, images_of(moved, choice, OPTICS.model_copy(update={"center": centre})), 2e-2)
    flipped = np.ascontiguousarray(patterns.transpose(0, 2, 1))
    same(plain, images_of(flipped, choice, OPTICS.model_copy(update={"flip": True})))
    turned = np.ascontiguousarray(np.rot90(patterns, -1, axes=(1, 2)))
    same(plain, images_of(turned, choice, OPTICS.model_copy(update={"rotation_deg": 90.0})))


def test_the_object_ends_where_the_scan_ends(model: str) -> None:
    for use in (False, True):
        got = images_of(deflected(), chosen(model, use_centre_of_mass=use))
        origin, pixel = got["airpi_phase"].extra["origin"], got["airpi_phase"].pixel_size
        assert pixel is not None
        for image in (got["airpi_phase"].image, got["airpi_weight"].image):
            for axis, count in enumerate(SHAPE):
                there = np.flatnonzero(image.any(axis=1 - axis))
                assert there[0] == origin[axis]
                assert there[-1] == origin[axis] + int((count - 1) * STEP / pixel + 1e-6)


def test_a_missing_position_has_no_patch_and_its_neighbours_use_their_own(model: str) -> None:
    patterns = random_patterns(99)
    gone = 4 * 11 + 5
    kept = np.delete(np.arange(99), gone)
    got = images_of(patterns[kept], chosen(model), probes=kept)
    assert got["airpi_phase"].extra["groups"] == 98
    whole = images_of(patterns, chosen(model))
    assert got["airpi_weight"].image.max() < whole["airpi_weight"].image.max() + 1e-6
    assert (got["airpi_weight"].image.sum()) < whole["airpi_weight"].image.sum()


def test_counts_that_are_several_an_electron_are_divided(model: str) -> None:
    patterns = random_patterns(99)
    plain = images_of(patterns, chosen(model))
    same(plain, images_of(patterns * np.uint16(7), chosen(model, counts_per_electron=7.0)))


def test_the_disc_of_the_first_patterns_replaces_a_wrong_angle(model: str) -> None:
    patterns = random_patterns(99, dose=20.0)
    wrong = OPTICS.model_copy(update={"convergence_semi_angle_mrad": 27.0, "center": "auto"})
    notices: list[Notice] = []
    got = images_of(patterns, chosen(model, probe="pacbed"), wrong, notice=notices.append)
    extra = got["airpi_phase"].extra
    assert extra["convergence_semi_angle_mrad"] == pytest.approx(20.0, rel=0.05)
    assert extra["center"] == pytest.approx([31.5, 31.5], abs=0.2)
    assert [notice.kind for notice in notices] == ["airpi_angle"]


@pytest.mark.parametrize("electrons", [1.0, 100.0])
def test_fewer_electrons_than_the_network_knows_are_told_once(model: str, electrons: float) -> None:
    notices: list[Notice] = []
    patterns = random_patterns(99, dose=20.0)
    share = electrons * len(patterns) / patterns.sum()
    few = np.random.default_rng(0).binomial(patterns, share).astype(np.uint16)
    images_of(few, chosen(model), notice=notices.append)
    told = [notice.text for notice in notices if notice.kind == "airpi_lens"]
    assert len(told) == (electrons < 3.0)
    assert all("electrons a pattern" in text for text in told)


def test_with_auto_the_dose_decides_how_many_patterns_are_added_up(
    model: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("stemd.engines.airpi.coarseness.AUTO_STEP", 0.9)
    monkeypatch.setattr("stemd.engines.airpi.coarseness.AUTO_ELECTRONS", 100.0)
    few = images_of(random_patterns(99, dose=0.02), chosen(model, repetition="auto"))
    many = images_of(random_patterns(99, dose=3.0), chosen(model, repetition="auto"))
    assert few["airpi_phase"].extra["repetition"] == 2
    assert many["airpi_phase"].extra["repetition"] == 1


class _Gate:
    """In the place of the network: waits until it is let through."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.open = threading.Event()
        self.entered = threading.Event()
        begin = Loaded.begin

        def gated(loaded: Loaded, features: Any) -> Callable[[], Any]:
            self.entered.set()
            assert self.open.wait(60.0)
            return begin(loaded, features)

        monkeypatch.setattr(Loaded, "begin", gated)


def counted(blocks: Any, users: list[Buffer]) -> Any:
    """The same blocks with a count of who still reads them."""
    for block in blocks:
        block.buffer = Buffer(None, 0, 0, 0)
        block.buffer.retain()
        users.append(block.buffer)
        yield block


def until(true: Callable[[], bool]) -> None:
    """Wait until it is so."""
    for _ in range(6000):
        if true():
            return
        threading.Event().wait(0.01)
    raise AssertionError("it never came to that")


@pytest.mark.parametrize("when_slow", ["coarser", "skip"])
def test_a_network_that_hangs_never_holds_the_reader_up(
    model: str, monkeypatch: pytest.MonkeyPatch, when_slow: str
) -> None:
    monkeypatch.setattr("stemd.engines.airpi.setup.BACKLOG_BYTES", 1)
    monkeypatch.setattr("stemd.engines.airpi.setup.LEAST_BACKLOG_LINES", 2)
    gate = _Gate(monkeypatch)
    shape = (60, 11)
    patterns = random_patterns(660)
    notices: list[Notice] = []
    acquisition = acquisition_of(patterns, shape, step_size_angstrom=STEP)
    run, errors = run_of(
        acquisition, chosen(model, when_slow=when_slow, repetition=1), OPTICS, live=True,
        notice=notices.append,
    )  # fmt: skip
    published: list[Any] = []
    serving = threading.Thread(
        target=lambda: published.append(
            run.serve(lambda s: None, lambda: 100.0, lambda early: published.append(early))
        )
    )
    serving.start()
    users: list[Buffer] = []
    for number, block in enumerate(counted(blocks_of(acquisition, patterns, [11]), users)):
        run.reduce(block)  # returns though nothing is worked on
        block.release()
        if number == 1:  # the network hangs before there is a backlog
            assert gate.entered.wait(60.0)
    assert not gate.open.is_set()
    if when_slow == "coarser":
        made: Any = run.engines.every[0]
        until(lambda: made._object.counts["left_out"] > 0)  # the backlog is full
        gate.open.set()
        until(lambda: "airpi_coarser" in run.counters)
    run.end("complete")
    until(lambda: bool(published))
    assert {result.name for result in published[0].results} == {"ricom"}, "riCOM is out already"
    gate.open.set()
    serving.join(60.0)
    final = {result.name: result for result in published[-1].results}
    assert not errors
    assert all(buffer._users == 0 for buffer in users), "every block was given back"
    extra = final["airpi_phase"].extra
    assert run.counters.get("airpi_left_out", 0) > 0
    assert extra["groups"] < 660
    if when_slow == "skip":
        assert extra["groups"] >= 11
        assert "airpi_coarser" not in run.counters
    else:
        assert "airpi_coarser" in run.counters
        assert extra["every"] > 1
    assert any("stemd process" in notice.remedy for notice in notices)
    (lacking,) = run.lacking().values()
    if when_slow == "skip":
        assert lacking == run.counters["airpi_left_out"] == extra["left_out"]
    else:
        assert run.counters["airpi_left_out"] < lacking <= 660, "coarse lines lack positions, too"


def test_a_network_that_is_held_up_makes_the_same_image_later(
    model: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    shape = (60, 11)
    patterns = random_patterns(660)
    choice = chosen(model, batch=64)  # of four each would take longer to hand over than to make
    unhurried = images_of(patterns, choice, shape=shape)
    # the queue has room for one block of the camera's memory: all others have to be copied
    monkeypatch.setattr(
        "stemd.engines.beside.block_queue.BlockQueue.__init__.__defaults__", (1, 1 << 28)
    )
    gate = _Gate(monkeypatch)
    notices: list[Notice] = []
    acquisition = acquisition_of(patterns, shape, step_size_angstrom=STEP)
    run, errors = run_of(acquisition, choice, OPTICS, live=True, notice=notices.append)
    for block in blocks_of(acquisition, patterns, [7]):
        run.reduce(block)
    assert gate.entered.wait(60.0)
    (made,) = (each for each in run.engines.every if each.name == "airpi")
    assert made.snapshot(final=False) == [], "no empty picture is shown"
    run.end("complete")
    gate.open.set()
    final = {result.name: result for result in run.serve(lambda s: None, lambda: 1.0).results}
    assert not errors
    assert not notices, "neither coarser nor with holes"
    assert run.lacking() == {}
    assert final["airpi_phase"].extra["groups"] == 660
    same(unhurried, final)


def test_what_a_slow_network_has_left_when_the_scan_is_over_gets_coarser_until_it_is_in_time(
    model: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("stemd.engines.airpi.making.LATEST_S", 0.5)
    monkeypatch.setattr("stemd.engines.airpi.making.LEAST_S", 0.1)
    begin = Loaded.begin

    def slow(loaded: Loaded, features: Any) -> Callable[[], Any]:
        wait = begin(loaded, features)

        def waited() -> Any:
            time.sleep(0.02 * len(features))  # 660 groups would take 13 s
            return wait()

        return waited

    monkeypatch.setattr(Loaded, "begin", slow)
    shape = (60, 11)
    patterns = random_patterns(660)
    acquisition = acquisition_of(patterns, shape, step_size_angstrom=STEP)
    run, errors = run_of(acquisition, chosen(model), OPTICS, live=True)
    for block in blocks_of(acquisition, patterns, [7]):
        run.reduce(block)
    run.end("complete")
    began = time.monotonic()
    final = {result.name: result for result in run.serve(lambda s: None, lambda: 1.0).results}
    assert time.monotonic() - began < 5.0
    assert not errors
    extra = final["airpi_phase"].extra
    assert extra["every"] > 1
    assert extra["left_out"] == 0, "coarser, not with holes"
    assert 0 < extra["groups"] < 330
    assert "airpi_coarser" in run.counters
    assert 0 < run.lacking()["airpi"] <= 660


def test_a_scan_that_is_given_up_gives_every_block_back(
    model: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    gate = _Gate(monkeypatch)
    patterns = random_patterns(99)
    acquisition = acquisition_of(patterns, SHAPE, step_size_angstrom=STEP)
    notices: list[Notice] = []
    run, _ = run_of(acquisition, chosen(model), OPTICS, live=True, notice=notices.append)
    users: list[Buffer] = []
    for block in counted(blocks_of(acquisition, patterns, [4]), users):
        run.reduce(block)
        block.release()
    run.end("complete")
    assert gate.entered.wait(60.0)
    run.engines.abandon("later scans were waiting")
    gate.open.set()
    run.serve(lambda s: None, lambda: 100.0)
    assert all(buffer._users == 0 for buffer in users)
    assert [notice.kind for notice in notices] == ["airpi_cut_short"]
    assert run.lacking()["airpi"] > 0
    own = run.settings.engines["airpi"].model_copy(update={"complete": False})
    run.change(replace(run.settings, engines={**run.settings.engines, "airpi": own}))
    assert run.lacking() == {}, "it is not wanted"


@pytest.mark.parametrize("table", [{}, {"every": 3}, {"repetition": 2}])
def test_a_scan_that_is_made_wholly_lacks_nothing(model: str, table: Any) -> None:
    patterns = random_patterns(99)
    acquisition = acquisition_of(patterns, SHAPE, step_size_angstrom=STEP)
    run, _ = run_of(acquisition, chosen(model, **table), OPTICS, live=True)
    for block in blocks_of(acquisition, patterns[:50], [4]):
        run.reduce(block)
    run.end("disconnected")
    run.serve(lambda s: None, lambda: 100.0)
    assert run.lacking() == {}


def test_memory_does_not_grow_with_the_number_of_lines(model: str) -> None:
    choice = chosen(model)
    held = []
    for ny in (20, 200):
        patterns = random_patterns(ny * 4)
        acquisition = acquisition_of(patterns, (ny, 4), step_size_angstrom=STEP)
        run, _ = run_of(acquisition, choice, OPTICS)
        for block in blocks_of(acquisition, patterns, [6]):
            run.reduce(block)
        made: Any = run.engines.every[0]
        held.append(made._object.lines.held)
        assert made._object.lines.used <= 4
    assert held[0] == held[1] == 8


FAILURES: list[tuple[dict[str, Any], Any, str]] = [
    ({"energy_ev": None}, {}, "energy_ev"),
    ({"convergence_semi_angle_mrad": None}, {}, "convergence_semi_angle_mrad"),
    ({"pixel_size_mrad": None}, {}, "pixel_size_mrad"),
    ({"center": (2.0, 31.5)}, {}, "disc"),
    ({}, {"model": "nowhere.onnx"}, "nowhere.onnx"),
    ({}, {"model": "airpi-that-is-not-there"}, "not installed"),
    ({}, {"oversample": 8, "step": 900.0}, "oversample"),
    ({}, {"step": None}, "step_size_angstrom"),
]


@pytest.mark.parametrize(("optics", "table", "named"), FAILURES)
@pytest.mark.parametrize("live", [False, True])
def test_what_is_missing_is_one_error_and_ricom_goes_on(
    model: str, optics: Any, table: Any, named: str, live: bool
) -> None:
    table = dict(table)
    step = table.pop("step", STEP)
    patterns = random_patterns(99)
    scan = {} if step is None else {"step_size_angstrom": step}
    acquisition = acquisition_of(patterns, SHAPE, **scan)
    choice = chosen(table.pop("model", model), **table)
    run, errors = run_of(acquisition, choice, OPTICS.model_copy(update=optics), live=live)
    for block in blocks_of(acquisition, patterns, [9]):
        run.reduce(block)
    run.end("complete")
    final = run.serve(lambda snapshot: None, lambda: 100.0)
    assert [name for name, _ in errors] == ["airpi"]
    assert named in str(errors[0][1])
    assert errors[0][1].remedy
    assert {result.name for result in final.results} == {"ricom"}


@pytest.mark.parametrize(
    ("more", "named"),
    [
        ({"stemd.task": "restoration"}, "restoration"),
        ({"stemd.window": "15"}, "stemd.window = 15"),
        ({"stemd.features": "99"}, "stemd.features = 99"),
    ],
)
def test_a_model_of_another_kind_is_refused(tmp_path: Path, more: Any, named: str) -> None:
    path = write(tmp_path, linear(**more), "other")
    acquisition = acquisition_of(random_patterns(4), (2, 2), step_size_angstrom=STEP)
    _, errors = run_of(acquisition, chosen(path), OPTICS)
    assert len(errors) == 1
    assert named in str(errors[0][1])


def test_a_network_that_fails_in_mid_scan_is_one_error(
    model: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fails(loaded: Loaded, features: Any) -> Any:
        raise StemdError("the network broke", "mend it")

    monkeypatch.setattr(Loaded, "begin", fails)
    for live in (False, True):
        patterns = random_patterns(99)
        acquisition = acquisition_of(patterns, SHAPE, step_size_angstrom=STEP)
        run, errors = run_of(acquisition, chosen(model), OPTICS, live=live)
        users: list[Buffer] = []
        for block in counted(blocks_of(acquisition, patterns, [9]), users):
            run.reduce(block)
            block.release()
        run.end("complete")
        final = run.serve(lambda snapshot: None, lambda: 100.0)
        assert [str(error.message) for _, error in errors] == ["the network broke"]
        assert {result.name for result in final.results} == {"ricom"}


def test_parts_of_an_event_stream_are_refused(model: str) -> None:
    patterns = random_patterns(99)
    acquisition = acquisition_of(patterns, SHAPE, step_size_angstrom=STEP)
    choice = chosen(model)
    settings = settings_of([choice], OPTICS)
    run = ScanRun(acquisition, settings, [choice])

    def built() -> Any:
        made = choice.plugin.build(choice.settings)
        made.start(acquisition, settings, run.maps)
        return made

    total = built()
    blocks = events_of(acquisition, patterns, 200)
    half = len(blocks) // 2
    for number, some in enumerate((blocks[:half], blocks[half:])):
        part = built()
        for block in some:
            part.consume(block)
        again = built()
        again.restore(part.gathered())
        if number == 0:
            total.merge(again)
        else:
            with pytest.raises(StemdError, match="event stream"):
                total.merge(again)

"""Restoration: tiles that do not show, means that stay, a scan that never waits or fails."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from stemd.cli.main import main
from stemd.engines.restoration.engine import RestorationEngine, RestorationSettings, without_holes
from stemd.engines.restoration.estimate.channels import estimate
from stemd.engines.restoration.finished import finished
from stemd.engines.restoration.robust_scale import normalise
from stemd.engines.restoration.tiling import CancelledError, restore, tiles
from stemd.errors import ModelError, ModelMemoryError, StemdError
from stemd.inference import choice
from stemd.inference.base import Info
from stemd.inference.worker import NetworkThread
from stemd.results import Result
from stemd.scan.run import ScanRun
from tests.engines.scenes import acquisition_of, blocks_of, engine, run_scan, settings_of
from tests.inference import models

Image = np.ndarray[Any, np.dtype[np.float32]]
OPEN = (None, 1, None, None)


def image_of(ny: int, nx: int, seed: int = 0) -> Image:
    y, x = np.mgrid[:ny, :nx]
    lattice = 5.0 * np.cos(0.5 * y + 0.1 * x) * np.cos(0.6 * x)
    noise = np.random.default_rng(seed).normal(0, 2, (ny, nx))
    return (20.0 + lattice + noise).astype(np.float32)


def through(data: bytes, image: Image, **options: Any) -> Image:
    model = models.model(data)
    return restore(image, model, choice.load(model, "onnxruntime"), **options)


@given(st.integers(1, 3000), st.integers(16, 600), st.integers(0, 120), st.sampled_from([1, 2, 16]))
def test_inner_parts_cover_every_pixel_once_and_see_their_surroundings(
    size: int, tile: int, halo: int, multiple: int
) -> None:
    size += -size % multiple
    covered = 0
    lengths = set()
    for each in tiles(size, tile, halo, multiple):
        assert each.inner_first == covered
        covered = each.inner_stop
        lengths.add(each.stop - each.first)
        assert each.first == 0 or each.inner_first - each.first >= halo
        assert each.first % multiple == 0
        assert 0 <= each.first < each.stop <= size
        assert each.stop == size or each.stop - each.inner_stop >= halo
        assert each.first <= each.inner_first < each.inner_stop <= each.stop
    assert covered == size
    (length,) = lengths
    assert length % multiple == 0


@pytest.mark.parametrize("shape", [(97, 203), (203, 97), (64, 64), (33, 300), (1, 70), (2, 3)])
def test_tiles_do_not_show_and_any_size_is_taken(shape: tuple[int, int]) -> None:
    data = models.box_blur(5, halo="4", multiple="2")
    image = image_of(*shape)
    whole = through(data, image)
    tiled = through(data, image, tile=32)
    assert whole.shape == tiled.shape == shape
    np.testing.assert_allclose(tiled, whole, atol=1e-4)


@pytest.mark.parametrize("scale", [1.0, -3.0, 1e-4, 1e7])
def test_the_unit_and_the_mean_are_those_of_the_input(scale: float) -> None:
    image = image_of(90, 75)
    expected = through(models.box_blur(), image)
    found = through(models.box_blur(), image * np.float32(scale))
    np.testing.assert_allclose(found / scale, expected, atol=1e-3)
    assert float(found.mean()) == pytest.approx(float(image.mean()) * scale, rel=1e-5)
    assert expected.std() < image.std()


def test_a_flat_image_stays_flat_and_missing_numbers_do_not_spread() -> None:
    flat = np.full((40, 50), 7.0, np.float32)
    np.testing.assert_allclose(through(models.smoother(), flat).mean(), 7.0, rtol=1e-6)
    holed = image_of(40, 50)
    holed[3, 4] = np.nan
    assert np.isfinite(through(models.box_blur(), holed)).all()
    with pytest.raises(ModelError, match="finite"):
        through(models.box_blur(), np.full((4, 4), np.nan, np.float32))


def test_a_spike_does_not_set_the_scale_of_the_rest() -> None:
    image = image_of(64, 64)
    spiked = image.copy()
    spiked[30, 30] = 1e6
    found = through(models.box_blur(), spiked)
    np.testing.assert_allclose(found[:20], through(models.box_blur(), image)[:20], atol=0.1)


class Small:
    """A network whose device takes so many pixels at once."""

    info = Info(
        "small", "test", "0", "CPU", "float32", (None, 1, None, None), (None, 1, None, None)
    )

    def __init__(self, most: int) -> None:
        self.most = most
        self.seen: list[int] = []

    def run(self, batch: Image) -> Image:
        self.seen.append(batch.size)
        if batch.size > self.most:
            raise ModelMemoryError("too large", "")
        return batch.copy()


def test_tiles_are_made_smaller_until_they_fit() -> None:
    model = models.model(models.box_blur(halo="8"))
    network = Small(100 * 100)
    image = image_of(300, 310)
    np.testing.assert_allclose(restore(image, model, network), image, atol=1e-3)
    assert max(network.seen) > network.most >= network.seen[-1]
    with pytest.raises(ModelMemoryError):
        restore(image, model, Small(100))


def test_memory_does_not_grow_with_the_image() -> None:
    model = models.model(models.box_blur())
    network = Small(10**9)
    restore(np.ones((1500, 2100), np.float32), model, network)
    assert max(network.seen) <= (512 + 2 * 96 + 1) ** 2


def test_work_that_nobody_wants_any_more_is_given_up() -> None:
    model = models.model(models.box_blur(halo="2"))
    network = Small(10**9)
    with pytest.raises(CancelledError):
        restore(image_of(64, 64), model, network, lambda: bool(network.seen), tile=16)
    assert len(network.seen) == 1


def test_holes_are_filled_from_their_line_or_the_one_above() -> None:
    image = np.arange(20.0, dtype=np.float32).reshape(4, 5)
    done = np.ones((4, 5), np.bool_)
    done[1, 1:3] = False
    done[2] = False
    damaged = np.where(done, image, 0.0).astype(np.float32)
    filled = without_holes(damaged, done)
    np.testing.assert_allclose(filled[[0, 1, 3]], image[[0, 1, 3]])
    np.testing.assert_allclose(filled[2], image[1])


def test_a_model_of_estimates_adds_to_what_is_shown() -> None:
    image = image_of(90, 110)
    seen = normalise(image)
    known = estimate(seen.values)
    expected = seen.undone(0.5 * (known.shown + known.aligned))
    found = through(models.half_of_the_noise(), image)
    np.testing.assert_allclose(found - found.mean(), expected - expected.mean(), atol=1e-3)
    assert float(found.mean()) == pytest.approx(float(image.mean()), rel=1e-5)


@pytest.mark.slow
def test_tiles_with_estimates_of_their_own_fade_into_each_other() -> None:
    image = image_of(300, 310)
    whole = through(models.half_of_the_noise(), image)
    tiled = through(models.half_of_the_noise(), image, tile=96)
    assert tiled.shape == image.shape
    difference = np.abs(tiled - whole)
    # no pixel beside the tiles' borders differs from its neighbour more than noise lets it
    step = np.abs(np.diff(tiled - whole, axis=0)).max(axis=1)
    assert difference.mean() < 0.1 * (image - whole).std()
    assert step[90:102].max() < 3.0 * np.median(step) + 0.05


def test_a_model_of_estimates_with_one_input_channel_is_refused() -> None:
    plain = models.model(models.box_blur())
    lying = replace(plain, metadata={"stemd.inputs": "stemd.engines.estimate.channels"})
    with pytest.raises(ModelError, match="takes"):
        restore(image_of(40, 50), lying, choice.load(plain, "onnxruntime"))


# The engine in a scan

PATTERNS = np.random.default_rng(4).poisson(30.0, (600, 8, 8)).astype(np.uint16)
SHAPE = (20, 30)


@pytest.fixture
def model(tmp_path: Path) -> str:
    return str(models.write(tmp_path, models.box_blur(halo="4")))


def test_a_scan_gets_its_restored_image(model: str) -> None:
    chosen = [engine("restoration", input="sum", model=model, backend="onnxruntime"), engine("sum")]
    results = run_scan(PATTERNS, SHAPE, chosen)
    found = results["sum_restored"]
    blur = models.model(models.box_blur(halo="4"))
    expected = finished(results["sum"].image, blur, choice.load(blur, "onnxruntime"))
    np.testing.assert_allclose(found.image, expected.image, atol=1e-2)
    np.testing.assert_allclose(results["sum_uncertainty"].image, expected.uncertainty, rtol=1e-3)
    assert found.extra["strays"] == expected.strays
    assert 0.0 <= found.extra["departing"] <= 1.0
    assert found.units == results["sum"].units
    assert found.extra["input"] == "sum"
    assert found.extra["model"] == "tiny"
    assert "onnxruntime" in found.extra["backend"]
    assert found.extra["lines"] == 20


def test_what_was_not_scanned_is_zero_and_does_not_disturb_the_rest(model: str) -> None:
    probes = np.arange(600)
    probes[:90] = -1  # three lines that never came
    probes[100] = -1
    chosen = [engine("sum"), engine("restoration", input="sum", model=model)]
    acquisition = acquisition_of(PATTERNS, SHAPE)
    run = ScanRun(acquisition, settings_of(chosen), chosen)
    for block in blocks_of(acquisition, PATTERNS, (7,), probes):
        run.reduce(block)
    run.end("idle")
    final = {r.name: r.image for r in run.serve(lambda s: None, lambda: 100.0).results}
    restored = final["sum_restored"]
    assert (restored[:3] == 0).all()
    assert restored[3, 10] == 0
    scanned = final["sum"][4:]
    assert abs(float(restored[4:].mean()) / float(scanned.mean()) - 1) < 0.01
    assert float(restored[4:].min()) > 0.5 * float(scanned.mean())


@pytest.mark.parametrize(
    ("make", "says"),
    [
        (lambda folder: str(folder / "none.onnx"), "no such file"),
        (lambda folder: "restorashun", "not installed"),
        (
            lambda folder: str(models.write(folder, models.smoother()[:200])),
            "not a complete ONNX model",
        ),
        (lambda folder: str(models.write(folder, models.two_inputs())), "2 inputs"),
        (
            lambda folder: str(models.write(folder, models.smoother(shape=(1, 1, 24, 24)))),
            r"\(1, 1, 24, 24\)",
        ),
    ],
    ids=["missing", "unknown", "cut off", "two inputs", "fixed size"],
)
def test_a_model_that_cannot_be_used_is_one_error_and_the_other_images_are_there(
    tmp_path: Path, make: Callable[[Path], str], says: str
) -> None:
    errors: list[tuple[str, StemdError]] = []
    chosen = [
        engine("restoration", input="sum", model=make(tmp_path)),
        engine("sum"),
        engine("com"),
    ]
    acquisition = acquisition_of(PATTERNS, SHAPE)
    run = ScanRun(
        acquisition, settings_of(chosen), chosen, report=lambda *error: errors.append(error)
    )
    for block in blocks_of(acquisition, PATTERNS, (5,)):
        run.reduce(block)
    run.end("complete")
    final = run.serve(lambda snapshot: None, lambda: 100.0)
    assert {"sum", "com_y", "com_x"} <= {result.name for result in final.results}
    assert "sum_restored" not in {result.name for result in final.results}
    ((name, error),) = errors
    assert name == "restoration"
    assert error.remedy
    with pytest.raises(StemdError, match=says):
        raise error


def test_an_input_that_does_not_exist_is_named_with_those_that_do(model: str) -> None:
    errors: list[StemdError] = []
    chosen = [engine("sum"), engine("restoration", input="haadf", model=model)]
    acquisition = acquisition_of(PATTERNS, SHAPE)
    run = ScanRun(
        acquisition, settings_of(chosen), chosen, report=lambda _, error: errors.append(error)
    )
    run.end("complete")
    run.serve(lambda snapshot: None, lambda: 100.0)
    assert "'haadf'" in errors[0].message
    assert "sum" in errors[0].remedy


def test_finished_images_do_not_wait_for_the_network(
    model: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    thread = NetworkThread("test")
    gate = threading.Event()
    monkeypatch.setattr("stemd.engines.restoration.engine.shared", lambda: thread)
    thread.submit(gate.wait)  # another scan's network is at work
    chosen = [engine("sum"), engine("restoration", input="sum", model=model)]
    acquisition = acquisition_of(PATTERNS, SHAPE)
    run = ScanRun(acquisition, settings_of(chosen), chosen)
    for block in blocks_of(acquisition, PATTERNS, (50,)):
        run.reduce(block)
    run.end("complete")
    early: list[set[str]] = []

    def published(snapshot: Any) -> None:
        early.append({result.name for result in snapshot.results})
        gate.set()

    final = run.serve(lambda snapshot: None, lambda: 100.0, published)
    assert early == [{"sum"}]
    assert run.images.early == {"sum"}
    assert {result.name for result in final.results} == {"sum", "sum_restored", "sum_uncertainty"}


def test_complete_lines_are_restored_while_the_scan_runs(model: str) -> None:
    chosen = [engine("sum"), engine("restoration", input="sum", model=model)]
    acquisition = acquisition_of(PATTERNS, SHAPE)
    run = ScanRun(acquisition, settings_of(chosen), chosen)
    for block in blocks_of(acquisition, PATTERNS[:530], (53,)):
        run.reduce(block)  # 17 lines and 20 positions
    deadline = time.monotonic() + 30.0
    found: list[Result] = []
    while not found and time.monotonic() < deadline:
        results = run.snapshot(final=False).results
        found = [result for result in results if result.name == "sum_restored"]
        time.sleep(0.01)
    assert found[0].extra["lines"] == 17
    assert (found[0].image[17:] == 0).all()
    assert (found[0].image[:17] > 0).all()


def test_another_model_takes_over_for_the_finished_image(model: str, tmp_path: Path) -> None:
    better = str(models.write(tmp_path, models.box_blur(5), "better"))
    chosen = [engine("sum"), engine("restoration", input="sum", model=model, final_model=better)]
    assert run_scan(PATTERNS, SHAPE, chosen)["sum_restored"].extra["model"] == "better"


def test_recomputing_restores_with_the_settings_of_then(model: str, tmp_path: Path) -> None:
    better = str(models.write(tmp_path, models.box_blur(5), "better"))
    chosen = [engine("sum"), engine("restoration", input="sum", model=model)]
    acquisition = acquisition_of(PATTERNS, SHAPE)
    run = ScanRun(acquisition, settings_of(chosen), chosen)
    for block in blocks_of(acquisition, PATTERNS, (50,)):
        run.reduce(block)
    run.end("complete")
    run.serve(lambda snapshot: None, lambda: 100.0)
    again = run.recompute(
        settings_of([engine("sum"), engine("restoration", input="sum", model=better)])
    )
    (found,) = [result for result in again.results if result.name == "sum_restored"]
    assert found.extra["model"] == "better"


def test_the_engine_names_itself_as_configured() -> None:
    assert RestorationEngine(RestorationSettings(input="adf")).name == "restoration"
    own = RestorationSettings(input="adf", name="denoised")
    assert RestorationEngine(own).name == "denoised"


def test_check_doubts_a_model_that_is_not_there(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    config = tmp_path / "images.toml"
    text = """
[[pipeline]]
name = "scope"
[pipeline.adapter]
type = "images"
[[pipeline.engine]]
type = "restoration"
input = "image"
model = "PATH"
"""
    path = tmp_path / "later.onnx"
    config.write_text(text.replace("PATH", str(path)))
    assert main(["check", str(config)]) == 0
    assert "later.onnx" in capsys.readouterr().err
    models.write(tmp_path, models.box_blur(), "later")
    assert main(["check", str(config)]) == 0
    assert capsys.readouterr().err == ""


def test_networks_run_in_a_thread_of_low_priority_urgent_jobs_first() -> None:
    import os

    thread = NetworkThread("test")
    gate, order = threading.Event(), list[str]()
    thread.submit(gate.wait)
    for name, urgent in (("live", False), ("final", True)):
        last = thread.submit(lambda name=name: order.append(name), urgent=urgent)  # type: ignore[misc]
    gate.set()
    thread.submit(lambda: None).result(10.0)
    assert last.done()
    assert order == ["final", "live"]
    nice = thread.submit(lambda: os.getpriority(os.PRIO_PROCESS, threading.get_native_id())).result(
        10.0
    )
    assert nice > os.getpriority(os.PRIO_PROCESS, threading.get_native_id())

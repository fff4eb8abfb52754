"""What engines declare by their settings is what they do: the names of their images."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from stemd import entry_points, plugins
from stemd.acquisition import Acquisition
from stemd.config.image_names import image_names, missing_inputs
from stemd.config.resolved import EngineConfig
from stemd.scan.run import ScanRun
from stemd.settings import Settings
from tests.engines import airpi_scenes, foreign
from tests.engines.scenes import acquisition_of, blocks_of, engine, settings_of
from tests.inference import models

BUILT_IN = [plugin.name for plugin in plugins.catalogue("engines")]


@pytest.fixture
def tables(tmp_path: Path) -> dict[str, dict[str, Any]]:
    """Settings for engines that have no defaults for all of them, or large ones."""
    airpi = airpi_scenes.write(tmp_path, airpi_scenes.linear())
    restoration = models.write(tmp_path, models.box_blur(halo="4"), "blur")
    return {
        "airpi": {"model": airpi, "backend": "onnxruntime"},
        "restoration": {"input": "sum", "model": str(restoration), "backend": "onnxruntime"},
        "virtual_detector": {"detectors_px": {"bf": [0, 9]}, "detectors": {"adf": [30.0, 60.0]}},
    }


CHANGES: dict[str, dict[str, Any]] = {
    "restoration": {"input": "pacbed"},
    "virtual_detector": {"detectors_px": {"adf": [9, 20]}, "detectors": {}},
    "ratio": {"radius_px": 5.0},
}
"""What is changed in mid-scan, for engines whose images are named by their settings."""


@pytest.fixture
def installed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[list[str]]:
    folder = tmp_path / "site"
    folder.mkdir()
    yield foreign.install(folder, monkeypatch)
    sys.modules.pop("foreign_engines", None)
    entry_points.entries.cache_clear()


def played(engines: list[EngineConfig], after: Settings | None) -> tuple[Settings, Any, list[Any]]:
    """A scan with a change in its middle: settings at its end, the run, names of snapshots."""
    patterns = airpi_scenes.random_patterns(64)
    acquisition: Acquisition = acquisition_of(patterns, (8, 8), step_size_angstrom=0.3)
    run = ScanRun(acquisition, settings_of(engines, airpi_scenes.OPTICS), engines)
    names = []
    for number, block in enumerate(blocks_of(acquisition, patterns, (16,))):
        if number == 2 and after is not None:
            run.change(after)
        run.reduce(block)
        if number == 1:
            run.feed()
            names.append([result.name for result in run.snapshot(final=False).results])
    run.end("complete")
    final = run.serve(lambda snapshot: None, lambda: 100.0)
    assert not run.failed
    names.append([result.name for result in final.results])
    return run.settings, run, names


def check(name: str, table: dict[str, Any], *, own_name: str | None = None) -> None:
    named = {**table, **({"name": own_name} if own_name else {})}
    engines = [EngineConfig.of(name, named)]
    if engines[0].settings.needs == "images":
        engines = [engine("sum"), engine("pacbed"), *engines]
    before = settings_of(engines, airpi_scenes.OPTICS)
    assert missing_inputs(before.engines, live=True) == []
    changed = EngineConfig.of(name, {**named, **CHANGES.get(name, {})})
    after = replace(
        before,
        engines={**before.engines, engines[-1].name: changed.settings},
        optics=airpi_scenes.OPTICS.model_copy(update={"rotation_deg": 10.0}),
        revision=2,
    )
    for change in (None, after):
        settings, _, (live, final) = played(engines, change)
        assert set(live) <= set(image_names(before.engines)), "while the scan runs"
        assert len(set(live)) == len(live)
        assert sorted(final) == sorted(image_names(settings.engines)), "finished"


@pytest.mark.parametrize("name", BUILT_IN)
def test_a_built_in_engine_makes_the_images_it_declares(
    name: str, tables: dict[str, dict[str, Any]]
) -> None:
    check(name, tables.get(name, {}))
    check(name, tables.get(name, {}), own_name="other")


def test_engines_of_other_packages_make_the_images_they_declare(installed: list[str]) -> None:
    known = [plugin.name for plugin in plugins.catalogue("engines")]
    assert set(installed) <= set(known)
    for name in installed:
        check(name, {})
        check(name, {}, own_name="other")


def test_settings_that_were_summed_with_stay_when_images_are_made_anew(
    installed: list[str], tables: dict[str, dict[str, Any]]
) -> None:
    engines = [engine("ratio"), engine("virtual_detector", **tables["virtual_detector"])]
    settings, run, (_, final) = played(engines, None)
    before = run.snapshot(final=True)
    other = [engine("ratio", radius_px=3.0), engine("virtual_detector", detectors_px={"x": [0, 1]})]
    turned = airpi_scenes.OPTICS.model_copy(update={"rotation_deg": 30.0})
    anew = run.recompute(settings_of(other, turned))
    assert [result.name for result in anew.results] == final
    for old, new in zip(before.results, anew.results, strict=True):
        np.testing.assert_array_equal(old.image, new.image)
    assert run.settings.optics == turned
    assert run.settings.engines == settings.engines

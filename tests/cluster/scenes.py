"""Recordings of known content, and their images without a cluster."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from stemd.acquisition import Optics, Scan
from stemd.adapters.base import AdapterSettings
from stemd.adapters.files import open_recording
from stemd.adapters.merlin.encoder import Camera as Merlin
from stemd.adapters.merlin.encoder import encode_frame
from stemd.config.resolved import EngineConfig
from stemd.offline.cluster.recipe import Recipe
from stemd.offline.outcome import Outcome, outcome_of
from stemd.results import Snapshot
from stemd.scan.processing import process_recording
from stemd.settings import Settings

from ..timepix3.streams import Camera as Timepix3
from ..timepix3.streams import electrons, settings

TABLES: dict[str, dict[str, Any]] = {
    "com": {},
    "ricom": {"kernel_size": 9},
    "icom": {},
    "sum": {},
    "pacbed": {},
    "pattern": {},
    "virtual_detector": {"detectors_px": {"bf": [0, 6], "adf": [6.5, 14]}},
}


def recipe(
    path: Path,
    scan: Scan,
    camera: AdapterSettings | None = None,
    tables: dict[str, dict[str, Any]] = TABLES,
    **optics: Any,
) -> Recipe:
    """What to do with a file, with all engines unless told otherwise."""
    engines = [EngineConfig.of(name, table) for name, table in tables.items()]
    chosen = Settings(
        optics=Optics(pixel_size_mrad=0.5, **optics),
        engines={engine.name: engine.settings for engine in engines},
        scan=scan,
    )
    pairs = tuple((engine.plugin.name, engine.settings) for engine in engines)
    return Recipe(path, scan, camera, chosen, pairs)


def plainly(made: Recipe, jobs: int = 1) -> tuple[Outcome, Snapshot]:
    """The same without a cluster."""
    recording = open_recording(made.path, made.scan, made.camera)
    try:
        run, final = process_recording(recording, made.settings, made.choices(), jobs)
        return outcome_of(run), final
    finally:
        recording.close()


def same(found: tuple[Outcome, Snapshot], wanted: tuple[Outcome, Snapshot]) -> None:
    """Every image bit for bit, and everything that is said about it."""
    (outcome, final), (true_outcome, true_final) = found, wanted
    images = {result.name: result for result in final.results}
    assert list(images) == [result.name for result in true_final.results]
    for result in true_final.results:
        other = images[result.name]
        assert other.image.dtype == result.image.dtype
        assert other.image.tobytes() == result.image.tobytes(), result.name
        assert other.extra == result.extra, result.name
        assert (other.units, other.axes, other.pixel_size) == (
            result.units,
            result.axes,
            result.pixel_size,
        )
    assert final.positions_done == true_final.positions_done
    assert (outcome.done == true_outcome.done).all()
    for name in ("status", "optics", "counters", "notes"):
        assert getattr(outcome, name) == getattr(true_outcome, name), name


def wandering_discs(frames: int, size: int = 32, seed: int = 0) -> NDArray[np.uint16]:
    """Patterns with a disc that moves a little, and noise: no two of them alike."""
    random = np.random.default_rng(seed)
    y, x = np.mgrid[:size, :size]
    patterns = random.poisson(0.3, (frames, size, size))
    for pattern in patterns:
        shift = np.array([size / 2 + 1, size / 2 - 2]) + random.normal(0, 1.5, 2)
        pattern += 20 * (np.hypot(y - shift[0], x - shift[1]) < 6)
    return patterns.astype(np.uint16)


def write_npy(path: Path, scan: Scan, frames: int | None = None, size: int = 32) -> Path:
    """An array of patterns, one for each of the scan's frames."""
    np.save(path, wandering_discs(frames or scan.frames, size))
    return path


def write_mib(path: Path, scan: Scan, *, lost: tuple[int, ...] = (), raw: bool = False) -> Path:
    """A .mib file; `lost` frames are not in it."""
    camera = Merlin(shape=(256, 256), raw=raw)
    small = wandering_discs(scan.frames)
    patterns = np.zeros((scan.frames, 256, 256), np.uint16)
    patterns[:, 100:132, 120:152] = small
    with path.open("wb") as file:
        for number, pattern in enumerate(patterns):
            if number not in lost:
                file.write(encode_frame(pattern, camera, number + 1))
    return path


def write_events(path: Path, scan: Scan, hits: int = 300_000, **changes: Any) -> AdapterSettings:
    """A .tpx3 file of a quad with line pulses that arrive late; its camera's settings."""
    path.write_bytes(Timepix3(late_words=9000).stream(electrons(scan, hits)))
    return settings(scan, **changes)

"""What is said of a processed scan, and the folder that its images are written into."""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from stemd.acquisition import Acquisition, Optics, iso_utc
from stemd.config.tables import DEFAULT_RESULTS
from stemd.results import Snapshot
from stemd.scan.measured_optics import measured_optics, said_by_data
from stemd.scan.run import ScanRun
from stemd.settings import Settings
from stemd.storage.folder import ScanFolder, ScanSummary


@dataclass(frozen=True, slots=True)
class Outcome:
    """What scan.json says of a processed scan; `done` is the flat mask of its positions.

    `notes`: which engines have failed, and why; `mask`, `notices`, `engines` and `measured` as in
    `ScanSummary`.
    """

    acquisition: Acquisition
    status: Literal["complete", "incomplete", "aborted"]
    done: NDArray[np.bool_]
    optics: Optics
    counters: dict[str, int]
    notes: list[str]
    finished_ns: int
    mask: dict[str, Any] | None
    notices: list[dict[str, Any]]
    engines: dict[str, str]
    measured: dict[str, Any] | None = None

    @property
    def positions_done(self) -> int:
        """Probe positions that have a value."""
        return int(np.count_nonzero(self.done))


def outcome_of(run: ScanRun) -> Outcome:
    """What is to be said of a run that has ended."""
    measured = run.measured
    if measured is None:
        measured = measured_optics(run)
        for said in said_by_data(measured, run.settings.optics):
            run.tell(said)
    return Outcome(
        run.acquisition,
        run.status,
        run.sums.maps.done,
        run.settings.optics,
        {"frames": run.frames, **run.counters},
        [f"engine {name} failed: {why}" for name, why in run.failed.items()],
        run.finished_ns,
        run.sums.mask.document(),
        run.notices,
        {choice.name: choice.plugin.name for choice in run.engines.choices},
        measured,
    )


def settings_json(settings: Settings) -> dict[str, Any]:
    """As they stand in scan.json."""
    return {
        "revision": settings.revision,
        "optics": settings.optics.model_dump(mode="json"),
        **{name: engine.model_dump(mode="json") for name, engine in settings.engines.items()},
    }


def write_run(
    outcome: Outcome,
    final: Snapshot,
    folder: Path,
    settings: dict[str, Any],
    camera: Mapping[str, Any] | None = None,
    forms: Sequence[str] = (),
) -> dict[str, Any]:
    """Write `<name>.tif` for every image and scan.json; returns what stands in scan.json.

    `camera`: the table of its config, where there is one; `forms`: writers of images beside that
    of TIFF files. Raises SinkError when the folder cannot be written.
    """
    target = begin_folder(outcome.acquisition, folder)
    write_images(target, final, settings, forms)
    return finish_folder(target, outcome, settings, camera)


def begin_folder(acquisition: Acquisition, folder: Path) -> ScanFolder:
    """The folder of a processed scan, made if it is not there."""
    target = ScanFolder(folder, acquisition, "process", "files")
    target.create()
    return target


def write_images(
    target: ScanFolder, images: Snapshot, settings: dict[str, Any], forms: Sequence[str] = ()
) -> None:
    """Write images of the scan, perhaps not all of them, as in `write_run`."""
    written = target.write_results(images, settings, dict.fromkeys((*DEFAULT_RESULTS, *forms)))
    for failure in written.errors:
        raise failure


def finish_folder(
    target: ScanFolder,
    outcome: Outcome,
    settings: dict[str, Any],
    camera: Mapping[str, Any] | None = None,
) -> dict[str, Any]:
    """Write scan.json, once the images are there; returns what stands in it."""
    summary = ScanSummary(
        status=outcome.status,
        done=outcome.done,
        optics=outcome.optics,
        settings=settings | {"processed": iso_utc(time.time_ns())},
        counters=outcome.counters,
        notes=outcome.notes,
        finished_ns=outcome.finished_ns,
        mask=outcome.mask,
        notices=outcome.notices,
        camera=camera,
        engines=outcome.engines,
        measured=outcome.measured,
    )
    return target.write_summary(summary)

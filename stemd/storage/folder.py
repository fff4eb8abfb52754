"""One scan's folder: the result images and scan.json, each either whole or not there."""

from __future__ import annotations

import platform
import time
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from functools import cache
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from stemd import __version__
from stemd.acquisition import Acquisition, Optics, iso_utc
from stemd.config.tables import DEFAULT_RESULTS
from stemd.documents import to_json
from stemd.errors import SinkError
from stemd.results import Snapshot
from stemd.storage.files import FileRecord, disk_error, fsync_folder, write_at_once, write_atomic
from stemd.storage.writers import Written, write_results

SCAN_FILE = "scan.json"
MAX_MISSING_RUNS = 1000
"""More holes than this are only counted: the list would be larger than what it describes."""

Status = Literal["acquiring", "complete", "incomplete", "aborted", "not recorded"]
"""`not recorded`: whatever arrived, not all of what was to be kept of it is on the disk."""


def missing_runs(done: NDArray[np.bool_]) -> list[tuple[int, int]]:
    """Runs (first, stop) of flat probe positions that are not done, stop exclusive."""
    edges = np.flatnonzero(np.diff(done.reshape(-1), prepend=True, append=True))
    return [(int(first), int(stop)) for first, stop in edges.reshape(-1, 2)]


@cache
def versions() -> dict[str, str]:
    """Versions of what the numbers depend on."""
    found = {"python": platform.python_version(), "stemd": __version__}
    for name in ("numpy", "numba"):
        try:
            found[name] = version(name)
        except PackageNotFoundError:
            found[name] = "unknown"
    return found


@dataclass(slots=True)
class ScanSummary:
    """What scan.json says beyond the acquisition itself.

    `settings` are the live settings at the end, with their `revision`; `settings_history` lists
    `{"revision", "time", "time_ns", "positions_done", "changes"}` for every change in mid-scan.
    `done` is the flat mask of finished probe positions. `recomputed` lists what was made anew
    from the maps after the scan; `session` is the id of the session the scan belongs to;
    `completion` says what becomes of images that lack positions, None where none does;
    `not_written` lists in words what was to be on the disk and is not. `mask` says which detector
    pixels did not count, None where all did; `notices` lists what was noticed about the data.
    `camera` is the table of the camera's config, with its `type`, and `engines` the type of each
    engine by its name: with `settings` they are what the record is read with again.
    `measured` are the optics as the data have them, None where nobody has looked.
    """

    status: Status
    done: NDArray[np.bool_]
    optics: Optics = field(default_factory=Optics)
    settings: Mapping[str, Any] = field(default_factory=dict)
    settings_history: Sequence[Mapping[str, Any]] = ()
    counters: Mapping[str, Any] = field(default_factory=dict)
    notes: Sequence[str] = ()
    finished_ns: int = field(default_factory=time.time_ns)
    session: str | None = None
    recomputed: Sequence[Mapping[str, Any]] = ()
    completion: Mapping[str, Any] | None = None
    not_written: Sequence[str] = ()
    mask: Mapping[str, Any] | None = None
    notices: Sequence[Mapping[str, Any]] = ()
    camera: Mapping[str, Any] | None = None
    engines: Mapping[str, str] = field(default_factory=dict)
    measured: Mapping[str, Any] | None = None


def scan_document(
    acquisition: Acquisition,
    pipeline: str,
    instrument: str,
    summary: ScanSummary,
    files: Iterable[FileRecord],
) -> dict[str, Any]:
    """Everything needed to understand and repeat the scan, as plain JSON types.

    `missing` counts probe positions without data; `missing_runs` lists them as [first, stop)
    of flat indices, or is null when there are too many holes to list.
    """
    runs = missing_runs(summary.done)
    finished = None if summary.status == "acquiring" else summary.finished_ns
    detector = acquisition.detector
    return {
        "id": acquisition.id,
        "status": summary.status,
        "pipeline": pipeline,
        "instrument": instrument,
        "source": acquisition.source,
        "started": iso_utc(acquisition.started_ns),
        "started_ns": acquisition.started_ns,
        "finished": iso_utc(finished) if finished else None,
        "finished_ns": finished,
        "scan": acquisition.scan.model_dump(mode="json"),
        "detector": {
            "name": detector.name,
            "shape": list(detector.shape),
            "dtype": detector.dtype,
            "bit_depth": detector.bit_depth,
            "scale": detector.scale,
            "header": detector.header,
        },
        "camera": dict(summary.camera) if summary.camera is not None else None,
        "optics": summary.optics.model_dump(mode="json"),
        "measured_optics": dict(summary.measured) if summary.measured is not None else None,
        "mask": dict(summary.mask) if summary.mask is not None else None,
        "positions_total": int(summary.done.size),
        "positions_done": int(np.count_nonzero(summary.done)),
        "missing": sum(stop - first for first, stop in runs),
        "missing_runs": [list(run) for run in runs] if len(runs) <= MAX_MISSING_RUNS else None,
        "counters": dict(summary.counters),
        "engines": dict(summary.engines),
        "settings": dict(summary.settings),
        "settings_history": [dict(change) for change in summary.settings_history],
        "recomputed": [dict(change) for change in summary.recomputed],
        "completion": dict(summary.completion) if summary.completion is not None else None,
        "session": summary.session,
        "about": dict(summary.settings.get("about") or {}),
        "not_written": list(summary.not_written),
        "notes": list(summary.notes),
        "notices": [dict(notice) for notice in summary.notices],
        "versions": versions(),
        "files": [record.as_json() for record in files],
    }


class ScanFolder:
    """A folder that receives one scan. Methods block on the disk and raise SinkError only."""

    def __init__(
        self, path: Path, acquisition: Acquisition, pipeline: str, instrument: str
    ) -> None:
        self.path = path
        self.acquisition = acquisition
        self.pipeline = pipeline
        self.instrument = instrument
        self.files: dict[str, FileRecord] = {}

    @classmethod
    def of_scan(
        cls, data_dir: Path, acquisition: Acquisition, pipeline: str, instrument: str
    ) -> ScanFolder:
        """`<data_dir>/<YYYY-MM-DD>/<scan id>` by the UTC day on which the scan began."""
        day = datetime.fromtimestamp(acquisition.started_ns / 1e9, UTC).date().isoformat()
        if not acquisition.id or set(acquisition.id) & set("/\\\0") or acquisition.id[0] == ".":
            raise SinkError(
                f"{acquisition.id!r} cannot be the id of a scan", "use stemd's own scan ids"
            )
        return cls(data_dir / day / acquisition.id, acquisition, pipeline, instrument)

    def create(self, summary: ScanSummary | None = None) -> None:
        """Make the folder, durable up to the data folder, with a scan.json that says `acquiring`.

        Should the daemon be killed, the geometry and the settings that the record is to be read
        with are there.
        """
        summary = summary or self._acquiring()
        self.make(summary)
        try:
            fsync_folder(self.path.parent)
            fsync_folder(self.path.parent.parent)
        except OSError as error:
            raise disk_error(error, "create the scan's folder", self.path) from error
        self.write_summary(summary)

    def make(self, summary: ScanSummary | None = None) -> None:
        """The same, without waiting until it would outlive a power cut; a kill it outlives."""
        try:
            self.path.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise disk_error(error, "create the scan's folder", self.path) from error
        document = self._document(summary or self._acquiring())
        write_at_once(self.path / SCAN_FILE, (to_json(document, indent=1) + "\n").encode())

    def _acquiring(self) -> ScanSummary:
        return ScanSummary("acquiring", np.zeros(self.acquisition.scan.positions, np.bool_))

    def _document(self, summary: ScanSummary) -> dict[str, Any]:
        files = self.files.values()
        return scan_document(self.acquisition, self.pipeline, self.instrument, summary, files)

    def add(self, record: FileRecord) -> None:
        """List a file that somebody else has written into the folder."""
        self.files[record.name] = record

    def write_results(
        self,
        snapshot: Snapshot,
        settings: Mapping[str, Any] | None = None,
        writers: Iterable[str] = DEFAULT_RESULTS,
    ) -> Written:
        """Have every image written by these writers of `record.results`."""
        written = write_results(writers, self.path, snapshot, settings or {})
        for record in written.files:
            self.add(record)
        return written

    def write_summary(self, summary: ScanSummary) -> dict[str, Any]:
        """Write scan.json and return what stands in it."""
        document = self._document(summary)
        text = to_json(document, indent=1) + "\n"
        write_atomic(self.path / SCAN_FILE, [text.encode()])
        return document

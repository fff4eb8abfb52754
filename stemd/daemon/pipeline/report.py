"""The documents of a pipeline: its state, its part of the health, the start of a scan."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable
from dataclasses import asdict

import numpy as np
from numpy.typing import NDArray

from stemd.acquisition import Acquisition, iso_utc
from stemd.daemon.heartbeats import stalled
from stemd.daemon.pipeline.disk_side import DiskSide
from stemd.daemon.pipeline.finishing import Finishing
from stemd.daemon.pipeline.images import PublishedImages
from stemd.daemon.pipeline.reader import Reader
from stemd.daemon.pipeline.scans import Scans
from stemd.daemon.pipeline.status import Status
from stemd.daemon.pipeline.troubles import Troubles
from stemd.events import Json
from stemd.scan.run import ScanRun

MOST_TOLD = 20
"""Notices of a scan that its state document has."""


class Report:
    """Reads the parts of a pipeline and changes nothing. On the event loop.

    `session` is the id of the running session, `completions` what is being completed.
    """

    def __init__(
        self,
        reader: Reader,
        scans: Scans,
        finishing: Finishing,
        images: PublishedImages,
        status: Status,
        troubles: Troubles,
        disk: DiskSide,
        session: Callable[[], str | None],
        completions: Callable[[], Json],
    ) -> None:
        self._reader, self._scans, self._finishing = reader, scans, finishing
        self._images, self._status, self._troubles = images, status, troubles
        self._disk, self._session, self._completions = disk, session, completions

    def state(self) -> Json:
        """The state document of A3."""
        now = time.time_ns()
        files = self._scans.files
        return {
            "state": self._status.state,
            **self._scan(),
            "positions_per_second": round(positions_per_second(self._scans.current), 1),
            "recording": files is not None and files.recording,
            "camera_connected": self._status.linked,
            "camera_commands": sorted(self._reader.adapter.commands),
            "camera_status": self.camera_status(),
            "scans_finished": self._finishing.scans_finished,
            "session": self._session(),
            "last_error": self._troubles.last_error,
            "errors": self._troubles.errors,
            **self._completions(),
            "time": iso_utc(now),
            "time_ns": now,
        }

    def camera_status(self) -> list[Json]:
        """What the camera said last of itself."""
        return [asdict(reading) for reading in self._reader.adapter.camera_status]

    def _scan(self) -> Json:
        """What the state document says of the running or last scan."""
        run = self._scans.newest
        if run is None:
            return {
                "scan": None,
                "positions_done": 0,
                "positions_total": 0,
                "missing": 0,
                "notices": [],
            }
        running = run is self._scans.current
        total = run.acquisition.scan.positions
        done = run.positions_done
        return {
            "scan": run.acquisition.id,
            "shape": list(run.acquisition.scan.shape),
            "positions_done": done,
            "positions_total": total,
            "missing": passed_over(run.sums.maps.done, done) if running else total - done,
            "frames": run.frames,
            "bytes": run.intake.bytes,
            "counters": run.counters,
            "notices": told(run.notices),
        }

    def ages_s(self) -> dict[str, float]:
        """Seconds since each thread showed that it works, 0 for one that has nothing to do."""
        now, files = time.monotonic(), self._scans.files
        recorder = files.recorder if files is not None else None
        beats = (now - run.images.heartbeat for run in self._scans.unfinished)
        return {
            "reader": self._reader.age_s,
            "engines": max(beats, default=0.0),
            "recorder": recorder.stalled_s if recorder is not None else 0.0,
        }

    def stalled(self) -> list[str]:
        """Threads that are stuck."""
        return stalled(self.ages_s())

    def health(self) -> Json:
        """A pipeline's part of the health document."""
        scans, reader, run = self._scans, self._reader, self._scans.current
        recorder = scans.files.recorder if scans.files is not None else None
        newest = run.intake.received_ns if run is not None else scans.last_received_ns
        ages = self.ages_s()
        return {
            "state": self._status.state,
            "positions_per_second": round(positions_per_second(run), 1),
            "positions": scans.positions + (run.positions_done if run is not None else 0),
            "scans_finished": self._finishing.scans_finished,
            "scans_not_complete": self._finishing.scans_not_complete,
            "scans_not_recorded": self._disk.scans_not_recorded,
            "scans_being_written": self._finishing.being_written,
            "camera_connected": self._status.linked,
            "pool_free": reader.adapter.pool.free,
            "pool_blocks": reader.adapter.pool.buffers,
            "pool_oldest_s": round(reader.adapter.pool.oldest_s, 1),
            "record_queue": recorder.queue_depth if recorder is not None else 0,
            "record_waits": recorder.waits if recorder is not None else 0,
            "snapshots_replaced": self._images.replaced,
            "last_frame_age_s": round((time.time_ns() - newest) / 1e9, 3) if newest else None,
            "adapter_failures": reader.restarts.failures,
            "threads_age_s": {name: round(age, 2) for name, age in ages.items()},
            "stalled": stalled(ages),
            "counts": reader.feed.counts.as_dict(),
            "optics": self._measured(),
        }

    def _measured(self) -> Json | None:
        """The numbers that were measured of the last scan's optics, by name, and their sigmas."""
        last = self._finishing.last
        if last is None or last.run.measured is None:
            return None
        measured = last.run.measured
        numbers = {
            name: {"value": entry["value"], "sigma": entry["sigma"]}
            for name, entry in measured.items()
            if isinstance(entry, dict) and isinstance(entry.get("value"), int | float)
        }
        return {"numbers": numbers, "agrees": measured["agrees"], "quality": measured["quality"]}


def told(notices: Iterable[Json]) -> list[Json]:
    """The warnings among a scan's notices, errors first: so many as a state document has room for.

    All of them stand in the scan's documents and in scan.json.
    """
    warnings = [notice for notice in notices if notice["level"] != "info"]
    return sorted(warnings, key=lambda notice: notice["level"] != "error")[:MOST_TOLD]


def passed_over(marks: NDArray[np.bool_], at_least: int) -> int:
    """Positions without data before the newest one that has some, of marks (positions,).

    The reader marks on meanwhile: both numbers come from the marks, the newest one first, so that
    a position that comes between them is not told as missing. `at_least` are known to be marked.
    """
    beyond = np.flatnonzero(marks[at_least:])
    newest = at_least + int(beyond[-1]) + 1 if beyond.size else at_least
    return newest - int(np.count_nonzero(marks[:newest]))


def positions_per_second(run: ScanRun | None) -> float:
    """Mean speed of the running scan."""
    if run is None:
        return 0.0
    seconds = (time.time_ns() - run.acquisition.started_ns) / 1e9
    return run.positions_done / max(seconds, 0.05)


def started_document(pipeline: str, acquisition: Acquisition, settings: Json) -> Json:
    """The scan document `started` of A3."""
    detector = acquisition.detector
    return {
        "event": "started",
        "id": acquisition.id,
        "pipeline": pipeline,
        "started": iso_utc(acquisition.started_ns),
        "started_ns": acquisition.started_ns,
        "shape": list(acquisition.scan.shape),
        "scan": acquisition.scan.model_dump(mode="json"),
        "detector": {
            "name": detector.name,
            "shape": list(detector.shape),
            "bit_depth": detector.bit_depth,
        },
        "settings": settings,
    }

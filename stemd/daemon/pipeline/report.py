"""The documents of a pipeline: its state, its part of the health, the start of a scan."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING

from stemd.acquisition import Acquisition, iso_utc
from stemd.adapters.base import Commanded
from stemd.daemon.heartbeats import stalled
from stemd.events import Json
from stemd.scan.run import ScanRun

if TYPE_CHECKING:
    from stemd.daemon.pipeline.pipeline import Pipeline


def state_document(pipeline: Pipeline) -> Json:
    """The state document of A3."""
    run = pipeline.current or pipeline.last_run
    scan: Json = {"scan": None, "positions_done": 0, "positions_total": 0, "missing": 0}
    if run is not None:
        running = run is pipeline.current
        total = run.acquisition.scan.positions
        done = run.positions_done
        newest = int(run.maps.done.nonzero()[0][-1]) + 1 if done and running else 0
        scan = {
            "scan": run.acquisition.id,
            "shape": list(run.acquisition.scan.shape),
            "positions_done": done,
            "positions_total": total,
            "missing": max(0, newest - done) if running else total - done,
            "frames": run.frames,
            "bytes": run.intake.bytes,
            "counters": run.counters,
        }
    now = time.time_ns()
    files, adapter = pipeline.files, pipeline.reader.adapter
    recorder = files.recorder if files is not None else None
    return {
        "state": pipeline.state,
        **scan,
        "positions_per_second": round(positions_per_second(pipeline.current), 1),
        "recording": recorder is not None and recorder.recording,
        "camera_connected": pipeline.linked_now,
        "camera_commands": sorted(adapter.commands) if isinstance(adapter, Commanded) else [],
        "scans_finished": pipeline.scans_finished,
        "session": pipeline.sessions.current,
        "last_error": pipeline.troubles.last_error,
        **pipeline.completer.document(pipeline.name),
        "time": iso_utc(now),
        "time_ns": now,
    }


def positions_per_second(run: ScanRun | None) -> float:
    """Mean speed of the running scan."""
    if run is None:
        return 0.0
    seconds = (time.time_ns() - run.acquisition.started_ns) / 1e9
    return run.positions_done / max(seconds, 0.05)


def ages_s(pipeline: Pipeline) -> dict[str, float]:
    """Seconds since each thread of a pipeline got on, 0 for one that has nothing to do."""
    ages = {"reader": pipeline.reader.age_s}
    files, now = pipeline.files, time.monotonic()
    ages["engines"] = max((now - run.images.heartbeat for run in pipeline.serving), default=0.0)
    recorder = files.recorder if files is not None else None
    ages["recorder"] = recorder.stalled_s if recorder is not None else 0.0
    return ages


def health_document(pipeline: Pipeline) -> Json:
    """A pipeline's part of the health document."""
    run, files = pipeline.current, pipeline.files
    recorder = files.recorder if files is not None else None
    newest = run.intake.received_ns if run is not None else pipeline.last_received_ns
    ages = ages_s(pipeline)
    return {
        "state": pipeline.state,
        "positions_per_second": round(positions_per_second(run), 1),
        "positions": pipeline.positions + (run.positions_done if run is not None else 0),
        "scans_finished": pipeline.scans_finished,
        "scans_not_complete": pipeline.scans_not_complete,
        "scans_being_written": pipeline.scans_being_written,
        "camera_connected": pipeline.linked_now,
        "pool_free": pipeline.reader.pool.free,
        "pool_blocks": pipeline.reader.pool.buffers,
        "record_queue": recorder.queue_depth if recorder is not None else 0,
        "record_waits": recorder.waits if recorder is not None else 0,
        "snapshots_replaced": pipeline.snapshots_replaced,
        "last_frame_age_s": round((time.time_ns() - newest) / 1e9, 3) if newest else None,
        "adapter_failures": pipeline.reader.failures,
        "threads_age_s": {name: round(age, 2) for name, age in ages.items()},
        "stalled": stalled(ages),
        "counts": dict(pipeline.reader.counts),
    }


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

"""Images of some engines made again from a record, as `stemd process` makes them.

What there is to say is a JSON line each; pixels, little-endian float32, follow the line that
announces an image.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Any

import numpy as np

from stemd.acquisition import Scan
from stemd.adapters.files import open_recording
from stemd.config.live import LiveSettings
from stemd.config.resolved import PipelineConfig
from stemd.documents import to_json
from stemd.errors import ConfigError, ModelError, StemdError
from stemd.results import Result
from stemd.scan.processing import process_recording
from stemd.storage.camera import camera_of

TELL_S = 0.5
"""Between two words about how far it is."""


@dataclass(frozen=True, slots=True)
class CompletionJob:
    """The images of these `engines` of a pipeline, from the record of one scan.

    `scan`, `settings` and `camera` are those of its scan.json: the pipeline may have others by
    now, which are used for a scan without any. The process may have `memory_bytes`, and
    gets only what is left over by all others when it `yields`.
    """

    config: PipelineConfig
    engines: tuple[str, ...]
    record: Path
    scan: Mapping[str, Any]
    settings: Mapping[str, Any]
    memory_bytes: int
    yields: bool = True
    camera: Mapping[str, Any] | None = None


def make(job: CompletionJob, progress: Callable[[int, int], None]) -> list[Result]:
    """The images, as `stemd process` of the record makes them. Raises StemdError."""
    chosen = [engine for engine in job.config.engines if engine.name in job.engines]
    gone = set(job.engines) - {engine.name for engine in chosen}
    if gone:
        raise ConfigError(
            f"pipeline {job.config.name} has no engine {', '.join(sorted(gone))} any more",
            "stemd process of the record, with the engine given, makes the image",
        )
    live = LiveSettings.of_scan(job.config, job.settings, without=("publish", "record", "about"))
    scan = Scan.model_validate(job.scan) if job.scan else None
    recording = open_recording(job.record, scan, camera_of(job.camera) or job.config.adapter)
    try:
        run, final = process_recording(recording, live.engines, chosen, 1, progress)
    finally:
        recording.close()
    for engine, why in run.failed.items():
        raise ModelError(f"engine {engine}: {why}", "stemd process of the record shows more")
    return list(final.results)


class Teller:
    """Says how far it is, what has been made, and what went wrong."""

    def __init__(self, out: IO[bytes]) -> None:
        self._out = out
        self._next = 0.0

    def progress(self, done: int, total: int) -> None:
        """So much of the record is through; said now and then."""
        if time.monotonic() >= self._next:
            self._next = time.monotonic() + TELL_S
            self._line({"say": "progress", "done": done, "total": total})

    def image(self, result: Result) -> None:
        """An image."""
        pixels = np.ascontiguousarray(result.image, "<f4")
        about = {
            "name": result.name,
            "units": result.units,
            "axes": result.axes,
            "pixel_size": result.pixel_size,
            "extra": dict(result.extra),
            "shape": list(pixels.shape),
        }
        self._line({"say": "image", **about})
        self._out.write(pixels.data.cast("B"))

    def failed(self, message: str, remedy: str) -> None:
        """It could not be done."""
        self._line({"say": "failed", "message": message, "remedy": remedy})

    def end(self) -> None:
        """That was all."""
        self._line({"say": "end"})
        self._out.flush()

    def _line(self, document: Mapping[str, Any]) -> None:
        self._out.write(to_json(document).encode() + b"\n")
        self._out.flush()


def obey(job: CompletionJob, tell: Teller) -> None:
    """Make the images and tell everything, also what goes wrong."""
    try:
        for result in make(job, tell.progress):
            tell.image(result)
    except StemdError as error:
        tell.failed(error.message, error.remedy)
    except MemoryError:
        tell.failed("the record needs too much memory", "stemd process on a larger machine")
    except Exception as error:
        tell.failed(f"{type(error).__name__}: {error}", "stemd process of the record shows more")
    tell.end()

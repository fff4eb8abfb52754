"""Recorded files through the same data path as live ones, as fast as the disk gives."""

from __future__ import annotations

import itertools
import threading
from collections.abc import Callable, Sequence
from dataclasses import replace

import numpy as np

from stemd.adapters.base import Recording
from stemd.blocks import EventBlock, FrameBlock
from stemd.engines.restoration.correction import find_shifts, moved
from stemd.errors import UsageError
from stemd.results import Result, Snapshot
from stemd.scan.part import ScanPart
from stemd.scan.run import EngineChoice, ScanRun
from stemd.settings import Settings

FIRST_FRAMES = 256
"""Frames read by one thread before the work is split: they fix the detectors' centre."""

Progress = Callable[[int, int], None]
"""(frames done, frames in all)"""


def process_recording(
    recording: Recording,
    settings: Settings,
    engines: Sequence[EngineChoice],
    jobs: int = 1,
    progress: Progress = lambda done, total: None,
) -> tuple[ScanRun, Snapshot]:
    """All frames of a recording into final images, with `jobs` threads over disjoint frames.

    The images do not depend on `jobs` or on how the file is cut into blocks. Raises what the
    recording raises, FormatError where its bytes are not what its format says.
    """
    run = ScanRun(recording.acquisition, settings, engines)
    run.count(recording.notices)
    frames = recording.frames
    if not recording.splits:
        positions = 0
        for block in recording.blocks(0, frames):
            run.reduce(block)
            if isinstance(block, EventBlock):
                positions += sum(stop - first for first, stop in block.complete)
            progress(positions, frames)
            block.release()
        run.end("complete")
        return run, run.snapshot(final=True)
    start = 0
    while start < frames and (start == 0 or not run.first_found):
        stop = min(frames, start + FIRST_FRAMES)
        _reduce(run, recording, start, stop)
        start = stop
    workers = _split(start, frames, jobs)
    done = [0] * len(workers)
    errors: list[Exception] = []
    parts = [ScanPart(run) for _ in workers]

    def work(index: int, part: ScanPart, first: int, stop: int) -> None:
        try:
            for block in recording.blocks(first, stop):
                if errors:
                    return
                assert isinstance(block, FrameBlock)
                part.reduce(block)
                done[index] += block.count
                block.release()
        except Exception as error:
            errors.append(error)

    threads = [
        threading.Thread(target=work, args=(i, part, *span), name=f"process-{i}", daemon=True)
        for i, (part, span) in enumerate(zip(parts, workers, strict=True))
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        while thread.is_alive():
            thread.join(0.1)
            progress(start + sum(done), frames)
    if errors:
        raise errors[0]
    for part in parts:
        part.merge()
    progress(frames, frames)
    run.end("complete")
    return run, run.snapshot(final=True)


def with_correction(run: ScanRun, final: Snapshot, image: str | None = None) -> Snapshot:
    """The images again with every pattern where the beam really was, as `<name>_corrected`.

    Where it was follows from an image and its restored one: `image`, or the first that has been
    restored. `shift_y` and `shift_x` (scan pixels) say by how much. Raises UsageError when
    nothing has been restored.
    """
    named = {result.name: result for result in final.results}
    restored = [r for r in final.results if f"{r.extra.get('input')}_restored" == r.name]
    found = next((r for r in restored if image in (None, r.extra["input"])), None)
    if found is None:
        raise UsageError(
            f"--correct: there is no restored image{f' of {image}' if image else ''}",
            "add --engine restoration:input=NAME with the name of an image"
            + "".join(f"; {run.failed[name]}" for name in run.failed),
        )
    source = named[found.extra["input"]]
    if source.image.shape != run.maps.shape:
        raise UsageError(
            f"--correct: {source.name} has {source.image.shape} pixels, the scan "
            f"{run.maps.shape} positions",
            "restore an image that has one pixel a probe position",
        )
    shifts = find_shifts(source.image, found.image)
    step = run.acquisition.scan.step_size_angstrom
    extra = {"correction": source.name, "model": found.extra["model"]}
    results = list(final.results)
    for name, values in (("shift_y", shifts.y), ("shift_x", shifts.x)):
        results.append(Result(name, values.astype(np.float32), "px", "scan", step, extra))
    results += [
        replace(result, name=f"{result.name}_corrected", extra={**result.extra, **extra})
        for result in run.finals_of(moved(run.acquisition, run.maps, shifts))
    ]
    return replace(final, results=results)


def _reduce(run: ScanRun, recording: Recording, first: int, stop: int) -> None:
    for block in recording.blocks(first, stop):
        assert isinstance(block, FrameBlock)
        run.reduce(block)
        block.release()


def _split(first: int, stop: int, jobs: int) -> list[tuple[int, int]]:
    """Frames first..stop-1 in `jobs` spans of nearly equal length; none is empty."""
    count = min(jobs, stop - first)
    edges = [first + (stop - first) * index // max(1, count) for index in range(count + 1)]
    return list(itertools.pairwise(edges))

"""Recorded files through the same data path as live ones, as fast as the disk gives."""

from __future__ import annotations

import itertools
import threading
from collections.abc import Callable, Sequence
from contextlib import ExitStack, closing
from dataclasses import replace
from functools import partial

import numpy as np

from stemd.adapters.base import Recording
from stemd.ahead import ahead
from stemd.blocks import Block, EventBlock, FrameBlock, Notice
from stemd.errors import UsageError
from stemd.results import Result, Snapshot
from stemd.scan.engines import EngineChoice, Report
from stemd.scan.masking import BrokenPixels
from stemd.scan.part import ScanPart
from stemd.scan.run import ScanRun
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
    *,
    report: Report | None = None,
    notice: Callable[[Notice], None] = lambda notice: None,
    take: Callable[[ScanRun, Snapshot], None] | None = None,
) -> tuple[ScanRun, Snapshot]:
    """All frames of a recording into final images, with `jobs` threads over disjoint frames.

    The images do not depend on `jobs` or on how the file is cut into blocks. `report` is told
    which engine has failed, `notice` what engines have to say. With `take` the images go there, an
    engine's at a time where that is possible, and the snapshot that is returned has none: many
    large ones then need not be in memory together. An empty scan gives none. Raises what the
    recording raises, FormatError where its bytes are not what its format says. Whatever ends it,
    Ctrl-C too, no thread reads on afterwards.
    """
    run = ScanRun(recording.acquisition, settings, engines, report=report, notice=notice)
    broken = BrokenPixels(recording.acquisition, settings.optics)
    if recording.splits:
        _reduce_frames(run, recording, jobs, progress, broken)
    else:
        _reduce_stream(run, recording, jobs, progress, broken)
    for said in broken.hints():
        run.tell(said)
    run.end("complete")
    run.count(recording.notices)
    if run.is_empty:
        run.tell(no_hits())
    run.settle_repeats()
    _place_frames(run, recording, progress)
    if take is None:
        return run, run.snapshot(final=True)
    if run.is_empty:
        return run, run.images.nothing(run.settings)
    return run, run.images.finals_by_engine(run.settings, partial(take, run))


def _place_frames(run: ScanRun, recording: Recording, progress: Progress) -> None:
    """The patterns of a place that was scanned several times, read again and put where they belong.

    For engines that add patterns up.
    """
    engines, repeats = run.engines.placed, run.repeats
    if repeats is None or not engines or run.is_empty:
        return
    done = 0
    for block in recording.blocks(0, recording.frames):
        assert isinstance(block, (FrameBlock, EventBlock))
        for part in repeats.placed(block):
            for engine in engines:
                run.engines.guard(engine, engine.consume, part)
        runs = block.complete if isinstance(block, EventBlock) else [(0, block.count)]
        done += sum(stop - first for first, stop in runs)
        progress(done, recording.frames)
        block.release()


def no_hits() -> Notice:
    """The notice for a scan whose lines have no hits: there is nothing to make images of."""
    return Notice(
        "no_hits",
        "no hit belongs to this scan: there is nothing to make images of",
        remedy="the beam was blanked, or its lines are not those of the hits: check tdc.input, "
        "scan.dwell_time_us and the layout",
    )


def _reduce_stream(
    run: ScanRun, recording: Recording, jobs: int, progress: Progress, broken: BrokenPixels
) -> None:
    """Blocks that need to know what came before them, one after the other.

    With several `jobs` they are made by one thread and taken into the sums by another.
    """
    positions = 0
    with ExitStack() as closed:
        blocks = recording.blocks(0, recording.frames)
        if jobs > 1:
            blocks = closed.enter_context(closing(ahead(blocks, _release)))
        for block in blocks:
            for said in broken.look(block):
                run.tell(said)
            run.reduce(block)
            if isinstance(block, EventBlock):
                positions += sum(stop - first for first, stop in block.complete)
            progress(positions, recording.frames)
            block.release()


def _release(block: Block) -> None:
    block.release()


def _reduce_frames(
    run: ScanRun, recording: Recording, jobs: int, progress: Progress, broken: BrokenPixels
) -> None:
    """The first frames alone, as they decide on centres, the others by `jobs` threads."""
    frames = recording.frames
    start = 0
    while start < frames and (start == 0 or not run.first_found):
        stop = min(frames, start + FIRST_FRAMES)
        _reduce(run, recording, start, stop, broken)
        start = stop
    spans = _split(start, frames, jobs)
    parts = [ScanPart(run) for _ in spans]
    done = [0] * len(spans)
    errors: list[Exception] = []
    over = threading.Event()

    def work(index: int, part: ScanPart, first: int, stop: int) -> None:
        try:
            for block in recording.blocks(first, stop):
                if over.is_set():
                    return
                assert isinstance(block, FrameBlock)
                part.reduce(block)
                done[index] += block.count
                block.release()
        except Exception as error:
            errors.append(error)
            over.set()

    threads = [
        threading.Thread(target=work, args=(i, part, *span), name=f"process-{i}", daemon=True)
        for i, (part, span) in enumerate(zip(parts, spans, strict=True))
    ]
    try:
        for thread in threads:
            thread.start()
        for thread in threads:
            while thread.is_alive():
                thread.join(0.1)
                progress(start + sum(done), frames)
    finally:
        over.set()
        for thread in threads:
            if thread.ident is not None:
                thread.join()
    if errors:
        raise errors[0]
    for part in parts:
        part.merge()
    progress(frames, frames)


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
            + "".join(f"; engine {name}: {run.failed[name]}" for name in run.failed),
        )
    source = named[found.extra["input"]]
    if source.shape != run.maps.shape:
        raise UsageError(
            f"--correct: {source.name} has {source.shape} pixels, the scan "
            f"{run.maps.shape} positions",
            "restore an image that has one pixel a probe position",
        )
    # its room reads more than all else here
    from stemd.engines.restoration.correction import find_shifts, moved

    shifts = find_shifts(source.image, found.image)
    step = run.acquisition.scan.step_size_angstrom
    extra = {"correction": source.name, "model": found.extra["model"]}
    results = list(final.results)
    for name, values in (("shift_y", shifts.y), ("shift_x", shifts.x)):
        results.append(Result(name, values.astype(np.float32), "px", "scan", step, extra))
    results += [
        result.changed(name=f"{result.name}_corrected", extra={**result.extra, **extra})
        for result in run.engines.finals_of(moved(run.acquisition, run.maps, shifts), run.settings)
    ]
    return replace(final, results=results)


def _reduce(
    run: ScanRun, recording: Recording, first: int, stop: int, broken: BrokenPixels
) -> None:
    for block in recording.blocks(first, stop):
        assert isinstance(block, FrameBlock)
        for said in broken.look(block):
            run.tell(said)
        run.reduce(block)
        block.release()


def _split(first: int, stop: int, jobs: int) -> list[tuple[int, int]]:
    """Frames first..stop-1 in `jobs` spans of nearly equal length; none is empty."""
    count = min(jobs, stop - first)
    edges = [first + (stop - first) * index // max(1, count) for index in range(count + 1)]
    return list(itertools.pairwise(edges))

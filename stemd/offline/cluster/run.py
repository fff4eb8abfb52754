"""Many files, each with one or more sets of images, on one cluster at a time."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

from stemd.errors import ClusterError, StemdError
from stemd.offline.cluster.connect import Pool
from stemd.offline.cluster.queue import TaskQueue
from stemd.offline.cluster.recipe import Goal
from stemd.offline.cluster.spread import SpreadFile, Written
from stemd.offline.cluster.watch import Tell, WorkerWatch

Progress = Callable[[int, int, int], None]
"""(bytes done, bytes in all as far as known, threads)"""


def run_files(
    pool: Pool,
    files: Mapping[Path, Sequence[Goal]],
    written: Written,
    failed: Callable[[Path, StemdError], None],
    progress: Progress = lambda done, total, threads: None,
    part_bytes: int | None = None,
    tell: Tell = lambda text, *, over=False: None,
) -> None:
    """Make every goal of every file, the first files first; a file that fails stops no other.

    `files` maps the folder of a file's parts to what is to be made of it; `written` is called
    with each set of images, `failed` with the folder of a file that could not be processed.
    `part_bytes`: about so much of a file a task; None: as suits the workers. `tell` is told of a
    cluster that does not work, and again while it lasts. Raises ClusterError when the cluster is
    lost.
    """
    queue = TaskQueue(pool)
    watch = WorkerWatch(tell)
    spread: dict[Path, SpreadFile] = {}
    for number, (folder, goals) in enumerate(files.items()):

        def fail(error: StemdError, folder: Path = folder) -> None:
            failed(folder, error)

        try:
            spread[folder] = SpreadFile(
                queue,
                goals,
                folder,
                part_bytes=part_bytes,
                number=number,
                files=len(files),
                written=written,
                failed=fail,
            )
        except StemdError as error:
            failed(folder, error)
        else:
            spread[folder].begin()

    def tick() -> None:
        done = sum(file.bytes_done for file in spread.values())
        total = sum(file.bytes_total for file in spread.values())
        threads = queue.count()
        watch.look(queue.workers, queue.ended)
        progress(done, total, threads)

    queue.run(tick)
    watch.over()
    for folder, file in spread.items():
        if not file.over:
            failed(folder, ClusterError("not everything was done", "repeat the command"))

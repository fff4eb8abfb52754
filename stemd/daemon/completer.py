"""Completes images after their scans: one at a time, as long as the daemon runs."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any, Protocol

from stemd.config.resolved import PipelineConfig
from stemd.daemon.completion_files import CompletionFiles
from stemd.errors import SinkError, StemdError
from stemd.events import Hub
from stemd.installation import ReplacedError
from stemd.logs import get_logger
from stemd.offline.completion.maker import REMEDY, made
from stemd.offline.completion.queue import MOST_WAITING, CompletionQueue
from stemd.offline.completion.work import CompletionJob
from stemd.offline.idle import spare_memory
from stemd.results import Result, Snapshot
from stemd.storage import completions as book
from stemd.storage.archive import Record
from stemd.storage.completions import Unfinished
from stemd.storage.files import FileRecord
from stemd.storage.store import Store
from stemd.tasks import Tasks

Json = dict[str, Any]

WRITE_S = 10.0
REPLACED_S = 10.0
"""After another version of stemd was installed: an update may be going on, and be undone."""
KEEP = "let [daemon.retention] keep records longer, or set complete = false for the engine"

log = get_logger(__name__)


class Teller(Protocol):
    """Tells people of a pipeline."""

    def tell(self, level: str, text: str, remedy: str, kind: str) -> None:
        """Log it, publish it, keep it if it is an error."""
        ...


class CompletionHost(Protocol):
    """What a completer needs of the pipeline whose images it completes."""

    @property
    def config(self) -> PipelineConfig:
        """The pipeline's config."""
        ...

    @property
    def commanding(self) -> asyncio.Lock:
        """Held by whoever changes what is kept of finished scans."""
        ...

    @property
    def troubles(self) -> Teller:
        """Where to say what is wrong."""
        ...

    def completed(self, snapshot: Snapshot, files: Sequence[FileRecord], completion: Json) -> None:
        """These images have been made again, and written."""
        ...

    def not_completed(self, scan_id: str, completion: Json) -> None:
        """The scan's images stay as they were when it ended."""
        ...

    def state_changed(self) -> None:
        """What `Completer.document` says has changed."""
        ...


class Completer:
    """What lacks positions is made again from the record, in a process that yields to all others.

    On the event loop. `offer` is for scans that have just ended, `resume` for those that an
    earlier daemon left. What cannot be done, or finds no room in the queue, is told once and
    stands in scan.json.
    """

    def __init__(
        self,
        store: Store,
        hub: Hub,
        pipelines: Mapping[str, CompletionHost],
        most_waiting: int = MOST_WAITING,
    ) -> None:
        self.counts = {"done": 0, "failed": 0, "left": 0}
        self._store, self._hub, self._pipelines = store, hub, pipelines
        self._files = CompletionFiles(store)
        self._queue = CompletionQueue(most_waiting)
        self._most_waiting = most_waiting
        self._now: Unfinished | None = None
        self._part = 0.0
        self._yields = True
        self._making: asyncio.Task[list[Result]] | None = None
        self._working = False
        self._work_tasks, self._writing = Tasks(), Tasks()

    def start(self) -> None:
        """Begin with what is offered."""
        self._working = True
        self._work_tasks.keep(self._work, "completion")

    async def stop(self) -> None:
        """Leave off; what is not done is found by the next daemon's `resume`."""
        self._working = False
        await self._work_tasks.stop()
        await self._writing.stop(wait_s=WRITE_S)

    def use_whole_machine(self) -> None:
        """From now on at the priority of any other process: somebody waits, and nothing scans.

        What is being made is begun again, as a process cannot leave the lowest priority.
        """
        self._yields = False
        if self._making is not None:
            self._making.cancel()

    def offer(self, document: Mapping[str, Any]) -> None:
        """A scan document that may ask for completion; returns at once."""
        if not self._working or not book.is_outstanding(document):
            return
        scan = book.unfinished(document)
        now = self._now is not None and self._now.scan_id == scan.scan_id
        if now and self._now is not None and self._now.optics == scan.optics:
            return
        dropped = self._queue.put(scan)
        self._changed(scan.pipeline)
        if dropped is not None:
            self.counts["left"] += 1
            self._writing.start(self._leave(dropped), "completion write")

    async def resume(self) -> None:
        """Take up what an earlier daemon of this instrument has left undone."""

        for row in await asyncio.to_thread(self._files.outstanding):
            if row["pipeline"] in self._pipelines:
                self.offer(row)
            else:
                _no_pipeline(book.unfinished(row))

    @property
    def tasks(self) -> Tasks:
        """The tasks that complete."""
        return self._work_tasks

    def document(self, pipeline: str) -> Json:
        """What a pipeline's state says."""
        now = self._now if self._now is not None and self._now.pipeline == pipeline else None
        return {
            "completing": now.scan_id if now is not None else None,
            "completing_part": round(self._part, 3) if now is not None else None,
            "completions_waiting": self._queue.of(pipeline),
        }

    # within

    async def _work(self) -> None:
        while True:
            self._now = scan = await self._queue.take()
            self._part = 0.0
            self._changed(scan.pipeline)
            try:
                if scan.pipeline in self._pipelines:
                    await self._complete(scan)
                else:
                    _no_pipeline(scan)  # as it is still outstanding, a later daemon finds it
            except asyncio.CancelledError:
                if self._working:
                    self._queue.put_back(scan)  # for the task that comes after this one
                raise
            except ReplacedError:  # told by health: the next daemon completes it
                self._queue.put_back(scan)
                await asyncio.sleep(REPLACED_S)
            except StemdError as error:
                await self._fail(scan, error)
            except Exception as error:
                log.exception("a completion failed", scan=scan.scan_id)
                text = f"{type(error).__name__}: {error}"
                await self._fail(scan, StemdError(text, "see the daemon's log"))
            finally:
                self._now = None
                self._changed(scan.pipeline)

    async def _complete(self, scan: Unfinished) -> None:
        pipeline = self._pipelines[scan.pipeline]
        if not self._store.claim(scan.scan_id):
            raise StemdError("retention deletes the record", KEEP)
        try:
            record = await asyncio.to_thread(self._files.record, scan.scan_id)
            if record is None:
                raise StemdError("the record is gone", KEEP)
            job = CompletionJob(
                pipeline.config,
                tuple(scan.lacking),
                record.path,
                record.scan,
                scan.settings(record.settings),
                spare_memory(),
                camera=record.camera,
            )
            log.info("images are completed from the record", scan=scan.scan_id)
            began = time.monotonic()
            results = await self._made(job)
            seconds = time.monotonic() - began
            # a daemon that stops waits for this: it would have to be done again
            publishing = self._publish(pipeline, scan, record, results, seconds)
            await asyncio.shield(self._writing.start(publishing, "completion write"))
        finally:
            self._store.release(scan.scan_id)

    async def _made(self, job: CompletionJob) -> list[Result]:
        while True:
            yields = self._yields
            self._making = asyncio.create_task(made(replace(job, yields=yields), self._progress))
            try:
                return await self._making
            except asyncio.CancelledError:
                if not self._working or yields == self._yields:
                    raise
                # begun again, at the new priority
            finally:
                self._making = None

    def _progress(self, done: int, total: int) -> None:
        self._part = done / max(1, total)
        if self._now is not None:
            self._changed(self._now.pipeline)

    async def _publish(
        self,
        pipeline: CompletionHost,
        scan: Unfinished,
        record: Record,
        results: Sequence[Result],
        seconds: float,
    ) -> None:
        async with pipeline.commanding:  # save and recompute write to the folder, too
            if scan.scan_id in self._queue:  # with other optics, of which scan.json tells already
                return
            document, snapshot, files = await asyncio.to_thread(
                self._files.done, record, results, seconds, scan.optics
            )
            pipeline.completed(snapshot, files, document["completion"])
        self.counts["done"] += 1
        self._tell(document)
        log.info("images completed", scan=record.scan_id, seconds=round(seconds, 1))

    async def _fail(self, scan: Unfinished, error: StemdError) -> None:
        if scan.scan_id in self._queue:  # likewise: what is wrong will be met again
            return
        self.counts["failed"] += 1
        text = f"the images of scan {scan.scan_id} could not be completed from its record: "
        await self._end(scan, book.FAILED, text + error.message, error.remedy, "error")

    async def _leave(self, scan: Unfinished) -> None:
        text = (
            f"more than {self._most_waiting} scans wait for the completion of their images: "
            f"the oldest, {scan.scan_id}, is left as it is"
        )
        await self._end(scan, book.LEFT, text, REMEDY, "warning")

    async def _end(
        self, scan: Unfinished, status: str, message: str, remedy: str, level: str
    ) -> None:
        """Say that it is not done, where it is looked for."""

        def write() -> Json | None:
            return self._files.not_done(scan.scan_id, status, message, remedy)

        pipeline = self._pipelines.get(scan.pipeline)
        document = None
        try:
            if pipeline is None:
                document = await asyncio.to_thread(write)
            else:
                async with pipeline.commanding:
                    document = await asyncio.to_thread(write)
                    if document is not None:
                        pipeline.not_completed(scan.scan_id, document["completion"])
        except SinkError as error:
            log.warning("scan.json could not be updated", scan=scan.scan_id, error=str(error))
        if pipeline is not None:
            pipeline.troubles.tell(level, message, remedy, "completion")
        if document is not None:
            self._tell(document)
        self._changed(scan.pipeline)

    def _tell(self, document: Json) -> None:
        told = {key: value for key, value in document.items() if key != "detector"}
        self._hub.document(document["pipeline"], {"event": "completion", **told})

    def _changed(self, pipeline: str) -> None:
        if (found := self._pipelines.get(pipeline)) is not None:
            found.state_changed()


def _no_pipeline(scan: Unfinished) -> None:
    log.warning(
        "images are left incomplete: their pipeline is not in the config",
        scan=scan.scan_id,
        pipeline=scan.pipeline,
        remedy=f"put it in again, or: {REMEDY}",
    )

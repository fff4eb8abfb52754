"""Scans that are over: their images are published, their files written, the last one is kept."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Protocol

from stemd.daemon.beside import beside
from stemd.daemon.pipeline.finished import FinishedScan, marked, to_complete
from stemd.daemon.pipeline.images import PublishedImages
from stemd.daemon.pipeline.settings import SettingsInForce
from stemd.errors import StemdError
from stemd.events import Json
from stemd.logs import get_logger
from stemd.results import Snapshot
from stemd.scan.run import ScanRun
from stemd.storage.files import FileRecord
from stemd.storage.scan_files import ScanFiles
from stemd.tasks import Tasks

MAX_FINISHING = 3
"""Scans that may be written at the same time; beyond that the camera waits."""
LOOK_S = 0.2
"""How often a camera that waits for a place looks whether it is to stop."""

log = get_logger(__name__)


class FinishListener(Protocol):
    """Who is told how the end of a scan went."""

    def scan_finished(
        self, run: ScanRun, files: ScanFiles, document: Json, lacking: Mapping[str, int]
    ) -> None:
        """The scan's files are written, as far as the disk took them."""
        ...

    def scan_not_finished(self, run: ScanRun, error: StemdError) -> None:
        """Something unforeseen went wrong."""
        ...

    def changed(self) -> None:
        """What the pipeline's state follows from has changed."""
        ...


class Finishing:
    """Finishes scans and keeps the last one, so that its images can be made anew.

    On the event loop, but for `take_place` and `give_place`, which the reader's thread calls.
    """

    def __init__(
        self,
        pipeline: str,
        settings: SettingsInForce,
        images: PublishedImages,
        listener: FinishListener,
    ) -> None:
        self.last: FinishedScan | None = None
        self.scans_finished = 0
        self.scans_not_complete = 0
        self._settings, self._images, self._listener = settings, images, listener
        self._places = threading.Semaphore(MAX_FINISHING)
        self._tasks = Tasks()
        self._unwritten: set[ScanRun] = set()
        self._name = f"finish-{pipeline}"
        self._awaited: dict[str, asyncio.Future[Snapshot]] = {}

    def take_place(self, stop: threading.Event) -> None:
        """Wait until few enough scans are unfinished, or for `stop` (reader's thread)."""
        while not self._places.acquire(timeout=LOOK_S):
            if stop.is_set():
                break

    def give_place(self) -> None:
        """One scan less is unfinished; by any thread."""
        self._places.release()

    @property
    def being_written(self) -> int:
        """Scans whose files are not all written yet."""
        return len(self._unwritten)

    def images_of(self, scan_id: str) -> asyncio.Future[Snapshot]:
        """The finished images of a scan that will begin, when they are there."""
        future: asyncio.Future[Snapshot] = asyncio.get_running_loop().create_future()
        self._awaited[scan_id] = future
        future.add_done_callback(lambda _: self._awaited.pop(scan_id, None))
        return future

    def begin(self, run: ScanRun, files: ScanFiles, final: Snapshot) -> None:
        """The scan's images are made: finish it. Gives its place back in the end."""
        self._unwritten.add(run)
        self._tasks.start(self._finish(run, files, final), self._name)

    async def _finish(self, run: ScanRun, files: ScanFiles, final: Snapshot) -> None:
        try:
            lacking, names = to_complete(run, files)
            final = marked(final, names)
            self._publish(run, final)
            document = await beside(
                files.close,
                run,
                final,
                self._settings.live.as_json(),
                lacking=lacking,
            )
            whole = document["completion"] is not None
            self.last = FinishedScan(run, files, final, names if whole else frozenset())
            self.scans_finished += 1
            self.scans_not_complete += document["status"] != "complete"
            self._listener.scan_finished(run, files, document, lacking)
        except BaseException as error:
            log.exception("a scan could not be finished", scan=run.acquisition.id)
            text = f"scan {run.acquisition.id}: {type(error).__name__}: {error}"
            self._listener.scan_not_finished(run, StemdError(text, "see the daemon's log"))
            if not isinstance(error, Exception):
                raise
        finally:
            self.give_place()
            self._unwritten.discard(run)
            self._listener.changed()

    def _publish(self, run: ScanRun, final: Snapshot) -> None:
        early = run.images.early
        late = [result for result in final.results if result.name not in early]
        if late or not early:
            self._images.publish_final(replace(final, results=late))
        self._images.keep(final)
        awaited = self._awaited.get(run.acquisition.id)
        if awaited is not None and not awaited.done():
            awaited.set_result(final)

    def completed(self, snapshot: Snapshot, files: Sequence[FileRecord], completion: Json) -> None:
        """Images of a past scan have been made again from its record, and written."""
        if self.last is not None and self.last.id == snapshot.acquisition.id:
            self.last.completed(snapshot, files, completion)
        self._images.completed(snapshot)

    def not_completed(self, scan_id: str, completion: Json) -> None:
        """Images of a past scan stay as they were when it ended."""
        if self.last is not None and self.last.id == scan_id:
            self.last.not_completed(completion)

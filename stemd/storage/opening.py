"""The folder of a scan that begins is made beside the scan."""

from __future__ import annotations

import threading

from stemd.errors import SinkError
from stemd.logs import get_logger
from stemd.storage.failures import Failures
from stemd.storage.folder import ScanFolder, ScanSummary
from stemd.storage.store import Store

log = get_logger(__name__)


class Opening:
    """Makes one scan's folder and enters the scan in the catalogue, in a thread of its own."""

    def __init__(self, folder: ScanFolder, store: Store, failures: Failures) -> None:
        self.usable = False
        """Once it is over: whether there is a folder to write to."""
        self._folder, self._store, self._failures = folder, store, failures
        self._made = threading.Event()
        self._opened = threading.Event()

    def start(self, summary: ScanSummary) -> None:
        """Begin; returns at once. `summary` is what there is to be said of the scan by now."""
        threading.Thread(
            target=self._open, args=(summary,), name="scan-folder", daemon=True
        ).start()

    def is_made(self) -> bool:
        """Whether there is a folder for the record; waits until that is known."""
        self._made.wait()
        return self._folder.path.is_dir() and not self._failures.failed

    def is_open(self) -> bool:
        """Whether there is a folder to write to; waits until that is known."""
        self._opened.wait()
        return self.usable

    def _open(self, summary: ScanSummary) -> None:
        folder = self._folder
        scan = folder.acquisition.id
        try:
            self._store.check()
            folder.make(summary)
            self._store.rows.put(
                scan,
                lambda catalogue: catalogue.begin(
                    folder.acquisition, folder.pipeline, folder.instrument, folder.path
                ),
            )
            self._made.set()  # frames go to the disk while it makes the rest durable
            folder.create(summary)
            self.usable = True
        except SinkError as error:
            self._failures.report(error)
        except BaseException as error:  # whatever it is: nobody else would hear of it
            log.exception("a scan's folder could not be made", scan=scan)
            self._failures.report(SinkError(f"{folder.path}: {error!r}", "see the daemon's log"))
        finally:
            self._made.set()
            self._opened.set()

"""What the reader's thread asks and tells, passed on to the parts of its pipeline."""

from __future__ import annotations

from stemd.acquisition import Acquisition
from stemd.blocks import Link, Notice
from stemd.daemon.pipeline.events import Events
from stemd.daemon.pipeline.posting import Post
from stemd.daemon.pipeline.scans import Scans
from stemd.daemon.pipeline.settings import SettingsInForce
from stemd.errors import StemdError
from stemd.scan.run import ScanRun
from stemd.settings import Settings
from stemd.storage.scan_files import ScanFiles


class ReaderSide:
    """The reader's owner. Every method is called in the reader's thread.

    It changes nothing itself: what the reader tells becomes a message to the event loop.
    """

    def __init__(self, settings: SettingsInForce, scans: Scans, events: Events, post: Post) -> None:
        self._settings, self._scans, self._events, self._post = settings, scans, events, post

    def begin(self, acquisition: Acquisition) -> tuple[ScanRun, ScanFiles]:
        """A scan begins; waits while too many are unfinished."""
        return self._scans.begin(acquisition)

    def finish(self, run: ScanRun, files: ScanFiles) -> None:
        """The scan has ended."""
        self._scans.finish(run)

    def noticed(self, notice: Notice) -> None:
        """Something to tell the operator."""
        self._post(self._events.noticed, notice)

    def built(self) -> None:
        """The adapter is there: what it can be told stands in the state."""
        self._post(self._events.changed)

    def linked(self, link: Link) -> None:
        """The camera came or went."""
        self._post(self._events.linked, link)

    def failed(self, error: BaseException, failures: int, pause_s: float) -> None:
        """The adapter has failed."""
        if not isinstance(error, StemdError):
            error = StemdError(f"{type(error).__name__}: {error}", "see the log")
        self._post(self._events.failed, error, failures, pause_s)

    def exhausted(self) -> None:
        """The source has ended for good."""
        self._post(self._events.exhausted)

    def settings_now(self) -> Settings:
        """The live settings in force."""
        return self._settings.live.engines

"""Whom the reader's thread asks and tells."""

from __future__ import annotations

from typing import Protocol

from stemd.acquisition import Acquisition
from stemd.blocks import Link, Notice
from stemd.scan.run import ScanRun
from stemd.settings import Settings
from stemd.storage.scan_files import ScanFiles


class Owner(Protocol):
    """What the reader asks and tells its pipeline; all of it is called in the reader's thread."""

    def begin(self, acquisition: Acquisition) -> tuple[ScanRun, ScanFiles]:
        """A scan begins; may wait while too many finished scans are still being written."""
        ...

    def finish(self, run: ScanRun, files: ScanFiles) -> None:
        """The scan has ended; the run has been told."""
        ...

    def noticed(self, notice: Notice) -> None:
        """Something to count and to tell the operator."""
        ...

    def built(self) -> None:
        """The adapter is there, for the first time or again."""
        ...

    def linked(self, link: Link) -> None:
        """The camera came or went."""
        ...

    def failed(self, error: BaseException, failures: int, pause_s: float) -> None:
        """The adapter has failed so often in a row; it is started again after a pause."""
        ...

    def exhausted(self) -> None:
        """The source has ended for good, as a file does."""
        ...

    def settings_now(self) -> Settings:
        """The live settings in force."""
        ...

"""What the disk has not done of one scan."""

from __future__ import annotations

from collections.abc import Callable

from stemd.errors import StemdError


class Failures:
    """In words, each told to `listener`.

    The recorder knows it and not the ScanFiles, which knows the recorder: no circle keeps memory.
    """

    def __init__(self, listener: Callable[[StemdError], None]) -> None:
        self.failed = False
        self.notes: list[str] = []
        """For scan.json."""
        self._listener = listener

    def report(self, error: StemdError) -> None:
        """Something has failed. By any thread."""
        self.failed = True
        self.notes.append(str(error))
        self._listener(error)

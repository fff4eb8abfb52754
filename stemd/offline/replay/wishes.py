"""What is wanted of a replay: settings, pace, to begin again, to end. From any thread."""

from __future__ import annotations

import time

from stemd.config.live import LiveSettings
from stemd.offline.replay.pace import Pace
from stemd.offline.replay.wire import ReplayJob

NOT_HERE = ("publish", "record", "scan", "about")
"""Sections of the live settings that mean nothing to what is recorded already."""


def settings_of(job: ReplayJob) -> LiveSettings:
    """Those of the scan, as far as the pipeline of today still has them."""
    return LiveSettings.of_scan(job.config, job.settings, without=NOT_HERE).renumbered(1)


class Wishes:
    """Set by the thread that listens, obeyed by the one that plays; the pace's lock is theirs.

    `live` are the newest settings; `again`: begin again; `gone`: nobody wants the replay any more.
    """

    def __init__(self, job: ReplayJob) -> None:
        self.pace = Pace(job.seconds)
        self.live = settings_of(job)
        self.again = False
        self.gone = False
        self._changed = self.pace.changed

    @property
    def broken_off(self) -> bool:
        """Whether the present pass is of no use any more."""
        return self.again or self.gone

    def change(self, live: LiveSettings) -> None:
        """Other settings from the next block on."""
        with self._changed:
            self.live = live
            self._changed.notify_all()

    def go(self, seconds: float | None, *, paused: bool, again: bool) -> None:
        """So fast from now on, and perhaps from the beginning."""
        with self._changed:
            self.again = self.again or again
            self.pace.set(seconds, paused=paused)

    def leave(self) -> None:
        """End the replay."""
        with self._changed:
            self.gone = True
            self._changed.notify_all()

    def begun(self) -> None:
        """The scan begins to grow: so it was wanted."""
        with self._changed:
            self.again = False

    def wait_for_any(self, applied: LiveSettings, seconds: float) -> bool:
        """Until something else is wanted than is `applied`; False when nothing was for so long."""
        end = time.monotonic() + seconds
        with self._changed:
            while not self.broken_off and applied is self.live:
                left = end - time.monotonic()
                if left <= 0:
                    return False
                self._changed.wait(left)
        return True

    def wait_while_paused(self, applied: LiveSettings) -> bool:
        """Until it goes on, or other settings than `applied` are wanted; whether it is paused."""
        with self._changed:
            if self.pace.paused and not self.broken_off and applied is self.live:
                self._changed.wait()
            return self.pace.paused and not self.broken_off

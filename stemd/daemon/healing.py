"""When a disk that has refused something of a pipeline is well again.

The next scan would tell, but it may come tomorrow, and until then nobody knows whether it would be
kept. So the disk is tried.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Protocol

from stemd.daemon.pipeline.disk_side import DiskSide
from stemd.storage.disk_watch import DiskWatch

TRIALS = 2
"""A disk that fails now and then is not well after one file that it took."""


class HasDisk(Protocol):
    """A pipeline that may have met a disk that refused something."""

    @property
    def disk(self) -> DiskSide:
        """What it knows of the disk."""
        ...


class Healing:
    """Counts trials since the last failure of each pipeline. On the event loop.

    Call `begin` before a look at the disk and `end` after it.
    """

    def __init__(self, disk: DiskWatch, pipelines: Mapping[str, HasDisk]) -> None:
        self._disk, self._pipelines = disk, pipelines
        self._failures: dict[str, int] = {}
        self._passed: dict[str, int] = {}

    def begin(self) -> None:
        """Have the disk tried where a pipeline waits for that."""
        now = {name: each.disk.failures for name, each in self._pipelines.items()}
        failed = {name for name, count in now.items() if count > self._failures.get(name, 0)}
        if failed:
            self._disk.failed()
        doubt = {name for name, each in self._pipelines.items() if each.disk.in_doubt}
        self._failures = now
        self._passed = {name: 0 if name in failed else self._passed.get(name, 0) for name in doubt}
        self._disk.to_be_tried = bool(doubt)

    def end(self) -> None:
        """Tell the pipelines for which the disk has been well often enough."""
        since = self._disk.well_since
        for name in list(self._passed):
            pipeline = self._pipelines.get(name)
            if since is None or pipeline is None or pipeline.disk.failures > self._failures[name]:
                self._passed[name] = 0
            else:
                self._passed[name] += 1
                if self._passed[name] >= TRIALS:
                    pipeline.disk.well(since)

"""How the daemon is: the health document, and whether all is well. And the tasks that watch it."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Mapping
from pathlib import Path

import psutil
import structlog

from stemd.acquisition import iso_utc
from stemd.daemon import systemd
from stemd.daemon.pipeline.pipeline import Pipeline
from stemd.events import Hub, Json
from stemd.storage.disk_watch import DiskWatch

HEALTH_PERIOD_S = 5.0
DISK_PERIOD_S = 5.0
_BEATS_A_PERIOD = 2.0

log = structlog.get_logger(__name__)


class Health:
    """Looks at the parts of a daemon and changes nothing. On the event loop.

    `broker` is the status of the connection to the broker, `viewers` the number of browsers on
    the page, `completions` how many images were completed: each asked when a document is made.
    """

    def __init__(
        self,
        hub: Hub,
        pipelines: Mapping[str, Pipeline],
        broker: Callable[[], Json | None],
        viewers: Callable[[], int],
        completions: Callable[[], Mapping[str, int]],
    ) -> None:
        self.disk: DiskWatch | None = None
        """Set as soon as there is a data folder to look at."""
        self._hub, self._pipelines = hub, pipelines
        self._broker, self._viewers, self._completions = broker, viewers, completions
        self._started = time.monotonic()
        self._process = psutil.Process()

    @property
    def uptime_s(self) -> float:
        """Seconds since the daemon was started."""
        return time.monotonic() - self._started

    def document(self) -> Json:
        """The health document of A3."""
        now = time.time_ns()
        disk = self.disk.document() if self.disk is not None else {}
        broker = self._broker() or {}
        return {
            "time": iso_utc(now),
            "time_ns": now,
            "uptime_s": round(self.uptime_s, 1),
            "memory_bytes": self._process.memory_info().rss,
            "cpu_seconds": round(sum(self._process.cpu_times()[:2]), 2),
            "threads": self._process.num_threads(),
            "open_files": self._process.num_fds(),
            "disk_free_bytes": disk.get("free_bytes"),
            "disk": disk,
            "mqtt_connected": broker.get("connected"),
            "broker": broker,
            "viewers": self._viewers(),
            "sinks": self._hub.sinks(),
            "completions": dict(self._completions()),
            "pipelines": {name: each.report.health() for name, each in self._pipelines.items()},
        }

    def verdict(self) -> tuple[bool, Json]:
        """Whether all is well, and the health document with what is not."""
        dead = [name for name, each in self._pipelines.items() if each.dead]
        faults = [name for name, each in self._pipelines.items() if each.state == "fault"]
        stuck = [
            f"{name}: {thread}"
            for name, each in self._pipelines.items()
            for thread in each.report.stalled()
        ]
        disk = self.disk is not None and self.disk.error is not None
        well = not (dead or faults or stuck or disk)
        return well, {**self.document(), "dead": dead, "faults": faults, "stalled": stuck}

    def threads_work(self) -> bool:
        """Whether no thread is gone or stuck: only then is the watchdog fed."""
        return not any(each.dead or each.report.stalled() for each in self._pipelines.values())


async def watch_health(
    hub: Hub, health: Health, status_line: Callable[[], str], look: Callable[[], None]
) -> None:
    """Publish the health, feed systemd's watchdog; `look` is called several times a second."""
    period = systemd.watchdog_period_s()
    pause = min(period or 1.0, 1.0) / _BEATS_A_PERIOD
    next_health = time.monotonic()
    while True:
        if time.monotonic() >= next_health:
            next_health = time.monotonic() + HEALTH_PERIOD_S
            hub.healthy(health.document())
            systemd.notify(f"STATUS={status_line()}")
        look()
        if period is not None and health.threads_work():
            systemd.notify("WATCHDOG=1")
        await asyncio.sleep(pause)


async def watch_disk(disk: DiskWatch, pipelines: Mapping[str, Pipeline], data_dir: Path) -> None:
    """Look at the disk again and again; tell every pipeline of what has changed."""
    while True:
        for news in await asyncio.to_thread(disk.look):
            for pipeline in pipelines.values():
                if news == "failed" and disk.error is not None:
                    pipeline.disk_failed(disk.error)
                elif news == "well":
                    pipeline.disk_is_well()
                elif news == "low":
                    pipeline.troubles.tell("warning", *disk.warning, "disk_low")
            if news in ("low", "enough"):
                log.info("free space", low=disk.low, folder=str(data_dir))
        await asyncio.sleep(DISK_PERIOD_S)

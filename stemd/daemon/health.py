"""How the daemon is: the health document, and whether all is well. And the tasks that watch it."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Mapping
from typing import TypeVar

import psutil

from stemd import installation
from stemd.acquisition import iso_utc
from stemd.daemon import systemd
from stemd.daemon.beside import beside
from stemd.daemon.healing import Healing
from stemd.daemon.pipeline.pipeline import Pipeline
from stemd.daemon.red import Red
from stemd.errors import StemdError
from stemd.events import Hub, Json
from stemd.logs import get_logger
from stemd.storage.disk_watch import DiskWatch, News

HEALTH_PERIOD_S = 5.0
DISK_PERIOD_S = 5.0
LOOK_S = 0.5
DISK_LATE_S = 30.0
INSTALLATION_PERIOD_S = 5.0
_BEATS_A_PERIOD = 2.0
T = TypeVar("T")

log = get_logger(__name__)


class Health:
    """Looks at the parts of a daemon and changes nothing. On the event loop.

    `broker` is the status of the connection to the broker, `viewers` the number of browsers on
    the page, `completions` how many images were completed: each asked when a document is made.
    """

    def __init__(
        self,
        hub: Hub,
        pipelines: Mapping[str, Pipeline],
        red: Red,
        broker: Callable[[], Json | None],
        viewers: Callable[[], int],
        completions: Callable[[], Mapping[str, int]],
        task_failures: Callable[[], Mapping[str, int]],
    ) -> None:
        self.red = red
        self._hub, self._pipelines = hub, pipelines
        self._broker, self._viewers, self._completions = broker, viewers, completions
        self._task_failures = task_failures
        self._started = time.monotonic()
        self._process = psutil.Process()

    @property
    def uptime_s(self) -> float:
        """Seconds since the daemon was started."""
        return time.monotonic() - self._started

    def document(self) -> Json:
        """The health document of A3."""
        now = time.time_ns()
        disk = self.red.disk.document() if self.red.disk is not None else {}
        broker = self._broker() or {}
        process = self._process
        return {
            "time": iso_utc(now),
            "time_ns": now,
            "uptime_s": round(self.uptime_s, 1),
            "red": self.red.all(),
            "memory_bytes": _measured(lambda: process.memory_info().rss),
            "cpu_seconds": _measured(lambda: round(sum(process.cpu_times()[:2]), 2)),
            "threads": _measured(process.num_threads),
            "open_files": _measured(process.num_fds),
            "disk_free_bytes": disk.get("free_bytes"),
            "disk": disk,
            "mqtt_connected": broker.get("connected"),
            "broker": broker,
            "viewers": self._viewers(),
            "sinks": self._hub.sinks(),
            "completions": dict(self._completions()),
            "task_failures": dict(self._task_failures()),
            "pipelines": {name: each.report.health() for name, each in self._pipelines.items()},
        }

    def verdict(self) -> tuple[bool, Json]:
        """Whether all is well, and the health document, which says what is not."""
        document = self.document()
        return not document["red"], document

    def threads_work(self) -> bool:
        """Whether no thread is gone or stuck: only then is the watchdog fed."""
        return not any(each.dead or each.report.stalled() for each in self._pipelines.values())


def _measured(value: Callable[[], T]) -> T | None:
    """What the operating system says; None where it does not, as without file handles."""
    try:
        return value()
    except (psutil.Error, OSError):
        return None


async def watch_health(
    hub: Hub, health: Health, status_line: Callable[[], str], look: Callable[[list[Json]], None]
) -> None:
    """Publish the health; `look` is given what is red, several times a second."""
    next_health = time.monotonic()
    while True:
        red = health.red.all()
        health.red.log_changes(red)
        look(red)
        if time.monotonic() >= next_health:
            next_health = time.monotonic() + HEALTH_PERIOD_S
            hub.healthy(health.document())
            systemd.notify(f"STATUS={_with_red(status_line(), red)}")
        await asyncio.sleep(LOOK_S)


def _with_red(line: str, red: list[Json]) -> str:
    return f"RED: {red[0]['message']}; {line}" if red else line


async def feed_watchdog(health: Health) -> None:
    """Feed systemd's watchdog while the threads work; a broker that is away is no reason not to."""
    period = systemd.watchdog_period_s()
    while period is not None:
        if health.threads_work():
            systemd.notify("WATCHDOG=1")
        await asyncio.sleep(min(period, 1.0) / _BEATS_A_PERIOD)


async def watch_installation(red: Red) -> None:
    """Look again and again whether another version of stemd has been installed."""
    mine = installation.at_start()
    while True:
        changed = await beside(mine.changed, name="installation")
        if changed is not None:
            red.told["version"] = changed
        else:
            red.told.pop("version", None)
        await asyncio.sleep(INSTALLATION_PERIOD_S)


async def watch_disk(disk: DiskWatch, pipelines: Mapping[str, Pipeline], red: Red) -> None:
    """Look at the disk again and again; tell every pipeline of what has changed."""
    healing = Healing(disk, pipelines)
    while True:
        healing.begin()
        looking = asyncio.ensure_future(beside(disk.look))
        try:
            await _in_time(looking, disk, red)
        finally:
            looking.cancel()
        for news in looking.result():
            _tell(news, disk, pipelines)
        healing.end()
        await asyncio.sleep(DISK_PERIOD_S)


async def _in_time(looking: asyncio.Future[list[News]], disk: DiskWatch, red: Red) -> None:
    """Wait for the look at the disk; one that takes too long is red."""
    done, _ = await asyncio.wait({looking}, timeout=DISK_LATE_S)
    if not done:
        red.told["disk"] = StemdError(
            f"{disk.folder}: the disk has not answered for {DISK_LATE_S:.0f} s",
            "a disk or network drive may hang; see dmesg",
        )
    await asyncio.wait({looking})
    red.told.pop("disk", None)


def _tell(news: News, disk: DiskWatch, pipelines: Mapping[str, Pipeline]) -> None:
    for pipeline in pipelines.values():
        if news == "failed" and disk.error is not None:
            pipeline.disk.found_ill(disk.error)
        elif news == "well" and disk.well_since is not None:
            pipeline.disk.found_well(disk.well_since)
        elif news == "low":
            pipeline.troubles.tell("warning", *disk.warning, "disk_low")
        elif news == "retention" and (error := disk.retention_error) is not None:
            pipeline.troubles.error(error, "retention")
            pipeline.state_changed()
        elif news == "retention well" and pipeline.troubles.over("retention"):
            pipeline.state_changed()
    if news in ("low", "enough"):
        log.info("free space", low=disk.low, folder=str(disk.folder))

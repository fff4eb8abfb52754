"""The daemon: starts, joins, watches and ends everything that a config asks for."""

from __future__ import annotations

import asyncio
import signal
import time
from collections.abc import Callable
from pathlib import Path

from stemd.config.doubts import doubts
from stemd.config.resolved import Config
from stemd.daemon import systemd
from stemd.daemon.beside import beside
from stemd.daemon.completer import Completer
from stemd.daemon.config_requests import ConfigRequests
from stemd.daemon.earlier import take_up, until_done
from stemd.daemon.health import (
    Health,
    feed_watchdog,
    watch_disk,
    watch_health,
    watch_installation,
)
from stemd.daemon.outlets import Outlets
from stemd.daemon.pipelines import Pipelines
from stemd.daemon.preload import preload
from stemd.daemon.red import Red
from stemd.daemon.requests import Requests
from stemd.daemon.state import State
from stemd.daemon.workers import Workers, watch_workers
from stemd.errors import ConfigError, SinkError, StemdError
from stemd.events import Hub, Json
from stemd.inference.worker import shared
from stemd.logs import get_logger
from stemd.storage.disk_watch import DiskWatch
from stemd.storage.store import Store
from stemd.tasks import Tasks

CLOSE_S = 6.0
"""With what completions (10 s) and scans (18 s) get, less than the unit's TimeoutStopSec."""
BATCH_S = 3.0
"""A network that takes longer for a batch keeps nobody from ending."""

log = get_logger(__name__)


class Daemon:
    """One instrument. `run` returns when it was told to stop; see the docs for the exit codes."""

    def __init__(
        self,
        config: Config,
        reload: Callable[[], Config] | None = None,
        broker_port: int = 0,
        config_file: Path | None = None,
    ) -> None:
        self.config = config
        self.hub = Hub()
        self.ready = asyncio.Event()
        told: dict[str, StemdError] = {}
        self.pipelines = Pipelines(self.hub, config_file, told)
        self._tasks, self._workers = Tasks(), Workers()
        red = Red(
            self.hub,
            self.pipelines.running,
            lambda: self.outlets.broker_status(),
            self._owners_of_tasks,
            told,
        )
        self.health = Health(
            self.hub,
            self.pipelines.running,
            red,
            lambda: self.outlets.broker_status(),
            lambda: self.outlets.viewers,
            lambda: self._completer.counts if self._completer is not None else {},
            self._task_failures,
        )
        self.outlets = Outlets(self.hub, self.health.verdict, self.pipelines.config_of, broker_port)
        self._config_requests = ConfigRequests(config_file, lambda: self.config, self.reload)
        self._reload = reload
        self._stop = asyncio.Event()
        self._store: Store | None = None
        self._completer: Completer | None = None
        self._reloading = asyncio.Lock()
        self._state = State(
            self.hub, self.pipelines, self.outlets, self.health, config.daemon.instrument
        )

    def stop(self) -> None:
        """End the daemon; returns at once."""
        self._stop.set()

    async def told_to_stop(self) -> None:
        """Return when somebody has called `stop`, or a signal has."""
        await self._stop.wait()

    def no_more_scans(self) -> None:
        """No scan will come any more: images may be completed with the whole machine."""
        if self._completer is not None:
            self._completer.use_whole_machine()

    async def run(self) -> None:
        """Start everything, serve until `stop`, end everything.

        Raises StemdError at the start, and at the end where scans could not be written.
        """
        loop = asyncio.get_running_loop()
        for number in (signal.SIGTERM, signal.SIGINT):
            loop.add_signal_handler(number, self.stop)
        loop.add_signal_handler(signal.SIGHUP, self._on_hangup)
        try:
            await self._start_until_stopped()
            await self._stop.wait()
        finally:
            systemd.notify("STOPPING=1")
            left = await self._end()
        if left:
            raise SinkError(
                f"{len(left)} scans are not on the disk completely: {', '.join(left)}",
                "what was written is kept; the next start puts it into the catalogue",
            )

    async def _start_until_stopped(self) -> None:
        """Start; a stop that is asked for meanwhile is obeyed at once."""
        starting = asyncio.create_task(self._start(), name="start")
        stopped = asyncio.create_task(self._stop.wait(), name="stop")
        try:
            await asyncio.wait({starting, stopped}, return_when=asyncio.FIRST_COMPLETED)
        finally:
            stopped.cancel()
            starting.cancel()
            # what it waits for may be a disk that hangs
            await asyncio.wait({starting, stopped}, timeout=CLOSE_S)
        if starting.done() and not starting.cancelled():
            starting.result()

    async def _start(self) -> None:
        config, table = self.config, self.config.daemon
        running = self.pipelines.running
        shared().hurry(None)
        store = self._store = await asyncio.to_thread(
            Store, table.data_dir, table.instrument, reserve_bytes=int(table.reserve_mb * 2**20)
        )
        disk = self.health.red.disk = DiskWatch(store, table.retention)
        completer = self._completer = Completer(store, self.hub, running)
        completer.start()
        self.hub.expect(pipeline.name for pipeline in config.pipelines)
        self.hub.handler = Requests(running, self._config_requests)
        self._state.publish()
        await self.outlets.start(config)
        self._watch()
        self.health.red.starting = "stemd is starting: kernels are compiled"
        systemd.notify("STATUS=compiling kernels")
        self._tasks.start(_tell_doubts(config), "doubts")
        await self.pipelines.start(config, store, completer)
        self._state.publish()
        keep = self._tasks.keep
        keep(lambda: watch_disk(disk, running, self.health.red), "disk")
        keep(
            lambda: take_up(store, completer, self.hub, self._state.started_ns),
            "recover",
            endless=False,
        )
        await beside(preload)
        keep(lambda: watch_installation(self.health.red), "installation")
        await self.pipelines.ready()
        self.health.red.starting = ""
        self.ready.set()
        systemd.notify(f"READY=1\nSTATUS={self.pipelines.status_line()}")
        log.info("ready", pipelines=list(running), page=self.outlets.page_url)

    def _watch(self) -> None:
        keep, health = self._tasks.keep, self.health
        keep(
            lambda: watch_health(
                self.hub, health, self.pipelines.status_line, self._state.publish_changes
            ),
            "health",
        )
        keep(lambda: feed_watchdog(health), "watchdog", endless=False)
        keep(lambda: watch_workers(self._workers, self.health.red.told), "workers")

    def _owners_of_tasks(self) -> list[Tasks]:
        owners = [self._tasks, *self.outlets.owners]
        if self._completer is not None:
            owners.append(self._completer.tasks)
        for pipeline in self.pipelines.running.values():
            owners += [pipeline.tasks, pipeline.sessions.tasks]
        return owners

    def _task_failures(self) -> Json:
        found: Json = {}
        for tasks in self._owners_of_tasks():
            found |= tasks.failures
        return found

    async def _end(self) -> list[str]:
        """End everything; returns the ids of scans that are not on the disk as they ended."""
        store = self._store
        shared().hurry(BATCH_S)
        if store is not None:
            store.stopping()
        if self.health.red.disk is not None:
            self.health.red.disk.stop()
        await self._tasks.stop()
        if self._completer is not None:
            await self._completer.stop()
        await self.pipelines.stop()
        await self.outlets.stop()
        left = await _close(store) if store is not None else []
        log.info("stopped", uptime_s=round(self.health.uptime_s, 1))
        return left

    # Config reload

    def _on_hangup(self) -> None:
        self._tasks.start(self.reload(), "reload")

    async def reload(self) -> StemdError | None:
        """Read the config again; only pipelines that changed are restarted.

        Returns why it is refused; None where it is in force.
        """
        if self._reload is None:
            return None
        async with self._reloading:
            await self._read_again(self._reload)
            return self.health.red.told.get("config")

    async def _read_again(self, read: Callable[[], Config]) -> None:
        systemd.notify(f"RELOADING=1\nMONOTONIC_USEC={time.monotonic_ns() // 1000}")
        old = self.config
        try:
            config = await asyncio.to_thread(read)
            if (config.daemon, config.mqtt, config.page, config.sinks) != (
                *(old.daemon, old.mqtt, old.page, old.sinks),
            ):
                raise ConfigError(
                    "[daemon], [mqtt], [page] and [[sink]] cannot change while the daemon runs",
                    "restart the daemon for these; pipelines can be changed by reload",
                )
            await self.pipelines.apply(config)
            self.config = config
            self._tasks.start(_tell_doubts(config), "doubts")
            if self._completer is not None:
                # beside: what the new config says holds, whether the disk answers or not
                self._tasks.start(until_done(self._completer.resume), "resume completions")
            self._state.publish()
            self.health.red.told.pop("config", None)
            log.info("config read again", pipelines=list(self.pipelines.running))
        except StemdError as error:
            log.error("the new config is refused, the old one stays", error=str(error))
            text = f"the new config is refused, the old one stays: {error.message}"
            self.health.red.told["config"] = StemdError(text, error.remedy)
        except Exception as error:
            log.exception("the config could not be read again")
            text = f"the config could not be read again: {type(error).__name__}: {error}"
            self.health.red.told["config"] = StemdError(text, "restart stemd; see the daemon's log")
        finally:
            systemd.notify(f"READY=1\nSTATUS={self.pipelines.status_line()}")


async def _tell_doubts(config: Config) -> None:
    """What `stemd check` would say of a config that is in force, for those who did not ask."""
    for doubt in await beside(doubts, config):
        log.warning("a value in the config may be a mistake", doubt=doubt)


async def _close(store: Store) -> list[str]:
    """Close the store, but wait no longer for the disk than the process manager does."""
    try:
        left = await asyncio.wait_for(beside(store.close), CLOSE_S)
    except TimeoutError:
        left = store.unwritten()
        log.error("the disk does not answer: stemd ends without waiting for it")
    if left:
        log.error("scans are not on the disk completely", scans=left)
    return left

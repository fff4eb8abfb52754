"""The daemon: starts, joins, watches and ends everything that a config asks for."""

from __future__ import annotations

import asyncio
import platform
import secrets
import signal
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import psutil
import structlog

from stemd import __version__
from stemd.acquisition import iso_utc
from stemd.config.resolved import Config, PipelineConfig
from stemd.daemon import systemd
from stemd.daemon.completer import Completer
from stemd.daemon.outlets import Outlets
from stemd.daemon.pipeline.pipeline import Pipeline
from stemd.daemon.requests import Requests
from stemd.errors import ConfigError, StemdError
from stemd.events import Hub, Json
from stemd.inference import activity
from stemd.scan.warm import warm_up
from stemd.storage.disk_watch import DiskWatch
from stemd.storage.recovery import enter_missing, recover
from stemd.storage.store import Store

HEALTH_PERIOD_S = 5.0
DISK_PERIOD_S = 5.0
WARM_TYPES = ("u1", "u2", "u4")
"""Pixel types for which the kernels are compiled before READY."""
_BEATS_A_PERIOD = 2.0

log = structlog.get_logger(__name__)


class Daemon:
    """One instrument. `run` returns when it was told to stop; see the docs for the exit codes."""

    def __init__(
        self,
        config: Config,
        reload: Callable[[], Config] | None = None,
        broker_port: int = 0,
    ) -> None:
        self.config = config
        self.hub = Hub()
        self.pipelines: dict[str, Pipeline] = {}
        self.outlets = Outlets(self.hub, self._healthy, self._config_of, broker_port)
        self.boot_id = secrets.token_hex(8)
        self.started_ns = time.time_ns()
        self.ready = asyncio.Event()
        self._reload = reload
        self._started = time.monotonic()
        self._stop = asyncio.Event()
        self._store: Store | None = None
        self._completer: Completer | None = None
        self._disk: DiskWatch | None = None
        self._reloading = asyncio.Lock()
        self._told: Json = {}
        self._tasks: set[asyncio.Task[Any]] = set()
        self._process = psutil.Process()

    @property
    def data_dir(self) -> Path:
        """Where scans are kept."""
        return self.config.daemon.data_dir

    def stop(self) -> None:
        """End the daemon; returns at once."""
        self._stop.set()

    def hurry(self) -> None:
        """No scan will come any more: what is left to be done may take the machine."""
        if self._completer is not None:
            self._completer.hurry()

    async def run(self) -> None:
        """Start everything, serve until `stop`, end everything. Raises StemdError at the start."""
        loop = asyncio.get_running_loop()
        for number in (signal.SIGTERM, signal.SIGINT):
            loop.add_signal_handler(number, self.stop)
        loop.add_signal_handler(signal.SIGHUP, self._on_hangup)
        try:
            await self._start()
            await self._stop.wait()
        finally:
            systemd.notify("STOPPING=1")
            await self._end()

    async def _start(self) -> None:
        config = self.config
        table = config.daemon
        self._store = await asyncio.to_thread(
            Store, table.data_dir, table.instrument, reserve_bytes=int(table.reserve_mb * 2**20)
        )
        self._disk = DiskWatch(self._store, table.retention)
        self._completer = Completer(self._store, self.hub, self.pipelines)
        self._completer.start()
        self.hub.handler = Requests(self.pipelines)
        await self.outlets.start(config)
        systemd.notify("STATUS=compiling kernels")
        await asyncio.to_thread(self._warm, config.pipelines)
        for pipeline in config.pipelines:
            self._start_pipeline(pipeline)
        self._publish_state()
        self._spawn(self._health_loop(), "health")
        self._spawn(self._disk_loop(self._disk), "disk")
        self._spawn(self._recover(self._store, self._completer), "recover")
        await asyncio.gather(*(pipeline.ready.wait() for pipeline in self.pipelines.values()))
        self.ready.set()
        systemd.notify(f"READY=1\nSTATUS={self._status_line()}")
        log.info("ready", pipelines=list(self.pipelines), page=self.outlets.page_url)

    def _config_of(self, name: str) -> PipelineConfig | None:
        pipeline = self.pipelines.get(name)
        return pipeline.config if pipeline is not None else None

    @staticmethod
    def _warm(pipelines: tuple[PipelineConfig, ...]) -> None:
        for pipeline in pipelines:
            warm_up(pipeline.engines, pipeline.optics, WARM_TYPES)

    def _start_pipeline(self, config: PipelineConfig) -> None:
        assert self._store is not None
        assert self._completer is not None
        pipeline = Pipeline(config, self.hub, self._store, self._completer)
        self.pipelines[config.name] = pipeline
        pipeline.start(self.config.sessions_of(config.name))

    async def _end(self) -> None:
        for task in self._tasks:
            if task.get_name() in ("health", "disk", "recover", "reload"):
                task.cancel()
        if self._completer is not None:
            await self._completer.stop()
        await asyncio.gather(*(pipeline.stop() for pipeline in self.pipelines.values()))
        await self.outlets.stop()
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)
        if self._store is not None:
            self._store.close()
        log.info("stopped", uptime_s=round(time.monotonic() - self._started, 1))

    def _spawn(self, work: Any, name: str) -> None:
        task = asyncio.create_task(work, name=name)
        self._tasks.add(task)
        task.add_done_callback(self._task_ended)

    def _task_ended(self, task: asyncio.Task[Any]) -> None:
        if not task.cancelled() and task.exception() is not None:
            log.error("a task failed", task=task.get_name(), exc_info=task.exception())

    async def _recover(self, store: Store, completer: Completer) -> None:
        await asyncio.to_thread(recover, store.catalogue)
        await asyncio.to_thread(enter_missing, store.catalogue, store.instrument, self.started_ns)
        await completer.resume()

    # Config reload

    def _on_hangup(self) -> None:
        self._spawn(self.reload(), "reload")

    async def reload(self) -> None:
        """Read the config again; only pipelines that changed are restarted."""
        if self._reload is None:
            return
        async with self._reloading:
            await self._read_again(self._reload)

    async def _read_again(self, read: Callable[[], Config]) -> None:
        systemd.notify(f"RELOADING=1\nMONOTONIC_USEC={time.monotonic_ns() // 1000}")
        try:
            config = await asyncio.to_thread(read)
            old = self.config
            if (config.daemon, config.mqtt, config.page, config.sinks) != (
                *(old.daemon, old.mqtt, old.page, old.sinks),
            ):
                raise ConfigError(
                    "[daemon], [mqtt], [page] and [[sink]] cannot change while the daemon runs",
                    "restart the daemon for these; pipelines can be changed by reload",
                )
            await self._apply(config)
            log.info("config read again", pipelines=list(self.pipelines))
        except StemdError as error:
            log.error("the new config is refused, the old one stays", error=str(error))
        finally:
            systemd.notify(f"READY=1\nSTATUS={self._status_line()}")

    async def _apply(self, config: Config) -> None:
        new = {pipeline.name: pipeline for pipeline in config.pipelines}
        await asyncio.to_thread(self._warm, config.pipelines)
        for name, pipeline in list(self.pipelines.items()):
            if name not in new or new[name] != pipeline.config:
                await pipeline.stop()
                del self.pipelines[name]
            elif config.sessions_of(name) != self.config.sessions_of(name):
                await pipeline.sessions.resume(config.sessions_of(name))
        self.config = config
        for name, pipeline_config in new.items():
            if name not in self.pipelines:
                self._start_pipeline(pipeline_config)
        if self._completer is not None:
            await self._completer.resume()
        self._publish_state()

    # State and health

    def _status_line(self) -> str:
        states = [f"{name}: {p.state}" for name, p in self.pipelines.items()]
        return ", ".join([*(states or ["no pipelines"]), *activity.current()])

    def _publish_state(self) -> None:
        now = time.time_ns()
        self._told = self._sinks_state()
        self.hub.daemon(
            {
                "version": __version__,
                "boot_id": self.boot_id,
                "instrument": self.config.daemon.instrument,
                "since": iso_utc(self.started_ns),
                "since_ns": self.started_ns,
                "pipelines": list(self.pipelines),
                "broker": self.outlets.broker_status(),
                "page": self.outlets.page_url,
                "sinks": self._sink_errors(),
                "host": platform.node(),
                "time": iso_utc(now),
                "time_ns": now,
            }
        )

    def _sinks_state(self) -> Json:
        """What of the broker's status and of the sinks' is a state, not a counter."""
        broker = self.outlets.broker_status() or {}
        keys = ("connected", "images_connected", "version", "error")
        return {**{key: broker.get(key) for key in keys}, "sinks": self._sink_errors()}

    def _sink_errors(self) -> Json:
        """By name what is wrong with a sink now, null where all is well."""
        return {name: status["error"] for name, status in self.hub.sinks().items()}

    def health(self) -> Json:
        """The health document of A3."""
        now = time.time_ns()
        disk = self._disk.document() if self._disk is not None else {}
        broker = self.outlets.broker_status() or {}
        return {
            "time": iso_utc(now),
            "time_ns": now,
            "uptime_s": round(time.monotonic() - self._started, 1),
            "memory_bytes": self._process.memory_info().rss,
            "cpu_seconds": round(sum(self._process.cpu_times()[:2]), 2),
            "threads": self._process.num_threads(),
            "open_files": self._process.num_fds(),
            "disk_free_bytes": disk.get("free_bytes"),
            "disk": disk,
            "mqtt_connected": broker.get("connected"),
            "broker": broker,
            "viewers": self.outlets.viewers,
            "sinks": self.hub.sinks(),
            "completions": dict(self._completer.counts) if self._completer is not None else {},
            "pipelines": {name: p.health() for name, p in self.pipelines.items()},
        }

    def _healthy(self) -> tuple[bool, Json]:
        health = self.health()
        dead = [name for name, p in self.pipelines.items() if p.dead]
        faults = [name for name, p in self.pipelines.items() if p.state == "fault"]
        hung = [f"{name}: {thread}" for name, p in self.pipelines.items() for thread in p.stalled]
        disk = self._disk is not None and self._disk.error is not None
        well = not (dead or faults or hung or disk)
        return well, {**health, "dead": dead, "faults": faults, "stalled": hung}

    def _getting_on(self) -> bool:
        """Whether every thread gets on: only then is the watchdog fed."""
        return not any(p.dead or p.stalled for p in self.pipelines.values())

    async def _health_loop(self) -> None:
        period = systemd.watchdog_period_s()
        pause = min(period or 1.0, 1.0) / _BEATS_A_PERIOD
        next_health = time.monotonic()
        while True:
            if time.monotonic() >= next_health:
                next_health = time.monotonic() + HEALTH_PERIOD_S
                self.hub.healthy(self.health())
                systemd.notify(f"STATUS={self._status_line()}")
            if self._sinks_state() != self._told:
                self._publish_state()
            if period is not None and self._getting_on():
                systemd.notify("WATCHDOG=1")
            await asyncio.sleep(pause)

    async def _disk_loop(self, disk: DiskWatch) -> None:
        while True:
            await self._look_at_disk(disk)
            await asyncio.sleep(DISK_PERIOD_S)

    async def _look_at_disk(self, disk: DiskWatch) -> None:
        for news in await asyncio.to_thread(disk.look):
            for pipeline in self.pipelines.values():
                if news == "failed" and disk.error is not None:
                    pipeline.disk_failed(disk.error)
                elif news == "well":
                    pipeline.disk_is_well()
                elif news == "low":
                    pipeline.troubles.tell("warning", *disk.warning, "disk_low")
            if news in ("low", "enough"):
                log.info("free space", low=disk.low, folder=str(self.data_dir))

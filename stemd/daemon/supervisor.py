"""The daemon: starts, joins, watches and ends everything that a config asks for."""

from __future__ import annotations

import asyncio
import os
import platform
import secrets
import shutil
import signal
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import psutil
import structlog

from stemd import __version__
from stemd.acquisition import iso_utc
from stemd.daemon import systemd
from stemd.daemon.broker import EmbeddedBroker
from stemd.daemon.catalogue import Catalogue
from stemd.daemon.config import Config, PipelineConfig
from stemd.daemon.hub import Hub, Json
from stemd.daemon.metrics import metrics_text
from stemd.daemon.page.server import Page
from stemd.daemon.pipeline import Pipeline
from stemd.daemon.recovery import recover
from stemd.daemon.requests import Requests
from stemd.daemon.sinks.files import disk_error
from stemd.daemon.sinks.mqtt import MqttSink
from stemd.daemon.warm import warm_up
from stemd.errors import ConfigError, StemdError

HEALTH_PERIOD_S = 5.0

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
        self.mqtt: MqttSink | None = None
        self.broker: EmbeddedBroker | None = None
        self.page: Page | None = None
        self.page_url: str | None = None
        self.boot_id = secrets.token_hex(8)
        self.started_ns = time.time_ns()
        self.ready = asyncio.Event()
        self._reload = reload
        self._broker_port = broker_port
        self._started = time.monotonic()
        self._stop = asyncio.Event()
        self._catalogue: Catalogue | None = None
        self._tasks: set[asyncio.Task[Any]] = set()
        self._process = psutil.Process()

    @property
    def data_dir(self) -> Path:
        """Where scans are kept."""
        return self.config.daemon.data_dir

    def stop(self) -> None:
        """End the daemon; returns at once."""
        self._stop.set()

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
        self._catalogue = await asyncio.to_thread(self._open_data_dir)
        if config.page is not None:
            self.page = Page(
                config.page,
                self.hub,
                config.daemon.instrument,
                self.data_dir,
                self._healthy,
                metrics_text(self.health),
            )
            self.page_url = await self.page.start()
        self.hub.handler = Requests(self.pipelines)
        mqtt = config.mqtt
        if mqtt is not None:
            if mqtt.url == "embedded":
                self.broker = EmbeddedBroker(port=self._broker_port)
                await self.broker.start()
                mqtt = mqtt.model_copy(update={"url": self.broker.url, "version": "3.1.1"})
            self.mqtt = MqttSink(mqtt, config.daemon.instrument, self.hub)
            self._spawn(self.mqtt.run(), "mqtt")
        systemd.notify("STATUS=compiling kernels")
        await asyncio.to_thread(self._warm, config.pipelines)
        for pipeline in config.pipelines:
            self._start_pipeline(pipeline)
        self._publish_state()
        self._spawn(self._health_loop(), "health")
        self._spawn(self._recover(), "recover")
        await asyncio.gather(*(pipeline.ready.wait() for pipeline in self.pipelines.values()))
        self.ready.set()
        systemd.notify(f"READY=1\nSTATUS={self._status_line()}")
        log.info("ready", pipelines=list(self.pipelines), page=self.page_url)

    def _open_data_dir(self) -> Catalogue:
        try:
            self.data_dir.mkdir(parents=True, exist_ok=True)
            probe = self.data_dir / f".stemd-{os.getpid()}"
            probe.write_bytes(b"")
            probe.unlink()
        except OSError as error:
            raise disk_error(error, "write to daemon.data_dir", self.data_dir) from error
        return Catalogue(self.data_dir)

    @staticmethod
    def _warm(pipelines: tuple[PipelineConfig, ...]) -> None:
        for pipeline in pipelines:
            warm_up(pipeline.engines, pipeline.optics, ("u2",))

    def _start_pipeline(self, config: PipelineConfig) -> None:
        pipeline = Pipeline(
            config, self.hub, self.data_dir, self.config.daemon.instrument, self._catalogue
        )
        self.pipelines[config.name] = pipeline
        pipeline.start()

    async def _end(self) -> None:
        for task in self._tasks:
            if task.get_name() in ("health", "recover"):
                task.cancel()
        await asyncio.gather(*(pipeline.stop() for pipeline in self.pipelines.values()))
        if self.mqtt is not None:
            await self.mqtt.stop()
        if self.page is not None:
            await self.page.stop()
        if self.broker is not None:
            await self.broker.stop()
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)
        if self._catalogue is not None:
            self._catalogue.close()
        log.info("stopped", uptime_s=round(time.monotonic() - self._started, 1))

    def _spawn(self, work: Any, name: str) -> None:
        task = asyncio.create_task(work, name=name)
        self._tasks.add(task)
        task.add_done_callback(self._task_ended)

    def _task_ended(self, task: asyncio.Task[Any]) -> None:
        if not task.cancelled() and task.exception() is not None:
            log.error("a task failed", task=task.get_name(), exc_info=task.exception())

    async def _recover(self) -> None:
        if self._catalogue is not None:
            await asyncio.to_thread(recover, self._catalogue)

    # Config reload

    def _on_hangup(self) -> None:
        self._spawn(self.reload(), "reload")

    async def reload(self) -> None:
        """Read the config again; only pipelines that changed are restarted."""
        if self._reload is None:
            return
        systemd.notify(f"RELOADING=1\nMONOTONIC_USEC={time.monotonic_ns() // 1000}")
        try:
            config = await asyncio.to_thread(self._reload)
            if (config.daemon, config.mqtt, config.page) != (
                self.config.daemon,
                self.config.mqtt,
                self.config.page,
            ):
                raise ConfigError(
                    "[daemon], [mqtt] and [page] cannot change while the daemon runs",
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
        self.config = config
        for name, pipeline_config in new.items():
            if name not in self.pipelines:
                self._start_pipeline(pipeline_config)
        self._publish_state()

    # State and health

    def _status_line(self) -> str:
        states = [f"{name}: {p.state}" for name, p in self.pipelines.items()]
        return ", ".join(states) or "no pipelines"

    def _publish_state(self) -> None:
        now = time.time_ns()
        self.hub.daemon(
            {
                "version": __version__,
                "boot_id": self.boot_id,
                "instrument": self.config.daemon.instrument,
                "since": iso_utc(self.started_ns),
                "since_ns": self.started_ns,
                "pipelines": list(self.pipelines),
                "broker": self.mqtt.status.as_json() if self.mqtt is not None else None,
                "page": self.page_url,
                "host": platform.node(),
                "time": iso_utc(now),
                "time_ns": now,
            }
        )

    def health(self) -> Json:
        """The health document of A3."""
        now = time.time_ns()
        try:
            free: int | None = shutil.disk_usage(self.data_dir).free
        except OSError:
            free = None
        broker: Mapping[str, Any] = self.mqtt.status.as_json() if self.mqtt is not None else {}
        return {
            "time": iso_utc(now),
            "time_ns": now,
            "uptime_s": round(time.monotonic() - self._started, 1),
            "memory_bytes": self._process.memory_info().rss,
            "cpu_seconds": round(sum(self._process.cpu_times()[:2]), 2),
            "threads": self._process.num_threads(),
            "disk_free_bytes": free,
            "mqtt_connected": broker.get("connected"),
            "broker": dict(broker),
            "viewers": self.page.viewers if self.page is not None else 0,
            "pipelines": {name: p.health() for name, p in self.pipelines.items()},
        }

    def _healthy(self) -> tuple[bool, Json]:
        health = self.health()
        dead = [name for name, p in self.pipelines.items() if not p.reader.alive]
        faults = [name for name, p in self.pipelines.items() if p.state == "fault"]
        return not dead and not faults, {**health, "dead": dead, "faults": faults}

    async def _health_loop(self) -> None:
        period = systemd.watchdog_period_s()
        next_health = time.monotonic()
        while True:
            if time.monotonic() >= next_health:
                next_health = time.monotonic() + HEALTH_PERIOD_S
                self.hub.healthy(self.health())
                systemd.notify(f"STATUS={self._status_line()}")
            if period is not None and all(p.reader.alive for p in self.pipelines.values()):
                systemd.notify("WATCHDOG=1")
            await asyncio.sleep(min(period or HEALTH_PERIOD_S, HEALTH_PERIOD_S, 1.0))

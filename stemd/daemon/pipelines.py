"""The running pipelines of a daemon: started, changed by a new config, stopped."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from pathlib import Path

from stemd.config.resolved import Config, PipelineConfig
from stemd.daemon.decisions import of_pipelines
from stemd.daemon.pipeline.events import Completions
from stemd.daemon.pipeline.pipeline import Pipeline
from stemd.daemon.sessions.files import SessionFiles
from stemd.daemon.sessions.removed import end_removed
from stemd.daemon.sessions.sessions import BOOT_ID
from stemd.daemon.warming import Warming
from stemd.errors import StemdError
from stemd.events import Hub, Json
from stemd.inference import activity
from stemd.storage.store import Store
from stemd.tasks import Tasks


class Pipelines:
    """Owner of the pipelines. On the event loop; others read `running`, and never change it.

    `told` is where health is told of engines that are left out, see `Warming`.
    """

    def __init__(
        self,
        hub: Hub,
        config_file: Path | None = None,
        told: dict[str, StemdError] | None = None,
        make: Callable[..., Pipeline] = Pipeline,
        boot_id: str = BOOT_ID,
    ) -> None:
        self.running: dict[str, Pipeline] = {}
        self._warming = Warming(told if told is not None else {})
        self._config_file = config_file
        self._hub, self._make, self._boot_id = hub, make, boot_id
        self._wanted: tuple[str, ...] = ()
        """Names of the pipelines of the config."""
        self._tasks = Tasks()

    @property
    def getting_ready(self) -> str:
        """What is being compiled or loaded now, as `ricom (2 of 11)`; "" when all is ready."""
        return self._warming.now

    async def start(self, config: Config, store: Store, past: Completions) -> None:
        """Start every pipeline of the config."""
        self._store, self._past = store, past
        await self.apply(config)

    async def apply(self, config: Config) -> None:
        """Make what runs what the config says; what it does not change runs on."""
        running = {name: pipeline.config for name, pipeline in self.running.items()}
        self._wanted = tuple(each.name for each in config.pipelines)
        steps = of_pipelines(config.pipelines, running)
        await self._warming.warm(steps.start)
        for name in steps.stop:
            await self.running[name].stop()
            del self.running[name]
        self._hub.expect(self._wanted)  # before one that has come back tells anything
        for each in steps.start:
            await self._start(each, config)
        for name, pipeline in self.running.items():
            if name not in {each.name for each in steps.start}:
                pipeline.sessions.apply(config.sessions_of(name))
        ending = end_removed(SessionFiles(self._store), lambda: self._wanted, self._boot_id)
        self._tasks.start(ending, "sessions-removed")

    async def ready(self) -> None:
        """Return when every camera has been found, or is known to be missing."""
        await asyncio.gather(*(each.status.ready.wait() for each in self.running.values()))

    async def stop(self) -> None:
        """Stop all, each with what it still has to write."""
        await self._tasks.stop()
        await asyncio.gather(*(pipeline.stop() for pipeline in self.running.values()))

    def broker(self, status: Json | None) -> None:
        """How the connection to the broker is now; None without MQTT."""
        if status is not None and (status["connects"] or status["error"]):
            for pipeline in self.running.values():
                pipeline.sessions.there("broker", there=status["connected"])

    def config_of(self, name: str) -> PipelineConfig | None:
        """The config of a running pipeline."""
        pipeline = self.running.get(name)
        return pipeline.config if pipeline is not None else None

    def status_line(self) -> str:
        """What each pipeline does now, and what networks are busy with."""
        states = [f"{name}: {pipeline.state}" for name, pipeline in self.running.items()]
        return ", ".join([*(states or ["no pipelines"]), *activity.current()])

    async def _start(self, pipeline: PipelineConfig, config: Config) -> None:
        made = self._make(
            pipeline,
            self._hub,
            self._store,
            self._past,
            self._config_file,
            self._warming.left_out(pipeline.name),
        )
        await made.read_mask()
        self.running[pipeline.name] = made
        made.start(config.sessions_of(pipeline.name))

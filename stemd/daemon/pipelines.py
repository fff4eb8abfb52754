"""The running pipelines of a daemon: started, changed by a new config, stopped."""

from __future__ import annotations

import asyncio
from pathlib import Path

from stemd.config.resolved import Config, PipelineConfig
from stemd.daemon.pipeline.events import Completions
from stemd.daemon.pipeline.pipeline import Pipeline
from stemd.daemon.warming import Warming
from stemd.errors import StemdError
from stemd.events import Hub
from stemd.inference import activity
from stemd.storage.store import Store


class Pipelines:
    """Owner of the pipelines. On the event loop; others read `running`, and never change it.

    `told` is where health is told of engines that are left out, see `Warming`.
    """

    def __init__(
        self,
        hub: Hub,
        config_file: Path | None = None,
        told: dict[str, StemdError] | None = None,
    ) -> None:
        self.running: dict[str, Pipeline] = {}
        self._warming = Warming(told if told is not None else {})
        self._config_file = config_file
        self._hub = hub

    async def start(self, config: Config, store: Store, past: Completions) -> None:
        """Compile the kernels, then start every pipeline of the config."""
        self._store, self._past = store, past
        await self._warming.warm(config.pipelines)
        for pipeline in config.pipelines:
            self._start(pipeline, config)

    async def apply(self, old: Config, new: Config) -> None:
        """Stop what is gone, start what is new, restart what has changed; the rest runs on."""
        wanted = {pipeline.name: pipeline for pipeline in new.pipelines}
        changed = [each for each in new.pipelines if each not in old.pipelines]
        await self._warming.warm(changed)
        for name, pipeline in list(self.running.items()):
            if wanted.get(name) != pipeline.config:
                await pipeline.stop()
                del self.running[name]
            elif new.sessions_of(name) != old.sessions_of(name):
                await pipeline.sessions.resume(new.sessions_of(name))
        for name, config in wanted.items():
            if name not in self.running:
                self._start(config, new)

    async def ready(self) -> None:
        """Return when every camera has been found, or is known to be missing."""
        await asyncio.gather(*(each.status.ready.wait() for each in self.running.values()))

    async def stop(self) -> None:
        """Stop all, each with what it still has to write."""
        await asyncio.gather(*(pipeline.stop() for pipeline in self.running.values()))

    def config_of(self, name: str) -> PipelineConfig | None:
        """The config of a running pipeline."""
        pipeline = self.running.get(name)
        return pipeline.config if pipeline is not None else None

    def status_line(self) -> str:
        """What each pipeline does now, and what networks are busy with."""
        states = [f"{name}: {pipeline.state}" for name, pipeline in self.running.items()]
        return ", ".join([*(states or ["no pipelines"]), *activity.current()])

    def _start(self, pipeline: PipelineConfig, config: Config) -> None:
        made = Pipeline(
            pipeline,
            self._hub,
            self._store,
            self._past,
            self._config_file,
            self._warming.left_out(pipeline.name),
        )
        self.running[pipeline.name] = made
        made.start(config.sessions_of(pipeline.name))

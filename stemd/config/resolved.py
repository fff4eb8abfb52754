"""A config, resolved: plugins found, settings validated."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from pydantic import BaseModel, ValidationError

from stemd import plugins
from stemd.acquisition import Optics
from stemd.adapters.base import AdapterSettings
from stemd.config.image_names import image_names
from stemd.config.mqtt import MqttSettings
from stemd.config.page import PageSettings
from stemd.config.problems import ConfigProblemsError, problems_of
from stemd.config.session_plan import SessionPlan
from stemd.config.tables import AboutTable, DaemonTable, PublishTable, RecordTable
from stemd.errors import ConfigError
from stemd.settings import EngineSettings, Settings


@dataclass(frozen=True, slots=True)
class EngineConfig:
    """One `[[pipeline.engine]]`, its plugin found and its settings validated."""

    plugin: plugins.Plugin
    settings: EngineSettings

    @classmethod
    def of(cls, name: str, table: Mapping[str, Any]) -> EngineConfig:
        """An engine by its type and its settings as a table. Raises ConfigError."""
        plugin = plugins.load("engines", name)
        if not issubclass(plugin.settings, EngineSettings):
            raise _useless(name, f"its settings {plugin.settings.__name__} are no EngineSettings")
        if plugin.settings.needs not in ("positions", "patterns", "images"):
            raise _useless(name, f"needs = {plugin.settings.needs!r} is not one of those known")
        try:
            settings: Any = plugin.settings.model_validate(table)
        except ValidationError as error:
            problems = problems_of(error, plugin.settings, ())
            raise ConfigProblemsError(f"engine {name}", problems) from error
        made = cls(plugin, settings)
        try:
            images = settings.outputs(made.name)
        except Exception as error:
            raise _useless(name, f"outputs failed: {type(error).__name__}: {error}") from error
        if isinstance(images, str) or not all(isinstance(image, str) for image in images):
            raise _useless(name, f"outputs gave {images!r}, not a tuple of names")
        return made

    @property
    def name(self) -> str:
        """The engine's name: given, or its type."""
        return self.settings.name or self.plugin.name


def camera_table(kind: str, adapter: AdapterSettings) -> dict[str, Any]:
    """An adapter's table as it stands in a config, as JSON types."""
    return {"type": kind, **adapter.model_dump(mode="json", exclude_unset=True)}


@dataclass(frozen=True, slots=True)
class PipelineConfig:
    """One `[[pipeline]]`, resolved."""

    name: str
    adapter_plugin: plugins.Plugin
    adapter: AdapterSettings
    optics: Optics
    engines: tuple[EngineConfig, ...]
    publish: PublishTable
    record: RecordTable
    about: AboutTable = field(default_factory=AboutTable)

    def settings(self) -> Settings:
        """The live settings with which the pipeline starts."""
        return Settings(
            optics=self.optics,
            engines={engine.name: engine.settings for engine in self.engines},
            scan=self.adapter.scan,
        )

    def images(self) -> list[str]:
        """Names of all images of its scans."""
        return image_names(self.settings().engines, self.adapter.outputs())


def _useless(name: str, why: str) -> ConfigError:
    return ConfigError(
        f"the engine {name!r} cannot be used: {why}",
        "correct the engine; docs/how-to/add-an-engine.md says what it declares",
    )


SINKS_WITH_TABLES = ("mqtt", "page")
"""Sinks that have a config table of their own; others are listed as `[[sink]]`."""


def foreign_sinks() -> list[plugins.Plugin]:
    """What may be the `type` of a `[[sink]]`."""
    sinks = plugins.catalogue("sinks")
    return [s for s in sinks if s.takes == "events" and s.name not in SINKS_WITH_TABLES]


@dataclass(frozen=True, slots=True)
class SinkConfig:
    """One `[[sink]]`, its plugin found and its settings validated."""

    plugin: plugins.Plugin
    settings: BaseModel


@dataclass(frozen=True, slots=True)
class Config:
    """A whole config file, resolved."""

    daemon: DaemonTable
    mqtt: MqttSettings | None
    page: PageSettings | None
    pipelines: tuple[PipelineConfig, ...]
    sessions: tuple[SessionPlan, ...] = ()
    sinks: tuple[SinkConfig, ...] = ()

    def sessions_of(self, pipeline: str) -> tuple[SessionPlan, ...]:
        """The sessions of one pipeline, in the file's order."""
        only = len(self.pipelines) == 1
        return tuple(
            s for s in self.sessions if s.pipeline == pipeline or (only and s.pipeline is None)
        )

"""The tables of a config: validated, with everything that is wrong gathered on the way."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace
from typing import Any, TypeVar

from pydantic import BaseModel, ValidationError

from stemd import plugins
from stemd.acquisition import Optics
from stemd.config.image_names import OTHER_FILES, clashes, missing_inputs, unknown_images
from stemd.config.live import LiveSettings, RefusedError
from stemd.config.mqtt import MqttSettings
from stemd.config.page import PageSettings
from stemd.config.problems import Problem, nearest, problems_of
from stemd.config.resolved import (
    SINKS_WITH_TABLES,
    Config,
    EngineConfig,
    PipelineConfig,
    SinkConfig,
    foreign_sinks,
)
from stemd.config.session_plan import SessionPlan
from stemd.config.tables import AboutTable, DaemonTable, PipelineNamed, PublishTable, RecordTable
from stemd.errors import ConfigError

M = TypeVar("M", bound=BaseModel)
MOST_PROBLEMS = 300
"""After so many no further pipeline or engine is looked at."""


class Reader:
    """Validates one parsed file; `problems` are all that it found wrong, not the first alone."""

    def __init__(self) -> None:
        self.problems: list[Problem] = []

    def _model(self, model: type[M], table: Any, path: tuple[str | int, ...]) -> M | None:
        try:
            return model.model_validate(table)
        except ValidationError as error:
            self.problems += problems_of(error, model, path)
            return None

    def _plugin(
        self,
        kind: plugins.Kind,
        table: Any,
        path: tuple[str | int, ...],
        known: Sequence[plugins.Plugin] | None = None,
    ) -> tuple[plugins.Plugin, Any] | None:
        """The plugin that a table names, of the `known` ones if not of all, with its settings."""
        if not isinstance(table, dict):
            self.problems.append(Problem(path, "must be a table with a type"))
            return None
        name = table.get("type")
        if not isinstance(name, str):
            possible = plugins.catalogue(kind) if known is None else known
            names = ", ".join(plugin.name for plugin in possible)
            remedy = f"one of: {names}" if names else "none is installed"
            self.problems.append(Problem((*path, "type"), "is missing", remedy=remedy))
            return None
        try:
            plugin = plugins.load(kind, name, known)
        except ConfigError as error:
            self.problems.append(Problem((*path, "type"), error.message, repr(name), error.remedy))
            return None
        rest = {key: value for key, value in table.items() if key != "type"}
        settings = self._model(plugin.settings, rest, path)
        return None if settings is None else (plugin, settings)

    def _pipeline(self, table: Any, path: tuple[str | int, ...]) -> PipelineConfig | None:
        if not isinstance(table, dict):
            self.problems.append(Problem(path, "must be a table: write [[pipeline]]"))
            return None
        known = ("name", "adapter", "optics", "engine", "publish", "record", "about")
        for key in table:
            if key not in known:
                self.problems.append(
                    Problem((*path, key), "unknown key", remedy=nearest(key, known))
                )
        before = len(self.problems)
        named = self._model(PipelineNamed, {"name": table.get("name")}, path)
        adapter = self._plugin("adapters", table.get("adapter", {}), (*path, "adapter"))
        optics = self._model(Optics, table.get("optics", {}), (*path, "optics"))
        publish = self._model(PublishTable, table.get("publish", {}), (*path, "publish"))
        record = self._model(RecordTable, table.get("record", {}), (*path, "record"))
        about = self._model(AboutTable, table.get("about", {}), (*path, "about"))
        engines = self._engines(table.get("engine", []), (*path, "engine"), optics)
        if adapter is not None and adapter[0].works_on == "images":
            for index, engine in engines.items():
                if engine.settings.needs != "images":
                    message = f"needs patterns, which the adapter {adapter[0].name} does not give"
                    where = (*path, "engine", index, "type")
                    self.problems.append(Problem(where, message, repr(engine.plugin.name)))
        broken = len(self.problems) > before
        self._names(path, adapter, engines, optics or Optics(), None if broken else publish)
        if len(self.problems) > before or not (named and adapter and optics and publish and record):
            return None
        assert about is not None
        chosen = tuple(engines.values())
        return PipelineConfig(named.name, *adapter, optics, chosen, publish, record, about)

    def _names(
        self,
        path: tuple[str | int, ...],
        adapter: tuple[plugins.Plugin, Any] | None,
        engines: Mapping[int, EngineConfig],
        optics: Optics,
        publish: PublishTable | None,
    ) -> None:
        """Names of images that clash, and images that nobody makes.

        Without `publish` the pipeline has other errors: then an image may be missing for these.
        """
        given: tuple[str, ...] = adapter[1].outputs() if adapter is not None else ()
        numbers = {engine.name: index for index, engine in engines.items()}
        settings = {engine.name: engine.settings for engine in engines.values()}
        for image in set(given) & set(OTHER_FILES):
            message = f"the image has the name of {OTHER_FILES[image]}"
            self.problems.append(Problem((*path, "adapter"), message, repr(image), "rename it"))
        problems = clashes(settings, optics, given)
        if publish is not None:
            problems += missing_inputs(settings, given, live=True)
        for problem in problems:
            engine, *keys = problem.path
            where = (*path, "engine", numbers[str(engine)], *(keys or ["type"]))
            self.problems.append(replace(problem, path=where))
        wanted = (publish.images or ()) if publish is not None else ()
        for image, remedy in unknown_images(wanted, settings, given):
            where = (*path, "publish", "images", wanted.index(image))
            self.problems.append(Problem(where, "no engine makes this image", repr(image), remedy))

    def _engines(
        self, tables: Any, path: tuple[str | int, ...], optics: Optics | None
    ) -> dict[int, EngineConfig]:
        """The engines that are valid by their number in the file."""
        if not isinstance(tables, list):
            self.problems.append(Problem(path, "must be an array: write [[pipeline.engine]]"))
            return {}
        engines: dict[int, EngineConfig] = {}
        for index, table in enumerate(tables):
            if len(self.problems) > MOST_PROBLEMS:
                break
            found = self._plugin("engines", table, (*path, index))
            if found is None:
                continue
            engine = EngineConfig(*found)
            if engine.name in {other.name for other in engines.values()}:
                self.problems.append(
                    Problem(
                        (*path, index, "name"),
                        f"there is another engine {engine.name!r}",
                        remedy="give one of them a name of its own",
                    )
                )
            why_not = engine.plugin.why_not()
            if why_not:
                self.problems.append(Problem((*path, index, "type"), why_not))
            if optics is not None:
                try:
                    engine.settings.masks(optics)
                except ConfigError as error:
                    where = (*path, index, *engine.settings.summed_with[:1])
                    self.problems.append(Problem(where, error.message, "", error.remedy))
            engines[index] = engine
        return engines

    def config(self, data: Mapping[str, Any]) -> Config | None:
        """All of it; None where a problem was found."""
        known = ("daemon", "mqtt", "page", "sink", "pipeline", "session")
        for key in data:
            if key not in known:
                self.problems.append(Problem((key,), "unknown table", remedy=nearest(key, known)))
        daemon = self._model(DaemonTable, data.get("daemon", {}), ("daemon",))
        mqtt = self._model(MqttSettings, data["mqtt"], ("mqtt",)) if "mqtt" in data else None
        page = self._model(PageSettings, data["page"], ("page",)) if "page" in data else None
        sinks = list(self._sinks(data.get("sink", [])))
        tables = data.get("pipeline", [])
        if not isinstance(tables, list) or not tables:
            self.problems.append(
                Problem(("pipeline",), "there is no pipeline", remedy="add a [[pipeline]]")
            )
            tables = []
        pipelines = [
            pipeline
            for index, table in enumerate(tables)
            if len(self.problems) <= MOST_PROBLEMS
            and (pipeline := self._pipeline(table, ("pipeline", index))) is not None
        ]
        names = [pipeline.name for pipeline in pipelines]
        for index, name in enumerate(names):
            if name in names[:index]:
                self.problems.append(
                    Problem(
                        ("pipeline", index, "name"),
                        "two pipelines have this name",
                        repr(name),
                        "names are MQTT topics: give each pipeline its own",
                    )
                )
        sessions = list(self._sessions(data.get("session", []), pipelines))
        if self.problems or daemon is None:
            return None
        return Config(daemon, mqtt, page, tuple(pipelines), tuple(sessions), tuple(sinks))

    def _sinks(self, tables: Any) -> Iterable[SinkConfig]:
        if not isinstance(tables, list):
            self.problems.append(Problem(("sink",), "must be an array: write [[sink]]"))
            return
        for index, table in enumerate(tables):
            path = ("sink", index)
            name = table.get("type") if isinstance(table, dict) else None
            if name in SINKS_WITH_TABLES:
                text, remedy = "has a table of its own", f"write [{name}]"
                self.problems.append(Problem((*path, "type"), text, repr(name), remedy))
                continue
            found = self._plugin("sinks", table, path, foreign_sinks())
            if found is None:
                continue
            if why_not := found[0].why_not():
                self.problems.append(Problem((*path, "type"), why_not))
            yield SinkConfig(*found)

    def _sessions(self, tables: Any, pipelines: Sequence[PipelineConfig]) -> Iterable[SessionPlan]:
        if not isinstance(tables, list):
            self.problems.append(Problem(("session",), "must be an array: write [[session]]"))
            return
        named = {pipeline.name: pipeline for pipeline in pipelines}
        seen: set[tuple[str, str]] = set()
        for index, table in enumerate(tables):
            path = ("session", index)
            plan = self._model(SessionPlan, table, path)
            if plan is None:
                continue
            remedy = f"one of: {', '.join(named)}"
            if plan.pipeline is None and len(named) != 1:
                self.problems.append(Problem((*path, "pipeline"), "is missing", "", remedy))
            elif plan.pipeline not in (None, *named):
                problem = Problem(
                    (*path, "pipeline"), "is not a pipeline", plan.pipeline or "", remedy
                )
                self.problems.append(problem)
            else:
                pipeline = named[plan.pipeline or next(iter(named))]
                self._settings_of_session(plan, pipeline, path)
                if (pipeline.name, plan.name) in seen:
                    text = f"{pipeline.name} has another session of this name"
                    remedy = "give each session its own"
                    problem = Problem((*path, "name"), text, repr(plan.name), remedy)
                    self.problems.append(problem)
                seen.add((pipeline.name, plan.name))
            yield plan

    def _settings_of_session(
        self, plan: SessionPlan, pipeline: PipelineConfig, path: tuple[str | int, ...]
    ) -> None:
        """Settings that the pipeline would refuse when the session begins, or a scan of it."""
        live = LiveSettings.of(pipeline)
        changes: list[tuple[tuple[str | int, ...], dict[str, Any]]]
        changes = [((*path, "each", number), each) for number, each in enumerate(plan.each)]
        for where, change in [((*path, "settings"), plan.settings), *changes]:
            try:
                made = live.changed(change) if change else live
            except RefusedError as error:
                problem = error.problem
                self.problems.append(replace(problem, path=(*where, *problem.path)))
            else:
                live = made if change is plan.settings else live

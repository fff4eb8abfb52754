"""The config file: TOML in, validated pipelines out, or a list of everything that is wrong."""

from __future__ import annotations

import difflib
import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any, Literal, TypeVar

from pydantic import BaseModel, ConfigDict, Field, ValidationError, create_model

from stemd import plugins
from stemd.acquisition import Optics, Scan
from stemd.adapters.base import AdapterSettings
from stemd.config.mqtt import MqttSettings
from stemd.config.page import PageSettings
from stemd.config.session_plan import SessionPlan
from stemd.config.toml_lines import key_lines, line_of
from stemd.engines.reduction import detector_radii_px
from stemd.engines.virtual_detector import VirtualDetectorSettings
from stemd.errors import ConfigError
from stemd.settings import EngineSettings, Settings

Name = Annotated[str, Field(pattern=r"^[a-z0-9][a-z0-9-]{0,62}$")]
M = TypeVar("M", bound=BaseModel)
ImageName = Annotated[str, Field(pattern=r"^[a-z][a-z0-9_]{0,60}$")]


class _Table(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")


class RetentionTable(_Table):
    """`[daemon.retention]`: what may be deleted, the oldest scan first; default: nothing.

    Scans older than `max_age_days` go, and as many as it takes to have `min_free_gb` free.
    `delete` "raw" takes the raw records only, "scan" whole scans. Below `warn_free_gb` there
    is a warning.
    """

    max_age_days: Annotated[float, Field(gt=0.0, allow_inf_nan=False)] | None = None
    min_free_gb: Annotated[float, Field(gt=0.0, allow_inf_nan=False)] | None = None
    delete: Literal["raw", "scan"] = "raw"
    warn_free_gb: Annotated[float, Field(ge=0.0, allow_inf_nan=False)] = 10.0


class DaemonTable(_Table):
    """`[daemon]`: the instrument's name in MQTT topics, where files go, how much is logged.

    `reserve_mb`: free space that raw records leave for images and the catalogue.
    """

    instrument: Name = "stemd"
    data_dir: Path = Path("stemd-data")
    log_level: Literal["debug", "info", "warning", "error"] = "info"
    reserve_mb: Annotated[float, Field(ge=0.0, allow_inf_nan=False)] = 64.0
    retention: RetentionTable = RetentionTable()


class PublishTable(_Table):
    """`[pipeline.publish]`: snapshots a second at most, and which images (default: all)."""

    rate_hz: Annotated[float, Field(gt=0.0, le=100.0)] = 10.0
    images: tuple[ImageName, ...] | None = None


class RecordTable(_Table):
    """`[pipeline.record]`: the camera's own bytes, and in which form results are kept."""

    raw: bool = False
    results: tuple[Literal["tiff"], ...] = ("tiff",)


@dataclass(frozen=True, slots=True)
class EngineConfig:
    """One `[[pipeline.engine]]`, its plugin found and its settings validated."""

    plugin: plugins.Plugin
    settings: EngineSettings

    @classmethod
    def of(cls, name: str, table: Mapping[str, Any]) -> EngineConfig:
        """An engine by its type and its settings as a table. Raises ConfigError."""
        plugin = plugins.load("engines", name)
        try:
            settings: Any = plugin.settings.model_validate(table)
        except ValidationError as error:
            problems = problems_of(error, plugin.settings, ())
            raise ConfigProblemsError(f"engine {name}", problems) from error
        return cls(plugin, settings)

    @property
    def name(self) -> str:
        """The engine's name: given, or its type."""
        return self.settings.name or self.plugin.name


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

    def settings(self) -> Settings:
        """The live settings with which the pipeline starts."""
        return Settings(
            optics=self.optics,
            engines={engine.name: engine.settings for engine in self.engines},
            scan=self.adapter.scan,
        )


@dataclass(frozen=True, slots=True)
class Config:
    """A whole config file, resolved."""

    daemon: DaemonTable
    mqtt: MqttSettings | None
    page: PageSettings | None
    pipelines: tuple[PipelineConfig, ...]
    sessions: tuple[SessionPlan, ...] = ()

    def sessions_of(self, pipeline: str) -> tuple[SessionPlan, ...]:
        """The sessions of one pipeline, in the file's order."""
        only = len(self.pipelines) == 1
        return tuple(
            s for s in self.sessions if s.pipeline == pipeline or (only and s.pipeline is None)
        )


@dataclass(frozen=True, slots=True)
class Problem:
    """One thing that is wrong: where, what stands there, what is allowed."""

    path: tuple[str | int, ...]
    message: str
    value: str = ""
    remedy: str = ""
    line: int | None = None

    @property
    def key(self) -> str:
        """The key as one writes it: pipeline[0].optics.energy_ev."""
        text = ""
        for part in self.path:
            text += f"[{part}]" if isinstance(part, int) else f".{part}" if text else str(part)
        return text

    def as_json(self) -> dict[str, Any]:
        """Plain JSON types."""
        return {
            "key": self.key,
            "line": self.line,
            "value": self.value,
            "message": self.message,
            "remedy": self.remedy,
        }


class ConfigProblemsError(ConfigError):
    """Everything that is wrong with a config file, in the file's order."""

    def __init__(self, source: str, problems: Sequence[Problem]) -> None:
        self.problems = sorted(problems, key=lambda problem: problem.line or 0)
        lines = []
        for problem in self.problems:
            place = f"{source}:{problem.line}" if problem.line else source
            value = f" = {problem.value}" if problem.value else ""
            remedy = f"\n    remedy: {problem.remedy}" if problem.remedy else ""
            lines.append(f"{place}: {problem.key}{value}: {problem.message}{remedy}")
        super().__init__("\n".join(lines))


def _nearest(word: str, known: Iterable[str]) -> str:
    names = list(known)
    near = difflib.get_close_matches(word, names, n=1, cutoff=0.5)
    if word in ("password", "passwd", "secret", "token"):
        return f"secrets do not stand in the file: use {word}_file"
    return (f"did you mean {near[0]!r}? " if near else "") + f"known: {', '.join(sorted(names))}"


def problems_of(
    error: ValidationError, model: type[BaseModel], prefix: tuple[str | int, ...]
) -> list[Problem]:
    """pydantic's errors as problems with keys, values and remedies of ours."""
    problems: list[Problem] = []
    for item in error.errors():
        where = tuple(part for part in item["loc"] if not _is_union_tag(part))
        value = "" if isinstance(item["input"], dict) else repr(item["input"])
        message, remedy = item["msg"].removeprefix("Value error, "), ""
        message = message[:1].lower() + message[1:]
        if item["type"] == "extra_forbidden":
            message, value = "unknown key", ""
            remedy = _nearest(str(where[-1]), _known_keys(model, where[:-1]))
        elif item["type"] == "missing":
            message, value = "is missing", ""
        elif item["type"] == "string_pattern_mismatch":
            remedy = f"allowed: {item['ctx']['pattern']}"
        problem = Problem((*prefix, *where), message, value, remedy)
        if problem.path not in {earlier.path for earlier in problems}:
            problems.append(problem)
    return problems


def _is_union_tag(part: str | int) -> bool:
    return isinstance(part, str) and ("[" in part or part.startswith(("literal", "tuple", "func")))


def _known_keys(model: type[BaseModel], where: tuple[str | int, ...]) -> list[str]:
    current: Any = model
    for part in where:
        field = getattr(current, "model_fields", {}).get(part)
        if field is None:
            return []
        options = [field.annotation, *getattr(field.annotation, "__args__", ())]
        current = next((o for o in options if hasattr(o, "model_fields")), None)
    return list(getattr(current, "model_fields", {}))


class _Reader:
    """Validates one parsed file and gathers problems instead of stopping at the first."""

    def __init__(self) -> None:
        self.problems: list[Problem] = []

    def model(self, model: type[M], table: Any, path: tuple[str | int, ...]) -> M | None:
        try:
            return model.model_validate(table)
        except ValidationError as error:
            self.problems += problems_of(error, model, path)
            return None

    def plugin(
        self, kind: plugins.Kind, table: Any, path: tuple[str | int, ...]
    ) -> tuple[plugins.Plugin, Any] | None:
        if not isinstance(table, dict):
            self.problems.append(Problem(path, "must be a table with a type"))
            return None
        name = table.get("type")
        if not isinstance(name, str):
            known = ", ".join(plugin.name for plugin in plugins.catalogue(kind))
            self.problems.append(Problem((*path, "type"), "is missing", remedy=f"one of: {known}"))
            return None
        try:
            plugin = plugins.load(kind, name)
        except ConfigError as error:
            self.problems.append(Problem((*path, "type"), error.message, repr(name), error.remedy))
            return None
        rest = {key: value for key, value in table.items() if key != "type"}
        settings = self.model(plugin.settings, rest, path)
        return None if settings is None else (plugin, settings)

    def pipeline(self, table: Any, path: tuple[str | int, ...]) -> PipelineConfig | None:
        if not isinstance(table, dict):
            self.problems.append(Problem(path, "must be a table: write [[pipeline]]"))
            return None
        known = ("name", "adapter", "optics", "engine", "publish", "record")
        for key in table:
            if key not in known:
                self.problems.append(
                    Problem((*path, key), "unknown key", remedy=_nearest(key, known))
                )
        before = len(self.problems)
        named = self.model(
            create_model("Pipeline", name=(Name, ...)), {"name": table.get("name")}, path
        )
        adapter = self.plugin("adapters", table.get("adapter", {}), (*path, "adapter"))
        optics = self.model(Optics, table.get("optics", {}), (*path, "optics"))
        publish = self.model(PublishTable, table.get("publish", {}), (*path, "publish"))
        record = self.model(RecordTable, table.get("record", {}), (*path, "record"))
        engines = self.engines(table.get("engine", []), (*path, "engine"), optics)
        if adapter is not None and adapter[0].works_on == "images":
            for index, engine in enumerate(engines):
                if engine.plugin.works_on != "images":
                    message = f"needs patterns, which the adapter {adapter[0].name} does not give"
                    where = (*path, "engine", index, "type")
                    self.problems.append(Problem(where, message, repr(engine.plugin.name)))
        if len(self.problems) > before or not (named and adapter and optics and publish and record):
            return None
        name: str = named.name  # type: ignore[attr-defined]
        config = PipelineConfig(name, *adapter, optics, tuple(engines), publish, record)
        return config

    def engines(
        self, tables: Any, path: tuple[str | int, ...], optics: Optics | None
    ) -> list[EngineConfig]:
        if not isinstance(tables, list):
            self.problems.append(Problem(path, "must be an array: write [[pipeline.engine]]"))
            return []
        engines: list[EngineConfig] = []
        for index, table in enumerate(tables):
            found = self.plugin("engines", table, (*path, index))
            if found is None:
                continue
            engine = EngineConfig(*found)
            if engine.name in {other.name for other in engines}:
                self.problems.append(
                    Problem(
                        (*path, index, "name"),
                        f"there is another engine {engine.name!r}",
                        remedy="give one of them a name of its own",
                    )
                )
            why_not = engine.plugin.unavailable()
            if why_not:
                self.problems.append(Problem((*path, index, "type"), why_not))
            if isinstance(engine.settings, VirtualDetectorSettings) and optics is not None:
                own = engine.settings
                try:
                    detector_radii_px(own.detectors, own.detectors_px, optics)
                except ConfigError as error:
                    self.problems.append(
                        Problem((*path, index, "detectors"), error.message, "", error.remedy)
                    )
            engines.append(engine)
        return engines

    def config(self, data: Mapping[str, Any]) -> Config | None:
        known = ("daemon", "mqtt", "page", "pipeline", "session")
        for key in data:
            if key not in known:
                self.problems.append(Problem((key,), "unknown table", remedy=_nearest(key, known)))
        daemon = self.model(DaemonTable, data.get("daemon", {}), ("daemon",))
        mqtt = self.model(MqttSettings, data["mqtt"], ("mqtt",)) if "mqtt" in data else None
        page = self.model(PageSettings, data["page"], ("page",)) if "page" in data else None
        tables = data.get("pipeline", [])
        if not isinstance(tables, list) or not tables:
            self.problems.append(
                Problem(("pipeline",), "there is no pipeline", remedy="add a [[pipeline]]")
            )
            tables = []
        pipelines = [
            pipeline
            for index, table in enumerate(tables)
            if (pipeline := self.pipeline(table, ("pipeline", index))) is not None
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
        sessions = list(self.sessions(data.get("session", []), pipelines))
        if self.problems or daemon is None:
            return None
        return Config(daemon, mqtt, page, tuple(pipelines), tuple(sessions))

    def sessions(self, tables: Any, pipelines: Sequence[PipelineConfig]) -> Iterable[SessionPlan]:
        if not isinstance(tables, list):
            self.problems.append(Problem(("session",), "must be an array: write [[session]]"))
            return
        names = [pipeline.name for pipeline in pipelines]
        for index, table in enumerate(tables):
            path = ("session", index)
            plan = self.model(SessionPlan, table, path)
            if plan is None:
                continue
            if plan.pipeline is None and len(names) != 1:
                remedy = f"one of: {', '.join(names)}"
                self.problems.append(Problem((*path, "pipeline"), "is missing", "", remedy))
            elif plan.pipeline is not None and plan.pipeline not in names:
                remedy = f"one of: {', '.join(names)}"
                problem = Problem((*path, "pipeline"), "is not a pipeline", plan.pipeline, remedy)
                self.problems.append(problem)
            yield plan


def parse(text: str, source: str = "config") -> Config:
    """Validate a config text. Raises ConfigProblemsError (or ConfigError where it is not TOML)."""
    import tomli

    try:
        data = tomli.loads(text)
    except tomli.TOMLDecodeError as error:
        raise ConfigError(f"{source}: is not TOML: {error}", "see https://toml.io") from error
    reader = _Reader()
    config = reader.config(data)
    if config is None or reader.problems:
        lines = key_lines(text)
        placed = [
            Problem(p.path, p.message, p.value, p.remedy, line_of(lines, p.path))
            for p in reader.problems
        ]
        raise ConfigProblemsError(source, placed)
    return config


def load(path: Path) -> Config:
    """Read and validate a config file. Raises ConfigError naming the file."""
    try:
        text = path.read_text(encoding="utf-8")
    except FileNotFoundError as error:
        raise ConfigError(f"{path}: there is no such file", "name a config file") from error
    except (OSError, UnicodeDecodeError) as error:
        raise ConfigError(f"{path}: cannot be read: {error}", "check the file") from error
    return parse(text, str(path))


def parse_scan(text: str, **more: Any) -> Scan:
    """A scan from the command line's "YxX". Raises ConfigError."""
    match = re.fullmatch(r"(\d+)[xX](\d+)", text.strip())
    if match is None:
        raise ConfigError(
            f"--scan {text!r} is not a scan size", 'give lines x columns, for example "256x256"'
        )
    try:
        return Scan(shape=(int(match[1]), int(match[2])), **more)
    except ValidationError as error:
        raise ConfigProblemsError("--scan", problems_of(error, Scan, ("scan",))) from error

"""The tables of a config file that belong to no plugin."""

from __future__ import annotations

import contextlib
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import (
    AfterValidator,
    ConfigDict,
    Field,
    StringConstraints,
    field_validator,
)

from stemd import plugins
from stemd.errors import ConfigError
from stemd.typed import Table

Name = Annotated[str, Field(pattern=r"^[a-z0-9][a-z0-9-]{0,62}$")]
DEFAULT_RESULTS = ("tiff",)
ImageName = Annotated[str, Field(pattern=r"^[a-z][a-z0-9_]{0,60}$")]


class _Table(Table):
    model_config = ConfigDict(frozen=True, extra="forbid")


def _no_daemon(name: str) -> str:
    if name == "daemon":
        raise ValueError("must not be 'daemon', the daemon's own name in topics")
    return name


class PipelineNamed(Table):
    """What a pipeline is called: a level of its topics."""

    name: Annotated[Name, AfterValidator(_no_daemon)]


class RetentionTable(_Table):
    """`[daemon.retention]`: what may be deleted, the oldest scan first; default: nothing.

    Scans older than `max_age_days` go, all but the newest `max_scans`, and as many as it takes to
    have `min_free_gb` free. `delete` "raw" takes the raw records only, "scan" whole scans. Below
    `warn_free_gb` there is a warning. A clock that may have jumped makes no more than the part
    `max_share` of all scans old.
    """

    max_age_days: Annotated[float, Field(gt=0.0, le=1e6)] | None = None
    max_scans: Annotated[int, Field(ge=1, le=10**12)] | None = None
    min_free_gb: Annotated[float, Field(gt=0.0, le=1e9)] | None = None
    delete: Literal["raw", "scan"] = "raw"
    warn_free_gb: Annotated[float, Field(ge=0.0, le=1e9)] = 10.0
    max_share: Annotated[float, Field(ge=0.0, le=1.0)] = 0.25


class DaemonTable(_Table):
    """`[daemon]`: the instrument's name in MQTT topics, where files go, how much is logged.

    `reserve_mb`: free space that raw records leave for images and the catalogue.
    """

    instrument: Name = "stemd"
    data_dir: Path = Path("stemd-data")
    log_level: Literal["debug", "info", "warning", "error"] = "info"
    reserve_mb: Annotated[float, Field(ge=0.0, le=1e12)] = 64.0
    retention: RetentionTable = RetentionTable()

    @field_validator("data_dir", mode="after")
    @classmethod
    def _a_folder(cls, value: Path) -> Path:
        if value.parts and value.parts[0].startswith("~"):
            raise ValueError("'~' is not replaced: the daemon may be another user; give it in full")
        return value

    @field_validator("data_dir", mode="before")
    @classmethod
    def _not_empty(cls, value: Any) -> Any:
        if isinstance(value, str) and not value.strip():
            raise ValueError("must name a folder")
        return value


class PublishTable(_Table):
    """`[pipeline.publish]`: snapshots a second at most, which images (default: all), pictures."""

    rate_hz: Annotated[float, Field(ge=0.001, le=100.0)] = 10.0
    images: tuple[ImageName, ...] | None = None
    preview: bool = False


Words = Annotated[str, StringConstraints(strip_whitespace=True, max_length=2000)]
Tag = Annotated[str, StringConstraints(strip_whitespace=True, min_length=1, max_length=100)]


class AboutTable(_Table):
    """`[pipeline.about]`: what a scan is of, for people; `stemd scans --find` looks for it.

    It stands in the scan.json of each scan that is finished while it is in force.
    """

    sample: Words = ""
    operator: Words = ""
    comment: Words = ""
    tags: tuple[Tag, ...] = Field(default=(), max_length=50)


def _writers() -> list[plugins.Plugin]:
    return [plugin for plugin in plugins.catalogue("sinks") if plugin.takes == "images"]


def _writer(name: str) -> str:
    plugin: plugins.Plugin | None = None
    with contextlib.suppress(ConfigError):  # the one alone: all of them take long to import
        plugin = plugins.load("sinks", name)
    if plugin is None or plugin.takes != "images":
        plugin = plugins.checked("sinks", name, _writers())
    if why := plugin.why_not():
        raise ValueError(f"the sink {name!r} cannot be used: {why}")
    return name


def _writers_listed(schema: dict[str, Any]) -> None:
    schema["items"] = {"type": "string", "enum": [writer.name for writer in _writers()]}


class RecordTable(_Table):
    """`[pipeline.record]`: the camera's own bytes, and in which forms results are kept.

    `results` names sinks that take images: "tiff", or those of other packages.
    """

    raw: bool = False
    results: tuple[Annotated[str, AfterValidator(_writer)], ...] = Field(
        default=DEFAULT_RESULTS, json_schema_extra=_writers_listed
    )

    @field_validator("results")
    @classmethod
    def _each_once(cls, value: tuple[str, ...]) -> tuple[str, ...]:
        if twice := sorted({name for name in value if value.count(name) > 1}):
            raise ValueError(f"{', '.join(twice)} is listed twice")
        return value

"""`--sweep ricom.kernel_size=21,61,101`: the same recording with several settings."""

from __future__ import annotations

import difflib
import itertools
import re
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

from pydantic import ValidationError

from stemd.acquisition import Optics
from stemd.config.image_names import check_names
from stemd.config.pairs import parse_value, split_outside_brackets
from stemd.config.problems import ConfigProblemsError, problems_of
from stemd.config.resolved import EngineConfig
from stemd.errors import UsageError
from stemd.settings import Settings

MOST_POINTS = 10_000


@dataclass(frozen=True, slots=True)
class SweepAxis:
    """One setting and the values it takes: `path` is the engine's name (or optics) and keys."""

    path: tuple[str, ...]
    values: tuple[Any, ...]

    @property
    def key(self) -> str:
        """As it was given."""
        return ".".join(self.path)


@dataclass(frozen=True, slots=True)
class Point:
    """One choice of values. `folder` is the name of its results' folder, "" without a sweep."""

    folder: str
    settings: Settings
    engines: tuple[EngineConfig, ...]


def parse_axis(text: str) -> SweepAxis:
    """`engine.key=value,value`. Raises UsageError."""
    key, equals, values = text.partition("=")
    path = tuple(key.strip().split("."))
    found = tuple(parse_value(value) for value in split_outside_brackets(values))
    if not equals or len(path) < 2 or not all(path) or not found:
        raise UsageError(
            f"--sweep {text}: is not of the form ENGINE.KEY=VALUE,VALUE",
            "for example --sweep ricom.kernel_size=21,61,101",
        )
    return SweepAxis(path, found)


def points(
    axes: Sequence[SweepAxis], settings: Settings, engines: Sequence[EngineConfig]
) -> list[Point]:
    """Every combination of the values, the last axis running fastest.

    Raises UsageError for an engine that is not there, ConfigError for a key or value that its
    engine does not take, or where two images would have one name.
    """
    twice = next((a.key for a, b in itertools.combinations(axes, 2) if a.path == b.path), None)
    if twice is not None:
        raise UsageError(f"--sweep {twice}: is given twice", "list all values in one --sweep")
    count = 1
    for axis in axes:
        count *= len(axis.values)
    if count > MOST_POINTS:
        raise UsageError(
            f"the sweep has {count:,} combinations, at most {MOST_POINTS:,} are made at a time",
            "sweep fewer settings at a time",
        )
    made: list[Point] = []
    folders: set[str] = set()
    for values in itertools.product(*(axis.values for axis in axes)):
        chosen, kept = settings, list(engines)
        for axis, value in zip(axes, values, strict=True):
            chosen, kept = _with(chosen, kept, axis, value)
        check_names(chosen.engines, chosen.optics, "--sweep")
        folder = ",".join(
            f"{axis.key}={_as_name(value)}" for axis, value in zip(axes, values, strict=True)
        )[:200]
        if folder in folders:
            folder = f"{folder}-{len(made) + 1}"
        folders.add(folder)
        made.append(Point(folder, chosen, tuple(kept)))
    return made


def _with(
    settings: Settings, engines: list[EngineConfig], axis: SweepAxis, value: Any
) -> tuple[Settings, list[EngineConfig]]:
    name, keys = axis.path[0], axis.path[1:]
    if name == "optics":
        table = _changed(settings.optics.model_dump(exclude_unset=True), keys, value)
        try:
            return replace(settings, optics=Optics.model_validate(table)), engines
        except ValidationError as error:
            raise ConfigProblemsError(
                f"--sweep {axis.key}", problems_of(error, Optics, ())
            ) from error
    if keys == ("name",):
        raise UsageError(f"--sweep {axis.key}: a name is no setting", "sweep something else")
    names = [engine.name for engine in engines]
    if name not in names:
        near = difflib.get_close_matches(name, names, n=1)
        raise UsageError(
            f"--sweep {axis.key}: there is no engine {name!r} in this run",
            (f"did you mean {near[0]!r}? " if near else "")
            + f"there are: optics, {', '.join(names)}",
        )
    at = names.index(name)
    old = engines[at]
    table = _changed(old.settings.model_dump(exclude_unset=True), keys, value)
    engine = EngineConfig.of(old.plugin.name, table)
    return (
        replace(settings, engines={**settings.engines, name: engine.settings}),
        [*engines[:at], engine, *engines[at + 1 :]],
    )


def _changed(table: dict[str, Any], keys: Sequence[str], value: Any) -> dict[str, Any]:
    """A copy of nested tables with one value set."""
    inner = table.get(keys[0])
    if len(keys) > 1:
        value = _changed(inner if isinstance(inner, dict) else {}, keys[1:], value)
    return {**table, keys[0]: value}


def _as_name(value: Any) -> str:
    """The value in letters that every file system takes."""
    if isinstance(value, list | tuple):
        return "_".join(_as_name(each) for each in value)
    return re.sub(r"[^A-Za-z0-9.+-]+", "_", str(value))

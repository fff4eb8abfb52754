"""Finding adapters, engines, sinks and backends by name, importing only the one asked for.

A built-in plugin is a module of `stemd.adapters` or `stemd.engines` with a `PLUGIN`; a foreign
one is an entry point of the group `stemd.adapters` or `stemd.engines` that points to a `Plugin`.
"""

from __future__ import annotations

import difflib
import importlib
import importlib.util
import pkgutil
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import cache
from importlib.metadata import EntryPoint, entry_points
from typing import Any, Literal

from pydantic import BaseModel

from stemd.errors import ConfigError

Kind = Literal["adapters", "engines"]


def _always() -> str | None:
    return None


def _no_doubt(settings: Any) -> str | None:
    return None


@dataclass(frozen=True, slots=True)
class Plugin:
    """One adapter or engine.

    `settings` is the model of its config table (without `type`), `build` makes the part from a
    validated settings object. `unavailable` returns why it cannot be used here, or None.
    `suffixes` and `open_recording` are for adapters that read recorded files of these endings;
    `reads_remote`: it takes a RemoteFile as well as a Path.
    `doubt` says what is amiss with settings that are allowed, such as a model that is not there.
    `works_on`: what an adapter gives, and what is enough for an engine.
    """

    name: str
    summary: str
    settings: type[BaseModel]
    build: Callable[[Any], Any]
    unavailable: Callable[[], str | None] = _always
    suffixes: tuple[str, ...] = ()
    open_recording: Callable[..., Any] | None = None
    reads_remote: bool = False
    doubt: Callable[[Any], str | None] = _no_doubt
    works_on: Literal["patterns", "images"] = "patterns"


def _module_names(kind: Kind) -> Iterator[str]:
    package = importlib.import_module(f"stemd.{kind}")
    for module in pkgutil.iter_modules(package.__path__):
        yield module.name


@cache
def _entries(kind: Kind) -> tuple[EntryPoint, ...]:
    """Foreign plugins; found once, since looking through every installed package takes 15 ms."""
    return tuple(entry_points(group=f"stemd.{kind}"))


def load(kind: Kind, name: str) -> Plugin:
    """The plugin of this name. Raises ConfigError with the nearest known name."""
    for entry in _entries(kind):
        found = entry.load() if entry.name == name else None
        if isinstance(found, Plugin):
            return found
    if name.isidentifier() and importlib.util.find_spec(f"stemd.{kind}.{name}") is not None:
        plugin = getattr(importlib.import_module(f"stemd.{kind}.{name}"), "PLUGIN", None)
        if isinstance(plugin, Plugin):
            return plugin
    known = [plugin.name for plugin in catalogue(kind)]
    near = difflib.get_close_matches(name, known, n=1)
    raise ConfigError(
        f"there is no {kind[:-1]} of type {name!r}",
        (f"did you mean {near[0]!r}? " if near else "") + f"known: {', '.join(known)}",
    )


def catalogue(kind: Kind) -> list[Plugin]:
    """Every plugin of a kind, built-in ones first, each imported."""
    plugins = []
    for name in _module_names(kind):
        plugin = getattr(importlib.import_module(f"stemd.{kind}.{name}"), "PLUGIN", None)
        if isinstance(plugin, Plugin):
            plugins.append(plugin)
    for entry in _entries(kind):
        found = entry.load()
        if isinstance(found, Plugin):
            plugins.append(found)
    return plugins

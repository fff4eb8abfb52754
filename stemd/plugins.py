"""Finding adapters, engines, sinks and backends by name, importing only the one asked for.

One rule for all four kinds. A built-in plugin is a module (or package) of the kind's own place
that has a `PLUGIN`; its name is the module's. A plugin of somebody else is an entry point of the
group `stemd.adapters`, `stemd.engines`, `stemd.sinks` or `stemd.backends` that points to a
`Plugin`; its name is the entry point's. A foreign plugin that cannot be imported is reported by
`broken`, and is an error only for who asks for it by name. It never replaces a built-in one.
"""

from __future__ import annotations

import contextlib
import difflib
import importlib
import pkgutil
import re
import sys
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from typing import TYPE_CHECKING, Any, Literal, get_args

from pydantic import BaseModel, ConfigDict
from pydantic_core import PydanticCustomError

from stemd import entry_points
from stemd.errors import ConfigError
from stemd.logs import set_up_delayed
from stemd.typed import Table

if TYPE_CHECKING:
    from importlib.metadata import EntryPoint

Kind = Literal["adapters", "engines", "sinks", "backends"]
KINDS: tuple[Kind, ...] = get_args(Kind)
_PLACES: Mapping[Kind, str] = {
    "adapters": "stemd.adapters",
    "engines": "stemd.engines",
    "sinks": "stemd.sinks",
    "backends": "stemd.inference",
}


class NoSettings(Table):
    """Settings of a plugin that has none."""

    model_config = ConfigDict(frozen=True, extra="forbid")


def _always() -> str | None:
    return None


def _no_doubt(settings: Any) -> str | None:
    return None


def _nothing(settings: Any) -> Iterable[Any]:
    return ()


@dataclass(frozen=True, slots=True)
class Plugin:
    """One adapter, engine, sink or backend.

    `settings` is the model of its config table (without `type`). `build` makes the part:

    - an adapter or engine from its validated settings;
    - a sink of events from its settings and a `stemd.events.Host`, see `stemd.events.Sink`;
    - a sink of images from its settings, see `stemd.storage.writers.ResultWriter`;
    - a backend's network from a model file and its options, see `stemd.inference.base.Network`.

    `unavailable` returns why it cannot be used here, or None. `doubt` says what is amiss with
    settings that are allowed, such as a model that is not there.

    `warm` is given the settings before the daemon is ready, in a thread of its own, and does all
    that would take seconds when it is needed first, such as compiling kernels; it reaches for no
    camera and no network. What it gives is iterated over to the end. An adapter's are the messages
    of tiny scans, as from `read`: they are passed on to the engines, whose kernels are compiled
    by that; an adapter that gives none is taken for a camera of whole frames.

    Adapters: `suffixes` and `open_recording` are for those that read recorded files of these
    endings, and `survey` says in lines of text what a file tells to whoever has to choose the size
    of its scan; `reads_remote`: it takes a RemoteFile as well as a Path; `virtual` names the module
    of the camera's own `stemd virtual` command, a frame camera without one is spoken for by
    `encode` (see `stemd.adapters.frames.binary`); `works_on`: what it gives (what an engine needs
    its settings declare). Sinks: `takes` says what one is given, all
    "events" of a daemon, or the finished "images" or raw "blocks" of one scan. Backends: with
    "auto" the one of the highest `preference` that works is taken. `libraries` are the packages
    whose versions matter when something is amiss.
    """

    name: str
    summary: str
    settings: type[BaseModel]
    build: Callable[..., Any]
    unavailable: Callable[[], str | None] = _always
    suffixes: tuple[str, ...] = ()
    open_recording: Callable[..., Any] | None = None
    survey: Callable[[Any], list[str]] | None = None
    reads_remote: bool = False
    virtual: str = ""
    encode: Callable[..., bytes] | None = None
    doubt: Callable[[Any], str | None] = _no_doubt
    warm: Callable[[Any], Iterable[Any]] = _nothing
    works_on: Literal["patterns", "images"] = "patterns"
    takes: Literal["events", "images", "blocks"] = "events"
    preference: int = 0
    libraries: tuple[str, ...] = ()

    def versions(self) -> str:
        """Those of its libraries that are installed, such as "openvino 2026.4.1"."""
        from importlib.metadata import PackageNotFoundError, version

        found = []
        for name in self.libraries:
            with contextlib.suppress(PackageNotFoundError):
                found.append(f"{name} {version(name)}")
        return ", ".join(found)

    def why_not(self) -> str | None:
        """Why it cannot be used here, None where it can; also where finding that out fails."""
        try:
            return self.unavailable()
        except Exception as error:
            return f"it cannot say whether it works here: {_told(error)}"


@dataclass(frozen=True, slots=True)
class Broken:
    """A foreign plugin that cannot be used: its entry point's name and group, whose, and why."""

    name: str
    kind: Kind
    distribution: str
    why: str

    @property
    def group(self) -> str:
        """The entry point's group."""
        return f"stemd.{self.kind}"

    def error(self) -> ConfigError:
        """For who asks for it by name."""
        return ConfigError(
            f"the {self.kind[:-1]} {self.name!r} of the package {self.distribution} "
            f"cannot be used: {self.why}",
            f"repair or update it: pip install -U {self.distribution}",
        )


def load(kind: Kind, name: str, known: Sequence[Plugin] | None = None) -> Plugin:
    """The plugin of this name; `known`: only those that may be named here, not all of the kind.

    Raises ConfigError: with the nearest known name where there is none of this name, with the
    reason where a foreign one cannot be imported.
    """
    built_in = _built_in(kind, name)
    foreign = (_read(kind, entry) for entry in _foreign(kind) if entry.name == name)
    found = built_in if built_in is not None else next(foreign, None)
    if isinstance(found, Broken):
        raise found.error()
    if found is not None and (known is None or found in known):
        return found
    names = [plugin.name for plugin in (catalogue(kind) if known is None else known)]
    near = difflib.get_close_matches(name, names, n=1)
    remedy = f"did you mean {near[0]!r}? " if near else ""
    remedy += f"known: {', '.join(names)}" if names else "none is installed"
    here = "" if found is None else " to be named here"
    raise ConfigError(f"there is no {kind[:-1]} of type {name!r}{here}", remedy)


def checked(kind: Kind, name: str, known: Sequence[Plugin] | None = None) -> Plugin:
    """As `load`, for validators of settings: what is wrong is an error of pydantic's."""
    try:
        return load(kind, name, known)
    except ConfigError as error:
        # braces in a text of pydantic's are places to be filled in
        texts = {"message": error.message, "remedy": error.remedy}
        raise PydanticCustomError("plugin", "{message}", texts) from error


def catalogue(kind: Kind) -> list[Plugin]:
    """Every plugin of a kind that can be imported, built-in ones first."""
    built_in = [found for name in _module_names(kind) if (found := _built_in(kind, name))]
    foreign = (_read(kind, entry) for entry in _foreign(kind))
    return [*built_in, *(plugin for plugin in foreign if isinstance(plugin, Plugin))]


def broken(kind: Kind) -> list[Broken]:
    """Every foreign plugin of a kind that cannot be used, and why."""
    found = (_read(kind, entry) for entry in _foreign(kind))
    return [each for each in found if isinstance(each, Broken)]


@cache
def _module_names(kind: Kind) -> tuple[str, ...]:
    """Found once: what an update adds to the folder later belongs to other code."""
    package = importlib.import_module(_PLACES[kind])
    return tuple(module.name for module in pkgutil.iter_modules(package.__path__))


def _built_in(kind: Kind, name: str) -> Plugin | None:
    module = f"{_PLACES[kind]}.{name}"
    if name not in _module_names(kind):
        return None
    plugin = getattr(importlib.import_module(module), "PLUGIN", None)
    return plugin if isinstance(plugin, Plugin) else None


def _foreign(kind: Kind) -> tuple[EntryPoint, ...]:
    """Entry points of foreign plugins."""
    return tuple(sorted(entry_points.of_group(f"stemd.{kind}"), key=lambda e: (e.name, _owner(e))))


@cache
def _read(kind: Kind, entry: EntryPoint) -> Plugin | Broken:
    """What an entry point leads to. Nothing that its package does wrong gets further than here."""

    def useless(why: str) -> Broken:
        return Broken(entry.name, kind, _owner(entry), why)

    if _built_in(kind, entry.name) is not None:
        return useless("stemd has one of its own of this name, which is used")
    first = next(each for each in _foreign(kind) if each.name == entry.name)
    if first is not entry:
        return useless(f"the package {_owner(first)} has one of this name, which is used")
    try:
        found = entry.load()
        if "structlog" in sys.modules:
            set_up_delayed()  # it may use it without stemd's logger
    except (Exception, SystemExit) as error:
        return useless(f"{entry.value} cannot be imported: {_told(error)}")
    if not isinstance(found, Plugin):
        return useless(f"{entry.value} is a {type(found).__name__}, not a stemd.plugins.Plugin")
    if found.name != entry.name:
        return useless(f"{entry.value} calls itself {found.name!r}")
    amiss = _amiss(found)
    return found if amiss is None else useless(f"{entry.value}: {amiss}")


def _amiss(plugin: Plugin) -> str | None:
    """What would fail later, far from the plugin that has done it."""
    settings: Any = plugin.settings
    if not (isinstance(settings, type) and issubclass(settings, BaseModel)):
        return f"its settings are {settings!r}, not a class of pydantic.BaseModel"
    suffixes: tuple[Any, ...] = plugin.suffixes
    for suffix in suffixes:
        if not isinstance(suffix, str) or not re.fullmatch(r"\.[a-z0-9]+", suffix):
            return f"the suffix {suffix!r} is not like '.abc', in lower case"
    return None


def _owner(entry: EntryPoint) -> str:
    return entry.dist.name if entry.dist is not None else "?"


def _told(error: BaseException) -> str:
    text = " ".join(str(error).split())
    return f"{type(error).__name__}: {text}" if text else type(error).__name__

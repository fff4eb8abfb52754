"""What was asked for, checked: optics, scan, engines, threads."""

from __future__ import annotations

import operator
from collections.abc import Iterable, Mapping, Sequence
from typing import TYPE_CHECKING, Any, TypeVar

import numpy as np
from pydantic import BaseModel, ValidationError

from stemd.acquisition import Optics, Scan
from stemd.errors import UsageError
from stemd.portable import processors

if TYPE_CHECKING:
    from stemd.adapters.base import AdapterSettings
    from stemd.config.resolved import EngineConfig
    from stemd.settings import Settings

M = TypeVar("M", bound=BaseModel)

OpticsLike = Optics | Mapping[str, Any] | None
"""Optics, or some of its keys: {"energy_ev": 300e3, "convergence_semi_angle_mrad": 20, ...}."""
ScanLike = Scan | Sequence[int] | Mapping[str, Any] | None
"""(ny, nx), or keys of `Scan`: {"shape": (ny, nx), "step_size_angstrom": 0.2, ...}, or a Scan."""
EnginesLike = Sequence[str | Mapping[str, Any]] | Mapping[str, Mapping[str, Any]] | None
"""Names, tables with a `type` as in the config, or {name: settings}."""


def optics_of(optics: OpticsLike, known: Optics | None = None) -> Optics:
    """The optics, over those that are `known`. Raises ConfigError naming the key."""
    if optics is None:
        return known or Optics()
    if isinstance(optics, Optics):
        return optics
    table = (known.model_dump() if known is not None else {}) | _table(optics, "optics")
    return validated(Optics, table, "optics")


def scan_of(scan: ScanLike, known: Mapping[str, Any] | None = None) -> Scan | None:
    """The scan over what the data know of it; None where nobody says anything.

    Raises UsageError for what is no size, ConfigError naming the key.
    """
    if isinstance(scan, Scan):
        return scan
    if scan is None:
        return validated(Scan, known, "scan") if known else None
    if isinstance(scan, Mapping):
        return validated(Scan, dict(known or {}) | _table(scan, "scan"), "scan")
    try:
        shape = [operator.index(n) for n in scan]
        if len(shape) != 2:
            raise TypeError
    except TypeError as error:
        raise UsageError(
            f"scan={scan!r} is not the size of a scan", "give lines and columns: scan=(ny, nx)"
        ) from error
    return validated(Scan, dict(known or {}) | {"shape": shape}, "scan")


def camera_of(camera: Mapping[str, Any] | None) -> AdapterSettings | None:
    """The camera's settings from a table as in the config. Raises ConfigError."""
    if camera is None:
        return None
    from stemd import plugins

    table = _table(camera, "camera")
    name = table.pop("type", None)
    if not isinstance(name, str):
        raise UsageError("camera has no type", 'write camera={"type": "timepix3", ...}')
    settings: Any = validated(plugins.load("adapters", name).settings, table, f"camera {name}")
    found: AdapterSettings = settings
    return found


def engines_of(engines: EnginesLike) -> list[EngineConfig]:
    """The engines with their settings; the default ones for None.

    Raises UsageError for two of one name, ConfigError for what an engine does not know.
    """
    from stemd.config.resolved import EngineConfig
    from stemd.engines import DEFAULT_ENGINES

    asked: Iterable[Any] = DEFAULT_ENGINES if engines is None else engines
    if isinstance(engines, str):
        asked = [engines]
    elif isinstance(engines, Mapping):
        asked = [{"type": name, **_table(own, f"engine {name}")} for name, own in engines.items()]
    found = [EngineConfig.of(*_engine(each)) for each in asked]
    if not found:
        raise UsageError("no engine is named", f"leave engines out for {DEFAULT_ENGINES}")
    names = [engine.name for engine in found]
    twice = next((name for name in names if names.count(name) > 1), None)
    if twice is not None:
        raise UsageError(f"two engines have the name {twice!r}", 'give one of them a "name"')
    return found


def settings_of(
    engines: Sequence[EngineConfig],
    optics: Optics,
    scan: Scan | None,
    given: Sequence[str] = (),
) -> Settings:
    """Everything that the engines obey; `given` are names of images that are there already.

    Raises ConfigError where the optics do not suffice, where two images would have one name, and
    where no engine makes an image that another needs.
    """
    from stemd.config.image_names import check_names
    from stemd.settings import Settings

    settings = Settings(optics, {engine.name: engine.settings for engine in engines}, scan)
    settings.masks()
    check_names(settings.engines, optics, "engines", given)
    return settings


def jobs_of(jobs: int | None, most: int | None = None) -> int:
    """Threads; None or 0: each processor that this process may use, but at most `most`.

    Raises UsageError for anything else.
    """
    if jobs is not None and (isinstance(jobs, bool) or not isinstance(jobs, int) or jobs < 0):
        raise UsageError(f"jobs={jobs!r} is not a number of threads", "None takes every free core")
    free = processors()
    return jobs or min(free, most or free)


def validated(model: type[M], table: Any, source: str) -> M:
    """A table as a model. Raises ConfigError with every key that is wrong."""
    try:
        return model.model_validate(table)
    except ValidationError as error:
        from stemd.config.problems import ConfigProblemsError, problems_of

        raise ConfigProblemsError(source, problems_of(error, model, ())) from error


def _engine(asked: Any) -> tuple[str, dict[str, Any]]:
    if isinstance(asked, str):
        from stemd.config.pairs import parse_pairs

        name, _, pairs = asked.partition(":")
        return name, parse_pairs(pairs, f"engine {name}")
    table = _table(asked, "an engine")
    name = table.pop("type", None)
    if not isinstance(name, str):
        raise UsageError(
            f"the engine {asked!r} has no type", 'write {"type": "ricom", "kernel_size": 61}'
        )
    return name, table


def _table(value: Any, what: str) -> dict[str, Any]:
    if not isinstance(value, Mapping):
        raise UsageError(f"{what}: {value!r} is not a table", "give a dict of keys and values")
    return {str(key): _plain(item) for key, item in value.items()}


def _plain(value: Any) -> Any:
    """The value without NumPy's types, which pydantic does not take for numbers."""
    if isinstance(value, np.generic | np.ndarray):
        return value.tolist()
    if isinstance(value, Mapping):
        return {key: _plain(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [_plain(item) for item in value]
    return value

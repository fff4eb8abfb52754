"""Live settings written into the config file, which keeps its comments and its order."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from stemd.config.file import load, parse
from stemd.config.live import LiveSettings
from stemd.config.resolved import PipelineConfig
from stemd.config.written import replace_text
from stemd.errors import ConfigError, StemdError


def save_settings(path: Path, running: PipelineConfig, live: LiveSettings) -> PipelineConfig:
    """Write what differs from the running config; returns the config as it is now.

    The new file is read back before it takes the place of the old one. Raises ConfigError, and
    leaves the file as it was, where it has been changed since it was read, cannot be edited or
    cannot be written.
    """
    path = path.resolve()
    changes = live.differences(LiveSettings.of(running))
    if not changes:
        return running
    if _pipeline(load(path).pipelines, running.name) != running:
        raise ConfigError(
            f"{path}: pipeline {running.name} has been changed since the file was read",
            "reload the daemon (SIGHUP), then save again",
        )
    text = _edited(path, running, changes)
    try:
        saved = _pipeline(parse(text, str(path)).pipelines, running.name)
    except StemdError as error:
        raise _by_hand(path, changes, error.message) from error
    if saved is None or LiveSettings.of(saved).differences(live):
        raise _by_hand(path, changes, "the edited file would say something else")
    replace_text(path, text)
    return saved


def _pipeline(pipelines: tuple[PipelineConfig, ...], name: str) -> PipelineConfig | None:
    return next((each for each in pipelines if each.name == name), None)


def _edited(path: Path, running: PipelineConfig, changes: Mapping[str, Any]) -> str:
    import tomlkit
    from tomlkit.exceptions import TOMLKitError

    try:
        document: Any = tomlkit.parse(path.read_text(encoding="utf-8-sig"))
        table = next(each for each in document["pipeline"] if each["name"] == running.name)
        for key, value in changes.items():
            section, _, name = key.partition(".")
            target = _section(table, section, running)
            if value is None:
                target.pop(name, None)
            else:
                target[name] = value
        return tomlkit.dumps(document)
    except (TOMLKitError, LookupError, StopIteration, TypeError, ValueError) as error:
        raise _by_hand(path, changes, str(error)) from error
    except RecursionError as error:
        raise _by_hand(path, changes, str(error)) from error


def _section(table: Any, section: str, running: PipelineConfig) -> Any:
    """The table of a section of the live settings, made where the file has none."""
    if section in {engine.name for engine in running.engines}:
        return next(each for each in table["engine"] if each.get("name", each["type"]) == section)
    parent = table["adapter"] if section == "scan" else table
    if section not in parent:
        parent[section] = {}
    return parent[section]


def _by_hand(path: Path, changes: Mapping[str, Any], why: str) -> ConfigError:
    wanted = ", ".join(f"{key} = {value}" for key, value in changes.items())
    return ConfigError(f"{path}: cannot be edited: {why}", f"write by hand: {wanted}")

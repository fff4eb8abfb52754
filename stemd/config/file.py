"""The config file: TOML in, validated pipelines out, or a list of everything that is wrong."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

from stemd.config.problems import ConfigProblemsError, Problem
from stemd.config.reader import Reader
from stemd.config.resolved import Config
from stemd.config.toml_lines import key_lines, line_of
from stemd.config.toml_text import from_toml
from stemd.errors import ConfigError, FormatError


def parse(text: str, source: str = "config") -> Config:
    """Validate a config text. Raises ConfigProblemsError (or ConfigError where it is not TOML)."""
    try:
        data = from_toml(text)
    except FormatError as error:
        raise ConfigError(f"{source}: is not TOML: {error.message}", error.remedy) from error
    reader = Reader()
    reader.problems += _texts_with_nul(data)
    config = None if reader.problems else reader.config(data)
    if config is None or reader.problems:
        lines = key_lines(text)
        placed = [
            Problem(p.path, p.message, p.value, p.remedy, line_of(lines, p.path))
            for p in reader.problems
        ]
        raise ConfigProblemsError(source, placed)
    return config


def _texts_with_nul(data: Mapping[str, Any]) -> Iterable[Problem]:
    """Texts that hold the character of number 0, which no file's name and no topic may."""
    left: list[tuple[tuple[str | int, ...], Any]] = [((), data)]
    while left:
        path, value = left.pop()
        if isinstance(value, str) and "\0" in value:
            yield Problem(path, "holds the character \\u0000", repr(value), "remove it")
        elif isinstance(value, dict):
            left += [((*path, key), each) for key, each in value.items()]
        elif isinstance(value, list):
            left += [((*path, number), each) for number, each in enumerate(value)]


def load(path: Path) -> Config:
    """Read and validate a config file. Raises ConfigError naming the file."""
    try:
        text = path.read_text(encoding="utf-8-sig")  # some editors begin UTF-8 with a mark
    except FileNotFoundError as error:
        raise ConfigError(f"{path}: there is no such file", "name a config file") from error
    except UnicodeDecodeError as error:
        raise ConfigError(f"{path}: is no UTF-8: {error}", "save it as UTF-8") from error
    except OSError as error:
        raise ConfigError(f"{path}: cannot be read: {error}", "check the file") from error
    return parse(text, str(path))

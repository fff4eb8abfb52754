"""`key=value,key=value` on a command line, with TOML values."""

from __future__ import annotations

from typing import Any

from stemd.config.toml_text import from_toml
from stemd.errors import ConfigError, FormatError


def parse_value(text: str) -> Any:
    """A TOML value; what is none is a string."""
    try:
        return from_toml(f"value = {text}")["value"]
    except FormatError:
        return text.strip()


def parse_pairs(text: str, source: str) -> dict[str, Any]:
    """`key=value,key=[1,2]` with TOML values; bare words are strings. Raises ConfigError."""
    table: dict[str, Any] = {}
    for pair in split_outside_brackets(text):
        key, equals, value = pair.partition("=")
        if not equals:
            raise ConfigError(f"{source}: {pair!r} has no value", "write key=value,key=value")
        table[key.strip()] = parse_value(value)
    return table


def split_outside_brackets(text: str) -> list[str]:
    """The text between commas that are in no brackets; empty ones are left out."""
    pairs, depth, current = [], 0, ""
    for character in text:
        depth += (character in "[{") - (character in "]}")
        if character == "," and depth == 0:
            pairs.append(current)
            current = ""
        else:
            current += character
    return [pair for pair in [*pairs, current] if pair.strip()]

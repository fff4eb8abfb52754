"""TOML in: whatever stands in a text, it is read or refused by one kind of error."""

from __future__ import annotations

from typing import Any

from stemd.errors import FormatError


def from_toml(text: str) -> dict[str, Any]:
    """The table that a TOML text is. Raises FormatError, and nothing else, for any other text."""
    import tomli

    try:
        return tomli.loads(text)
    except RecursionError as error:  # of brackets in brackets, or a key of too many parts
        raise FormatError(f"it is nested too deep ({error})", "write the values plainly") from error
    except ValueError as error:
        raise FormatError(str(error), "see https://toml.io") from error

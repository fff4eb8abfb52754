"""A scan's size as one types it."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any

from pydantic import ValidationError

from stemd.acquisition import Scan
from stemd.config.problems import ConfigProblemsError, problems_of
from stemd.errors import ConfigError


def parse_scan(text: str, **more: Any) -> Scan:
    """A scan from the command line's "YxX". Raises ConfigError."""
    match = re.fullmatch(r"(\d+)[xX](\d+)", text.strip())
    if match is None:
        raise ConfigError(
            f"--scan {text!r} is not a scan size", 'give lines x columns, for example "256x256"'
        )
    return scan_from({"shape": (int(match[1]), int(match[2])), **more})


def scan_from(table: Mapping[str, Any]) -> Scan:
    """A scan of these keys, some of which the command line has given. Raises ConfigError."""
    try:
        return Scan.model_validate(table)
    except ValidationError as error:
        raise ConfigProblemsError("--scan", problems_of(error, Scan, ("scan",))) from error

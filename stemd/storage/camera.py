"""The settings of the camera that a scan was recorded with, as its scan.json has them."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from pydantic import ValidationError

from stemd import plugins
from stemd.adapters.base import AdapterSettings
from stemd.errors import StemdError


def camera_of(table: Any) -> AdapterSettings | None:
    """The settings in `camera` of a scan document.

    None where it has none, or what this version of stemd does not understand.
    """
    if not isinstance(table, Mapping):
        return None
    own = {key: value for key, value in table.items() if key != "type"}
    try:
        found: Any = plugins.load("adapters", str(table.get("type"))).settings.model_validate(own)
    except (StemdError, ValidationError):
        return None
    settings: AdapterSettings = found
    return settings

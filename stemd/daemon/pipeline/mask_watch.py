"""Says of a mask file that cannot be read that scans are made without it, as long as it is so."""

from __future__ import annotations

import asyncio
from collections.abc import Callable

from stemd.daemon.pipeline.settings import SettingsInForce
from stemd.daemon.pipeline.troubles import Troubles
from stemd.errors import StemdError

AGAIN_S = 10.0
"""So often it is tried again: a network share comes back."""


async def read_mask(settings: SettingsInForce, troubles: Troubles) -> None:
    """Read the mask file of the settings in force, unless it is kept; tell what is wrong."""
    error = await settings.read_mask()
    if error is None:
        troubles.over("mask")
        return
    text = f"scans are made without a mask: {error.message}"
    if troubles.message("mask") != text:
        troubles.error(StemdError(text, error.remedy), "mask")


async def watch_mask(
    settings: SettingsInForce, troubles: Troubles, changed: Callable[[], None]
) -> None:
    """Read it again and again where it could not be read; never returns."""
    while True:
        await asyncio.sleep(AGAIN_S)
        before = troubles.message("mask")
        await read_mask(settings, troubles)
        if troubles.message("mask") != before:
            changed()

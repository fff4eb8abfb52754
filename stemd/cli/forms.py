"""`--as png,hdf5`: in which forms a command writes images."""

from __future__ import annotations

import contextlib

from stemd import plugins
from stemd.errors import ConfigError, UsageError


def forms_of(text: str) -> tuple[str, ...]:
    """The writers of images that are named, separated by commas.

    Raises UsageError for one that is unknown or cannot be used here.
    """
    names = tuple(dict.fromkeys(name.strip() for name in text.split(",") if name.strip()))
    if not names:
        return ()
    for name in names:
        if _is_ready(name):  # without reading all the others
            continue
        known = [each for each in plugins.catalogue("sinks") if each.takes == "images"]
        try:
            why = plugins.load("sinks", name, known).why_not()
        except ConfigError as error:
            raise UsageError(f"--as: {error.message}", error.remedy) from error
        if why:
            usable = ", ".join(each.name for each in known if each.why_not() is None)
            raise UsageError(f"--as {name} cannot be used here: {why}", f"or one of: {usable}")
    return names


def _is_ready(name: str) -> bool:
    with contextlib.suppress(ConfigError):
        found = plugins.load("sinks", name)
        return found.takes == "images" and found.why_not() is None
    return False

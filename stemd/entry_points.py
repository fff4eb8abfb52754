"""Entry points of stemd's groups: all packages are looked through only where one may have some."""

from __future__ import annotations

import os
import sys
from collections.abc import Iterable
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from importlib.metadata import EntryPoint


def of_group(group: str) -> Iterable[EntryPoint]:
    """Those of one of stemd's groups."""
    found = entries()
    return () if found is None else found.select(group=group)


@cache
def entries() -> Any:
    """Of all packages, None if none has any for stemd; read once.

    What it is differs with the version of Python; `select` is the same. It is not asked for if a
    look at the files says that there is nothing: it takes 20 ms of each start.
    """
    if not any(map(may_have_any, sys.path)):
        return None
    from importlib.metadata import entry_points

    return entry_points()


def may_have_any(place: str) -> bool:
    """Whether a folder of packages has entry points for stemd, or is none, such as a zip file."""
    try:
        names = os.listdir(place or ".")  # noqa: PTH208 (sixty paths take longer than to read them)
    except FileNotFoundError:
        return False
    except OSError:
        return True
    for name in names:
        if name.endswith((".egg", ".egg-link")):
            return True
        if name.endswith((".dist-info", ".egg-info")):
            try:
                if b"[stemd." in Path(place, name, "entry_points.txt").read_bytes():
                    return True
            except (FileNotFoundError, NotADirectoryError):
                continue
            except OSError:
                return True
    return False

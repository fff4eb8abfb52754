"""Finds asyncio tasks that a test leaves unfinished when its event loop is closed.

Such a task is destroyed at some later collection of garbage, and its warning would then be blamed
on whatever test runs at that moment.
"""

from __future__ import annotations

import asyncio
import functools
from collections.abc import Callable
from typing import Any

_found: list[str] = []


def watch_loops() -> None:
    """From now on, note the unfinished tasks of every event loop that is closed."""
    for kind in (asyncio.Runner, asyncio.BaseEventLoop):
        kind.close = _watched(kind.close)  # type: ignore[attr-defined]


def take() -> list[str]:
    """What has been found since the last call: a line a task."""
    found = list(_found)
    _found.clear()
    return found


def _watched(close: Callable[[Any], None]) -> Callable[[Any], None]:
    @functools.wraps(close)
    def closed(owner: asyncio.Runner | asyncio.BaseEventLoop) -> None:
        loop = owner if isinstance(owner, asyncio.BaseEventLoop) else _loop_of(owner)
        if loop is not None and not loop.is_closed():
            _found.extend(map(repr, asyncio.all_tasks(loop)))  # of those that are not done
        close(owner)

    return closed


def _loop_of(runner: asyncio.Runner) -> asyncio.AbstractEventLoop | None:
    try:
        return runner.get_loop()
    except RuntimeError:  # it is closed already
        return None

"""Finds what a test leaves behind, so that the test itself is blamed and not a later one.

Asyncio tasks that are unfinished when their event loop is closed: such a task is destroyed at some
later collection of garbage, and its warning would come in whatever test runs at that moment. And a
processor that takes numbers below 1e-308 for zero: some libraries switch it over for the thread
that calls them, and later sums in this thread are no longer what IEEE 754 says.
"""

from __future__ import annotations

import asyncio
import functools
from collections.abc import Callable
from typing import Any

TINY = 5e-324
"""The smallest number above zero."""
_found: list[str] = []


def watch_loops() -> None:
    """From now on, note the unfinished tasks of every event loop that is closed."""
    for kind in (asyncio.Runner, asyncio.BaseEventLoop):
        kind.close = _watched(kind.close)  # type: ignore[attr-defined]


def take() -> list[str]:
    """What has been found since the last call: a line a task, and one for the processor."""
    found = [f"an unfinished task: {task}" for task in _found]
    if TINY * float("1.0") == 0.0:
        found.append("a processor that takes tiny numbers for zero in this thread")
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

"""What networks are busy with for minutes, or do without: for status lines and whoever waits."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager

_lock = threading.Lock()
_now: dict[str, str] = {}
_watchers: list[Callable[[str], None]] = []


def tell(about: str, text: str) -> None:
    """Show this until `over` is called for the same thing."""
    with _lock:
        _now[about] = text
        watchers = list(_watchers)
    for watcher in watchers:
        watcher(text)


def over(about: str) -> None:
    """It is done, or there again."""
    with _lock:
        _now.pop(about, None)


def current() -> list[str]:
    """All that is shown now, oldest first."""
    with _lock:
        return list(_now.values())


@contextmanager
def watched(watcher: Callable[[str], None]) -> Iterator[None]:
    """`watcher` is given each text inside, often many in a second, by whichever thread tells it."""
    with _lock:
        _watchers.append(watcher)
    try:
        yield
    finally:
        with _lock:
            _watchers.remove(watcher)

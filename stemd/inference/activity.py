"""What networks are busy with for minutes, or do without: for the daemon's status line."""

from __future__ import annotations

import threading

_lock = threading.Lock()
_now: dict[str, str] = {}


def tell(about: str, text: str) -> None:
    """Show this until `over` is called for the same thing."""
    with _lock:
        _now[about] = text


def over(about: str) -> None:
    """It is done, or there again."""
    with _lock:
        _now.pop(about, None)


def current() -> list[str]:
    """All that is shown now, oldest first."""
    with _lock:
        return list(_now.values())

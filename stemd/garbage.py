"""When Python looks for garbage that refers to itself, and when it has no need to."""

from __future__ import annotations

import gc
import threading
from collections.abc import Iterator
from contextlib import contextmanager

_lock = threading.Lock()
_inside = 0
_collects = False


@contextmanager
def uncollected() -> Iterator[None]:
    """Do not look for garbage while many objects are made that all stay: modules, tables, a config.

    To look them through takes a tenth of the time of a start. By any thread, also in one another:
    it is looked for again when the last one is through.
    """
    global _inside, _collects
    with _lock:
        if _inside == 0:
            _collects = gc.isenabled()
            gc.disable()
        _inside += 1
    try:
        yield
    finally:
        with _lock:
            _inside -= 1
            if _inside == 0 and _collects:
                gc.enable()

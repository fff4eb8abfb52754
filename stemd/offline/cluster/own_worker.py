"""Loaded by Dask into each worker that is started here (`distributed.worker.preload`).

A terminal sends Ctrl-C to the workers, too: it is for the command to end them, and their
tracebacks would hide what it says.
"""

from __future__ import annotations

import signal
from typing import Any


def dask_setup(worker: Any) -> None:
    """Called in the worker's main thread before its first task."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)

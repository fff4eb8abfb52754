"""Processes beside the daemon that get only what is left over: processor, disk and memory."""

from __future__ import annotations

import contextlib
import os

import psutil

LEAST_MEMORY = 1 << 30


def spare_memory() -> int:
    """Bytes that such a process may have: half of what is free now."""
    return max(LEAST_MEMORY, int(psutil.virtual_memory().available) // 2)


def yield_to_others() -> None:
    """Run only where a processor and the disk have nothing else to do; be the first to go."""
    # in steps: what one machine or service does not allow, another does
    with contextlib.suppress(OSError, AttributeError):
        os.nice(19)
    with contextlib.suppress(OSError, AttributeError):
        os.sched_setscheduler(0, os.SCHED_IDLE, os.sched_param(0))
    with contextlib.suppress(OSError, AttributeError, psutil.Error):
        psutil.Process().ionice(psutil.IOPRIO_CLASS_IDLE)
    with (
        contextlib.suppress(OSError),
        open("/proc/self/oom_score_adj", "w", encoding="ascii") as file,  # noqa: PTH123
    ):
        file.write("1000")


def limit_memory(limit: int) -> None:
    """A record that needs more fails here, with a message, and takes nothing from the scan."""
    with contextlib.suppress(OSError, ValueError, ImportError):
        import resource  # Windows has none

        resource.setrlimit(resource.RLIMIT_DATA, (limit, limit))

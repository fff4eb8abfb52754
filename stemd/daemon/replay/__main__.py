"""The replay's process: `python -m stemd.daemon.replay`, an order and requests on its input."""

from __future__ import annotations

import contextlib
import os
import pickle
import signal
import sys


def yield_to_others() -> None:
    """Run only where a processor and the disk have nothing else to do; be the first to go."""
    import psutil

    # in steps: what one machine or service does not allow, another does
    with contextlib.suppress(OSError):
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
    import resource

    with contextlib.suppress(OSError, ValueError):
        resource.setrlimit(resource.RLIMIT_DATA, (limit, limit))


def main() -> None:
    """Play until the input ends."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    yield_to_others()
    # the real output is for messages alone: whatever prints goes to the daemon's log
    out = os.fdopen(os.dup(1), "wb", buffering=0)
    os.dup2(2, 1)
    from stemd.daemon.logs import set_up_logs
    from stemd.daemon.replay.worker import Worker

    set_up_logs("warning")
    order = pickle.load(sys.stdin.buffer)
    limit_memory(order.memory_bytes)
    Worker(order, out).run(sys.stdin.buffer)
    # a thread that still writes to nobody, or reads from nobody, must not hold this up
    os._exit(0)


if __name__ == "__main__":
    main()

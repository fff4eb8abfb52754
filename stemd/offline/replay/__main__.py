"""The replay's process: `python -m stemd.offline.replay`, a job and requests on its input."""

from __future__ import annotations

import os
import pickle
import signal
import sys

from stemd.offline.idle import limit_memory, yield_to_others
from stemd.offline.same_code import end_unless_same_code


def main() -> None:
    """Play until the input ends."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    end_unless_same_code()
    yield_to_others()
    # the real output is for messages alone: whatever prints goes to the daemon's log
    out = os.fdopen(os.dup(1), "wb", buffering=0)
    os.dup2(2, 1)
    from stemd.logs import set_up_logs
    from stemd.offline.replay.worker import Worker

    set_up_logs("warning")
    job = pickle.load(sys.stdin.buffer)
    limit_memory(job.memory_bytes)
    Worker(job, out).run(sys.stdin.buffer)
    # a thread that still writes to nobody, or reads from nobody, must not hold this up
    os._exit(0)


if __name__ == "__main__":
    main()

"""The process that makes images again: `python -m stemd.offline.completion`.

It gets a line that says whether it is to yield to all others, and a job, on its input, which
stays open as long as the daemon wants the images: where it ends the process ends.
"""

from __future__ import annotations

import os
import pickle
import signal
import sys
import threading
from typing import IO

from stemd.offline.completion import YIELD
from stemd.offline.idle import limit_memory, yield_to_others
from stemd.offline.same_code import end_unless_same_code


def _end_with(requests: IO[bytes]) -> None:
    """The daemon has gone, or has no more use for this: nothing has to be tidied up."""
    requests.read()
    os._exit(1)


def main() -> None:
    """Obey one job."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    end_unless_same_code()
    # the real output is for messages alone: whatever prints goes to the daemon's log
    out = os.fdopen(os.dup(1), "wb")
    os.dup2(2, 1)
    if sys.stdin.buffer.readline() == YIELD:
        # before what is imported next, which takes seconds of a processor's time
        yield_to_others()
    from stemd.logs import set_up_logs
    from stemd.offline.completion.work import Teller, obey

    set_up_logs("warning")
    job = pickle.load(sys.stdin.buffer)
    threading.Thread(target=_end_with, args=(sys.stdin.buffer,), daemon=True).start()
    limit_memory(job.memory_bytes)
    obey(job, Teller(out))
    os._exit(0)


if __name__ == "__main__":
    main()

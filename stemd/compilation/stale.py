"""Finished code that nobody uses any more is removed, whatever version of Python or numba made it.

Several versions may share a folder, and none knows what the others need. So each use is noted, as
the time of the file, and only what was not used for long goes. numba's own cache is left alone.
"""

from __future__ import annotations

import contextlib
import functools
import os
import time
from pathlib import Path

DAY_S = 86_400.0
UNUSED_S = 60 * DAY_S
"""Who comes back after so long waits for its kernels once."""
UNFINISHED_S = DAY_S
"""A file that was being written so long ago has no writer any more."""
ENDING, PART = ".finished", ".part"


def note_use(path: Path) -> None:
    """This file is used now; once a day that is written down."""
    with contextlib.suppress(OSError):
        if time.time() - path.stat().st_mtime > DAY_S:
            os.utime(path)


@functools.cache
def remove_unused(folder: Path) -> None:
    """Once in a process: remove what was not used for long, and what was never written to its end.

    What cannot be removed stays.
    """
    now = time.time()
    for path in folder.glob(f"*{ENDING}*"):
        longest = UNFINISHED_S if path.name.endswith(PART) else UNUSED_S
        with contextlib.suppress(OSError):
            if now - path.stat().st_mtime > longest:
                path.unlink()

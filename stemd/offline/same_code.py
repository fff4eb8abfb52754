"""The daemon and the processes it starts run the same code, or the processes do not run."""

from __future__ import annotations

import os
import sys

from stemd import installation

CODE = "STEMD_CODE"
"""The environment variable that tells a process the digest of the daemon's code."""


def environment() -> dict[str, str]:
    """For a process that is to run this process's code.

    Raises ReplacedError where other code has been installed since this process started.
    """
    mine = installation.at_start()
    changed = mine.changed()
    if changed is not None:
        raise changed
    return {**os.environ, CODE: mine.digest}


def end_unless_same_code() -> None:
    """End this process where it would run other code than the one that has started it."""
    wanted = os.environ.get(CODE)
    if wanted is not None and installation.at_start().digest != wanted:
        sys.stderr.write("stemd was replaced while the daemon runs: restart stemd\n")
        sys.stderr.flush()
        os._exit(1)

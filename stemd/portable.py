"""What Linux has and other systems lack, in one place: done otherwise there, or told in a line."""

from __future__ import annotations

import os
import sys
from pathlib import Path

from stemd.errors import StemdError

try:
    import fcntl
except ImportError:  # Windows
    fcntl = None  # type: ignore[assignment]

OPEN_FLAGS = getattr(os, "O_CLOEXEC", 0) | getattr(os, "O_BINARY", 0)
"""For every os.open: no child inherits it, and Windows changes no byte."""


def module_command(module: str, *arguments: str) -> list[str]:
    """The command that runs a module of ours in another process, from the files of this one.

    `python -m` looks into the current folder first, and a checkout of stemd may lie there.
    """
    try:
        here = sys.path[:1] in ([""], [str(Path.cwd())])  # as this process was started itself
    except OSError:  # the folder is gone
        here = False
    return [sys.executable, *([] if here else ["-P"]), "-m", module, *arguments]


def processors() -> int:
    """Processors that this process may use."""
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1


def processor_says(key: str) -> str:
    """What Linux tells of the first processor by this name, empty where it does not."""
    try:
        lines = Path("/proc/cpuinfo").read_text().splitlines()
    except OSError:
        lines = []
    found = (line.partition(":") for line in lines if line.startswith(key))
    return next((value.strip() for _, _, value in found), "")


def lock_file(fd: int, *, wait: bool) -> None:
    """Lock an open file for this descriptor alone. Raises OSError where somebody else has it.

    Windows has no lock of this kind: there it is nobody's, and the daemon does not run.
    """
    if fcntl is not None:
        fcntl.flock(fd, fcntl.LOCK_EX | (0 if wait else fcntl.LOCK_NB))


def needs_unix(command: str) -> None:
    """Raises StemdError on Windows, for a command that cannot work there."""
    if os.name == "nt":
        raise StemdError(
            f"stemd {command} does not work on Windows: it needs signals and locks of Unix",
            "run it on Linux, or in WSL 2; on Windows use stemd check, process, scans, "
            "stemd.client, stemd.api and the live page",
        )

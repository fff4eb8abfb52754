"""What `stemd models check` tells: the machine, for a report, and what takes long."""

from __future__ import annotations

import math
import platform
import shutil
import subprocess
import time
from collections.abc import Callable

from stemd.portable import processor_says

QUERY = ["nvidia-smi", "--query-gpu=name,driver_version,memory.total", "--format=csv,noheader"]


def environment() -> dict[str, str]:
    """Versions of stemd, Python and the backends' libraries, the system, and the GPUs."""
    from stemd import __version__, plugins

    found = {"stemd": __version__, "python": platform.python_version()}
    for plugin in plugins.catalogue("backends"):
        for text in filter(None, plugin.versions().split(", ")):
            name, _, number = text.partition(" ")
            found[name] = number
    return found | {"system": platform.platform(), "processor": processor(), "gpu": _gpus()}


def now_and_then(write: Callable[[str], object], every_s: float = 5.0) -> Callable[[str], None]:
    """Writes the first of many texts as a line, and then at most one in so many seconds."""
    last = -math.inf

    def watch(text: str) -> None:
        nonlocal last
        now = time.monotonic()
        if now - last >= every_s:
            last = now
            write(f"{text}\n")

    return watch


def processor() -> str:
    """The name of the processor."""
    return processor_says("model name") or platform.processor() or "unknown"


def _gpus() -> str:
    """Names, drivers and memory, or why they are not known."""
    if shutil.which(QUERY[0]) is None:
        return "none: nvidia-smi is not there"
    try:
        done = subprocess.run(QUERY, capture_output=True, text=True, timeout=20, check=False)
    except (OSError, subprocess.TimeoutExpired) as error:
        return f"nvidia-smi fails: {error}"
    return "; ".join((done.stdout or done.stderr).split("\n")).strip("; ") or "none"

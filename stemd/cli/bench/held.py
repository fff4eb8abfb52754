"""Commands that end with the program that started them, whatever ends it.

Who is killed cannot end what it has started, but the system closes its pipes: a small process
(`python -m stemd.cli.bench.held COMMAND...`) runs the command and ends it when its own input ends.
"""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import threading
from collections.abc import Sequence
from typing import Any

from stemd.portable import module_command

PATIENCE_S = 15.0
"""What does not end when it is told to is killed after so long."""


def held(command: Sequence[str], **more: Any) -> subprocess.Popen[bytes]:
    """Start a command that ends with this process; SIGTERM to what is returned reaches it."""
    holder = module_command("stemd.cli.bench.held", *command)
    return subprocess.Popen(holder, stdin=subprocess.PIPE, **more)


def _end_with_input(child: subprocess.Popen[bytes]) -> None:
    # the bare descriptor: at the end of the interpreter nobody may hold the lock of `sys.stdin`
    while os.read(0, 4096):
        pass
    child.terminate()
    try:
        child.wait(PATIENCE_S)
    except subprocess.TimeoutExpired:
        child.kill()


def main(command: Sequence[str]) -> int:
    """Run a command until it ends, or nobody holds the input any more; returns its exit status."""
    child = subprocess.Popen(command, stdin=subprocess.DEVNULL)
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, lambda *_: child.terminate())
    threading.Thread(target=_end_with_input, args=(child,), name="input", daemon=True).start()
    return child.wait()


if __name__ == "__main__":
    sys.exit(max(0, main(sys.argv[1:])))

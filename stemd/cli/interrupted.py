"""A command that is cut off: what it has left undone, and the exit code that says so.

`process ... && rm originals` must stop at a command that was interrupted, whoever did it: Ctrl-C,
a batch system's SIGTERM, or a pipe whose reader has gone.
"""

from __future__ import annotations

import contextlib
import errno
import signal
import sys
import threading
from collections.abc import Hashable, Iterator, Mapping
from types import FrameType
from typing import Any

INTERRUPTED, BROKEN_PIPE, TERMINATED = 130, 141, 143
"""Exit codes as a shell gives them: 128 and the number of the signal."""
SHOWN = 20
"""Names that are listed; of more than these only the number is told."""


class Terminated(KeyboardInterrupt):
    """SIGTERM, raised where the command is at work."""


class Undone:
    """The items of a command, crossed off one by one; those left are named when it is cut off.

    `items` maps each to its name.
    """

    def __init__(self, command: str, verb: str, items: Mapping[Any, object]) -> None:
        self._command, self._verb = command, verb
        self._left = dict(items)
        self._count = len(items)

    def done(self, item: Hashable) -> None:
        """This one is finished and written."""
        self._left.pop(item, None)

    def __enter__(self) -> Undone:
        return self

    def __exit__(self, kind: type[BaseException] | None, *rest: object) -> None:
        if kind is None or not issubclass(kind, (KeyboardInterrupt, BrokenPipeError)):
            return
        left = list(self._left.values())
        lines = [f"\nstemd {self._command}: interrupted: "]
        lines.append(f"{len(left)} of {self._count} {self._verb}\n" if left else "all done\n")
        lines += [f"  {self._verb}: {name}\n" for name in left[:SHOWN]]
        if len(left) > SHOWN:
            lines.append(f"  and {len(left) - SHOWN} more\n")
        with contextlib.suppress(OSError):
            sys.stderr.write("".join(lines))


def is_of_output(error: Exception) -> bool:
    """Whether it is the text that a command prints that nobody takes."""
    return isinstance(error, BrokenPipeError) or (
        isinstance(error, OSError)
        and error.errno in (errno.ENOSPC, errno.EIO, errno.EDQUOT)
        and error.filename is None
    )


@contextlib.contextmanager
def sigterm_interrupts() -> Iterator[None]:
    """Inside, SIGTERM raises Terminated in the main thread; it ends a process silently else."""
    if threading.current_thread() is not threading.main_thread():
        yield
        return

    def raise_it(_number: int, _frame: FrameType | None) -> None:
        raise Terminated

    before = signal.signal(signal.SIGTERM, raise_it)
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, before)

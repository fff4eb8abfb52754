"""A progress bar where somebody looks: in a terminal, in a notebook, or not at all."""

from __future__ import annotations

import contextlib
import html
import sys
import time
from collections.abc import Callable, Iterator
from typing import Any, Protocol

from stemd.errors import UsageError

ProgressLike = bool | Callable[[int, int], Any] | None
"""True, False, a function of (done, total), or None: a bar where somebody looks."""

LONG_S = 0.7
"""What takes less shows no bar unless it is asked for."""
_EVERY_S = 0.1


class _Bar(Protocol):
    def update(self, done: int, total: int) -> None: ...

    def close(self) -> None: ...


class _TerminalBar:
    def __init__(self, title: str) -> None:
        from rich.console import Console
        from rich.progress import Progress

        self._bar = Progress(console=Console(stderr=True), transient=True)
        self._task = self._bar.add_task(title, total=None)
        self._bar.start()

    def update(self, done: int, total: int) -> None:
        self._bar.update(self._task, completed=done, total=total)

    def close(self) -> None:
        self._bar.stop()


class _NotebookBar:
    """An HTML progress element that is updated in its place.

    Rich's own needs ipywidgets, and shows nothing but a warning without them.
    """

    def __init__(self, title: str) -> None:
        from IPython import display

        self._title = title
        show: Any = display.display
        self._handle = show({"text/plain": title}, raw=True, display_id=True)

    def update(self, done: int, total: int) -> None:
        text = f"{self._title}: {done:,} of {total:,}"
        element = f'<progress value="{done}" max="{max(1, total)}"></progress> {html.escape(text)}'
        self._handle.update({"text/html": element, "text/plain": text}, raw=True)

    def close(self) -> None:
        self._handle.update({"text/html": "", "text/plain": ""}, raw=True)


def _notebook() -> bool:
    """Whether the code runs in a Jupyter kernel."""
    ipython = sys.modules.get("IPython")
    shell = ipython.get_ipython() if ipython is not None else None
    return shell is not None and shell.has_trait("kernel")


@contextlib.contextmanager
def showing(progress: ProgressLike, title: str) -> Iterator[Callable[[int, int], None]]:
    """A function that is told (done, total) often; what it shows goes at the end.

    Raises UsageError for a `progress` that is neither True, False, None nor a function.
    """
    if callable(progress):
        yield progress
        return
    if progress not in (True, False, None):
        raise UsageError(
            f"progress={progress!r} is not understood", "give True, False, or a function"
        )
    seen = _notebook() or sys.stderr.isatty()
    if progress is False or (progress is None and not seen):
        yield lambda done, total: None
        return
    bar: _Bar | None = None
    due = time.monotonic() + (LONG_S if progress is None else 0.0)

    def update(done: int, total: int) -> None:
        nonlocal bar, due
        if time.monotonic() < due and not (bar and done == total):
            return
        due = time.monotonic() + _EVERY_S
        if bar is None:
            bar = _NotebookBar(title) if _notebook() else _TerminalBar(title)
        bar.update(done, total)

    try:
        yield update
    finally:
        if bar is not None:
            bar.close()

"""How far `stemd process` is: a bar on a terminal, a line every few seconds elsewhere."""

from __future__ import annotations

import sys
import time
from typing import Any

LINES_EVERY_S = 5.0


class FileBar:
    """A progress bar on a terminal, a line every few seconds elsewhere."""

    def __init__(self, name: str, *, quiet: bool) -> None:
        self._name = name
        self._quiet = quiet
        self._bar: Any = None
        self._next = time.monotonic() + LINES_EVERY_S

    def __enter__(self) -> FileBar:
        if sys.stderr.isatty() and not self._quiet:
            from rich.console import Console
            from rich.progress import Progress

            self._bar = Progress(console=Console(stderr=True), transient=True)
            self._task = self._bar.add_task(self._name, total=None)
            self._bar.start()
        return self

    def update(self, done: int, total: int) -> None:
        """Called about ten times a second."""
        if self._bar is not None:
            self._bar.update(self._task, completed=done, total=total)
        elif not self._quiet and time.monotonic() >= self._next:
            self._next = time.monotonic() + LINES_EVERY_S
            sys.stderr.write(f"{self._name}: {done:,} of {total:,} frames\n")

    def __exit__(self, *error: object) -> None:
        if self._bar is not None:
            self._bar.stop()


class ClusterBar:
    """Bytes of all files on a terminal, a line every few seconds elsewhere."""

    def __init__(self, dashboard: str, *, quiet: bool) -> None:
        self._dashboard = dashboard
        self._quiet = quiet
        self._bar: Any = None
        self._began = time.monotonic()
        self._next = self._began + LINES_EVERY_S
        self._last = (0, 0, 0)
        self._trouble = ""

    def __enter__(self) -> ClusterBar:
        if self._quiet:
            return self
        if self._dashboard:
            sys.stderr.write(f"Dask dashboard: {self._dashboard}\n")
        if sys.stderr.isatty():
            from rich.console import Console
            from rich.progress import (
                BarColumn,
                DownloadColumn,
                Progress,
                TextColumn,
                TimeRemainingColumn,
                TransferSpeedColumn,
            )

            self._bar = Progress(
                TextColumn("{task.description}"),
                BarColumn(),
                DownloadColumn(binary_units=True),
                TransferSpeedColumn(),
                TimeRemainingColumn(),
                console=Console(stderr=True),
                transient=True,
            )
            self._task = self._bar.add_task("waiting for workers", total=None)
            self._bar.start()
        return self

    def update(self, done: int, total: int, threads: int) -> None:
        """Bytes done and in all, threads of all workers."""
        self._last = (done, total, threads)
        text = self._trouble or (f"{threads} threads" if threads else "waiting for workers")
        if self._bar is not None:
            self._bar.update(self._task, completed=done, total=total or None, description=text)
        elif not (self._quiet or self._trouble) and time.monotonic() >= self._next:
            self._next = time.monotonic() + LINES_EVERY_S
            sys.stderr.write(f"{text}: {done / 2**30:.1f} of {total / 2**30:.1f} GiB\n")

    def tell(self, text: str, *, over: bool = False) -> None:
        """A sentence about the cluster, now; the bar shows it until it is `over`."""
        self._trouble = "" if over else text
        if self._bar is not None:
            self._bar.update(self._task, description=self._trouble or "working")
            self._bar.console.print(f"stemd process: {text}", highlight=False, markup=False)
        else:
            sys.stderr.write(f"stemd process: {text}\n")

    def __exit__(self, *error: object) -> None:
        if self._bar is not None:
            self._bar.stop()
        done, total, threads = self._last
        if not self._quiet and total and done == total:
            seconds = time.monotonic() - self._began
            sys.stderr.write(
                f"{total / 2**30:.2f} GiB in {seconds:.1f} s on {threads} threads "
                f"({total / seconds / 1e9:.2f} GB/s)\n"
            )

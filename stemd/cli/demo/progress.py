"""What the demo tells its user: scans as they end, and a status line."""

from __future__ import annotations

import asyncio
import sys
import time
from collections.abc import Callable

from stemd import compilation
from stemd.events import Json, Sink
from stemd.results import Snapshot
from stemd.storage.completions import DONE, OUTSTANDING
from stemd.wording import one_of

FIRST_PART = 0.1
"""Which part of its first scan an image has when the page's address is told."""


class Watcher(Sink):
    """Counts scans and remembers the newest state, for the status line.

    `begun` scans have begun, `documents` are of those that are over. `finished` is set when the
    scans wanted are over, `whole` while none of their images waits to be completed from its
    record, `shown` when the first images are worth a look.
    """

    def __init__(self, wanted: int | None) -> None:
        self.state: Json = {}
        self.begun = 0
        self.documents: list[Json] = []
        self.incomplete: set[str] = set()
        self.outstanding: set[str] = set()
        self.finished = asyncio.Event()
        self.whole = asyncio.Event()
        self.whole.set()
        self.shown = asyncio.Event()
        self._begins = asyncio.Event()
        self._wanted = wanted

    def on_state(self, pipeline: str, state: Json) -> None:
        """The pipeline's state."""
        self.state = state

    async def begins(self, before: int) -> None:
        """Return when more scans than so many have begun."""
        while self.begun <= before:
            self._begins.clear()
            await self._begins.wait()

    def on_snapshot(self, pipeline: str, snapshot: Snapshot) -> None:
        """Images of the running scan."""
        if snapshot.positions_done >= FIRST_PART * snapshot.positions_total:
            self.shown.set()

    def on_document(self, pipeline: str, document: Json) -> None:
        """A scan has begun or ended, or has had its images completed."""
        event, status = document["event"], (document.get("completion") or {}).get("status")
        if event == "started":
            self.begun += 1
            self._begins.set()
        elif event in ("finished", "aborted"):
            self.documents.append(document)
            if status == OUTSTANDING:
                self.outstanding.add(document["id"])
                self.whole.clear()
            if self._wanted is not None and len(self.documents) >= self._wanted:
                self.finished.set()
        elif event == "completion":
            if status != DONE:
                self.incomplete.add(document["id"])
            self.outstanding.discard(document["id"])
            if not self.outstanding:
                self.whole.set()


async def starting_line(what: Callable[[], str]) -> None:
    """Show for ever what is waited for: one line on a terminal, a line for each step elsewhere.

    `what` gives it. Compiling takes most of a first start, and no later one has to.
    """
    terminal, began, said = sys.stdout.isatty(), time.monotonic(), ""
    while True:
        text = what()
        if terminal:
            compiled, seconds = compilation.compiled(), time.monotonic() - began
            kernels = f"; {compiled} kernels compiled, only now" if compiled else ""
            _show_status(f"{text}, {seconds:.0f} s{kernels}", terminal=True)
        elif text != said:
            _show_status(text, terminal=False)
        said = text
        await asyncio.sleep(0.2)


async def status_line(watcher: Watcher) -> None:
    """Show the state for ever: one line on a terminal, lines now and then elsewhere."""
    terminal = sys.stdout.isatty()
    while True:
        await asyncio.sleep(0.5 if terminal else 5.0)
        state = watcher.state
        if state.get("state") == "waiting" and state.get("completing"):
            part = state.get("completing_part") or 0.0
            text = f"completing {state['completing']} {part:>5.0%}"
            _show_status(text, terminal=terminal)
            continue
        text = (
            f"{state.get('state', 'starting'):<10} {state.get('positions_done', 0):>7,}/"
            f"{state.get('positions_total', 0):,} positions  "
            f"{state.get('positions_per_second', 0.0):>8,.0f}/s  "
            f"scans {len(watcher.documents)}"
        )
        _show_status(text, terminal=terminal)


def _show_status(text: str, *, terminal: bool) -> None:
    sys.stdout.write(f"\r\x1b[K{text}" if terminal else text + "\n")
    sys.stdout.flush()


def end_status_line() -> None:
    """What is said next begins a line of its own."""
    if sys.stdout.isatty():
        sys.stdout.write("\n")


def say(text: str) -> None:
    """A line for the user."""
    sys.stdout.write(one_of(text) + "\n")
    sys.stdout.flush()

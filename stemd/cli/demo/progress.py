"""What the demo tells its user: scans as they end, and a status line."""

from __future__ import annotations

import asyncio
import sys

from stemd.events import Json, Sink
from stemd.storage.completions import DONE, OUTSTANDING


class Watcher(Sink):
    """Counts scans and remembers the newest state, for the status line.

    `finished` is set when the scans wanted are over, `whole` while none of their images waits
    to be completed from its record.
    """

    def __init__(self, wanted: int | None) -> None:
        self.state: Json = {}
        self.documents: list[Json] = []
        self.incomplete: set[str] = set()
        self.outstanding: set[str] = set()
        self.finished = asyncio.Event()
        self.whole = asyncio.Event()
        self.whole.set()
        self._wanted = wanted

    def on_state(self, pipeline: str, state: Json) -> None:
        """The pipeline's state."""
        self.state = state

    def on_document(self, pipeline: str, document: Json) -> None:
        """A scan has begun or ended, or has had its images completed."""
        event, status = document["event"], (document.get("completion") or {}).get("status")
        if event in ("finished", "aborted"):
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
    sys.stdout.write(text + "\n")
    sys.stdout.flush()

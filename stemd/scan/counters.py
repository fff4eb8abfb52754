"""Numbers that several threads count and read: lost frames, bad words, positions left out."""

from __future__ import annotations

import threading
from collections.abc import Iterable

from stemd.blocks import Message, Notice


class SharedCounters:
    """Numbers by kind, behind one lock. Any thread may count: the reader's, an engine's."""

    def __init__(self) -> None:
        self._counts: dict[str, int] = {}
        self._lock = threading.Lock()

    def add(self, kind: str, count: int = 1) -> None:
        """Add to one number."""
        with self._lock:
            self._counts[kind] = self._counts.get(kind, 0) + count

    def count(self, messages: Iterable[Message]) -> None:
        """Add what the notices among these have counted."""
        for message in messages:
            if isinstance(message, Notice) and message.count:
                self.add(message.kind, message.count)

    def as_dict(self) -> dict[str, int]:
        """All numbers now, as a copy."""
        with self._lock:
            return dict(self._counts)

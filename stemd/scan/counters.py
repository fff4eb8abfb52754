"""What is counted of one scan beside its blocks: lost frames, bad words, positions left out."""

from __future__ import annotations

import threading
from collections.abc import Iterable

from stemd.blocks import Message, Notice


class ScanCounters:
    """Numbers by kind. Any thread may count: the reader's, an engine's, a worker's."""

    def __init__(self) -> None:
        self._counts: dict[str, int] = {}
        self._lock = threading.Lock()

    def count(self, messages: Iterable[Message]) -> None:
        """Add what the notices among these have counted."""
        with self._lock:
            for message in messages:
                if isinstance(message, Notice) and message.count:
                    self._counts[message.kind] = self._counts.get(message.kind, 0) + message.count

    def as_dict(self) -> dict[str, int]:
        """All numbers now, as a copy."""
        with self._lock:
            return dict(self._counts)

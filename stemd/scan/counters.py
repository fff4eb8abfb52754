"""Numbers that several threads count and read: lost frames, bad words, positions left out."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterable, Sequence
from dataclasses import replace
from typing import Any

from stemd.blocks import Message, Notice

MOST_NOTICES = 200
"""Different notices that are kept of a scan; more are only counted."""


class SharedNotices:
    """What was noticed, in words, each text once with its count. Any thread may add and read."""

    def __init__(self) -> None:
        self._found: dict[tuple[str, str], dict[str, Any]] = {}
        self._lock = threading.Lock()

    def add(self, messages: Iterable[Message]) -> None:
        """Keep what the notices among these say."""
        with self._lock:
            for message in messages:
                if isinstance(message, Notice):
                    self._add(message)

    def _add(self, notice: Notice) -> None:
        key = notice.kind, notice.text
        if key in self._found:
            self._found[key]["count"] += notice.count
        elif len(self._found) < MOST_NOTICES:
            self._found[key] = {
                "kind": notice.kind,
                "level": notice.level,
                "text": notice.text,
                "remedy": notice.remedy,
                "count": notice.count,
            }

    def as_list(self) -> list[dict[str, Any]]:
        """All of them as plain JSON types, in the order in which they came; a copy."""
        with self._lock:
            return [dict(notice) for notice in self._found.values()]


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


class Said:
    """What is noticed of one scan: counted, kept in words, and told to `listener`. Any thread.

    It knows neither the scan nor its engines, which know it: a scan whose parts know each other
    in a circle keeps its memory until Python's collector happens to run.
    """

    def __init__(
        self, listener: Callable[[Notice], None], recorded: Callable[[], bool] = lambda: False
    ) -> None:
        self.counters = SharedCounters()
        self.notices = SharedNotices()
        self._listener, self._recorded = listener, recorded

    def count(self, messages: Sequence[Message]) -> None:
        """Count and keep what was noticed outside of the blocks."""
        self.counters.count(messages)
        self.notices.add(messages)

    def tell(self, notice: Notice) -> None:
        """Count and keep what an engine has to say, and pass it on.

        What the record mends by itself is no warning where the scan is `recorded`.
        """
        if notice.mended and notice.level == "warning" and self._recorded():
            notice = replace(notice, level="info")
        self.count([notice])
        self._listener(notice)

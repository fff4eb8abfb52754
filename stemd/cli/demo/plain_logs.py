"""The demo's log: a sentence and its remedy, each kind of warning once, above the status line."""

from __future__ import annotations

import re
import sys
from typing import Any

import structlog

_SHOWN = frozenset(("event", "level", "remedy", "exception"))


class PlainLines:
    """Renders events of structlog as text; a warning that differs by numbers only is dropped."""

    def __init__(self, *, terminal: bool) -> None:
        self._clear = "\r\x1b[K" if terminal else ""
        self._said: set[str] = set()

    def __call__(self, logger: Any, method: str, event: Any) -> str:
        """The text of one event. Raises structlog.DropEvent for one that was told before."""
        text, remedy = str(event.get("event", "")), str(event.get("remedy", ""))
        # "(and 4 more ...)" counts what was held back meanwhile
        kind = re.sub(r"\d+|\(and .*?\)", "", text).strip()
        level = str(event.get("level", method))
        if level == "warning":
            if kind in self._said:
                raise structlog.DropEvent
            self._said.add(kind)
        rest = ", ".join(
            f"{key} {value}"
            for key, value in event.items()
            if key not in _SHOWN and key != "pipeline"
        )
        lines = [f"{self._clear}{level}: {text}" + (f" ({rest})" if rest else "")]
        lines += [f"  {remedy}"] if remedy else []
        lines += [str(event["exception"])] if event.get("exception") else []
        return "\n".join(lines)


def plain_logs() -> None:
    """Have structlog's events shown so, on standard error."""
    structlog.configure(
        processors=[
            structlog.stdlib.add_log_level,
            structlog.processors.format_exc_info,
            PlainLines(terminal=sys.stderr.isatty()),
        ]
    )

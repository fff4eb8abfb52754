"""How the threads of a pipeline tell the event loop something: by messages, never by writing."""

from __future__ import annotations

import asyncio
from typing import Any, Protocol

from stemd.logs import get_logger

log = get_logger(__name__)


class Post(Protocol):
    """Calls something with these arguments on the event loop, soon; returns at once."""

    def __call__(self, call: Any, *arguments: Any) -> None:
        """By any thread."""
        ...


def posting(loop: asyncio.AbstractEventLoop, pipeline: str) -> Post:
    """Messages to `loop`. Those that come after its end are dropped."""

    def post(call: Any, *arguments: Any) -> None:
        try:
            loop.call_soon_threadsafe(call, *arguments)
        except RuntimeError:
            log.debug("the event loop has ended", pipeline=pipeline)

    return post

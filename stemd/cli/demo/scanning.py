"""The demo's operator: starts one scan after the other, each when the one before is all made."""

from __future__ import annotations

import asyncio
import contextlib
import time

from stemd.cli.demo.progress import Watcher
from stemd.cli.demo.setting import PIPELINE
from stemd.events import Hub

GAP_S = 1.0
"""Between two scans, so that one can look at the finished images."""
BEGINS_S = 10.0
"""A scan that was started has begun within this, also on a busy computer."""


async def scan_by_scan(
    hub: Hub, ready: asyncio.Event, watcher: Watcher, wanted: int | None
) -> None:
    """Start so many scans, None: for ever.

    A camera that runs freely does not wait for a small computer, which then leaves images out.
    """
    await ready.wait()
    while wanted is None or len(watcher.documents) < wanted:
        await asyncio.sleep(GAP_S)
        state = watcher.state
        if state.get("state") == "waiting" and state.get("camera_connected"):
            order = {"id": f"demo-{time.time_ns()}", "command": "start", "args": {"scans": 1}}
            await hub.request(PIPELINE, "command", order)
            with contextlib.suppress(TimeoutError):
                await asyncio.wait_for(watcher.begins(), BEGINS_S)

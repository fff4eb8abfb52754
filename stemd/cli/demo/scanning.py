"""The demo's operator: starts one scan after the other, each when the one before is all made."""

from __future__ import annotations

import asyncio
import contextlib
import time
from typing import TYPE_CHECKING

from stemd.cli.demo.progress import Watcher, end_status_line, say
from stemd.cli.demo.setting import PIPELINE
from stemd.events import Hub

if TYPE_CHECKING:
    from stemd.daemon.supervisor import Daemon

GAP_S = 1.0
"""Between two scans, so that one can look at the finished images."""
BEGINS_S = 10.0
"""A scan that was started has begun within this, also on a busy computer; else it is started
again."""
TOLD_AFTER_S = 20.0
"""Of refusals alone: on a busy computer the camera may still be at its first order."""
FINISHED_S = 20.0
"""For so long the images of a scan may be made when it is over: the demo never stands still."""


async def scan_by_scan(
    hub: Hub, ready: asyncio.Event, watcher: Watcher, wanted: int | None
) -> None:
    """Start so many scans, None: for ever.

    A camera that runs freely does not wait for a small computer, which then leaves images out.
    """
    await ready.wait()
    over, refused, said = time.monotonic(), None, None
    while wanted is None or watcher.begun < wanted:
        await asyncio.sleep(GAP_S)
        state = watcher.state.get("state")
        if state != "finishing":
            over = time.monotonic()
        late = state == "finishing" and time.monotonic() - over >= FINISHED_S
        if (late or state in ("waiting", "fault")) and watcher.state.get("camera_connected"):
            begun = watcher.begun
            order = {"id": f"demo-{time.time_ns()}", "command": "start", "args": {"scans": 1}}
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(BEGINS_S):
                    reply = await hub.request(PIPELINE, "command", order)
                    if reply["ok"]:
                        refused, said = None, None
                        await watcher.begins(begun)
                        continue
                    refused = refused or time.monotonic()
                    why = reply["error"]["message"]
                    if why != said and time.monotonic() - refused >= TOLD_AFTER_S:
                        said = why
                        end_status_line()
                        say(f"the next scan is not started, it is tried again: {why}")


async def operate(daemon: Daemon, watcher: Watcher, wanted: int | None) -> None:
    """Start the scans until the daemon is told to stop.

    What ends it before that ends the daemon, too, and is raised: a demo would stand still.
    """
    told = asyncio.ensure_future(daemon.told_to_stop())
    scanning = asyncio.ensure_future(scan_by_scan(daemon.hub, daemon.ready, watcher, wanted))
    try:
        await asyncio.wait({told, scanning}, return_when=asyncio.FIRST_COMPLETED)
        if not told.done():
            scanning.result()
    except Exception:
        daemon.stop()
        raise
    finally:
        told.cancel()
        scanning.cancel()


async def ended(scanning: asyncio.Task[None]) -> None:
    """No further scan is started. Raises what ended the starting of scans."""
    scanning.cancel()
    with contextlib.suppress(asyncio.CancelledError):
        await scanning

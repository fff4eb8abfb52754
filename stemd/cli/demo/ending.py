"""When the demo is over: in time, and not before its images are whole."""

from __future__ import annotations

import asyncio
import contextlib
import os
import signal
import threading
from typing import TYPE_CHECKING

from stemd.cli.demo.progress import Watcher, end_status_line, say

if TYPE_CHECKING:
    from stemd.daemon.supervisor import Daemon

END_S = 1.5
"""Whoever presses Ctrl-C has the prompt back within two seconds."""
POLL_S = 1.0


async def end_in_time(daemon: Daemon, camera: int) -> None:
    """Once it was told to stop, end the process after so long, whatever is still to be written.

    What a scan lacks then the next start puts in order, as after a kill.
    """
    await daemon.told_to_stop()

    def leave() -> None:
        with contextlib.suppress(OSError):
            os.kill(camera, signal.SIGKILL)
        try:
            say("\nThe running scan is not all written; the next start puts it in order.")
        finally:  # also where nobody reads it any more
            os._exit(0)

    timer = threading.Timer(END_S, leave)
    timer.daemon = True
    timer.start()
    try:
        await asyncio.Event().wait()  # until the daemon has ended
    finally:
        timer.cancel()


async def all_done(watcher: Watcher, daemon: Daemon) -> None:
    """Return when all scans that were asked for are over and their images whole."""
    await watcher.finished.wait()
    if watcher.outstanding:
        end_status_line()
        say(
            "The network was slower than the camera: the images of "
            f"{len(watcher.outstanding)} scans are completed from their records."
        )
        daemon.no_more_scans()
    await _whole_or_never(watcher, daemon)


async def _whole_or_never(watcher: Watcher, daemon: Daemon) -> None:
    """Return when no image waits to be completed, or none of them will be by this daemon."""
    while not watcher.whole.is_set():
        with contextlib.suppress(TimeoutError):
            await asyncio.wait_for(watcher.whole.wait(), POLL_S)
        if not watcher.whole.is_set() and (why := daemon.health.red.told.get("version")):
            end_status_line()
            say(f"{len(watcher.outstanding)} scans are not completed: {why.message}")
            watcher.incomplete |= watcher.outstanding
            return

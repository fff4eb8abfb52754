"""When a scan that comes by several links is over."""

from __future__ import annotations

from collections.abc import Sequence

from stemd.adapters.frames.linked.link import LinkThread
from stemd.adapters.frames.linked.scan import JoinedScan
from stemd.adapters.frames.settings import FrameSettings
from stemd.blocks import EndReason


def waited_for(
    links: Sequence[LinkThread], scan: JoinedScan, now: float, gone_s: float
) -> list[LinkThread]:
    """Links that may bring more of the scan; one that is away is waited for so long (s)."""
    found = []
    for link in links:
        part = scan.parts.get(link.number)
        if link.waits is not None:
            continue
        if part is not None and part.ended in ("complete", "restarted", "replaced"):
            continue
        if not link.connected and now - link.gone_since > gone_s:
            continue
        found.append(link)
    return found


def why_over(
    links: Sequence[LinkThread], scan: JoinedScan, now: float, settings: FrameSettings
) -> EndReason | None:
    """Why the scan is over at this time of the monotonic clock (s), None while it is not."""
    if scan.whole:
        return "complete"
    idle_s = settings.idle_timeout_s
    next_begins = any(link.waits is not None for link in links)
    left = waited_for(links, scan, now, idle_s)
    if not left:
        return "restarted" if next_begins else "disconnected"
    silent_s = min(now - max(link.heard, scan.began) for link in left)
    if (scan.passed or next_begins) and silent_s > idle_s:
        return "idle"
    parts = scan.parts.values()
    if parts and all(part.ended is not None for part in parts):
        # those that have brought something are through with it; a link that has not may begin
        if any(part.ended == "stopped" for part in parts):
            return "stopped"
        begun = [scan.parts[link.number].ended for link in left if link.number in scan.parts]
        all_begun = len(begun) == len(left) and "disconnected" not in begun
        if all_begun or silent_s > max(settings.pause_timeout_s, idle_s):
            return "idle"
    return None

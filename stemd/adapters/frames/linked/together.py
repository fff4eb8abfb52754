"""One sentence for all links of a camera: it is there when all of them are."""

from __future__ import annotations

import time
from collections.abc import Iterator, Sequence

from stemd.acquisition import Scan
from stemd.adapters.frames.control import Control
from stemd.adapters.frames.linked.link import LinkThread
from stemd.adapters.frames.linked.scan import JoinedScan
from stemd.blocks import Link, Message, Notice
from stemd.errors import CameraError


class Together:
    """Tells of the links as of one camera, each change once."""

    def __init__(self, links: Sequence[LinkThread]) -> None:
        self._links = links
        self._told: Link | None = None

    def linked(self, thread: LinkThread, link: Link, scan: JoinedScan | None) -> Iterator[Message]:
        """A link has come or gone, in `scan` if one runs."""
        thread.connected = link.connected
        thread.trouble = None if link.connected else link
        if not link.connected:
            thread.gone_since = time.monotonic()
            if scan is not None and thread.adapter.source not in scan.lost:
                scan.lost.append(thread.adapter.source)
        if self.all_here:
            sources = ", ".join(each.adapter.source for each in self._links)
            yield from self._tell(Link(True, f"connected to {sources}"))
            return
        worst = thread if not thread.connected else self._away[0]
        if worst.trouble is not None:
            text = f"link {worst.number + 1} of {len(self._links)}: {worst.trouble.text}"
            yield from self._tell(Link(False, text, worst.trouble.remedy))

    @property
    def all_here(self) -> bool:
        """Whether every link is connected."""
        return not self._away

    @property
    def _away(self) -> list[LinkThread]:
        return [each for each in self._links if not each.connected]

    def _tell(self, told: Link) -> Iterator[Message]:
        if told != self._told:
            self._told = told
            yield told


def prepared(control: Control, scan: Scan | None) -> Iterator[Message]:
    """All links are there: set the camera up; what fails is told, not fatal."""
    try:
        told = control.prepare(scan)
    except CameraError as error:
        yield Notice("camera_control", error.message, "error", remedy=error.remedy)
    else:
        if told:
            yield Notice("camera_status", told, "info")

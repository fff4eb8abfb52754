"""The command `save`: images as they are now, as files; the same images once."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Mapping
from typing import Any

from stemd.daemon.pipeline.finished import FinishedScan
from stemd.daemon.pipeline.images import PublishedImages
from stemd.daemon.pipeline.scans import Scans
from stemd.daemon.pipeline.settings import SettingsInForce
from stemd.errors import StemdError

MOST_SAVES = 256
"""Of a scan while it runs, each with a file an image: no loop of somebody fills the folder."""


class Saving:
    """Writes the newest images. On the event loop, one at a time; `last` is the finished scan."""

    def __init__(
        self,
        settings: SettingsInForce,
        scans: Scans,
        images: PublishedImages,
        last: Callable[[], FinishedScan],
    ) -> None:
        self._settings, self._scans, self._images, self._last = settings, scans, images, last
        self._saved: tuple[tuple[Any, ...], list[str]] | None = None
        """What was written last, and as which files; the images themselves are not kept."""
        self._scan, self._saves = "", 0
        """How often images of the running scan were written."""

    async def save(self) -> Mapping[str, Any]:
        """What the reply says. Raises StemdError."""
        scan_files, snapshot = self._scans.files, self._images.newest
        if scan_files is not None and snapshot is not None and not snapshot.final:
            ending = f"_at_{snapshot.positions_done}"
        else:
            last = self._last()
            scan_files, snapshot, ending = last.files, last.final, ""
        live, scan = self._settings.live, snapshot.acquisition.id
        same = (scan, ending, snapshot.sequence, id(snapshot), live.revision)
        if self._saved is not None and self._saved[0] == same:
            names, folder = self._saved[1], scan_files.folder.path
            if await asyncio.to_thread(lambda: all((folder / name).exists() for name in names)):
                return {"scan": scan, "files": names}
        if ending:
            self._count(scan)
        names = await asyncio.to_thread(scan_files.write_images, snapshot, live.as_json(), ending)
        if not ending:
            await asyncio.to_thread(scan_files.amend)
        self._saved = same, names
        return {"scan": scan, "files": names}

    def _count(self, scan: str) -> None:
        if scan != self._scan:
            self._scan, self._saves = scan, 0
        if self._saves >= MOST_SAVES:
            raise StemdError(
                f"the images of the running scan {scan} have been saved {MOST_SAVES} times",
                "wait for its end: its images are written then",
            )
        self._saves += 1

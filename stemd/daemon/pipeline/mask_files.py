"""The mask file of a pipeline's optics: read beside the reader, and kept as it was read."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from pathlib import Path

from stemd.acquisition import Optics
from stemd.adapters.recordings.mask_file import REMEDY, read_mask
from stemd.config.live import RefusedError, sections_of
from stemd.config.problems import Problem
from stemd.daemon.beside import beside
from stemd.errors import ConfigError
from stemd.pixels import Mask
from stemd.scan.given_mask import path_of

READ_S = 5.0
"""A disk or a network share that takes longer for a mask does not answer."""


class MaskFiles:
    """Reads masks in threads of their own, so that a disk that hangs holds up nobody.

    On the event loop; `kept` alone is for any thread. What was read holds until the setting is
    made again, whatever becomes of the file.
    """

    def __init__(self) -> None:
        self._kept: Mapping[Path, Mask] = {}
        self._reading: dict[Path, asyncio.Task[Mask]] = {}

    def kept(self, path: Path) -> Mask:
        """The mask (y, x) as it was read. Raises ConfigError where it was not; reads nothing."""
        mask = self._kept.get(path)
        if mask is None:
            raise ConfigError(f"optics.mask: {path} has not been read", REMEDY)
        return mask

    def knows(self, optics: Optics) -> bool:
        """Whether the optics ask for no mask file, or for one that is kept."""
        path = path_of(optics)
        return path is None or path in self._kept

    async def read_for(self, change: Mapping[str, object], now: Optics) -> None:
        """Read the file that a change of settings asks for, if it does, also the same one anew.

        Raises RefusedError where there is no mask in it, or the disk does not answer; what is kept
        for the settings `now` stays.
        """
        optics = sections_of(change).get("optics")
        mask = optics.get("mask") if isinstance(optics, dict) else None
        if isinstance(mask, str) and mask and "\0" not in mask:
            await self.read(Optics(mask=mask), now)

    async def read(self, optics: Optics, now: Optics | None = None) -> None:
        """Read the mask file of `optics`, where there is one. Raises RefusedError; see above."""
        path = path_of(optics)
        if path is None:
            return
        reading = self._reading.get(path)
        if reading is None or reading.done():
            reading = asyncio.create_task(beside(read_mask, path, name="mask"), name="mask")
            # where it ends after READ_S whoever waited has been told, and nobody else asks it
            reading.add_done_callback(lambda task: task.cancelled() or task.exception())
            self._reading[path] = reading
        done, _ = await asyncio.wait({reading}, timeout=READ_S)
        if not done:  # no other thread is begun for it before this one has ended
            text = f"{path} does not answer within {READ_S:g} s"
            remedy = "see whether its disk or network share is there, or copy the file to this disk"
            raise RefusedError(Problem(("optics", "mask"), text, "", remedy))
        self._reading.pop(path, None)
        try:
            mask = reading.result()
        except ConfigError as error:
            text = error.message.removeprefix("optics.mask: ")
            raise RefusedError(Problem(("optics", "mask"), text, "", error.remedy)) from error
        old = None if now is None else path_of(now)
        self._kept = {kept: m for kept, m in self._kept.items() if kept == old} | {path: mask}

"""A scan of which several links bring the frames: what has come, and when it is over."""

from __future__ import annotations

import threading
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from stemd.acquisition import Acquisition
from stemd.adapters.frames.linked.kernels import claim
from stemd.blocks import EndReason, FrameBlock


@dataclass(slots=True)
class LinkPart:
    """What one link has brought of the scan: the highest number so far, why it has ended."""

    last: int = -1
    ended: EndReason | None = None


class JoinedScan:
    """One scan. `claim` is called by the links' threads, all else by the reader's.

    `acquisition` is that of the link that began first, `number` which of the camera's scans it is;
    `began`: when (monotonic seconds).
    """

    def __init__(self, acquisition: Acquisition, number: int, began: float) -> None:
        self.acquisition, self.number, self.began = acquisition, number, began
        self.parts: dict[int, LinkPart] = {}
        self.closed = False
        """Set before the links are waited for; a link that sees it gives out nothing more."""
        self.frames = self.positions = 0
        """That are here."""
        self.lost: list[str] = []
        """Links that went away meanwhile."""
        self._came: NDArray[np.uint8] = np.zeros(acquisition.scan.frames, np.uint8)
        self._lock = threading.Lock()

    def claim(self, block: FrameBlock) -> tuple[int, int]:
        """Frames and positions of a block that have not come before; others lose their position."""
        block.acquisition = self.acquisition
        with self._lock:
            frames, positions = claim(block.sequence, block.probe, self._came)
        return frames, positions

    def came(self, link: int, last: int, frames: int, positions: int) -> None:
        """A link has brought so many frames, up to number `last`."""
        part = self.parts[link]
        part.last = max(part.last, last)
        self.frames += frames
        self.positions += positions

    def takes(self, link: int, number: int, first: int) -> bool | None:
        """Whether a scan of this number that begins on a link with frame `first` is this one.

        None: it was before this one. False: it is the next one.
        """
        part = self.parts.get(link)
        if number == self.number:
            return part is None or (part.ended in ("idle", "disconnected") and first > part.last)
        return None if part is None and number < self.number else False

    @property
    def whole(self) -> bool:
        """Whether nothing of it is to come: all frames are here, those between lines, too."""
        return self.frames >= self.acquisition.scan.frames

    @property
    def passed(self) -> bool:
        """Whether its last position has come, by any link."""
        return any(part.ended == "complete" for part in self.parts.values()) or (
            max((part.last for part in self.parts.values()), default=-1)
            >= self.acquisition.scan.last_position_frame
        )

    def until(self, waited_for: list[int]) -> int:
        """The number up to which no frame is to come, of the links that are waited for."""
        lasts = [self.parts[link].last if link in self.parts else -1 for link in waited_for]
        return min(lasts, default=self.acquisition.scan.frames)

    def holes(self) -> int:
        """Positions of frames that did not come, though later ones did, or the scan is over."""
        missing = np.flatnonzero(self._came == 0)
        if not self.passed:
            missing = missing[missing < max((p.last for p in self.parts.values()), default=-1)]
        return int(np.count_nonzero(self.acquisition.scan.probes(missing) >= 0))

    def reason(self, why: EndReason) -> EndReason:
        """How it ended: "complete" if its end was reached, else `why`, or how its parts ended."""
        if self.positions >= self.acquisition.scan.positions or self.passed:
            return "complete"
        ends = [part.ended for part in self.parts.values()]
        for each in ("disconnected", "restarted", "stopped", "idle"):
            if each in ends:
                return each
        return why


@dataclass(slots=True)
class Came:
    """A block has come by a link; `block` None: nobody wants it any more."""

    scan: JoinedScan
    block: FrameBlock | None
    last: int
    frames: int
    positions: int


@dataclass(slots=True)
class Began:
    """A link has the first block of a scan, and waits to be told which one it belongs to."""

    acquisition: Acquisition
    number: int
    first: int
    answered: threading.Event = field(default_factory=threading.Event)
    scan: JoinedScan | None = None
    """The answer; None: it is over already."""


@dataclass(slots=True)
class PartEnded:
    """A link's part of a scan has ended."""

    scan: JoinedScan
    reason: EndReason


@dataclass(slots=True)
class Late:
    """So many frames came by a link after their scan was over."""

    frames: int


@dataclass(slots=True)
class Over:
    """A link's thread has ended; `error`: what it died of."""

    error: BaseException | None

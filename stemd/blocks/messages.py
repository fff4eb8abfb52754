"""What an adapter says: its scans begin and end, blocks come, something is noticed."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from stemd.acquisition import Acquisition
from stemd.blocks.data import EventBlock, FrameBlock, ImageBlock
from stemd.wording import one_of


@dataclass(slots=True)
class Started:
    """A scan has begun: its first frame, or its first event, is here.

    `number`: of a frame camera whose numbers go on, which of the camera's scans it is, from 0.
    """

    acquisition: Acquisition
    number: int = 0


Level = Literal["info", "warning", "error"]
EndReason = Literal["complete", "idle", "disconnected", "restarted", "stopped", "replaced"]


@dataclass(slots=True)
class Ended:
    """A scan is over. `complete` only when every probe position was seen or is known missing
    because a later frame has come.
    """

    acquisition: Acquisition
    reason: EndReason


@dataclass(slots=True)
class Notice:
    """Something the operator should know, counted: `kind` is a stable key, `text` for people.

    `count` adds to the pipeline's counter of that kind. `mended`: by the scan's record, where there
    is one; then nobody needs to be warned.
    """

    kind: str
    text: str
    level: Level = "warning"
    count: int = 1
    remedy: str = ""
    mended: bool = False

    def __post_init__(self) -> None:
        self.text, self.remedy = one_of(self.text), one_of(self.remedy)


@dataclass(slots=True)
class Link:
    """The connection to the camera came up or went away."""

    connected: bool
    text: str = ""
    remedy: str = ""


Block = FrameBlock | EventBlock
Message = Started | FrameBlock | EventBlock | ImageBlock | Ended | Notice | Link

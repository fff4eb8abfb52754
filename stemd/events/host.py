"""The daemon, as a sink of events sees it."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from stemd.documents import Json
from stemd.events.hub import Hub

if TYPE_CHECKING:
    from stemd.config.resolved import PipelineConfig


@dataclass(frozen=True, slots=True)
class Host:
    """What a sink of events may know of, and ask, the daemon that it belongs to.

    `hub` has the newest of everything, and takes requests; `instrument` names the instrument to
    others; `data_dir` is where scans are kept. `healthy` returns whether all is well, and the
    health document as it is now; `config_of` the config of a pipeline, None where there is none.
    All of them may be used on the sink's own event loop.
    """

    hub: Hub
    instrument: str
    data_dir: Path
    healthy: Callable[[], tuple[bool, Json]]
    config_of: Callable[[str], PipelineConfig | None]

"""Settings of AdvaCam's event cameras."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Literal

from pydantic import Field

from stemd.adapters.events.layout import Layout
from stemd.adapters.events.settings import EventSettings


class AdvapixSettings(EventSettings):
    """A .t3p file that Pixet writes, followed while it grows; or recorded ones.

    The records carry no pulses: `sync` is the dwell clock, which needs the camera and the scan
    generator on one clock. `chips`: chips in a row. `clock_bits`: size of the ToA counter, 30
    (AdvaPix), 28 (quad), 64 (MiniPix), or "auto". `record_bytes`: 16, or 12 for files of 2015.
    """

    path: Path | None = None
    sync: Literal["dwell"] = "dwell"
    chips: Annotated[int, Field(ge=1, le=4)] = 1
    clock_bits: Literal["auto", 28, 30, 64] = "auto"
    record_bytes: Literal[12, 16] = 16

    @property
    def detector_layout(self) -> Layout:
        """Chips and geometry."""
        return Layout("row", count=self.chips)

    @property
    def counter_bits(self) -> int | None:
        """Size of the ToA counter, None: to be found out."""
        return None if self.clock_bits == "auto" else self.clock_bits

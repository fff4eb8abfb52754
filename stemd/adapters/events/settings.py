"""Settings of event cameras: how hits find their probe position, and which hits count."""

from __future__ import annotations

from typing import Annotated, Literal, Self

from pydantic import ConfigDict, Field, model_validator

from stemd.adapters.base import AdapterSettings
from stemd.adapters.events.layout import Layout
from stemd.adapters.events.ticks import TDC1_FALL, TDC1_RISE, TDC2_FALL, TDC2_RISE
from stemd.typed import PositiveFloat, Signed, Table

PixelIndex = Annotated[int, Field(ge=0, le=1023)]


class Part(Table):
    """Base of a table within an adapter's table."""

    model_config = ConfigDict(frozen=True, extra="forbid")


class TdcSettings(Part):
    """The pulses that mark scan lines.

    `input`: TDC1 or TDC2. `edge`: a line begins at the rising or falling edge; with "both" it
    lasts from rise to fall, with "both_inverted" from fall to rise. `frame_input`: the input
    whose rising edge announces the first line of each scan. `chip`: the chip whose pulses count
    (None: all chips are heard, what most of them say holds). `line_delay_us`: from the pulse to
    the first position. `line_time_us`: expected time from line to line (None: learnt).
    A stream's lines begin where four pulses agree in time and count. Without `frame_input` a
    stream that is joined in mid-scan finds its lines at the next pause between scans.
    """

    input: Literal[1, 2] = 1
    edge: Literal["rise", "fall", "both", "both_inverted"] = "rise"
    frame_input: Literal[1, 2] | None = None
    chip: Annotated[int, Field(ge=0, le=3)] | None = None
    line_delay_us: Signed = 0.0
    line_time_us: PositiveFloat | None = None

    @model_validator(mode="after")
    def _inputs_differ(self) -> Self:
        if self.frame_input == self.input:
            raise ValueError("frame_input must be the other TDC input than input")
        return self

    @property
    def start_edge(self) -> int:
        """Code of the edge that begins a line."""
        rise, fall = (TDC1_RISE, TDC1_FALL) if self.input == 1 else (TDC2_RISE, TDC2_FALL)
        return rise if self.edge in ("rise", "both") else fall

    @property
    def stop_edge(self) -> int:
        """Code of the edge that ends a line, -1 where none does."""
        rise, fall = (TDC1_RISE, TDC1_FALL) if self.input == 1 else (TDC2_RISE, TDC2_FALL)
        return {"both": fall, "both_inverted": rise}.get(self.edge, -1)

    @property
    def frame_edge(self) -> int:
        """Code of the edge that announces a scan, -1 where none does."""
        return {1: TDC1_RISE, 2: TDC2_RISE}.get(self.frame_input or 0, -1)


class ClusterSettings(Part):
    """Hits at most `radius_px` apart (in y and in x) and `window_ns` in time are one electron."""

    window_ns: PositiveFloat = 100.0
    radius_px: Annotated[int, Field(ge=1, le=4)] = 1


class EventSettings(AdapterSettings):
    """What every event camera needs to know.

    `sync`: "tdc" (line pulses) or "dwell" (probe position = time / scan.dwell_time_us, camera
    and scan generator on one clock; `clock_origin_us` is the time of the first position).
    `reorder_window_us`: no word arrives later than this behind a newer one. `hold_hits` bounds
    the hits that wait for their line. `hot_pixels`: [y, x] pairs to ignore, or "learn" (found
    in the first `learn_hits` hits and reported). `acceptance_time_ns`: only hits this early in
    their dwell time count. `cluster`: join multi-pixel hits. `idle_timeout_s`: a scan at its
    end without line pulses or data for so long is over. `pause_timeout_s`: the same for a scan in
    its middle, which may only pause. `back_limit_ms`: a step of the clock back by more
    is a reset of the clock, not disorder.
    """

    sync: Literal["tdc", "dwell"] = "tdc"
    clock_origin_us: Annotated[float, Field(ge=-1e12, le=1e12, allow_inf_nan=False)] = 0.0
    reorder_window_us: Annotated[float, Field(gt=0.0, le=1e6)] = 2000.0
    hold_hits: Annotated[int, Field(ge=1024, le=1 << 26)] = 1 << 22
    hot_pixels: Literal["learn"] | tuple[tuple[PixelIndex, PixelIndex], ...] = ()
    learn_hits: Annotated[int, Field(ge=1000, le=1_000_000_000)] = 2_000_000
    acceptance_time_ns: PositiveFloat | None = None
    cluster: ClusterSettings | None = None
    idle_timeout_s: Annotated[float, Field(gt=0.0, le=3600.0)] = 5.0
    pause_timeout_s: Annotated[float, Field(ge=0.0, le=3600.0)] = 30.0
    back_limit_ms: Annotated[float, Field(ge=1.0, le=5000.0)] = 100.0
    tdc: TdcSettings = TdcSettings()

    @model_validator(mode="after")
    def _sync_is_possible(self) -> Self:
        if self.back_limit_ms * 1000.0 < self.reorder_window_us:
            raise ValueError("back_limit_ms must be longer than reorder_window_us")
        if self.scan is None:
            return self
        dwell = self.scan.dwell_time_us
        if self.sync == "dwell" and dwell is None:
            raise ValueError('sync = "dwell" needs scan.dwell_time_us')
        both = self.tdc.edge.startswith("both")
        if self.sync == "tdc" and self.scan.shape[0] == 1 and dwell is None and not both:
            raise ValueError("a scan of one line needs scan.dwell_time_us or tdc.edge = both")
        return self

    @property
    def detector_layout(self) -> Layout:
        """Chips and geometry."""
        return Layout("single")

    def detector_shape(self) -> tuple[int, int]:
        """See AdapterSettings."""
        return self.detector_layout.shape

"""Settings of a Timepix3 camera."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import AfterValidator, Field

from stemd.adapters.base import HostName
from stemd.adapters.events.layout import Layout
from stemd.adapters.events.settings import EventSettings, Part
from stemd.addresses import url_fault

Port = Annotated[int, Field(ge=1, le=65535)]


def _server(url: str) -> str:
    if fault := url_fault(url, ("http", "https")):
        raise ValueError(fault)
    return url


class ColumnCorrection(Part):
    """Ticks of 1.5625 ns to add to the times of one column of one chip."""

    chip: Annotated[int, Field(ge=0, le=3)] = 0
    column: Annotated[int, Field(ge=0, le=255)]
    ticks: Annotated[int, Field(ge=-1024, le=1024)]


class Timepix3Settings(EventSettings):
    """A Timepix3 camera behind SERVAL, or anything that sends its words over TCP.

    `mode`: "connect" to host:port, or "listen" there for SERVAL to connect. `stream`: "words"
    (raw chunks) or "csr" (sparse scans made by SERVAL). `layout` and `gap` give the geometry.
    `serval_url`: SERVAL's REST address, for start, stop and health; None: only receive.
    `decode_apart`: hits are decoded by one thread and summed by another, for rates that one core
    cannot take; images are the same.
    """

    host: HostName = "127.0.0.1"
    port: Port = 8451
    mode: Literal["connect", "listen"] = "connect"
    stream: Literal["words", "csr"] = "words"
    layout: Literal["single", "quad"] = "quad"
    gap: Annotated[int, Field(ge=0, le=16)] = 0
    time_correction: tuple[ColumnCorrection, ...] = ()
    serval_url: Annotated[str, AfterValidator(_server)] | None = None
    decode_apart: bool = False

    @property
    def detector_layout(self) -> Layout:
        """Chips and geometry."""
        return Layout(self.layout, self.gap)

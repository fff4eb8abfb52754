"""Timepix3 event cameras: SERVAL's words over TCP and in .tpx3 files."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path
from typing import TYPE_CHECKING, Any

from stemd.acquisition import Scan
from stemd.adapters.recordings.address import RecordingPath
from stemd.adapters.timepix3.settings import Timepix3Settings
from stemd.blocks import Message
from stemd.errors import FormatError
from stemd.plugins import Plugin

if TYPE_CHECKING:
    from stemd.adapters.events.recording import EventRecording
    from stemd.adapters.timepix3.adapter import Timepix3Adapter
    from stemd.adapters.timepix3.csr_recording import CsrRecording

__all__ = ["PLUGIN"]

CSR = ".csr"
"""The ending of a recorded sparse stream."""


def _build(settings: Timepix3Settings) -> Timepix3Adapter:
    # imported late: the kernels take a while and `stemd plugins` does not need them
    from stemd.adapters.timepix3.adapter import Timepix3Adapter

    return Timepix3Adapter(settings)


def _warm(settings: Timepix3Settings) -> Iterable[Message]:
    from stemd.adapters.timepix3.warm import warm

    return warm(settings)


def _open(
    path: RecordingPath, scan: Scan | None = None, **options: Any
) -> EventRecording | CsrRecording:
    if path.suffix.lower() == CSR:
        if not isinstance(path, Path):
            raise FormatError(f"{path}: {CSR} is read from local files only", "copy it")
        from stemd.adapters.timepix3.csr_recording import CsrRecording

        settings = options.get("settings") or Timepix3Settings()
        return CsrRecording(path, settings, scan)
    from stemd.adapters.timepix3.recording import open_recording

    return open_recording(path, scan, **options)


def _survey(path: Path) -> list[str]:
    from stemd.adapters.timepix3.survey import survey

    if path.suffix.lower() == CSR:
        return []
    return survey(path)


PLUGIN = Plugin(
    name="timepix3",
    summary="Timepix3 event camera behind SERVAL (TCP), and .tpx3 files",
    settings=Timepix3Settings,
    build=_build,
    warm=_warm,
    suffixes=(".tpx3", ".raw", CSR),
    reads_remote=True,
    open_recording=_open,
    survey=_survey,
    virtual="stemd.virtual.timepix3.command",
)

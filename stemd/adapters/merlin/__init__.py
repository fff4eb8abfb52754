"""Quantum Detectors Merlin: live over TCP, and recorded .mib files."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path
from typing import TYPE_CHECKING

from stemd.acquisition import Scan
from stemd.adapters.frames.warm import warm_up
from stemd.adapters.merlin.adapter import MerlinAdapter, MerlinSettings, build
from stemd.adapters.recordings.address import RecordingPath
from stemd.blocks import Message
from stemd.plugins import Plugin

if TYPE_CHECKING:
    from stemd.adapters.frames.recording import FrameRecording

__all__ = ["PLUGIN", "MerlinAdapter", "MerlinSettings", "open_recording"]


def open_recording(
    path: RecordingPath, scan: Scan | None = None, settings: MerlinSettings | None = None
) -> FrameRecording:
    """Open a .mib file, with or without its .hdr. Raises FormatError, OSError, CameraError."""
    from stemd.adapters.merlin import recording

    return recording.open_recording(path, scan)


def _warm(settings: MerlinSettings) -> Iterable[Message]:
    from stemd.adapters.merlin.stream import MerlinFormat

    warm_up(MerlinFormat())
    return ()


def _survey(path: Path) -> list[str]:
    from stemd.adapters.merlin.recording import survey

    return survey(path)


PLUGIN = Plugin(
    name="merlin",
    summary="Quantum Detectors Merlin (Medipix3) over TCP, and its .mib files",
    settings=MerlinSettings,
    build=build,
    warm=_warm,
    suffixes=(".mib",),
    reads_remote=True,
    open_recording=open_recording,
    survey=_survey,
    virtual="stemd.virtual.merlin.command",
)

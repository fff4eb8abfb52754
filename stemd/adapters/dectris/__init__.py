"""DECTRIS cameras (ARINA, QUADRO, ELA, SINGLA): live over ZeroMQ, control by SIMPLON."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path
from typing import TYPE_CHECKING

from stemd.acquisition import Scan
from stemd.adapters.dectris.adapter import DectrisAdapter, DectrisSettings, warm_up
from stemd.adapters.recordings.address import RecordingPath
from stemd.blocks import Message
from stemd.plugins import Plugin

if TYPE_CHECKING:
    from stemd.adapters.dectris.recording import DectrisRecording


def open_recording(
    path: RecordingPath, scan: Scan | None = None, settings: DectrisSettings | None = None
) -> DectrisRecording:
    """Open a record of a stream. Raises FormatError, OSError, CameraError."""
    from stemd.adapters.dectris import recording

    assert isinstance(path, Path)  # the plugin reads no remote files
    channel = settings.channel if settings is not None else ""
    return recording.DectrisRecording(path, scan, channel)


def _warm(settings: DectrisSettings) -> Iterable[Message]:
    warm_up()
    return ()


PLUGIN = Plugin(
    name="dectris",
    summary="DECTRIS cameras over ZeroMQ (stream2 and legacy), and records of their stream",
    settings=DectrisSettings,
    build=DectrisAdapter,
    warm=_warm,
    suffixes=(".dectris",),
    open_recording=open_recording,
    virtual="stemd.virtual.dectris.command",
)

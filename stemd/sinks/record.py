"""The recorder of `record.raw`."""

from __future__ import annotations

from stemd.plugins import NoSettings, Plugin
from stemd.storage.recorder import RawRecorder

PLUGIN = Plugin(
    name="record",
    summary="the camera's own bytes as they came, with their checksum",
    settings=NoSettings,
    build=RawRecorder,
    takes="blocks",
)

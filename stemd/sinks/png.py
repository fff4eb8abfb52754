"""The writer `png` of `record.results`."""

from __future__ import annotations

from stemd.plugins import NoSettings, Plugin
from stemd.storage.png import PngWriter

PLUGIN = Plugin(
    name="png",
    summary="finished images as PNG pictures with a scale bar, for slides and messages",
    settings=NoSettings,
    build=PngWriter,
    takes="images",
)

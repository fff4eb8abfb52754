"""The writer `tiff` of `record.results`."""

from __future__ import annotations

from stemd.plugins import NoSettings, Plugin
from stemd.storage.tiff import TiffWriter

PLUGIN = Plugin(
    name="tiff",
    summary="finished images as TIFF files, one an image, that ImageJ and OME readers know",
    settings=NoSettings,
    build=TiffWriter,
    takes="images",
)

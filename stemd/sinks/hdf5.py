"""The writer `hdf5` of `record.results`."""

from __future__ import annotations

from stemd.plugins import NoSettings, Plugin
from stemd.storage.nexus import NexusWriter, unavailable

PLUGIN = Plugin(
    name="hdf5",
    summary="all finished images of a scan in one NeXus file, that h5py and NeXus viewers open",
    settings=NoSettings,
    build=NexusWriter,
    takes="images",
    unavailable=unavailable,
    libraries=("h5py",),
)

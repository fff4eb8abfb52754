"""The filters by which HDF5 files are compressed, which HDF5 itself does not bring."""

from __future__ import annotations

import warnings
from typing import Any

from stemd.adapters.recordings.address import RecordingPath
from stemd.errors import FormatError

BUILT_IN = (1, 2, 3, 4, 5, 6)
"""Filters that every HDF5 library has: deflate, shuffle, checksum, szip, n-bit, scale-offset."""
NEEDS = "pip install 'stemd[hdf5]'"


def register_filters(path: RecordingPath, dataset: Any) -> None:
    """Have HDF5 know the filters of a dataset. Raises FormatError for those that it does not."""
    import h5py

    plan = dataset.id.get_create_plist()
    for index in range(plan.get_nfilters()):
        code, _, _, name = plan.get_filter(index)
        if code in BUILT_IN:
            continue
        text = name.decode(errors="replace") if isinstance(name, bytes) else str(name or "")
        said = f"{path}: {dataset.name} is compressed by {text or f'the filter {code}'}"
        try:
            with warnings.catch_warnings():
                warnings.simplefilter("ignore")
                import hdf5plugin  # noqa: F401 (its import is what registers the filters)
        except ImportError as error:
            raise FormatError(
                f"{said}, which needs hdf5plugin, which is not installed", NEEDS
            ) from error
        if not h5py.h5z.filter_avail(code):
            raise FormatError(
                f"{said}, which nobody here knows",
                "copy the file with another compression, with h5repack",
            )

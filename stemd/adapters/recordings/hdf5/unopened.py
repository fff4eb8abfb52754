"""HDF5 files that the library does not open as they are, and why, in words."""

from __future__ import annotations

import re
from typing import Any

from stemd.adapters.recordings.address import RecordingPath
from stemd.errors import FormatError

_CUT = re.compile(r"truncated file: eof = (\d+),.* stored_eof = (\d+)")
_OPEN = "already open for write"


def still_written(opened: Any, error: OSError) -> Any | None:
    """The file of a writer that lets others read, or has crashed as it did so; None for others."""
    import h5py

    if _OPEN not in str(error):
        return None
    try:
        return h5py.File(opened, "r", swmr=True)
    except (OSError, ValueError):
        return None


def not_opened(path: RecordingPath, error: OSError) -> FormatError:
    """What HDF5's words mean."""
    said = str(error)
    if cut := _CUT.search(said):
        there, whole = map(int, cut.groups())
        return FormatError(
            f"{path} is cut off: it has {there:,} of its {whole:,} bytes",
            "copy it again; if it was never longer, its writer did not close it",
        )
    if _OPEN in said:
        return FormatError(
            f"{path} is marked as open for writing",
            "let its writer close it; where that has crashed, run h5clear -s on a copy",
        )
    if "lock file" in said:
        return FormatError(
            f"{path} is locked by the program that writes it",
            "let that close it, or set HDF5_USE_FILE_LOCKING=FALSE",
        )
    if "signature not found" in said:
        return FormatError(f"{path} is not an HDF5 file", "check the file")
    return FormatError(f"{path} cannot be opened as HDF5: {error}", "copy it again")

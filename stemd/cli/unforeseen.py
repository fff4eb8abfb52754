"""A file for which stemd has an error that nobody has foreseen: said in words, once, with a log."""

from __future__ import annotations

import os

from stemd.adapters.recordings.address import RecordingPath
from stemd.errors import FormatError, StemdError


def unforeseen(path: RecordingPath, error: Exception) -> StemdError:
    """The error as one of the file's, with what to do; with STEMD_DEBUG set it is raised."""
    if os.environ.get("STEMD_DEBUG"):
        raise error
    where = error.__traceback__
    while where is not None and where.tb_next is not None:
        where = where.tb_next
    place = ""
    if where is not None:
        code = where.tb_frame.f_code
        place = f" in {code.co_filename.rpartition('/')[2]}, line {where.tb_lineno}"
    return FormatError(
        f"{path} cannot be read, for an unforeseen reason: {type(error).__name__}: {error}{place}",
        "is the file damaged? If not, this is a mistake of stemd: please report it with this text",
    )

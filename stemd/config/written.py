"""Putting a new text in a config file's place, whole or not at all."""

from __future__ import annotations

import contextlib
import errno
import os
import threading
from pathlib import Path

from stemd.errors import ConfigError

BEFORE = ".before"
"""Ending of the name of the copy of the text before."""

_one_at_a_time = threading.Lock()


def why_not_writable(path: Path) -> ConfigError | None:
    """Why the file could not be replaced now, as far as rights tell; None where it can be."""
    if os.access(path, os.W_OK) and os.access(path.parent, os.W_OK | os.X_OK):
        return None
    number = errno.EACCES
    with contextlib.suppress(AttributeError, OSError):  # Windows knows no statvfs
        if os.statvfs(path.parent).f_flag & os.ST_RDONLY:
            number = errno.EROFS
    return _not_written(path, OSError(number, os.strerror(number)))


def replace_text(path: Path, text: str, *, keep: bool = False) -> None:
    """Put the text in the file's place, with its owner and its rights.

    With `keep` the text before stays beside it, under its name and BEFORE. Raises ConfigError,
    and the file is as it was.
    """
    if (refusal := why_not_writable(path)) is not None:
        raise refusal
    try:
        with _one_at_a_time:
            like = path.stat()
            if keep:
                _put(path.with_name(path.name + BEFORE), path.read_bytes(), like)
            _put(path, text.encode(), like)
    except OSError as error:
        raise _not_written(path, error) from error


def _put(path: Path, data: bytes, like: os.stat_result) -> None:
    temporary = path.with_name(f".{path.name}.stemd")
    try:
        fd = os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_NOFOLLOW, 0o600)
        with os.fdopen(fd, "wb") as file:
            os.fchmod(fd, like.st_mode & 0o7777)
            with contextlib.suppress(PermissionError):
                os.fchown(fd, like.st_uid, like.st_gid)
            file.write(data)
            file.flush()
            os.fsync(fd)
        temporary.replace(path)
    except OSError:
        with contextlib.suppress(OSError):
            temporary.unlink()
        raise


def _not_written(path: Path, error: OSError) -> ConfigError:
    why = os.strerror(error.errno).lower() if error.errno else str(error)
    remedy = (
        "give the user that runs stemd the right to write the file and its folder "
        "(a systemd unit: ReadWritePaths=)"
    )
    if error.errno == errno.EROFS:
        remedy = "allow the service to write there (ReadWritePaths= in a drop-in), or edit it there"
    elif error.errno == errno.EBUSY:
        remedy = "the file alone is mounted: mount its folder, or edit it where it comes from"
    elif error.errno == errno.ENOSPC:
        remedy = "make room on the disk"
    return ConfigError(f"{path}: cannot be written: {why}", remedy)

"""What file systems raise, in words: the file, the byte, what to do."""

from __future__ import annotations

from stemd.adapters.recordings.address import RemoteFile
from stemd.errors import CameraError, FormatError, StemdError

PAUSES_S = (0.2, 1.0, 3.0)
"""Waits before a broken read is tried again; after the last one it is given up."""
QUIET_S = 30.0
"""A server that sends nothing for so long is as good as dead."""
SLOWEST_BYTES_S = 4096
"""What is slower for QUIET_S on end is given up: a scan of 8 GB would take three weeks."""


class ForbiddenError(CameraError):
    """Access is denied: trying again does not help."""


def explained(file: RemoteFile, offset: int, error: Exception) -> StemdError | None:
    """The error to end with, None for one that another attempt may not meet."""
    status = getattr(error, "status", None)
    if isinstance(error, FileNotFoundError) or status in (404, 410):
        return FormatError(f"{file} does not exist", "check the address")
    if isinstance(error, PermissionError) or status in (401, 403, 407):
        return ForbiddenError(
            f"{file} may not be read ({_said(error)})",
            "give fsspec the credentials, where the command and where the workers run",
        )
    if isinstance(error, IsADirectoryError):
        return FormatError(f"{file} is not a file", "name the recording itself")
    if "range requests" in str(error):
        return CameraError(
            f"{file}: the server cannot send parts of a file",
            "use a server that supports Range requests, or copy the file",
        )
    if isinstance(error, (TypeError, AttributeError, NotImplementedError)) or (
        isinstance(status, int) and 400 <= status < 500 and status not in (408, 416, 425, 429)
    ):
        return broken(file, offset, error, tries=1)
    return None


def replaced(file: RemoteFile, what: str, before: str, now: str) -> CameraError:
    """The file is another one than at the start: its parts must not become one scan."""
    return CameraError(
        f"{file} was replaced while it was read: its {what} was {before}, now it is {now}",
        "wait until it is complete, then repeat the command",
    )


def broken(
    file: RemoteFile, offset: int, error: Exception, tries: int = len(PAUSES_S) + 1
) -> CameraError:
    """A read that was given up, with what the file system said last."""
    return CameraError(
        f"{file} cannot be read at byte {offset}: {_said(error)}"
        + (f" ({tries} attempts)" if tries > 1 else ""),
        "check the connection and the server, then repeat the command",
    )


def _said(error: Exception) -> str:
    status, message = getattr(error, "status", None), getattr(error, "message", "")
    if status:  # the text of such an error holds the whole address
        return f"{status} {message}".strip()
    return f"{type(error).__name__}: {error}" if str(error) else type(error).__name__

"""Files that are either whole or not there, names that cannot leave their folder."""

from __future__ import annotations

import contextlib
import errno
import hashlib
import os
import re
from collections.abc import Iterable
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from stemd.documents import plain_text
from stemd.errors import SinkError
from stemd.portable import OPEN_FLAGS

PART = ".part"
"""Ending of a raw record that still grows; kept and renamed when its writer has died."""
STATE_FOLDER = "state"
"""In the data folder: what a daemon keeps for its next run, beside the scans."""
TEMPORARY = ".tmp"
"""Ending of a small file that is not whole yet; thrown away when its writer has died."""

_FILE_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9_-]{0,99}(\.[A-Za-z0-9]{1,16}){0,2}")
_RESULT_NAME = re.compile(r"[a-z][a-z0-9_]{0,99}")
_READ_BYTES = 4 * 1024 * 1024

_REMEDIES = {
    errno.ENOSPC: "free space on this disk or {elsewhere}",
    errno.EDQUOT: "the disk quota is used up: free space or ask for more",
    errno.EROFS: "the file system is read-only: remount it for writing or {elsewhere}",
    errno.EACCES: "give the user that runs stemd the right to write there",
    errno.EPERM: "give the user that runs stemd the right to write there",
    errno.ENOENT: "the folder is gone: check that the disk is mounted; stemd makes a folder again",
    errno.ENOTDIR: "a file stands where a folder is needed: move it away",
    errno.EFBIG: "the file is larger than this file system or the process limit allows",
    errno.EIO: "the disk reports a fault: look at the kernel's log and replace the disk",
    errno.ESTALE: "the network file system lost the folder: mount it again",
    errno.EMFILE: "too many open files: raise LimitNOFILE of the service, or ulimit -n",
}


@dataclass(frozen=True, slots=True)
class FileRecord:
    """A written file: name in its folder, size, SHA-256 in hex, whether nothing is missing.

    `sha256` is empty where the bytes could be written but not read back.
    """

    name: str
    bytes: int
    sha256: str
    complete: bool = True

    def as_json(self) -> dict[str, Any]:
        """For scan.json and the scan documents."""
        return asdict(self)


class DiskError(SinkError):
    """What the disk did not do; `number` is the errno, 0 where there is none."""

    def __init__(
        self, message: str, number: int, elsewhere: str = "set daemon.data_dir to another one"
    ) -> None:
        remedy = _REMEDIES.get(number, "check the disk and the folder's permissions")
        super().__init__(message, remedy.format(elsewhere=elsewhere))
        self.number = number

    def of_option(self, option: str) -> DiskError:
        """The same for a command whose `option` names the folder."""
        return DiskError(self.message, self.number, f"name a folder on another one with {option}")


def disk_error(error: OSError, what: str, path: Path) -> DiskError:
    """The error for people: what could not be done to which file, why, and the remedy."""
    reason = os.strerror(error.errno).lower() if error.errno else str(error)
    return DiskError(plain_text(f"{path}: cannot {what}: {reason}"), error.errno or 0)


def result_file_name(name: str) -> str:
    """`<name>.tif` for a result name. Raises SinkError for one that is not `[a-z][a-z0-9_]*`."""
    if not _RESULT_NAME.fullmatch(name):
        raise SinkError(
            f"{name!r} cannot be the name of a result file",
            "use lower-case letters, digits and _, beginning with a letter",
        )
    return f"{name}.tif"


def plain_file_name(name: str) -> str:
    """The name itself if it cannot point out of a folder. Raises SinkError."""
    if not _FILE_NAME.fullmatch(name) or name.endswith((PART, TEMPORARY)):
        raise SinkError(
            f"{name!r} cannot be a file name in a scan's folder",
            "use letters, digits, _ and -, and at most two endings",
        )
    return name


def write_all(fd: int, data: bytes | memoryview) -> None:
    """Write every byte, however many calls it takes. Raises OSError."""
    rest = memoryview(data)
    while len(rest):
        rest = rest[os.write(fd, rest) :]


def fsync_folder(folder: Path) -> None:
    """Make created and renamed names in this folder survive a power cut. Raises OSError."""
    if not hasattr(os, "O_DIRECTORY"):
        return  # Windows keeps names by itself
    fd = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(fd)
    finally:
        os.close(fd)


def write_atomic(path: Path, parts: Iterable[bytes | memoryview]) -> FileRecord:
    """Write under a temporary name, flush to the disk, rename. Raises SinkError.

    On an error nothing of the new file is left and an older file of that name is untouched.
    """
    temporary = path.with_name(path.name + TEMPORARY)
    digest, size = hashlib.sha256(), 0
    try:
        fd = os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | OPEN_FLAGS, 0o644)
        try:
            for part in parts:
                write_all(fd, part)
                digest.update(part)
                size += len(part)
            os.fsync(fd)
        finally:
            os.close(fd)
        temporary.replace(path)
        fsync_folder(path.parent)
    except OSError as error:
        with contextlib.suppress(OSError):
            temporary.unlink()
        raise disk_error(error, "write", path) from error
    except BaseException:  # whoever makes the parts
        with contextlib.suppress(OSError):
            temporary.unlink()
        raise
    return FileRecord(path.name, size, digest.hexdigest())


def write_at_once(path: Path, data: bytes) -> None:
    """Write under a temporary name and rename, without waiting for the disk. Raises SinkError.

    Whole for whoever reads it, also after a kill; only a power cut may take it away.
    """
    temporary = path.with_name(path.name + TEMPORARY)
    try:
        temporary.write_bytes(data)
        temporary.replace(path)
    except OSError as error:
        with contextlib.suppress(OSError):
            temporary.unlink()
        raise disk_error(error, "write", path) from error


def hash_file(path: Path) -> FileRecord:
    """Size and checksum of a file as it is on the disk. Raises OSError."""
    digest, size = hashlib.sha256(), 0
    with path.open("rb", buffering=0) as file:
        while data := file.read(_READ_BYTES):
            digest.update(data)
            size += len(data)
    return FileRecord(path.name, size, digest.hexdigest())

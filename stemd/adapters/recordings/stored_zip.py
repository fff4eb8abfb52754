"""Zip files whose members are compressed, unpacked on the disk so that they can be mapped."""

from __future__ import annotations

import shutil
import tempfile
import zipfile
from collections.abc import Callable
from pathlib import Path

from stemd.errors import FormatError

MOST_TIMES = 1024
"""Deflate packs at most so tightly: a member that claims more is not what it says."""


def stored_copy(path: Path) -> tuple[Path, Callable[[], None]]:
    """A file that can be mapped, and what deletes it: `path` itself where nothing is compressed.

    rosettasciio maps the arrays of a .prz as if they never were. Else a copy goes to the folder
    for temporary files. Raises FormatError when it is no zip file, or there is no place.
    """
    try:
        with zipfile.ZipFile(path) as source:
            members = source.infolist()
            if all(member.compress_type == zipfile.ZIP_STORED for member in members):
                return path, lambda: None
            _check(path, members)
            folder = tempfile.TemporaryDirectory(prefix="stemd-")
            try:
                return _copied(source, members, Path(folder.name) / path.name), folder.cleanup
            except BaseException:
                folder.cleanup()
                raise
    except OSError as error:
        raise FormatError(
            f"{path} cannot be unpacked in {tempfile.gettempdir()}: {error.strerror or error}",
            "make place there, or set TMPDIR to a folder with more",
        ) from error
    except Exception as error:  # whatever a damaged zip file makes the library raise
        raise FormatError(f"{path} is not a .prz file: {error}", "copy the file again") from error


def _copied(source: zipfile.ZipFile, members: list[zipfile.ZipInfo], target: Path) -> Path:
    with zipfile.ZipFile(target, "w", zipfile.ZIP_STORED, allowZip64=True) as copy:
        for member in members:
            about = zipfile.ZipInfo(member.filename)
            about.file_size = member.file_size
            with source.open(member) as packed, copy.open(about, "w") as stored:
                shutil.copyfileobj(packed, stored, 1024 * 1024)
    return target


def _check(path: Path, members: list[zipfile.ZipInfo]) -> None:
    for member in members:
        if member.file_size > MOST_TIMES * max(1, member.compress_size) + 4096:
            raise zipfile.BadZipFile(f"{member.filename} cannot have {member.file_size:,} bytes")

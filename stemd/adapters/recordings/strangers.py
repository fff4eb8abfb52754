"""Files that are no recordings: what they are by their first bytes, and what to do."""

from __future__ import annotations

from pathlib import Path

from stemd.errors import FormatError

_HEAD_BYTES = 512
_ARCHIVE = "unpack it, and name a file in it"
_IMAGE = "it holds an image: stemd restore, or the adapter images, reads it"
_STARTS: tuple[tuple[bytes, str, str], ...] = (
    (b"PK\x03\x04", "a zip archive", _ARCHIVE),
    (b"\x1f\x8b", "packed by gzip", _ARCHIVE),
    (b"BZh", "packed by bzip2", _ARCHIVE),
    (b"\xfd7zXZ", "packed by xz", _ARCHIVE),
    (b"7z\xbc\xaf\x27\x1c", "a 7z archive", _ARCHIVE),
    (b"\x28\xb5\x2f\xfd", "packed by zstd", _ARCHIVE),
    (b"Rar!", "a rar archive", _ARCHIVE),
    (b"II*\0", "a TIFF file", _IMAGE),
    (b"MM\0*", "a TIFF file", _IMAGE),
    (b"\x89PNG", "a PNG picture", "name the recording that it was made of"),
    (b"\xd9\xd9\xf7", "a message of a DECTRIS stream", "name the file that was recorded of it"),
    (b"\x97\x01", "a file of TIA", "save it as an .emd or .hspy file, or name the raw data"),
    (b"version https://git-lfs", "a pointer of Git LFS", "fetch the file itself: git lfs pull"),
)
_WEB_PAGE = (b"<!doctype html", b"<html")


def stranger(path: Path) -> FormatError | None:
    """The error for a local file that is something else, and known; None for any other.

    Raises OSError.
    """
    with path.open("rb") as file:
        head = file.read(_HEAD_BYTES)
    if head.startswith(b"HDR,"):
        beside = [each for each in (".mib", ".MIB") if path.with_suffix(each).is_file()]
        name = path.with_suffix(beside[0]) if beside else "the .mib file"
        return FormatError(f"{path} is the header of a Merlin recording", f"name {name}")
    if head.lstrip().lower().startswith(_WEB_PAGE):
        text = "a web page, not what it is called: the download was answered by a page"
        return FormatError(f"{path} is {text}", "look into it, and download the file again")
    if head[257:262] == b"ustar":
        return FormatError(f"{path} is a tar archive", _ARCHIVE)
    if head and not any(head) and path.stat().st_size <= _HEAD_BYTES:
        return FormatError(f"{path} holds nothing but zeros", "copy the file again")
    for start, name, remedy in _STARTS:
        if head.startswith(start):
            return FormatError(f"{path} is {name}", remedy)
    return None

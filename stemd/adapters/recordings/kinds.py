"""What kind of recording a file is: by its content, and only then by its name."""

from __future__ import annotations

import re
from collections.abc import Mapping
from pathlib import Path

import numpy as np

from stemd.adapters.recordings.address import RecordingPath

EMPAD_NAME = re.compile(r"^.*x(?P<nx>\d{1,5})_y(?P<ny>\d{1,5})$", re.IGNORECASE)
EMPAD_FRAME_BYTES, EMPAD_BARE_BYTES = 130 * 128 * 4, 128 * 128 * 4
"""Of a pattern with its two rows of metadata, and without."""
SMALLEST, LARGEST, MOST_VALUES = 1e-9, 1e9, 0.999
"""Between these are most values of an EMPAD, in electrons, counts or energies, but for zeros."""
_LATER_TVIPS = re.compile(r"(?P<stem>.+)_(?!000)\d{3}")
_PART_OF_A_MASTER = re.compile(r".*_data_\d{6}")
_HEAD_BYTES = 4096
_HDF5 = b"\x89HDF\r\n\x1a\n"
_STARTS = {"npy": b"\x93NUMPY", "merlin": b"MQ1,", "timepix3": b"TPX3", "blo": b"IMGBLO"}
_HDF5_OFFSETS = (0, 512, 1024, 2048)

SUFFIXES: Mapping[str, str] = {
    ".npy": "npy",
    **dict.fromkeys((".h5", ".hdf5", ".hdf", ".nxs", ".hspy", ".emd", ".de5", ".cxi"), "hdf5"),
    **dict.fromkeys((".dm3", ".dm4"), "dm"),
    **dict.fromkeys((".mrc", ".mrcs"), "mrc"),
    ".blo": "blo",
    ".prz": "prz",
    ".tvips": "tvips",
    ".xml": "empad",
    ".zspy": "zspy",
}
"""Kinds that are arrays of patterns, by the endings that they usually have."""
CAMERAS: Mapping[str, str] = {"merlin": ".mib", "timepix3": ".tpx3"}
"""Kinds that are cameras' own formats, and the ending by which their adapter is found."""


def kind_of(path: RecordingPath) -> str | None:
    """The kind of a recording: a value of `SUFFIXES`, a key of `CAMERAS`, or "empad-raw".

    None where neither content nor name say it; of a remote file only the name is looked at.
    Raises OSError.
    """
    by_name = SUFFIXES.get(path.suffix.lower())
    if not isinstance(path, Path):
        return by_name
    if path.is_dir():
        return "zspy" if by_name == "zspy" else None
    return kind_of_content(path) or by_name


def kind_of_content(path: Path) -> str | None:
    """The kind by the first bytes of a file, and for EMPAD by its size; None if unknown."""
    with path.open("rb") as file:
        head = file.read(_HEAD_BYTES)
    if any(head[at : at + len(_HDF5)] == _HDF5 for at in _HDF5_OFFSETS):
        return "hdf5"
    for kind, start in _STARTS.items():
        if head.startswith(start):
            return kind
    if is_empad(path):
        return "empad-raw"
    if head[:3] == b"\0\0\0" and head[3:4] in (b"\3", b"\4") and _is_dm(head):
        return "dm"
    if head[208:212] == b"MAP ":
        return "mrc"
    if b"<" in head[:64] and b"raw_file" in head and b"root" in head[:256]:
        return "empad"
    return None


def _is_dm(head: bytes) -> bool:
    """Whether the bytes behind the version are a file size and a byte order, as DM has them."""
    at = 8 if head[3] == 3 else 12
    return head[at : at + 3] == b"\0\0\0" and head[at + 3 : at + 4] in (b"\0", b"\1")


def is_empad(path: Path) -> bool:
    """Whether a .raw file is of an EMPAD: named as it names them, `scan_x256_y256`, of the size of
    the scan in its name, one that an .xml file beside it speaks of, or whole patterns of real
    numbers."""
    if path.suffix.lower() != ".raw":
        return False
    frames, rest = divmod(path.stat().st_size, EMPAD_FRAME_BYTES)
    shape = EMPAD_NAME.match(path.stem)
    if shape is not None:
        whole = int(shape["nx"]) * int(shape["ny"])
        exact = whole > 0 and path.stat().st_size in (
            whole * EMPAD_FRAME_BYTES,
            whole * EMPAD_BARE_BYTES,
        )
        if path.stem.lower().startswith("scan_x") or exact:
            return True
    if rest or not frames:
        return False
    beside = path.with_suffix(".xml")
    return (beside.is_file() and b"raw_file" in _head(beside)) or _holds_real_numbers(path)


def _holds_real_numbers(path: Path) -> bool:
    """Whether the first pattern of a file is of float32 as a detector gives them.

    Words of a Timepix3 camera, read so, are often huge or tiny; those of hits begin with 0xb.
    """
    with path.open("rb") as file:
        values = np.frombuffer(file.read(EMPAD_FRAME_BYTES), "<f4")
    with np.errstate(invalid="ignore"):
        sizes = np.abs(values)
        usual = (sizes == 0) | ((sizes > SMALLEST) & (sizes < LARGEST)) | np.isnan(sizes)
    hits = values.view("<u8") >> np.uint64(60) == 0xB
    return bool(usual.mean() > MOST_VALUES and np.isfinite(values).any() and hits.mean() < 0.9)


def is_no_recording_of_its_own(path: Path) -> bool:
    """Whether a file is read with another one of its folder, or is an .xml file of something else.

    Data files of a DECTRIS master, the .raw of an EMPAD's .xml, later files of a TVIPS series.
    """
    suffix = path.suffix.lower()
    if suffix == ".xml":
        return kind_of_content(path) != "empad"
    if suffix == ".tvips":
        part = _LATER_TVIPS.fullmatch(path.stem)
        return part is not None and path.with_name(f"{part['stem']}_000{path.suffix}").is_file()
    if suffix == ".raw" and is_empad(path):
        return any(
            path.name.encode() in head
            for beside in path.parent.glob("*.[xX][mM][lL]")
            if b"raw_file" in (head := _head(beside))
        )
    return suffix == ".h5" and _PART_OF_A_MASTER.fullmatch(path.stem) is not None


def _head(path: Path) -> bytes:
    with path.open("rb") as file:
        return file.read(_HEAD_BYTES * 16)


def looks_like_text(path: Path) -> bool:
    """Whether a file may be written by hand: the beginning of a binary one is not."""
    try:
        with path.open("rb") as file:
            head = file.read(_HEAD_BYTES)
        head.decode("utf-8")
    except UnicodeDecodeError as error:
        return error.start >= len(head) - 3 and b"\0" not in head
    except OSError:
        return True
    return b"\0" not in head

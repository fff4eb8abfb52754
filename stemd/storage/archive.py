"""Past scans: the list, their files, and their images in the page's own frame format.

Reads the folders of DESIGN A4, `<data_dir>/<YYYY-MM-DD>/<scan id>/`. A name from outside becomes
a path only if it is shaped like a scan id or a plain file name, and what it leads to is a
regular file whose real place is inside the scan's folder.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from itertools import islice
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from stemd import image_frames
from stemd.adapters.files import recording_suffixes
from stemd.documents import Json, object_from_json
from stemd.errors import FormatError
from stemd.logs import get_logger
from stemd.results import Result
from stemd.storage.scan_document import read_scan_document

SCAN_ID = re.compile(r"\d{8}T\d{9}Z-[0-9a-f]{4}", re.ASCII)
DAY = re.compile(r"\d{4}-\d{2}-\d{2}", re.ASCII)
FILE = re.compile(r"[A-Za-z0-9][A-Za-z0-9_-]{0,80}(\.[A-Za-z0-9]{1,12}){0,3}", re.ASCII)
log = get_logger(__name__)

MAX_LISTED = 500


def records(names: Iterable[str]) -> list[str]:
    """Those of the names that are records which an adapter of this installation reads, in order.

    What a recorder writes and `open_recording` reads; raw.hdr and the like go with it. A raw.dm4
    and its like is the file of an image.
    """
    from stemd.adapters.recordings.pictures import IMAGE_SUFFIXES

    known = {f"raw{suffix}" for suffix in recording_suffixes() if suffix not in IMAGE_SUFFIXES}
    return sorted(known.intersection(names))


@dataclass(frozen=True, slots=True)
class Record:
    """The camera's bytes of a past scan, with what its scan.json says of them."""

    scan_id: str
    pipeline: str
    path: Path
    scan: Json
    settings: Json
    camera: Json | None = None


class Archive:
    """The scans under one data folder. Every method reads the disk: call it in a thread."""

    def __init__(self, data_dir: Path) -> None:
        self._root = data_dir

    def _folders(self) -> Iterator[Path]:
        """Scan folders, newest first: their names sort by time."""
        if not self._root.is_dir():
            return
        days = (day for day in self._root.iterdir() if DAY.fullmatch(day.name) and day.is_dir())
        for day in sorted(days, reverse=True):
            scans = (scan for scan in day.iterdir() if SCAN_ID.fullmatch(scan.name))
            yield from sorted((scan for scan in scans if scan.is_dir()), reverse=True)

    def scans(self, limit: int = 100) -> list[Json]:
        """The newest scans that are over, newest first: id, status, shape, counts, files."""
        known = (self._summary(folder) for folder in self._folders())
        over = (scan for scan in known if scan["status"] != "acquiring")
        return list(islice(over, min(limit, MAX_LISTED)))

    def _summary(self, folder: Path) -> Json:
        document = _document(folder)
        files = sorted(
            (path.name, path.stat().st_size)
            for path in folder.iterdir()
            if FILE.fullmatch(path.name) and path.is_file() and not path.is_symlink()
        )
        scan = document.get("scan")
        return {
            "id": folder.name,
            "status": document.get("status", "unknown"),
            "pipeline": document.get("pipeline"),
            "shape": scan.get("shape") if isinstance(scan, dict) else None,
            **{key: document.get(key) for key in ("positions_total", "positions_done", "missing")},
            "seconds": _seconds(document),
            "completion": _completion(document),
            "warnings": _warnings(document),
            "about": document.get("about"),
            "images": [Path(name).stem for name, _ in files if name.endswith(".tif")],
            "record": next(iter(records(name for name, _ in files)), None),
            "files": [{"name": name, "bytes": size} for name, size in files],
        }

    def folder(self, scan_id: str) -> Path | None:
        """The folder of a scan, None where there is none."""
        if SCAN_ID.fullmatch(scan_id) is None or not self._root.is_dir():
            return None
        day = f"{scan_id[:4]}-{scan_id[4:6]}-{scan_id[6:8]}"
        # the day of the id, or a neighbour's: a scan can begin around midnight
        for path in (self._root / day / scan_id, *self._root.glob(f"????-??-??/{scan_id}")):
            if path.is_dir() and not path.is_symlink():
                return path
        return None

    def file(self, scan_id: str, name: str) -> Path | None:
        """A file of a scan, None where there is none or the name is not a plain file name."""
        folder = self.folder(scan_id)
        if folder is None or FILE.fullmatch(name) is None:
            return None
        path = folder / name
        inside = path.resolve().parent == folder.resolve()
        return path if inside and path.is_file() and not path.is_symlink() else None

    def record(self, scan_id: str) -> Record | None:
        """The record of a past scan, None where there is none that could be read again."""
        folder = self.folder(scan_id)
        if folder is None:
            return None
        document = _document(folder)
        names = records(path.name for path in folder.iterdir())
        path = next((path for name in names if (path := self.file(scan_id, name))), None)
        pipeline, scan, settings = (document.get(key) for key in ("pipeline", "scan", "settings"))
        if path is None or not isinstance(pipeline, str) or document.get("status") == "acquiring":
            return None
        settings = settings if isinstance(settings, dict) else {}
        camera = document.get("camera")
        return Record(
            scan_id,
            pipeline,
            path,
            scan if isinstance(scan, dict) else {},
            settings,
            camera if isinstance(camera, dict) else None,
        )

    def frame(self, scan_id: str, image: str, max_side: int) -> bytes | None:
        """A result of a past scan as an image frame, None where there is none."""
        path = self.file(scan_id, f"{image}.tif")
        if path is None:
            return None
        try:
            pixels, about = read_tiff(path)
        except (OSError, ValueError) as error:  # tifffile's own error is a ValueError
            log.warning("page: a past image cannot be read", file=str(path), error=str(error))
            return None
        document = _document(path.parent)
        return _frame(scan_id, image, pixels, about, document, max_side)


def _warnings(document: Json) -> int:
    """How many things were noticed about a scan that are more than a remark."""
    notices = document.get("notices")
    if not isinstance(notices, list):
        return 0
    return sum(isinstance(each, dict) and each.get("level") != "info" for each in notices)


def _completion(document: Json) -> str | None:
    """What becomes of images that lack positions; None where none does."""
    completion = document.get("completion")
    status = completion.get("status") if isinstance(completion, dict) else None
    return status if isinstance(status, str) else None


def _seconds(document: Json) -> float | None:
    """How long the scan took."""
    began, ended = document.get("started_ns"), document.get("finished_ns")
    if isinstance(began, int) and isinstance(ended, int) and ended > began:
        return (ended - began) / 1e9
    return None


def _document(folder: Path) -> Json:
    try:
        return read_scan_document(folder)
    except (OSError, FormatError):
        return {}


def read_tiff(path: Path) -> tuple[NDArray[np.float32], Json]:
    """The first page as float32 (y, x) and the JSON of its description, {} where there is none."""
    import tifffile  # only a visitor of past scans needs it

    with tifffile.TiffFile(path) as tiff:
        page = tiff.pages.first
        tags = page.tags.getall("ImageDescription") or []
        texts = [str(tag.value) for tag in tags]
        pixels = np.asarray(page.asarray(), np.float32)
    # alone as published, or as one line `stemd=` among those for ImageJ as written to disk
    lines = [line.removeprefix("stemd=") for text in texts for line in text.splitlines()]
    for line in lines:
        if line.startswith("{"):
            try:
                return pixels, object_from_json(line)
            except FormatError:
                continue
    return pixels, {}


def _frame(
    scan_id: str,
    name: str,
    pixels: NDArray[np.float32],
    about: Json,
    document: Json,
    max_side: int,
) -> bytes:
    units = str(about.get("units", ""))
    step = image_frames.reduction(pixels.shape, max_side)
    image = image_frames.reduced(
        pixels, step, mean=not image_frames.is_angle(Result(name, pixels, units))
    )
    size = about.get("pixel_size")
    axes = about.get("axes", "scan")
    if size is None:
        size = about.get("pixel_size_angstrom" if axes == "scan" else "pixel_size_mrad")
    scan = document.get("scan")
    meta = {
        "pipeline": document.get("pipeline"),
        "name": name,
        "units": units,
        "axes": axes,
        "pixel_size": size * step if isinstance(size, int | float) else None,
        "shape": list(image.shape),
        "full_shape": list(pixels.shape),
        "step": step,
        "scan": scan_id,
        "scan_shape": scan.get("shape") if isinstance(scan, dict) else None,
        "positions_done": document.get("positions_done"),
        "positions_total": document.get("positions_total"),
        "final": True,
        "sequence": 0,
        "time_ns": "0",
        "settings_revision": None,
        "extra": {},
    }
    return image_frames.encode_image(meta, image, final=True)

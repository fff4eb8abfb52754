"""Images from the microscope: a watched folder, or images sent by command, as scans of their own.

TIFF is read here; DM3, DM4, EMD, SER and MRC through rosettasciio (`pip install 'stemd[images]'`).
"""

from __future__ import annotations

import base64
import binascii
import importlib
import importlib.util
import io
import queue
import threading
import time
import traceback
import warnings
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any

import numpy as np
from numpy.typing import NDArray
from pydantic import Field

from stemd.acquisition import Acquisition, Detector, Scan, new_scan_id
from stemd.adapters.base import AdapterSettings
from stemd.blocks import BlockPool, Ended, ImageBlock, Link, Message, Notice, Started
from stemd.errors import CameraError, FormatError
from stemd.plugins import Plugin

TIFF_SUFFIXES = (".tif", ".tiff")
READERS: Mapping[str, str] = {
    ".dm3": "digitalmicrograph",
    ".dm4": "digitalmicrograph",
    ".emd": "emd",
    ".ser": "tia",
    ".mrc": "mrc",
}
"""rosettasciio's module for each suffix."""
ANGSTROM = {"pm": 0.01, "A": 1.0, "Å": 1.0, "angstrom": 1.0, "nm": 10.0, "um": 1e4, "µm": 1e4}
ANGSTROM |= {"μm": 1e4, "mm": 1e7, "m": 1e10}
MAX_PIXELS = 16384 * 16384
MAX_WAITING = 16


class ImagesSettings(AdapterSettings):
    """`folder` is looked through every `poll_s` seconds for images that have not been taken yet.

    Those that lie there at the start are left alone unless `existing`. `image` names the image
    for engines and topics. Without a folder only images sent by command are taken.
    """

    folder: Path | None = None
    poll_s: Annotated[float, Field(ge=0.05, le=3600.0)] = 1.0
    existing: bool = False
    image: Annotated[str, Field(pattern=r"^[a-z][a-z0-9_]{0,40}$")] = "image"

    def outputs(self) -> tuple[str, ...]:
        """The image itself."""
        return (self.image,)


@dataclass(frozen=True, slots=True)
class Picture:
    """An image (y, x), the size of its pixels in angstrom where known, and its file's bytes."""

    pixels: NDArray[np.float32]
    pixel_size_angstrom: float | None
    source: str
    wire: NDArray[np.uint8]
    suffix: str
    id: str


class ImagesAdapter:
    """Implements adapters.base.Adapter; every image is a scan that is complete at once."""

    def __init__(self, settings: ImagesSettings) -> None:
        self.settings = settings
        self._sent: queue.Queue[Picture] = queue.Queue(MAX_WAITING)
        self._wake = threading.Event()

    def set_scan(self, scan: Scan) -> None:
        """Nothing: an image brings its own size."""

    def command(self, name: str, args: Mapping[str, Any]) -> Mapping[str, Any]:
        """`restore` with `tiff` (base64) and `scan`, the id to give it. Raises CameraError."""
        if name != "restore":
            raise CameraError(f"a source of images cannot be told to {name}", "send restore")
        picture = _decoded(args.get("tiff"), str(args.get("scan") or new_scan_id()))
        try:
            self._sent.put_nowait(picture)
        except queue.Full as error:
            raise CameraError(
                f"{MAX_WAITING} images are waiting already", "wait for their replies"
            ) from error
        self._wake.set()
        return {"scan": picture.id}

    def close(self) -> None:
        """Wake a waiting `read`."""
        self._wake.set()

    def read(self, pool: BlockPool, stop: threading.Event) -> Iterator[Message]:
        """Images as they come. A file that cannot be read is a notice, the next ones are taken."""
        folder = self.settings.folder
        watch = Watch(folder, existing=self.settings.existing) if folder is not None else None
        yield Link(True, f"watching {folder}" if folder else "waiting for images by command")
        present = True
        next_look = 0.0
        while not stop.is_set():
            while not self._sent.empty():
                yield from self._scan(self._sent.get())
            if watch is not None and time.monotonic() >= next_look:
                next_look = time.monotonic() + self.settings.poll_s
                if watch.present() != present:
                    present = not present
                    yield Link(present, f"{folder} is {'back' if present else 'gone'}")
                for path in watch.finished():
                    try:
                        picture = read_image(path)
                    except FormatError as error:
                        yield Notice("image_refused", error.message, "error", remedy=error.remedy)
                        continue
                    yield from self._scan(picture)
                    if stop.is_set():
                        return
            self._wake.wait(min(0.2, self.settings.poll_s))
            self._wake.clear()

    def _scan(self, picture: Picture) -> Iterator[Message]:
        ny, nx = picture.pixels.shape
        size = picture.pixel_size_angstrom
        acquisition = Acquisition(
            scan=Scan(shape=(ny, nx), flyback=0, step_size_angstrom=size),
            detector=Detector("image", (1, 1), "f4", 32),
            id=picture.id,
            source=picture.source,
            raw_name=f"raw{picture.suffix}",
        )
        yield Started(acquisition)
        yield ImageBlock(
            acquisition, self.settings.image, picture.pixels, picture.wire, time.time_ns()
        )
        yield Ended(acquisition, "complete")


class Watch:
    """A folder: which images are new in it and no longer being written."""

    def __init__(self, folder: Path, *, existing: bool) -> None:
        self._folder = folder
        self._taken: dict[Path, tuple[int, int]] = {}
        self._seen: dict[Path, tuple[int, int]] = {}
        if not existing:
            self._taken = self._list()

    def present(self) -> bool:
        """Whether the folder is there."""
        return self._folder.is_dir()

    def finished(self) -> list[Path]:
        """New or rewritten images whose size and time have not changed since the last look."""
        now = self._list()
        ready = [
            path
            for path, about in now.items()
            if self._seen.get(path) == about and self._taken.get(path) != about and about[0]
        ]
        self._taken = {p: a for p, a in self._taken.items() if p in now}
        self._taken |= {path: now[path] for path in ready}
        self._seen = now
        return sorted(ready, key=lambda path: now[path][1])

    def _list(self) -> dict[Path, tuple[int, int]]:
        found: dict[Path, tuple[int, int]] = {}
        try:
            paths = [p for p in self._folder.iterdir() if _known(p) and not p.name.startswith(".")]
        except OSError:
            return found
        for path in paths:
            try:
                about = path.stat()
            except OSError:
                continue  # gone since
            found[path] = about.st_size, about.st_mtime_ns
        return found


def _known(path: Path) -> bool:
    return path.suffix.lower() in (*TIFF_SUFFIXES, *READERS)


def read_image(path: Path) -> Picture:
    """The image of a file, its first one if there are several. Raises FormatError."""
    suffix = path.suffix.lower()
    try:
        data = path.read_bytes()
        if suffix in TIFF_SUFFIXES:
            pixels, size = _tiff(data)
        else:
            pixels, size = _by_rosettasciio(path, suffix)
        return _picture(pixels, size, str(path), data, suffix, new_scan_id())
    except FormatError as error:
        raise FormatError(f"{path}: {error.message}", error.remedy) from error
    except Exception as error:  # readers raise whatever a broken file makes them raise
        text = " ".join(str(error).split())[:200] or type(error).__name__
        raise FormatError(f"{path} cannot be read: {text}", "check the file") from error


def _picture(
    pixels: Any, size: float | None, source: str, data: bytes, suffix: str, scan_id: str
) -> Picture:
    array = np.asarray(pixels)
    while array.ndim > 2:
        array = array[0]
    if array.ndim != 2 or 0 in array.shape or array.dtype.kind not in "uifb":
        raise FormatError(
            f"holds {array.dtype} of shape {np.shape(pixels)}, not a grey image", "save one image"
        )
    if array.size > MAX_PIXELS or max(array.shape) > 65536:
        raise FormatError(f"has {array.shape} pixels, too many", f"at most {MAX_PIXELS:,}")
    image = np.ascontiguousarray(array, np.float32)
    return Picture(image, size, source, np.frombuffer(data, np.uint8), suffix, scan_id)


def _decoded(text: Any, scan_id: str) -> Picture:
    try:
        if not isinstance(text, str):
            raise ValueError("it is not text")
        data = base64.b64decode(text, validate=True)
        pixels, size = _tiff(data)
    except (ValueError, binascii.Error, FormatError) as error:
        raise CameraError(
            f"args.tiff is not a TIFF file in base64: {error}", "send one grey image"
        ) from error
    except Exception as error:  # a broken TIFF
        raise CameraError(f"args.tiff cannot be read: {error}", "send one grey image") from error
    try:
        return _picture(pixels, size, "command", data, ".tif", scan_id)
    except FormatError as error:
        raise CameraError(f"args.tiff {error.message}", error.remedy) from error


def _tiff(data: bytes) -> tuple[Any, float | None]:
    import tifffile

    with tifffile.TiffFile(io.BytesIO(data)) as file:
        page = file.pages.first
        if page.imagelength * page.imagewidth > MAX_PIXELS:
            raise FormatError("has too many pixels", f"at most {MAX_PIXELS:,}")
        if page.samplesperpixel > 1:
            raise FormatError("is a colour image", "save one grey image")
        size = None
        about = file.imagej_metadata or {}
        resolution = page.tags.get("XResolution")
        unit = str(about.get("unit", "")).encode().decode("unicode_escape", "replace")
        if resolution is not None and unit in ANGSTROM and resolution.value[0]:
            size = ANGSTROM[unit] * resolution.value[1] / resolution.value[0]
        return page.asarray(), size


def _by_rosettasciio(path: Path, suffix: str) -> tuple[Any, float | None]:
    if importlib.util.find_spec("rsciio") is None:
        raise FormatError(
            f"reading {suffix} needs rosettasciio, which is not installed",
            "pip install 'stemd[images]'",
        )
    reader = importlib.import_module(f"rsciio.{READERS[suffix]}")
    with warnings.catch_warnings():
        # some readers leave their file to be closed when it is forgotten: forget it here
        warnings.simplefilter("ignore", ResourceWarning)
        try:
            found = [each for each in reader.file_reader(str(path)) if np.ndim(each["data"]) >= 2]
        except Exception as error:
            traceback.clear_frames(error.__traceback__)
            raise
        for each in found:
            each["data"] = np.array(each["data"])
    if not found:
        raise FormatError("holds no image", "check the file")
    axes = [axis for axis in found[0]["axes"] if not axis.get("navigate")]
    axis = axes[-1] if axes else {}
    unit, scale = str(axis.get("units", "")), float(axis.get("scale", 0.0))
    return found[0]["data"], ANGSTROM[unit] * scale if unit in ANGSTROM and scale > 0 else None


PLUGIN = Plugin(
    name="images",
    summary="images from a folder or by MQTT, for engines that work on images",
    settings=ImagesSettings,
    build=ImagesAdapter,
    works_on="images",
)

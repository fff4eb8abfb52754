"""Images from the microscope: a watched folder, or images sent by command, as scans of their own.

TIFF is read here; DM3, DM4, EMD, SER and MRC through rosettasciio (`pip install 'stemd[images]'`).
A file of several images, or of a stack, is as many scans.
"""

from __future__ import annotations

import queue
import threading
import time
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Annotated, Any

import numpy as np
from pydantic import Field

from stemd.acquisition import Acquisition, Detector, Scan, new_scan_id
from stemd.adapters.base import AdapterSettings
from stemd.adapters.recordings.pictures import (
    IMAGE_SUFFIXES,
    Picture,
    decoded,
    read_images,
)
from stemd.blocks import BlockPool, Ended, ImageBlock, Link, Message, Notice, Started
from stemd.errors import CameraError, FormatError
from stemd.plugins import Plugin
from stemd.typed import meant

MAX_WAITING = 16
WARM_SIDE = 32


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
        picture = decoded(args.get("tiff"), str(args.get("scan") or new_scan_id()))
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
        watch = (
            WatchedFolder(folder, existing=self.settings.existing) if folder is not None else None
        )
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
                        for picture in read_images(path):
                            yield from self._scan(picture)
                            if stop.is_set():
                                return
                    except FormatError as error:
                        yield Notice("image_refused", error.message, "error", remedy=error.remedy)
            self._wake.wait(min(0.2, self.settings.poll_s))
            self._wake.clear()

    def _scan(self, picture: Picture) -> Iterator[Message]:
        return messages_of(picture, self.settings.image)


def messages_of(picture: Picture, image: str) -> Iterator[Message]:
    """A picture as the scan of the image of this name."""
    ny, nx = picture.pixels.shape
    size = meant(picture.pixel_size_angstrom)
    acquisition = Acquisition(
        scan=Scan(shape=(ny, nx), flyback=0, step_size_angstrom=size),
        detector=Detector("image", (1, 1), "f4", 32),
        id=picture.id,
        source=picture.source,
        raw_name=f"raw{picture.suffix}",
    )
    yield Started(acquisition)
    yield ImageBlock(acquisition, image, picture.pixels, picture.wire, time.time_ns())
    yield Ended(acquisition, "complete")


class WatchedFolder:
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
    return path.suffix.lower() in IMAGE_SUFFIXES


def _warm(settings: ImagesSettings) -> Iterator[Message]:
    y, x = np.indices((WARM_SIDE, WARM_SIDE))
    lattice = np.cos(y * np.pi / 4) * np.cos(x * np.pi / 4)
    image = np.random.default_rng(0).poisson(9.0 + 4.0 * lattice).astype(np.float32)
    nothing = np.zeros(0, np.uint8)
    return messages_of(Picture(image, None, "", nothing, ".tif", "warm-up"), settings.image)


PLUGIN = Plugin(
    name="images",
    summary="images from a folder or by MQTT, for engines that work on images",
    settings=ImagesSettings,
    build=ImagesAdapter,
    warm=_warm,
    works_on="images",
)

"""One series restored: its frames summed where they belong, the network, what is written."""

from __future__ import annotations

import math
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from stemd.acquisition import Acquisition, Detector, Scan
from stemd.adapters.recordings.pictures import Picture
from stemd.adapters.recordings.scan_times import ScanTimes
from stemd.documents import to_json
from stemd.engines.restoration.finished import Finished, finished
from stemd.engines.restoration.frames.aligned import Aligned, align
from stemd.engines.restoration.frames.kinds import Kinds
from stemd.engines.restoration.line_direction import along_y
from stemd.engines.restoration.steady import steadied
from stemd.inference.worker import shared
from stemd.offline.restoring.beforehand import Prepared, finite, prepared, without_labels
from stemd.offline.restoring.sources import Series
from stemd.results import Result, Snapshot
from stemd.storage.files import write_atomic
from stemd.storage.png import encode_png
from stemd.storage.tiff import describe, write_tiff

F32 = NDArray[np.float32]


@dataclass(frozen=True, slots=True)
class Choice:
    """How to restore: model and backend, and what is known of the frames.

    `frame_time_s` from one frame's start to the next one's; `pixel_size_angstrom`,
    `dwell_time_us` and `line_time_us` (None: as long as its pixels) where the file does not say it.
    `lines`: the axis along which the beam ran; auto: what the images show.
    """

    model: str = "restoration"
    backend: str = "auto"
    threads: int = 1
    device: int = 0
    frame_time_s: float | None = None
    pixel_size_angstrom: float | None = None
    dwell_time_us: float | None = None
    line_time_us: float | None = None
    lines: Literal["auto", "x", "y"] = "auto"

    def times(self, picture: Picture, line_pixels: int) -> ScanTimes | None:
        """What is told, else what the file says."""
        if self.dwell_time_us is None:
            return picture.times
        line_us = self.line_time_us or self.dwell_time_us * line_pixels
        return ScanTimes(self.dwell_time_us * 1e-6, line_us * 1e-6)


@dataclass(frozen=True, slots=True)
class Restored:
    """Images by name, and a document of how they were made."""

    images: dict[str, F32]
    pixel_size_angstrom: float | None
    document: dict[str, Any]


def restored(series: Series, choice: Choice) -> Restored:
    """A series restored; of several frames first the aligned sum. Raises StemdError.

    The images are called `<name>_restored` and `<name>_uncertainty`, and, of several frames,
    `<name>_sum`: the aligned sum itself.
    """
    ready = prepared(series)
    size = choice.pixel_size_angstrom or ready.pictures[0].pixel_size_angstrom
    document, recorded = ready.told, ready.frames
    turned = choice.lines == "y" or (
        choice.lines == "auto" and not ready.drawn and along_y(recorded)
    )
    if turned:
        # all that follows knows lines along x only
        recorded = [np.ascontiguousarray(pixels.T) for pixels in recorded]
        document["lines_along"] = "y"
    images: dict[str, F32] = {}
    pixels = recorded[0]
    if len(recorded) > 1:
        pixels, told = _summed(recorded, ready, size, choice.frame_time_s, turned=turned)
        images[f"{series.name}_sum"] = pixels
        document |= told
    elif not ready.drawn:
        times = choice.times(ready.pictures[0], pixels.shape[1])
        known = () if times is None else (times.line_s, times.pixel_s)
        pixels, undone = steadied(pixels, *known)
        document |= undone
    found, about = _through_the_network(pixels, choice)
    images |= {
        f"{series.name}_restored": found.image, f"{series.name}_uncertainty": found.uncertainty
    }  # fmt: skip
    if turned:
        images = {name: np.ascontiguousarray(image.T) for name, image in images.items()}
    document |= about
    document["pixel_size_angstrom"] = size
    spikes = document.get("spikes", 0) + found.spikes
    # of these the first look, at what was recorded, has seen all
    document |= {key: value for key, value in found.told().items() if key not in document}
    if spikes:
        document["spikes"] = spikes
    return Restored(_as_recorded(images, ready), size, document)


def _summed(
    recorded: Sequence[F32],
    ready: Prepared,
    pixel_size_angstrom: float | None,
    frame_time_s: float | None,
    *,
    turned: bool,
) -> tuple[F32, dict[str, Any]]:
    """The aligned sum of frames (ny, nx), and what is told of it."""
    told: dict[str, Any] = {}
    frames, share = without_labels(list(recorded))
    if share:
        told["blank_in_frames"] = round(share, 6)
    found = align(frames)
    told["sources"] = [picture.source for picture in ready.pictures]
    told |= described(found, pixel_size_angstrom, frame_time_s, ready.numbers, turned=turned)
    return found.image, told


def _as_recorded(images: dict[str, F32], ready: Prepared) -> dict[str, F32]:
    """Images with each line and column as often as it came, and without a value where none was.

    Of several frames the others know what one does not.
    """
    if ready.often is not None:
        images = {name: ready.often.again(image) for name, image in images.items()}
    if len(ready.pictures) == 1:
        unseen = ~np.isfinite(ready.pictures[0].pixels)
        for image in images.values():
            image[unseen] = np.nan
    return images


def described(
    frames: Aligned,
    pixel_size_angstrom: float | None,
    frame_time_s: float | None,
    numbers: Sequence[int],
    *,
    turned: bool = False,
) -> dict[str, Any]:
    """What was found of the frames, as JSON: lengths in nm where the pixel size is known.

    `numbers` (n,): what each frame is called, from 0. `turned`: x and y were exchanged before.
    """
    if not frames.moved:
        return {"aligned": False, "used": [True] * len(frames.used)}
    nm = None if pixel_size_angstrom is None else pixel_size_angstrom / 10.0
    (y, x), error = frames.drift(frame_time_s or 1.0)
    shifts, corner = frames.shifts, frames.corner
    if turned:
        (y, x), shifts, corner = (x, y), shifts[:, ::-1], corner[::-1]
    drift: dict[str, Any] = {f"drift_px_per_{'s' if frame_time_s else 'frame'}": [y, x]}
    if nm is not None and frame_time_s:
        drift["drift_nm_per_s"] = {
            "value": [y * nm, x * nm],
            "sigma": error * nm if math.isfinite(error) else None,
        }
    finest = frames.resolution_px
    return {
        "used": [bool(each) for each in frames.used],
        "left_out": [numbers[int(n)] for n in np.flatnonzero(~frames.used)],
        "likeness": [round(float(each), 4) for each in frames.likeness],
        "shifts_px": [[round(float(v), 3) for v in shift] for shift in shifts],
        "corner": list(corner),
        "resolution_px": finest,
        "resolution_nm": finest * nm if finest is not None and nm is not None else None,
        **({} if frames.kinds is None else {"two_kinds": _kinds(frames.kinds, numbers)}),
        **drift,
    }


def _kinds(kinds: Kinds, numbers: Sequence[int]) -> dict[str, Any]:
    return {
        "second": [numbers[int(n)] for n in np.flatnonzero(kinds.second)],
        "likeness": round(kinds.likeness, 4),
    }


def write(made: Restored, folder: Path, *, pictures: bool) -> list[Path]:
    """`<name>.tif` of each image, with `pictures` a PNG beside it, and the document.

    The folder is made. Raises SinkError.
    """
    folder.mkdir(parents=True, exist_ok=True)
    written = []
    for name, image in made.images.items():
        snapshot = _snapshot(image, made)
        result = Result(name, image, "counts", "scan", made.pixel_size_angstrom)
        path = folder / f"{name}.tif"
        write_tiff(path, result, snapshot, made.document)
        written.append(path)
        if pictures:
            path = folder / f"{name}.png"
            write_atomic(path, [encode_png(result, describe(result, snapshot))])
            written.append(path)
    stem = next(iter(made.images)).rpartition("_")[0]
    path = folder / f"{stem}_restored.json"
    write_atomic(path, [to_json(made.document).encode()])
    return [*written, path]


def _through_the_network(pixels: F32, choice: Choice) -> tuple[Finished, dict[str, Any]]:
    networks = shared()

    def job() -> tuple[Finished, dict[str, Any]]:
        began = time.perf_counter()
        file, network = networks.network(
            choice.model, choice.backend, choice.threads, device=choice.device
        )
        found = finished(finite(pixels), file, network)
        info = network.info
        return found, {
            "model": info.model,
            "model_sha256": file.sha256,
            "backend": str(info),
            "seconds": round(time.perf_counter() - began, 3),
        }

    return networks.submit(job, urgent=True).result()


def _snapshot(image: F32, made: Restored) -> Snapshot:
    ny, nx = image.shape
    acquisition = Acquisition(
        scan=Scan(shape=(ny, nx), flyback=0, step_size_angstrom=made.pixel_size_angstrom),
        detector=Detector("image", (1, 1), "f4", 32),
        source=str(made.document["source"]),
    )
    return Snapshot(acquisition, (), ny * nx, ny * nx, True, 1, time.time_ns(), 0)

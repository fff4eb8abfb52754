"""Images in the EMD files of Velox, which stand in `Data/Image` as (y, x, frames)."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from stemd.adapters.recordings.calibration import ANGSTROM, positive
from stemd.adapters.recordings.hdf5.vendors import is_velox
from stemd.adapters.recordings.scan_times import ScanTimes, of_velox
from stemd.errors import FormatError

SPECTRA = ("Spectrum", "SpectrumImage", "SpectrumStream")
MOST_VALUES = 2**29
Found = tuple[str, NDArray[Any], float | None, ScanTimes | None]
"""(name of the detector, images (n, y, x), size of a pixel in angstrom, times; where known)"""


def read_velox(path: Path) -> tuple[list[Found], list[str]] | None:
    """The images of a file, and in words what else it holds; None where Velox did not write it.

    Raises FormatError for images that would fill the memory.
    """
    import h5py

    with h5py.File(path, "r") as file:
        if not is_velox(file):
            return None
        found: list[Found] = []
        data = file.get("Data", {})
        others = [f"{kind} (spectra)" for kind in SPECTRA if kind in data]
        for key, group in dict(data.get("Image", {})).items():
            stored = group.get("Data")
            if not isinstance(stored, h5py.Dataset) or stored.ndim != 3:
                continue
            about = _about(group.get("Metadata"))
            name, size = _name(about) or str(key), _pixel_size(about)
            if stored.dtype.kind not in "uif":
                others.append(f"{name} (waves)")
                continue
            if stored.size > MOST_VALUES:
                raise FormatError(
                    f"{name} has {stored.size:,} pixels, too many",
                    f"save fewer frames: at most {MOST_VALUES:,} pixels",
                )
            times = of_velox(about, stored.shape[0])
            found.append((name, np.moveaxis(stored[...], 2, 0), size, times))
        return found, others


def _about(stored: Any) -> Mapping[str, Any]:
    """The JSON of an image, of which every frame has a column of bytes."""
    if getattr(stored, "ndim", 0) != 2 or stored.shape[1] < 1:
        return {}
    text = bytes(np.asarray(stored[:, 0], np.uint8)).split(b"\0")[0]
    try:
        about = json.loads(text)
    except (ValueError, RecursionError):
        return {}
    return about if isinstance(about, Mapping) else {}


def _table(about: Mapping[str, Any], *keys: str) -> Mapping[str, Any]:
    for key in keys:
        inner = about.get(key)
        about = inner if isinstance(inner, Mapping) else {}
    return about


def _name(about: Mapping[str, Any]) -> str:
    result = _table(about, "BinaryResult")
    index = result.get("DetectorIndex")
    detector = _table(about, "Detectors", f"Detector-{index}")
    return str(result.get("Detector") or detector.get("DetectorName") or "")


def _pixel_size(about: Mapping[str, Any]) -> float | None:
    result = _table(about, "BinaryResult")
    size = positive(_table(result, "PixelSize").get("width"))
    unit = ANGSTROM.get(str(result.get("PixelUnitX", "")), 0.0)
    return size * unit if size and unit else None

"""Which of a file's signals are images: named, as stacks, y before x; the others are named, too."""

from __future__ import annotations

import importlib.util
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from stemd.adapters.recordings.calibration import Axis, axes_of
from stemd.adapters.recordings.foreign import NEEDS, read_signals, title_of
from stemd.adapters.recordings.hdf5.velox import Found, read_velox
from stemd.adapters.recordings.hdf5.walk import refuse_foreign_bytes
from stemd.adapters.recordings.scan_times import ScanTimes, of_digital_micrograph
from stemd.errors import FormatError

MODULES: Mapping[str, str] = {
    ".dm3": "digitalmicrograph",
    ".dm4": "digitalmicrograph",
    ".emd": "emd",
    ".ser": "tia",
    ".mrc": "mrc",
}
"""rosettasciio's module for each suffix."""


@dataclass(frozen=True, slots=True)
class Stack:
    """Images (n, y, x) of one name in a file; the size of their pixels and times where known."""

    name: str
    images: NDArray[Any]
    pixel_size_angstrom: float | None = None
    times: ScanTimes | None = None

    @property
    def shape(self) -> tuple[int, ...]:
        """(n, y, x)"""
        return self.images.shape


def read_stacks(path: Path) -> list[Stack]:
    """All images of a file that rosettasciio reads.

    Raises FormatError where it cannot be read, or holds none: then it says what it holds.
    """
    suffix = path.suffix.lower()
    others: list[str] = []
    found: list[Stack] = []
    signals: list[dict[str, Any]] = []
    velox = _velox(path) if suffix == ".emd" else None
    if velox is not None:
        others = velox[1]
        for name, images, size, times in velox[0]:
            found.append(Stack(_unused(name, found), images, size, times))
    else:
        signals = read_signals(path, MODULES[suffix], lazy=False, endings=suffix)
    for signal in signals:
        name = title_of(signal) or path.stem
        what = _kind(signal)
        if what is None:
            found.append(_stack(_unused(name, found), signal))
        else:
            others.append(f"{name} ({what}, {_size(np.shape(signal['data']))})")
    if not found:
        raise FormatError(
            f"holds no image, but {'; '.join(others) or 'nothing'}",
            "images are restored; diffraction patterns go to stemd process",
        )
    return found


def _kind(signal: Mapping[str, Any]) -> str | None:
    """What a signal is, None for an image or a stack of images."""
    data, axes = signal["data"], signal["axes"]
    shape = np.shape(data)
    if np.asarray(data).dtype.kind not in "uifb":
        return "colours or waves"
    last = sum(not axis.get("navigate") for axis in axes)
    if len(shape) == 1 or last == 1:
        return "spectrum" if len(shape) == 1 else "spectra"
    if 0 in shape or len(axes) != len(shape):
        return "no image"
    about = signal.get("metadata", {}).get("Signal", {})
    kind = str(about.get("signal_type", "")) if isinstance(about, Mapping) else ""
    known = axes_of(sorted(axes, key=lambda axis: axis.get("index_in_array", 0)))
    if "diffraction" in kind.lower() or len(shape) > 3 or any(a.reciprocal for a in known[-2:]):
        return "diffraction pattern" if len(shape) == 2 else "diffraction patterns"
    return None


def _stack(name: str, signal: Mapping[str, Any]) -> Stack:
    tables = sorted(signal["axes"], key=lambda axis: axis.get("index_in_array", 0))
    known = axes_of(tables)[-2:]
    images = np.asarray(signal["data"])
    if x_before_y(known):
        images, known = np.swapaxes(images, -1, -2), known[::-1]
    size = known[-1].angstrom or known[-2].angstrom
    times = of_digital_micrograph(signal.get("original_metadata"), images.shape[-1])
    return Stack(name, images.reshape(-1, *images.shape[-2:]), size, times)


def x_before_y(axes: Sequence[Axis]) -> bool:
    """Whether two axes are named x and y, in this order: Berkeley's EMD files may have them so."""
    return [axis.name.lower()[-1:] for axis in axes] == ["x", "y"]


def _unused(name: str, found: Sequence[Stack]) -> str:
    names = {stack.name for stack in found}
    number, fresh = 2, name
    while fresh in names:
        fresh, number = f"{name} {number}", number + 1
    return fresh


def _velox(path: Path) -> tuple[list[Found], list[str]] | None:
    """What a Velox file holds, once it is sure that it leads to no other file."""
    if importlib.util.find_spec("h5py") is None:
        raise FormatError(f"{path}: reading .emd needs h5py, which is not installed", NEEDS)
    refuse_foreign_bytes(path)
    return read_velox(path)


def _size(shape: Sequence[int]) -> str:
    return " x ".join(str(n) for n in shape)

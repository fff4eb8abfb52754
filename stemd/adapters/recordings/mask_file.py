"""Masks of detector pixels from files."""

from __future__ import annotations

from functools import lru_cache
from pathlib import Path
from typing import Any

import numpy as np

from stemd.errors import ConfigError
from stemd.pixels import Mask

REMEDY = "give a .npy or TIFF file with one value a detector pixel, not 0 where masked"
MOST_BYTES = 1 << 28


def read_mask(path: Path) -> Mask:
    """The mask (y, x) in a .npy or TIFF file: not 0 where a pixel does not count.

    Raises ConfigError, which names the file, where there is none.
    """
    try:
        state = path.stat()
    except OSError as error:
        raise ConfigError(f"optics.mask: {path}: {error.strerror or error}", REMEDY) from error
    return _read(path, state.st_mtime_ns, state.st_size)


@lru_cache(maxsize=8)
def _read(path: Path, changed_ns: int, size: int) -> Mask:
    if size > MOST_BYTES:
        raise ConfigError(f"optics.mask: {path} has {size:,} bytes", REMEDY)
    try:
        image = _image(path)
    except Exception as error:  # readers of files have errors of many kinds
        text = f"optics.mask: {path} cannot be read: {type(error).__name__}: {error}"
        raise ConfigError(text, REMEDY) from error
    if image.ndim != 2 or image.dtype.kind not in "biuf":
        raise ConfigError(
            f"optics.mask: {path} holds an array {image.shape} of {image.dtype}", REMEDY
        )
    mask = np.asarray(image != 0)
    mask.setflags(write=False)
    return mask


def _image(path: Path) -> Any:
    if path.suffix.lower() == ".npy":
        return np.load(path, allow_pickle=False)
    if path.suffix.lower() in (".tif", ".tiff"):
        import tifffile

        return tifffile.imread(path)
    raise ValueError(f"{path.suffix or 'no suffix'} is no kind of mask file")

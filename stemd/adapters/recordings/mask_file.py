"""Masks of detector pixels from files."""

from __future__ import annotations

import os
import stat
from functools import lru_cache
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np

from stemd.errors import ConfigError
from stemd.pixels import Mask

REMEDY = "give a .npy or TIFF file with one value a detector pixel, not 0 where masked"
MOST_BYTES = 1 << 28


def read_mask(path: Path) -> Mask:
    """The mask (y, x) in a .npy or TIFF file: not 0 where a pixel does not count.

    Raises ConfigError, which names the file, where there is none. A disk that hangs is waited for;
    a pipe or a device is not, and is no file with a mask.
    """
    try:
        state = path.stat()
    except OSError as error:
        raise ConfigError(f"optics.mask: {path}: {error.strerror or error}", REMEDY) from error
    return _read(path, state.st_mtime_ns, state.st_size)


def _opened(path: Path) -> BinaryIO:
    """The regular file at a path; nobody needs to write into it for it to be opened."""
    file = os.fdopen(os.open(path, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC), "rb")
    if not stat.S_ISREG(os.fstat(file.fileno()).st_mode):
        file.close()
        raise ValueError("it is no regular file")
    return file


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
        with _opened(path) as file:
            return np.load(file, allow_pickle=False)
    if path.suffix.lower() in (".tif", ".tiff"):
        import tifffile

        with _opened(path) as file:
            return tifffile.imread(file)
    raise ValueError(f"{path.suffix or 'no suffix'} is no kind of mask file")

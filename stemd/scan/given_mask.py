"""The detector pixels that do not count before a pattern has been seen: the camera's, and given."""

from __future__ import annotations

import hashlib
from collections.abc import Callable
from pathlib import Path

import numpy as np

from stemd.acquisition import Acquisition, Optics
from stemd.adapters.recordings.mask_file import read_mask
from stemd.errors import ConfigError
from stemd.pixels import Mask, mask_of

AUTO, NONE = "auto", "none"
"""Of `optics.mask`: found in the first patterns; no pixel, not even what the camera masks."""


ReadMask = Callable[[Path], Mask]
"""Gives the mask (y, x) in a file. Raises ConfigError."""


def path_of(optics: Optics) -> Path | None:
    """The mask file that the optics ask for; None where they ask for none."""
    mask = optics.mask
    return Path(mask) if isinstance(mask, str) and mask not in (AUTO, NONE) else None


def given_mask(optics: Optics, acquisition: Acquisition, read: ReadMask = read_mask) -> Mask | None:
    """What the camera masks and what `optics.mask` lists, (y, x); None where all pixels count.

    `read` gives what is in a file. Raises ConfigError for a file that cannot be read, and for
    pixels that the detector has not.
    """
    if optics.mask == NONE:
        return None
    detector = acquisition.detector
    masks = [] if detector.mask is None else [np.asarray(detector.mask, np.bool_)]
    if (path := path_of(optics)) is not None:
        masks.append(read(path))
        if masks[-1].shape != detector.shape:
            raise ConfigError(
                f"optics.mask: {optics.mask} has {_size(masks[-1].shape)} pixels, the patterns "
                f"have {_size(detector.shape)}",
                "give the mask of this detector, or optics.mask = 'auto'",
            )
    elif isinstance(optics.mask, tuple):
        try:
            masks.append(mask_of(optics.mask, detector.shape))
        except ValueError as error:
            raise ConfigError(f"optics.mask: {error}", "rows come before columns") from error
    mask = np.logical_or.reduce(masks) if masks else None
    return mask if mask is not None and mask.any() else None


def mask_identity(optics: Optics) -> str | None:
    """A checksum of a mask that is a file, whose content may change; None for any other."""
    if (path := path_of(optics)) is None:
        return None
    return hashlib.sha256(np.packbits(read_mask(path)).tobytes()).hexdigest()


def _size(shape: tuple[int, ...]) -> str:
    return " x ".join(str(n) for n in shape)

"""Virtual datasets: which of their patterns and pixels have a source.

HDF5 gives the fill value for the others, mostly 0: nobody could tell it from counts.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from stemd.pixels import Mask

Box = tuple[slice, ...]


def without_source(dataset: Any) -> int:
    """Values of a virtual dataset that none of its sources gives; 0 where a source grows."""
    mapped = [_points(source) for source in dataset.virtual_sources()]
    return max(0, math.prod(int(n) for n in dataset.shape) - sum(mapped)) if -1 not in mapped else 0


def _points(source: Any) -> int:
    """Values that a source gives, -1 where it grows."""
    try:
        return int(source.vspace.get_select_npoints())
    except RuntimeError:  # h5py's word for a selection without an end
        return -1


def box_of(space: Any, shape: Sequence[int]) -> Box | None:
    """The place of a selection, None where it is no box without gaps."""
    import h5py

    if space.get_select_type() == h5py.h5s.SEL_ALL:
        return tuple(slice(0, n) for n in shape)
    try:
        first, last = space.get_select_bounds()
        points = space.get_select_npoints()
    except RuntimeError:  # a selection without an end
        return None
    box = tuple(slice(int(a), int(b) + 1) for a, b in zip(first, last, strict=True))
    return box if points == math.prod(each.stop - each.start for each in box) else None


def takes_more(source: Any, shape: Sequence[int]) -> bool:
    """Whether a source is to give more values than a dataset of this shape holds."""
    import h5py

    if source.src_space.get_select_type() == h5py.h5s.SEL_ALL:
        return _points(source) > math.prod(map(int, shape))
    try:
        _, last = source.src_space.get_select_bounds()
    except RuntimeError:  # a selection without an end
        return False
    return any(int(at) >= int(size) for at, size in zip(last, shape, strict=False))


def places_of(dataset: Any) -> list[Box] | None:
    """The place of each source in a virtual dataset, None where one is no box of a few axes."""
    if dataset.ndim < 3:
        return None
    boxes = [box_of(source.vspace, dataset.shape) for source in dataset.virtual_sources()]
    return None if None in boxes else [box for box in boxes if box is not None]


def covered(dataset: Any) -> NDArray[np.bool_]:
    """Which patterns of a virtual dataset, over all axes but the last two, have all pixels that any
    of them has: others lack a module of the detector, or all of them."""
    pixels = np.zeros(dataset.shape[:-2], np.int64)
    places = places_of(dataset)
    if places is None:
        return np.ones_like(pixels, np.bool_)
    for box in places:
        rows, columns = box[-2:]
        pixels[box[:-2]] += (rows.stop - rows.start) * (columns.stop - columns.start)
    return np.asarray(pixels >= np.count_nonzero(~_gaps(dataset, places)))


def gaps_of(dataset: Any) -> Mask | None:
    """Pixels (height, width) for which a virtual dataset has no source, None for none."""
    places = places_of(dataset) if dataset.is_virtual else None
    gaps = _gaps(dataset, places) if places else None
    return gaps if gaps is not None and gaps.any() else None


def _gaps(dataset: Any, places: Sequence[Box]) -> Mask:
    gaps = np.ones(dataset.shape[-2:], np.bool_)
    for box in places:
        gaps[box[-2:]] = False
    return gaps

"""What the writers of HDF5 files say beside the patterns: axes, masks, numbers, the microscope."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from stemd.adapters.recordings.calibration import (
    Axis,
    Calibration,
    axis_of,
    of_metadata,
    positive,
)
from stemd.typed import meant

_MOST_TEXT = 4096
_DECTRIS = "/entry/instrument/detector"


@dataclass(frozen=True, slots=True)
class Master:
    """What a DECTRIS master file, or another NeXus file, says.

    `lines` is (triggers, images a trigger), both above one.
    `other_mask`: the size of a mask that is not that of the patterns, in words. `marks`: see
    `ArrayFacts`.
    """

    mask: NDArray[np.bool_] | None = None
    lines: tuple[int, int] | None = None
    expected: int | None = None
    dwell_time_us: float | None = None
    name: str = "DECTRIS"
    other_mask: str = ""
    marks: bool = True


def master_of(file: Any, shape: tuple[int, int]) -> Master | None:
    """What a DECTRIS master or data file says of patterns of this shape, or another file of NeXus'
    NXmx; None for other files.
    """
    detector = _detector(file)
    if detector is None:
        return None
    specific = _get(detector, "detectorSpecific")
    mask = _value(detector, "pixel_mask")
    if specific is None and mask is None:
        return None
    triggers, images = (whole(_value(specific, key)) for key in ("ntrigger", "nimages"))
    own = _value(specific, "pixel_mask")
    mask = mask if own is None else own
    if (
        isinstance(mask, np.ndarray)
        and mask.ndim > 2
        and mask.size == int(np.prod(mask.shape[-2:]))
    ):
        mask = mask.reshape(mask.shape[-2:])
    good = isinstance(mask, np.ndarray) and mask.shape == shape and mask.dtype.kind in "uib"
    frame_time = positive(_value(detector, "frame_time"))
    return Master(
        mask=np.asarray(mask) != 0 if good else None,
        lines=(triggers, images) if triggers and images and min(triggers, images) > 1 else None,
        expected=triggers * images if triggers and images else None,
        dwell_time_us=meant(frame_time * 1e6) if frame_time else None,
        name=text_of(_value(detector, "description"))[:80] or ("DECTRIS" if specific else ""),
        other_mask="" if good or mask is None else " x ".join(map(str, np.shape(mask))),
        marks=specific is not None,
    )


def _detector(file: Any) -> Any:
    """The group of the detector: where DECTRIS has it, or the first one of NeXus' class."""
    found = _get(file, _DECTRIS)
    instrument = _get(file, "/entry/instrument")
    if found is not None or not hasattr(instrument, "keys"):
        return found
    for name in instrument:
        group = _get(instrument, name)
        if text_of(getattr(group, "attrs", {}).get("NX_class")) == "NXdetector":
            return group
    return None


def axes_of_dataset(file: Any, dataset: Any) -> list[Axis]:
    """One axis a dimension, of HyperSpy, EMD or NeXus files; empty ones where nothing is said."""
    group = dataset.parent
    for read in (_hyperspy, _emd, _nexus):
        axes = read(group, dataset)
        if axes is not None:
            return axes
    return [Axis()] * int(dataset.ndim)


def microscope_of(dataset: Any) -> Calibration:
    """What HyperSpy's metadata beside a dataset say of the microscope."""
    return of_metadata(_table(_get(dataset.parent, "metadata")))


def has_numbered_axes_from_zero(dataset: Any) -> bool:
    """Whether it is of py4DSTEM or a file like it, whose arrays are in the order of their axes."""
    group = dataset.parent
    return "dim0" in group or str(dataset.name).endswith("datacube")


def is_emd(dataset: Any) -> bool:
    """Whether the dataset stands in a group of Berkeley's EMD format."""
    return "emd_group_type" in dataset.parent.attrs


def is_velox(file: Any) -> bool:
    """Whether Velox has written the file: it holds images and spectra."""
    return "Velox" in text_of(_value(file, "Version")) or "/Presentation/Displays" in file


def _hyperspy(group: Any, dataset: Any) -> list[Axis] | None:
    tables = [_table(_get(group, f"axis-{n}"), 1) for n in range(dataset.ndim)]
    if not all(tables):
        return None
    return [axis_of(table) for table in tables]


def _emd(group: Any, dataset: Any) -> list[Axis] | None:
    first = 0 if "dim0" in group else 1
    found = []
    for number in range(first, first + dataset.ndim):
        steps = group.get(f"dim{number}")
        if steps is None:
            return None
        about = steps.attrs
        units = text_of(about.get("units")).replace("_", "").strip("[]")
        found.append(Axis(text_of(about.get("name")), _step(steps), units))
    return found


def _nexus(group: Any, dataset: Any) -> list[Axis] | None:
    names = group.attrs.get("axes")
    if names is None:
        names = dataset.attrs.get("axes")
    if names is None:
        return None
    names = [text_of(name) for name in np.atleast_1d(names)]
    if len(names) == 1:
        names = names[0].replace(",", ":").split(":")
    found = []
    for name in names[: dataset.ndim]:
        steps = _get(group, name)
        units = text_of(steps.attrs.get("units")) if steps is not None else ""
        found.append(Axis(name, _step(steps) if steps is not None else 0.0, units))
    return found + [Axis()] * (int(dataset.ndim) - len(found))


def _step(values: Any) -> float:
    """The step between the first two values; 0 where there is none."""
    if getattr(values, "ndim", 0) != 1 or values.shape[0] < 2 or values.dtype.kind not in "uif":
        return 0.0
    first, second = (float(value) for value in values[:2])
    return abs(second - first)


def _get(group: Any, name: str) -> Any:
    try:
        return group.get(name)
    except (KeyError, OSError, RuntimeError, AttributeError):
        return None


def _value(group: Any, name: str) -> Any:
    """A small dataset's value, None where there is none."""
    item = _get(group, name)
    shape = getattr(item, "shape", None)
    if shape is None or int(np.prod(shape, dtype=np.int64)) > 2**26:
        return None
    try:
        return item[()]
    except (OSError, TypeError, ValueError, RuntimeError):
        return None


def _table(group: Any, depth: int = 8) -> Mapping[str, Any]:
    """The attributes of a group, and of the groups in it, as a table."""
    if group is None or not hasattr(group, "attrs") or depth < 0:
        return {}
    found: dict[str, Any] = {}
    for key, value in group.attrs.items():
        found[key] = value.decode(errors="replace") if isinstance(value, bytes) else value
    if hasattr(group, "keys"):
        for key in group:
            if not key.startswith("_"):
                found.setdefault(key, _table(_get(group, key), depth - 1))
    return found


def text_of(value: Any) -> str:
    """A text as HDF5 files have it: bytes, str, or an array of one of them."""
    if isinstance(value, np.ndarray):
        value = value.ravel()[0] if value.size else ""
    if isinstance(value, bytes):
        value = value[:_MOST_TEXT].decode(errors="replace")
    return value[:_MOST_TEXT].strip("\0 ") if isinstance(value, str) else ""


def whole(value: Any) -> int | None:
    """A whole number above zero, or None."""
    number = positive(value)
    return int(number) if number is not None and number < 2**48 else None


def order_of(dataset: Any, axes: Sequence[Axis], kept: Sequence[int]) -> Sequence[int]:
    """The remaining axes with those of the scan first and of the detector last, y before x.

    Berkeley's EMD files may have them in any order, HyperSpy writes them turned around: the labels
    decide. Axes without labels are taken as they are stored.
    """
    order = list(kept)
    if not is_emd(dataset) or has_numbered_axes_from_zero(dataset) or len(order) < 3:
        return order
    known = [axes[axis] for axis in order]
    front, back = known[:-2], known[-2:]
    if any(axis.reciprocal for axis in front) and not any(axis.reciprocal for axis in back):
        return order[::-1] if _x_first(known) else order[-2:] + order[:-2]
    if len(order) == 3 and known[0].reciprocal and known[1].reciprocal:
        return order[::-1]
    if _x_first(known):
        turned = order[: len(order) - 2][::-1] + order[-2:][::-1]
        return turned
    return order


def _x_first(axes: Sequence[Axis]) -> bool:
    names = [axis.name.lower() for axis in axes]
    ends = [name[-1:] for name in names]
    return ends[-2:] == ["x", "y"] or ends[:2] == ["x", "y"]

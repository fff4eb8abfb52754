"""Named images with units: what engines make and sinks take."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any, Literal, get_args

import numpy as np
from numpy.typing import NDArray

from stemd.acquisition import Acquisition
from stemd.errors import StemdError

Axes = Literal["scan", "detector"]


@dataclass(frozen=True, slots=True)
class Result:
    """One image of one engine, a copy that nobody writes to again.

    `image` is float32 (y, x), 0 where nothing has been scanned yet. `axes` says which plane it
    lives in: "scan" (one pixel a probe position, or a multiple) or "detector" (a pattern).
    `pixel_size` is in angstrom for scan axes and mrad for detector axes, None when unknown.
    `extra` is JSON-able and goes into every description of the image.
    """

    name: str
    image: NDArray[np.float32]
    units: str
    axes: Axes = "scan"
    pixel_size: float | None = None
    extra: Mapping[str, Any] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Snapshot:
    """All results of an acquisition at one moment.

    `sequence` counts the snapshots of a pipeline; `positions_done` is what the images contain;
    `time_ns` is UTC since the epoch when the last of these positions was received.
    """

    acquisition: Acquisition
    results: Sequence[Result]
    positions_done: int
    positions_total: int
    final: bool
    sequence: int
    time_ns: int
    settings_revision: int


def checked_results(engine: str, made: object, before: Iterable[Result] = ()) -> list[Result]:
    """What the `snapshot` of an engine has given, as float32 images.

    `before` are images of the scan that others have made. Raises StemdError for what is no image,
    so that one engine's mistake does not reach those who write and send the images of all.
    """
    if not isinstance(made, list | tuple):
        raise _no_image(f"snapshot of {engine!r} gave {_kind(made)}, not a list of Result")
    names = {result.name for result in before}
    results: list[Result] = []
    for each in made:
        if not isinstance(each, Result):
            raise _no_image(f"snapshot of {engine!r} gave a list with {_kind(each)} in it")
        image = each.image
        if not isinstance(image, np.ndarray) or image.ndim != 2 or image.dtype.kind not in "fiub":
            raise _no_image(f"snapshot of {engine!r}: the image {each.name!r} is {_kind(image)}")
        if each.axes not in get_args(Axes):
            raise _no_image(
                f"snapshot of {engine!r}: the image {each.name!r} has the axes {each.axes!r}"
            )
        if each.name in names:
            raise _no_image(
                f"snapshot of {engine!r}: there is another image {each.name!r} of this scan"
            )
        names.add(each.name)
        if image.dtype != np.float32:
            each = replace(each, image=image.astype(np.float32))
        results.append(each)
    return results


def _kind(what: object) -> str:
    if isinstance(what, np.ndarray):
        return f"an array of {what.dtype} of the shape {what.shape}"
    return f"a {type(what).__name__}"


def _no_image(message: str) -> StemdError:
    return StemdError(
        message,
        "correct the engine: snapshot returns a list of stemd.results.Result, each with an image "
        "(y, x) of real numbers, the axes 'scan' or 'detector', and a name from outputs()",
    )


def joined(before: Snapshot | None, now: Snapshot) -> Snapshot:
    """The images of both where they are of one scan, the newer ones where both have them."""
    if before is None or before.acquisition.id != now.acquisition.id:
        return now
    names = {result.name for result in now.results}
    kept = [result for result in before.results if result.name not in names]
    return replace(now, results=[*kept, *now.results])


def is_older(first: Snapshot, second: Snapshot) -> bool:
    """Whether the first is of an earlier scan than the second."""
    return first.acquisition.started_ns < second.acquisition.started_ns

"""Named images with units: what engines make and sinks take."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any, Literal, Self, get_args

import numpy as np
from numpy.typing import NDArray

from stemd.acquisition import Acquisition
from stemd.drawing import Drawing, LineChanges, parts_of
from stemd.errors import StemdError

Axes = Literal["scan", "detector"]

_SUMS_IN_IMAGES = 6
"""A scan's sums take the memory of about so many images."""


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

    @property
    def shape(self) -> tuple[int, int]:
        """Pixels (y, x)."""
        return self.image.shape

    @property
    def nbytes(self) -> int:
        """Memory of its pixels, where all of them are made."""
        return 4 * self.shape[0] * self.shape[1]

    @property
    def held_bytes(self) -> int:
        """Memory that is not freed as long as this is kept."""
        return self.nbytes

    @property
    def changes(self) -> LineChanges | None:
        """Which lines have changed since when, where the same image grows on."""
        return None

    def lines(self, first: int, stop: int) -> NDArray[np.float32]:
        """Lines first..stop-1, not to be written to."""
        return self.image[first:stop]

    def parts(self) -> Iterator[NDArray[np.float32]]:
        """All lines, some at a time: of a large image never all at once."""
        for first, stop in parts_of(self.shape):
            yield self.lines(first, stop)

    def made(self) -> Result:
        """With its image in memory, for who needs it more than once."""
        return self

    def changed(self, **fields: Any) -> Self:
        """The same image with other fields; one that is drawn is not made for it."""
        return replace(self, **fields)


class DrawnResult(Result):
    """An image of a large scan that is made when it is wanted, from what is in memory anyway.

    To everybody it is a result like any other; but `image` makes it anew each time, so that who
    needs it once asks once, and who can do with some lines at a time asks for `parts`.
    """

    __slots__ = ("_drawing",)
    _drawing: Drawing

    def __init__(
        self,
        name: str,
        image: Drawing | NDArray[np.float32],
        units: str,
        axes: Axes = "scan",
        pixel_size: float | None = None,
        extra: Mapping[str, Any] | None = None,
    ) -> None:
        drawing = image if isinstance(image, Drawing) else _drawing_of(image)
        values = {"name": name, "units": units, "axes": axes, "pixel_size": pixel_size}
        for key, value in {**values, "extra": extra or {}, "_drawing": drawing}.items():
            object.__setattr__(self, key, value)

    @property
    def image(self) -> NDArray[np.float32]:
        """The whole image, made for who asks."""
        return self._drawing.whole()

    @property
    def shape(self) -> tuple[int, int]:
        """Pixels (y, x)."""
        return self._drawing.shape

    @property
    def held_bytes(self) -> int:
        """The sums of its scan, from which it is drawn."""
        return _SUMS_IN_IMAGES * self.nbytes

    @property
    def changes(self) -> LineChanges | None:
        """Which lines have changed since when; None where the image is finished."""
        return self._drawing.changes

    def lines(self, first: int, stop: int) -> NDArray[np.float32]:
        """Lines first..stop-1, not to be written to."""
        return self._drawing.draw(first, stop)

    def made(self) -> Result:
        """With its image in memory, as long as this is kept."""
        return Result(self.name, self.image, self.units, self.axes, self.pixel_size, self.extra)

    def changed(self, **fields: Any) -> Self:
        """The same image with other fields; it is not made for it."""
        return replace(self, **{"image": self._drawing, **fields})


def _drawing_of(image: NDArray[np.float32]) -> Drawing:
    """What `dataclasses.replace` has made, or was given, instead of a drawing."""
    height, width = image.shape
    return Drawing((height, width), lambda first, stop: image[first:stop])


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
        drawn = isinstance(each, DrawnResult)
        image = None if drawn else each.image
        if not drawn and not _is_image(image):
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
        if image is not None and image.dtype != np.float32:
            each = replace(each, image=image.astype(np.float32))
        results.append(each)
    return results


def _is_image(what: object) -> bool:
    return isinstance(what, np.ndarray) and what.ndim == 2 and what.dtype.kind in "fiub"


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

"""Images with their calibration, and what is known of the scan they come from."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from stemd.acquisition import Optics, Scan
from stemd.calibrated import Calibrated
from stemd.errors import StemdError, UsageError
from stemd.results import Axes, Result


class StemdWarning(UserWarning):
    """Something is missing in what was asked for: the text says what, and what to do."""


class NoImageError(StemdError, KeyError):
    """There is no image of this name; the remedy lists those that are there."""


@dataclass(frozen=True, slots=True)
class About:
    """The scan that images come from, and how much of it they hold.

    `source`: the file, or "the array". `positions_done` of `positions_total` probe positions had
    a pattern; the pixels of the others are 0. `notices`: what was noticed in the data or by an
    engine, in sentences. `detector_shape` is (height, width) of a pattern in pixels.
    """

    id: str
    source: str
    scan: Scan
    optics: Optics
    detector_shape: tuple[int, int]
    status: Literal["acquiring", "complete", "incomplete", "aborted"]
    positions_done: int
    positions_total: int
    notices: tuple[str, ...] = ()

    @property
    def missing(self) -> int:
        """Probe positions without a pattern."""
        return self.positions_total - self.positions_done


@dataclass(frozen=True, slots=True, eq=False)
class Image(Calibrated):
    """One image with its calibration; NumPy and matplotlib take it as the array that it holds.

    `image` is float32 (y, x), read-only. `axes`: "scan" (one pixel a probe position, or finer)
    or "detector" (a pattern). `pixel_size` is in `pixel_units`: angstrom for "scan", mrad for
    "detector"; None when nobody has said it. `details`: settings and findings of the engine, such
    as `center` (y, x in pixels) or `kernel_size`. `about` is the scan it comes from, None for an
    image that came alone.
    """

    name: str
    image: NDArray[np.float32]
    units: str
    axes: Axes = "scan"
    pixel_size: float | None = None
    details: Mapping[str, Any] = field(default_factory=dict)
    about: About | None = None

    @classmethod
    def of(cls, result: Result, about: About | None) -> Image:
        """An engine's result as it is given to people."""
        pixels = result.image
        pixels.flags.writeable = False
        return cls(
            result.name, pixels, result.units, result.axes, result.pixel_size,
            dict(result.extra), about,
        )  # fmt: skip

    @property
    def extent(self) -> tuple[float, float, float, float]:
        """(left, right, bottom, top) in `pixel_units`, for matplotlib's `imshow(extent=...)`.

        The centre of pixel (0, 0) is the origin and y points down, as everywhere in stemd.
        """
        ny, nx = self.shape
        half = (self.pixel_size or 1.0) / 2
        return -half, (2 * nx - 1) * half, (2 * ny - 1) * half, -half

    def __repr__(self) -> str:
        part = ""
        if self.about is not None and self.about.missing:
            part = f", {self.about.missing} of {self.about.positions_total} positions missing"
        return self.in_words(part)


class Images(Mapping[str, Image]):
    """Images of one scan by name, in the order in which they were made.

    `failed` names engines that could not do their work, and why; their images are not here.
    """

    def __init__(
        self,
        images: Iterable[Image],
        about: About,
        failed: Mapping[str, str] | None = None,
        write: Callable[[Path], None] | None = None,
    ) -> None:
        self._images = {image.name: image for image in images}
        self._write = write
        self.about = about
        self.failed: Mapping[str, str] = dict(failed or {})

    def __getitem__(self, name: str) -> Image:
        """The image of this name. Raises NoImageError, which is a KeyError."""
        try:
            return self._images[name]
        except KeyError:
            why = "".join(
                f"; engine {engine} failed: {text}" for engine, text in self.failed.items()
            )
            raise NoImageError(
                f"there is no image {name!r}{why}", f"there are: {', '.join(self) or 'none'}"
            ) from None

    def __iter__(self) -> Iterator[str]:
        return iter(self._images)

    def __len__(self) -> int:
        return len(self._images)

    def __contains__(self, name: object) -> bool:
        return name in self._images

    @property
    def status(self) -> str:
        """`complete` when every position has a pattern, else `incomplete` or `aborted`."""
        return self.about.status

    @property
    def positions_done(self) -> int:
        """Probe positions that had a pattern."""
        return self.about.positions_done

    @property
    def missing(self) -> int:
        """Probe positions that had none."""
        return self.about.missing

    @property
    def notices(self) -> tuple[str, ...]:
        """What was noticed in the data or by an engine, in sentences."""
        return self.about.notices

    def save(self, folder: str | Path) -> Path:
        """Write what `stemd process` writes: `<name>.tif` an image, and scan.json.

        The folder is made. Raises SinkError where it cannot be written, UsageError for images
        that were read from a scan's folder, which are there already.
        """
        if self._write is None:
            raise UsageError(
                f"the images of {self.about.source} are files already", "copy its folder"
            )
        target = Path(folder).expanduser()
        self._write(target)
        return target

    def __repr__(self) -> str:
        about = self.about
        lines = [
            f"{len(self)} image{'s' * (len(self) != 1)} of {about.source}: {about.status}, "
            f"{about.positions_done:,} of {about.positions_total:,} positions"
        ]
        lines += [f"  {image!r}" for image in self.values()]
        lines += [f"  engine {name} failed: {why}" for name, why in self.failed.items()]
        return "\n".join([*lines, *(f"  note: {text}" for text in about.notices)])

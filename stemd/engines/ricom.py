"""riCOM: the COM integrated by a small kernel, live, one probe position at a time.

Yu et al., Microsc. Microanal. 28 (2022) 1526; thesis eq. 3.4 to 3.9.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Annotated, Any

import numpy as np
from numpy.typing import NDArray
from pydantic import Field, field_validator

from stemd.acquisition import Acquisition, Detector, Optics, Scan
from stemd.blocks import Block
from stemd.drawing import Drawing, LineChanges
from stemd.engines.base import PositionMaps, Positions
from stemd.engines.growing import LARGE, clear_not_done, where_done
from stemd.engines.kernels.ricom import add_positions, integrate, padded, ricom_kernel
from stemd.engines.vectors import (
    Zero,
    resolve_zero,
    scan_lines,
    stretches,
    vectors_of,
)
from stemd.plugins import Plugin
from stemd.results import DrawnResult, Result
from stemd.settings import EngineSettings, Settings

STILL_PX = 0.001
"""Pixels that an automatic zero moves by before a large growing image is built anew."""
Frequency = Annotated[float, Field(ge=0.0, le=1e9, allow_inf_nan=False)]


class RicomSettings(EngineSettings):
    """`kernel_size` n of the n x n window, odd; `band_pass` [k_min, k_max] in inverse pixels."""

    kernel_size: Annotated[int, Field(ge=3, le=4095)] = 61
    band_pass: tuple[Frequency, Frequency] | None = None

    @field_validator("kernel_size")
    @classmethod
    def _odd(cls, value: int) -> int:
        if value % 2 == 0:
            raise ValueError(f"must be odd, for example {value + 1}")
        return value

    @field_validator("band_pass")
    @classmethod
    def _ordered(cls, value: tuple[float, float] | None) -> tuple[float, float] | None:
        if value is not None and value[0] >= value[1]:
            raise ValueError("must be [k_min, k_max] with k_min below k_max")
        return value


class RicomEngine:
    """Adds each position's n x n contribution as it comes; the final image comes from the maps.

    While the scan runs the contributions are added with the centre known so far. With an
    automatic centre the image is built anew from the maps whenever the number of positions has
    doubled, so the running image never carries the edge of an old estimate and the cost stays
    below one more pass. A changed setting also rebuilds it: a live image is always of one kind.
    """

    def __init__(self, settings: RicomSettings) -> None:
        self.name = settings.name or "ricom"
        self._own = settings

    def start(self, acquisition: Acquisition, settings: Settings, maps: PositionMaps) -> None:
        """A scan begins: the image and the kernel are allocated."""
        self._acquisition, self._settings, self._maps = acquisition, settings, maps
        self._image: NDArray[np.float32] = np.zeros(maps.shape, np.float32)
        self._changes = LineChanges(maps.shape[0])
        self._runs: list[Positions] = []
        self._added = 0
        self._rebuild_at = 1
        self._zero = resolve_zero(maps, settings.optics, acquisition.detector.shape)
        self._make_kernel()

    def update(self, settings: Settings) -> None:
        """Kernel, band-pass, rotation, flip or centre changed: the image is built anew."""
        self._settings = settings
        self._make_kernel()
        self._rebuild()

    def consume(self, item: Positions | Block) -> None:
        """Add a run of complete positions."""
        assert isinstance(item, tuple)
        first, stop = item
        if self._runs and self._runs[-1][1] == first:
            self._runs[-1] = (self._runs[-1][0], stop)
        else:
            self._runs.append(item)
        self._added += stop - first
        is_due = self._settings.optics.center == "auto" and self._added >= self._rebuild_at
        if self._is_released or (is_due and self._has_moved()):
            self._rebuild()
        else:
            self._add(first, stop)

    def snapshot(self, *, final: bool) -> Sequence[Result]:
        """The image, float32 (ny, nx), in detector pixels times scan pixels."""
        optics = self._settings.optics
        own = self._own
        extra: dict[str, Any] = {
            "kernel_size": own.kernel_size,
            "band_pass": own.band_pass,
            "rotation_deg": optics.rotation_deg,
            "flip": optics.flip,
        }
        if final or self._is_released:
            self._zero = self._resolve()
            self._integrate()
        extra |= self._zero.about()
        step = self._acquisition.scan.step_size_angstrom
        if not final and self._maps.total.size >= LARGE:
            # stays where it is: what is added is seen by all who look at it
            image, maps, nx = self._image, self._maps, self._maps.shape[1]

            def draw(first: int, stop: int) -> NDArray[np.float32]:
                return where_done(image[first:stop], maps, first * nx)

            drawing = Drawing(maps.shape, draw, self._changes)
            return [DrawnResult(self.name, drawing, "px*px", "scan", step, extra)]
        if final:
            clear_not_done(self._image, self._maps)
            image = self._image
            self._release()
        else:  # the one that grows keeps what the kernel has added beyond
            image = where_done(self._image, self._maps)
        return [Result(self.name, image, "px*px", "scan", step, extra)]

    def _release(self) -> None:
        """Keep no image: it may be large, and the maps give it again."""
        self._image = np.empty((0, 0), np.float32)

    @property
    def _is_released(self) -> bool:
        return self._image.size == 0

    def _make_kernel(self) -> None:
        own = self._settings.engines.get(self.name, self._own)
        assert isinstance(own, RicomSettings)
        self._own = own
        size = max(self._maps.shape)
        self._kernel = ricom_kernel(own.kernel_size, own.band_pass, size)
        self._padded = (padded(self._kernel[0]), padded(self._kernel[1]))

    def _add(self, first: int, stop: int) -> None:
        for part in stretches(first, stop):
            vectors = vectors_of(self._maps, self._zero, self._settings.optics, *part)
            add_positions(self._image, *self._padded, *part, *vectors)
        nx, half = self._maps.shape[1], self._own.kernel_size // 2
        self._changes.changed(first // nx - half, (stop - 1) // nx + 1 + half)

    def _rebuild(self) -> None:
        """All positions so far with today's centre and settings, by the cheaper way."""
        self._rebuild_at = max(1, 2 * self._added)
        self._zero = self._resolve(self._runs)
        positions = self._maps.total.size
        if self._added * self._own.kernel_size**2 > 64 * positions * max(1, np.log2(positions)):
            self._integrate()
            return
        self._image = np.zeros(self._maps.shape, np.float32)
        self._changes = LineChanges(self._maps.shape[0])
        for first, stop in self._runs:
            self._add(first, stop)

    def _has_moved(self) -> bool:
        """Whether the zero is another one by now; of a small scan the image is built anew anyway.

        If not it is looked at again when twice as many positions have come.
        """
        if self._maps.total.size < LARGE or self._resolve(self._runs).apart(self._zero) > STILL_PX:
            return True
        self._rebuild_at = 2 * self._added
        return False

    def _resolve(self, runs: Sequence[Positions] | None = None) -> Zero:
        optics, shape = self._settings.optics, self._acquisition.detector.shape
        return resolve_zero(self._maps, optics, shape, runs)

    def _integrate(self) -> None:
        lines = scan_lines(self._maps, self._zero, self._settings.optics)
        shape, self._changes = self._maps.shape, LineChanges(self._maps.shape[0])
        large = self._maps.total.size >= LARGE and not self._is_released
        # whoever still looks at the image of a large scan sees it become the better one
        image = self._image if large else np.empty(shape, np.float32)
        self._image = integrate(lines, shape, *self._kernel, image)


def _warm(settings: RicomSettings) -> Iterable[object]:
    """The kernels of growing images: a tiny scan's image is made in the other way."""
    kernel_y, kernel_x = ricom_kernel(settings.kernel_size, settings.band_pass, 4)
    maps = PositionMaps(Acquisition(Scan(shape=(2, 2)), Detector("warm-up", (2, 2), "u1", 8)), ())
    vectors = vectors_of(maps, Zero((0.0, 0.0), np.zeros((2, 2))), Optics(), 0, 4)
    image = np.zeros((2, 2), np.float32)
    add_positions(image, padded(kernel_y), padded(kernel_x), 0, 4, *vectors)
    return ()


PLUGIN = Plugin(
    name="ricom",
    summary="real-time integrated centre of mass, live at every position",
    settings=RicomSettings,
    build=RicomEngine,
    warm=_warm,
)

"""An image that knows the size of its pixels, for whoever works with images outside the daemon."""

from __future__ import annotations

from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray


class Calibrated:
    """A dataclass of one image: NumPy and matplotlib take it as the array that it holds.

    `image` is (y, x), `axes` "scan" or "detector", `pixel_size` in `pixel_units` or None.
    """

    __slots__ = ()
    name: str
    image: NDArray[np.float32]
    units: str
    axes: Literal["scan", "detector"]
    pixel_size: float | None

    def __array__(self, dtype: Any = None, copy: bool | None = None) -> NDArray[Any]:
        if copy is False:
            return np.asarray(self.image, dtype, copy=False)
        return np.array(self.image, dtype) if copy else np.asarray(self.image, dtype)

    @property
    def shape(self) -> tuple[int, int]:
        """Pixels (y, x)."""
        return self.image.shape[0], self.image.shape[1]

    @property
    def pixel_units(self) -> Literal["angstrom", "mrad", "px"]:
        """Unit of `pixel_size`; "px" where that is not known."""
        if self.pixel_size is None:
            return "px"
        return "angstrom" if self.axes == "scan" else "mrad"

    def in_words(self, part: str) -> str:
        """Name, pixels, units, calibration, and which part of the scan it has."""
        ny, nx = self.shape
        size = "" if self.pixel_size is None else f", {self.pixel_size:g} {self.pixel_units}/pixel"
        return f"<Image {self.name}: {ny}x{nx}, {self.units}{size}{part}>"

"""A restored image that yields to the recorded one wherever that says something else.

A prior (waves, a network) knows what columns look like and where they stand; how much of a column
there is, it can only guess from its neighbours. Here the recorded image has the last word: order
is shown only where there is order, each column gets the height that the electrons say, within
their noise, and what stands out of the noise where nothing is shown is shown too.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from stemd.engines.restoration.estimate.lines import displacements, moved_back, noise_variance
from stemd.engines.restoration.evidence.agreement import VISIBLE, believed
from stemd.engines.restoration.evidence.columns import (
    Columns,
    dark,
    maxima,
    profile_of,
    usual_width,
)
from stemd.engines.restoration.evidence.crowding import alone, crowded
from stemd.engines.restoration.evidence.everywhere import (
    deviation_map,
    electron_of,
    gaussian_line,
    height_map,
    peaks,
    seen,
    separable,
    squares,
)
from stemd.engines.restoration.evidence.lattice import drawn_to_lattice
from stemd.engines.restoration.evidence.noise import pixel_variance, without_outliers, without_tail
from stemd.engines.restoration.evidence.order import judged
from stemd.engines.restoration.evidence.places import put_back
from stemd.engines.restoration.tiling import CancelledError, share, tiles

F32 = NDArray[np.float32]
F64 = NDArray[np.float64]
I64 = NDArray[np.int64]

SHAPED = 0.3
"""How much shape there must be around a column."""
PERIODIC = 0.5
"""How periodic the image must be for every place of the lattice to count, even one where next to
nothing is shown: an atom that was taken out has left the slightest of maxima."""
ABSENT = 0.9
"""How certainly there is no lattice where its places are none."""
NO_TEXTURE = 0.5
"""How much there must be no texture for what is no crystal to be vacuum."""
AROUND = 24.0
"""Widths of a column within which others are its neighbours."""
FAINT_APART = 2.0
"""Widths of a column within which a place where next to nothing is shown is none if a higher one is
there: both would take from each other, and little be known of either."""
GROUND = 6.0
"""Widths of a column over which the ground is averaged that its height is measured from."""
APART = 1.5
"""Widths of a column from which on something beside it is none of it."""
STRAY, PLACES = 4.0, 12_000.0
"""Deviations at which something where nothing is shown is as likely as not, in an image with so
many squared widths of a column: there noise alone reaches it once. In larger ones it is more."""
WORSE = 1.2
"""Factor by which what is drawn may raise what is missing around it: it is shrunk."""
DEPARTS = 5.0
"""Deviations from which on an image contradicts the recorded one."""
NORMAL = 0.6745
"""Median of the absolute value of normal numbers of deviation 1."""
SMALLEST_PX = 16
TILE_PX, HALO_PX = 768, 64


@dataclass(frozen=True, slots=True)
class Faithful:
    """`image`, `uncertainty` (standard error) and `departure` (in deviations), (ny, nx) each.

    The uncertainty is that of an average over one column's profile around each pixel. The
    departure is what the recorded image has more than the restored one, averaged in the same way,
    over its noise. `strays`: columns that were shown though the restoration had none there, or
    taken out.
    """

    image: F32
    uncertainty: F32
    departure: F32
    strays: int

    @property
    def departing(self) -> float:
        """Part of the image that contradicts the recorded one."""
        return float(np.mean(np.abs(self.departure) > DEPARTS))


def faithful(
    recorded: F32, restored: F32, cancelled: Callable[[], bool] = lambda: False
) -> Faithful:
    """The `restored` image (ny, nx) in agreement with the `recorded` one, both in one unit.

    Lines that are displaced in the recorded image, and pulses' tails, are undone first. Costs
    about as much as the estimate, and no more for any image; large images are done in tiles, so
    that memory does not grow with them. Raises CancelledError soon after `cancelled` is true.
    """
    ny, nx = recorded.shape
    if min(ny, nx) < SMALLEST_PX:
        nothing = np.zeros_like(restored)
        return Faithful(restored, nothing, nothing, 0)
    if dark(restored):
        turned = faithful(-recorded, -restored, cancelled)
        return Faithful(-turned.image, turned.uncertainty, -turned.departure, turned.strays)
    image, error, departure = (np.zeros_like(restored) for _ in range(3))
    strays = 0
    for y in tiles(ny, TILE_PX, HALO_PX, 1):
        for x in tiles(nx, TILE_PX, HALO_PX, 1):
            if cancelled():
                raise CancelledError
            part = np.s_[y.first : y.stop, x.first : x.stop]
            found = _in_tile(recorded[part], restored[part])
            weight = share(y, ny, HALO_PX // 4)[:, None] * share(x, nx, HALO_PX // 4)[None]
            image[part] += weight * found.image
            error[part] += weight * found.error
            departure[part] += weight * found.departure
            at = np.add(found.strays, (y.first, x.first))
            inner = (at >= (y.inner_first, x.inner_first)) & (at < (y.inner_stop, x.inner_stop))
            strays += int(inner.all(axis=1).sum())
    return Faithful(image, error, departure, strays)


class _Tile(NamedTuple):
    image: F32
    error: F32
    departure: F32
    strays: I64


def _in_tile(recorded: F32, restored: F32) -> _Tile:
    data = without_outliers(recorded, restored)
    steady = _aligned(data, restored)
    undone = without_tail(data, restored, steady - restored)
    data = steady if undone is data else _aligned(undone, restored)
    variance = pixel_variance(data, restored)
    place, height, width = maxima(restored)
    usual = usual_width(height, width)
    profile = profile_of(usual)
    deviation = Columns(place, profile, GROUND * usual).deviations(variance)
    at = place[:, 0], place[:, 1]
    there = judged(data, restored, seen(data, restored, variance, place, profile), variance)
    image = (
        there.shaped * (restored - there.ghost) + (np.float32(1.0) - there.shaped) * there.filtered
    )
    image = put_back(data, image, variance, there.shaped, usual)
    counted = pixel_variance(data, restored, counted=True)
    variance = counted + there.shaped * (variance - counted)
    keep = (height > VISIBLE * deviation) & (there.shaped[at] > SHAPED)
    keep |= there.periodic[at] > PERIODIC
    # in vacuum the columns themselves say that they are not there
    keep &= (there.absent[at] < ABSENT) | (there.shaped[at] > NO_TEXTURE)
    keep[keep] = alone(
        place[keep], height[keep], (height > VISIBLE * deviation)[keep], FAINT_APART * usual
    )
    place, height, deviation = place[keep], height[keep], deviation[keep]
    error = deviation_map(variance, profile)
    missing = height_map(data - image, profile)
    more = np.float32(1.0 + (1.0 - there.white) * (_spread(missing / error) - 1.0))
    error, deviation = more * error, more * deviation
    electron = electron_of(variance, restored)
    z2 = squares(missing, error, electron, profile)
    even = STRAY**2 + 2.0 * np.log(max(1.0, z2.size / (PLACES * usual**2)))
    strays = peaks(z2, 0.6 * even, place, APART * usual)
    # all at once: what is missed beside a column is not to be found in the column
    columns = Columns(np.concatenate([place, strays]), profile, GROUND * usual)
    residual = columns.heights(data - image)
    count = len(place)
    deviation = deviation * crowded(columns.places, profile)[:count]
    given = np.empty_like(residual)
    doubt = height_map(restored - there.waves, profile)[place[:, 0], place[:, 1]].astype(np.float64)
    near = AROUND * usual
    given[:count] = believed(residual[:count], deviation, height, doubt, place, near)
    # around 0, or columns at the image's edges, of which a part is seen, would have it for height
    beyond, lattice = (
        columns.heights(each - np.float32(each.mean(dtype=np.float64)))[:count]
        for each in (image - there.waves, there.waves)
    )
    own = columns.own_noise(electron)
    held = drawn_to_lattice(residual[:count], beyond, lattice, deviation, own, place, near)
    outlier = held.outlier * there.periodic[place[:, 0], place[:, 1]]
    given[:count] += outlier * (residual[:count] - given[:count])
    given[:count] += held.agree * (held.drawn - given[:count])
    # a place in a texture that looks like a shape by chance is none of a column
    given[:count] *= np.minimum(1.25 * there.shaped[place[:, 0], place[:, 1]], 1.0)
    z2 = squares(residual[count:], error[strays[:, 0], strays[:, 1]], electron, profile)
    certain = 1.0 / (1.0 + np.exp(0.5 * (even - np.minimum(z2, 1e3))))
    given[count:] = certain * residual[count:]
    image = image + _no_worse(data - image, columns.drawn(given, image.shape), usual)
    departure = height_map(data - image, profile) / error
    return _Tile(image, error, departure, strays[certain > 0.5])


def _no_worse(missing: F32, drawn: F32, width_px: float) -> F32:
    """What is `drawn` (ny, nx) to make up for what is `missing`, but where it leaves more of it.

    Columns that cover a broad shape know next to nothing of each other, and heights of thousands
    to either side may fit it.
    """
    line = gaussian_line(max(1.0, width_px))
    before, after = (separable(np.square(each), line) for each in (missing, missing - drawn))
    return np.where(after > WORSE * before, np.float32(0.0), drawn)


def _spread(z: F32) -> float:
    """Deviation of numbers of which most are noise: 1 where that is as it should be, or less."""
    return max(1.0, float(np.median(np.abs(z))) / NORMAL)


def _aligned(data: F32, restored: F32) -> F32:
    """The recorded image with its lines where the restored one has them, noise and all."""
    variance = noise_variance(data, restored)
    shifts, worth = displacements(data, restored, variance, np.zeros((len(data), 2)))
    if worth == 0.0:
        return data
    return moved_back(data, restored, shifts)

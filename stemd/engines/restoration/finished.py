"""All of restoration: the network, then what the recorded image says of its result."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from stemd.engines.restoration.blank import blank_parts, mirrored_into
from stemd.engines.restoration.bright import beyond, keep_within
from stemd.engines.restoration.cleaned import cleaned
from stemd.engines.restoration.dim_parts import BETTER, LEAST, LEAST_SEEN, LOST, Squares
from stemd.engines.restoration.drawn import drawn_levels, repeated
from stemd.engines.restoration.enlarged import enlarged, keeps_all, reduced, times_enlarged
from stemd.engines.restoration.evidence.faithful import faithful
from stemd.engines.restoration.robust_scale import normalise
from stemd.engines.restoration.slow_detector import undone
from stemd.engines.restoration.tiling import restore
from stemd.inference.base import Network
from stemd.inference.model_file import ModelFile

Image = NDArray[np.float32]


SMALLEST_PARTED_PX = 64
"""An image that is smaller has no parts."""
LEAST_PX = 3
"""Lines and columns of which a network makes anything: a profile is as it was."""


@dataclass(frozen=True, slots=True)
class Finished:
    """`image` and `uncertainty` (standard error), (ny, nx) in the unit of what was recorded.

    `strays`, `departing`: see `evidence.faithful.Faithful`. `blank`: part of the image that was not
    recorded, and is as it was (uncertainty 0). `tail_px`: how late pulses of a slow detector came,
    or, below 0, how early in an image that was mirrored; `filtered_px`: how wide a filter along the
    lines was: both were undone. `spikes`: number of single pixels that were filled
    in from beside them.
    `levels`: as many has an image of a few that is no recorded one, and is as it was (uncertainty
    0). `repeated`: as often each line and each column came: restored was each of them once.
    `dim`: part of the image that was restored by itself, too dim beside the rest.
    `lost_lines`, `alternating`: see `cleaned.Cleaned`. `too_small`: it is as it was, and its
    uncertainty that of a pixel. `enlarged`: as many times it was, and it was restored without that.
    """

    image: Image
    uncertainty: Image
    strays: int
    departing: float
    blank: float
    tail_px: float
    filtered_px: float = 0.0
    spikes: int = 0
    levels: int = 0
    repeated: tuple[int, int] = (1, 1)
    dim: float = 0.0
    lost_lines: tuple[int, int] = (0, 0)
    alternating: tuple[tuple[str, float], ...] = ()
    too_small: bool = False
    enlarged: int = 1

    def told(self) -> dict[str, Any]:
        """What an image's description says of it."""
        told: dict[str, Any] = {
            "strays": self.strays, "departing": round(self.departing, 6)
        }  # fmt: skip
        if self.blank:
            told["blank"] = round(self.blank, 6)
        if self.tail_px:
            told["tail_px"] = round(self.tail_px, 2)
        if self.filtered_px:
            told["filtered_px"] = round(self.filtered_px, 2)
        if self.spikes:
            told["spikes"] = self.spikes
        if self.levels:
            told["levels"] = self.levels
        if self.dim:
            told["dim"] = round(self.dim, 6)
        if self.repeated != (1, 1):
            told["repeated"] = list(self.repeated)
        if self.enlarged > 1:
            told["enlarged"] = self.enlarged
        if self.too_small:
            told["too_small"] = True
        if self.lost_lines != (0, 0):
            told["lost_lines"] = list(self.lost_lines)
        if self.alternating:
            told["alternating"] = {what: round(value, 4) for what, value in self.alternating}
        return told


def finished(
    image: Image,
    model: ModelFile,
    network: Network,
    cancelled: Callable[[], bool] = lambda: False,
) -> Finished:
    """An image (ny, nx) restored by any network, in agreement with what was recorded.

    In the unit of `image` and with its mean, but for spikes (hot and dead pixels, X-rays) and lost
    lines: these are looked for first, are no evidence, and what is beside them is shown there.
    Parts that were not recorded, such as a label, are filled from beside them, and put back; what
    alternates, and what a slow detector did, is undone first. Raises what `tiling.restore` raises.
    """
    finite = np.isfinite(image)
    if not finite.all():
        image = np.where(finite, image, image[finite].mean()).astype(np.float32)
    levels = drawn_levels(image)
    if levels:
        return Finished(image.copy(), np.zeros_like(image), 0, 0.0, 0.0, 0.0, levels=levels)
    if min(image.shape) < LEAST_PX:
        return _as_it_was(image)
    often = repeated(image)
    if often is not None:
        found = finished(often.once(image), model, network, cancelled)
        shown, error = (often.again(each) for each in (found.image, found.uncertainty))
        return replace(found, image=shown, uncertainty=error, repeated=often.times)
    smaller = _at_own_size(image, model, network, cancelled)
    if smaller is not None:
        return smaller
    clean = cleaned(image)
    return replace(
        _beside_blank(clean.image, model, network, cancelled),
        spikes=clean.spikes,
        lost_lines=clean.lost_lines,
        alternating=clean.alternating,
    )


def _at_own_size(
    image: Image, model: ModelFile, network: Network, cancelled: Callable[[], bool]
) -> Finished | None:
    """An image that was enlarged, restored as it was before; None of others."""
    blank = blank_parts(image)
    seen = mirrored_into(image, blank) if blank.any() else image
    times = times_enlarged(seen)
    if times == 1:
        return None
    found = finished(reduced(seen, times), model, network, cancelled)
    shown = enlarged(found.image, times, image.shape)
    if not keeps_all(seen, shown, times):
        return None
    ny, nx = image.shape
    error = found.uncertainty.repeat(times, 0).repeat(times, 1)[:ny, :nx]
    return replace(
        found,
        image=np.where(blank, image, shown),
        uncertainty=np.where(blank, np.float32(0.0), error),
        blank=float(blank.mean()),
        enlarged=times * found.enlarged,
    )


def _as_it_was(image: Image) -> Finished:
    apart = [np.diff(image.astype(np.float64), axis=axis).ravel() for axis in (0, 1)]
    noise = np.median(np.abs(np.concatenate(apart))) / 0.6745 / np.sqrt(2.0)
    error = np.full(image.shape, noise, np.float32)
    return Finished(image.copy(), error, 0, 0.0, 0.0, 0.0, too_small=True)


def _beside_blank(
    image: Image, model: ModelFile, network: Network, cancelled: Callable[[], bool]
) -> Finished:
    blank = blank_parts(image)
    if not blank.any():
        return _with_dim_parts(image, model, network, cancelled)
    found = _with_dim_parts(mirrored_into(image, blank), model, network, cancelled)
    return Finished(
        np.where(blank, image, found.image),
        np.where(blank, np.float32(0.0), found.uncertainty),
        found.strays,
        found.departing,
        float(blank.mean()),
        found.tail_px,
        found.filtered_px,
        dim=found.dim,
    )


def _with_dim_parts(
    image: Image, model: ModelFile, network: Network, cancelled: Callable[[], bool], looks: int = 6
) -> Finished:
    """The image restored, and parts that are lost in it by themselves, the dimmest last."""
    found = _restored(image, model, network, cancelled)
    if looks == 0 or min(image.shape) < SMALLEST_PARTED_PX:
        return found
    squares = Squares(image)
    missed = squares.misses(found.image)
    lost = missed > LOST
    if lost.mean() < LEAST:
        return found
    alike = squares.alike(lost)
    bright = ~squares.pixels(alike)
    if alike.mean() < LEAST_SEEN or not bright.any():
        return found
    alone = _with_dim_parts(mirrored_into(image, bright), model, network, cancelled, looks - 1)
    lost &= alike & (squares.misses(alone.image) < BETTER * missed)
    if lost.mean() < LEAST:
        return found
    weight = squares.weights(lost, alike)
    return replace(
        found,
        image=found.image + weight * (alone.image - found.image),
        uncertainty=found.uncertainty + weight * (alone.uncertainty - found.uncertainty),
        dim=float(np.mean(weight > 0.5)),
    )


def _restored(
    image: Image, model: ModelFile, network: Network, cancelled: Callable[[], bool]
) -> Finished:
    more = beyond(image)
    detected = undone(image if more is None else image - more)
    image = detected.image
    restored = restore(image, model, network, cancelled)
    seen = normalise(image)
    expected = (restored - np.float32(seen.mean)) / np.float32(seen.deviation)
    # whole, since spikes are told from columns by what is shown, which the scale cannot know
    recorded = (image - np.float32(seen.mean)) / np.float32(seen.deviation)
    found = faithful(recorded, expected, cancelled)
    values = found.image
    keep_within(values, recorded, 1.0)
    values -= np.float32(values.mean(dtype=np.float64) - seen.values.mean())
    shown = seen.undone(values)
    if more is not None:
        shown += more
    deviation = np.float32(seen.deviation)
    return Finished(
        shown,
        found.uncertainty * deviation,
        found.strays,
        found.departing,
        0.0,
        detected.tail_px,
        detected.filtered_px,
    )

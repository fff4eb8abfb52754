"""An image of any size through a restoration network, in overlapping tiles of bounded memory."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from stemd.engines.robust_scale import Normalised, normalise
from stemd.errors import NetworkError, NetworkMemoryError
from stemd.inference.base import Network, takes
from stemd.inference.model_file import ModelFile

Image = NDArray[np.float32]

TILE_PX, SMALLEST_TILE_PX = 512, 64
"""Pixels a tile adds to the image, its surroundings not counted; less where memory is short."""
USUAL_HALO_PX = 96


class CancelledError(Exception):
    """Nobody wants the result any more."""


@dataclass(frozen=True, slots=True)
class Tile:
    """Along one axis: the network sees first..stop-1 and gives inner_first..inner_stop-1."""

    first: int
    stop: int
    inner_first: int
    inner_stop: int


def tiles(size: int, tile: int, halo: int, multiple: int) -> Iterator[Tile]:
    """Tiles that cover `size` pixels, all of one length; `size` is a multiple of `multiple`.

    Inner parts lie side by side without overlap. Tiles begin at multiples, so that a network
    which works on blocks of pixels cuts them as it would cut the whole image.
    """
    length = tile + 2 * halo + multiple
    length += -length % multiple
    if size <= length:
        yield Tile(0, size, 0, size)
        return
    for inner in range(0, size, tile):
        first = min(max(0, inner - halo), size - length)
        first -= first % multiple
        yield Tile(first, first + length, inner, min(size, inner + tile))


def restore(
    image: Image,
    model: ModelFile,
    network: Network,
    cancelled: Callable[[], bool] = lambda: False,
    tile: int = TILE_PX,
) -> Image:
    """The restored image (ny, nx) float32, in the unit and with the mean of `image`.

    Mean and deviation are those of the whole image, spikes apart (`robust_scale`), and every
    tile sees `stemd.halo` pixels around its own. Where memory does not suffice the tiles are
    made smaller. Raises NetworkError when the model is not one for restoration, and
    CancelledError soon after `cancelled` has become true.
    """
    takes(network.info, (None, 1, None, None), "a restoration model")
    scaled = _normalised(image, model)
    halo = model.number("stemd.halo", USUAL_HALO_PX)
    while True:
        try:
            values = _tiled(scaled.values, network, tile, halo, cancelled)
            break
        except NetworkMemoryError:
            if tile <= SMALLEST_TILE_PX:
                raise
            tile //= 2
    values -= np.float32(values.mean(dtype=np.float64))
    return scaled.undone(values)


def _normalised(image: Image, model: ModelFile) -> Normalised:
    if not np.isfinite(image).all():
        finite = np.isfinite(image)
        if not finite.any():
            raise NetworkError("the image has no finite pixel", "check the image")
        image = np.where(finite, image, image[finite].mean()).astype(np.float32)
    if model.metadata.get("stemd.normalise") != "mean and deviation":
        return normalise(image)
    mean = float(image.mean(dtype=np.float64))
    deviation = float(image.std(dtype=np.float64))
    deviation = deviation if deviation > 1e-6 * abs(mean) else 1.0
    values = (image - np.float32(mean)) / np.float32(deviation)
    return Normalised(values, mean, deviation)


def _tiled(
    values: Image, network: Network, tile: int, halo: int, cancelled: Callable[[], bool]
) -> Image:
    ny, nx = values.shape
    multiple = network.info.multiple
    missing = -ny % multiple, -nx % multiple
    if any(missing):
        # the image goes on as in a mirror to a size that the network takes
        values = np.pad(values, ((0, missing[0]), (0, missing[1])), "symmetric")
    out = np.empty_like(values)
    for y in tiles(values.shape[0], tile, halo, multiple):
        for x in tiles(values.shape[1], tile, halo, multiple):
            if cancelled():
                raise CancelledError
            part = values[y.first : y.stop, x.first : x.stop]
            done = network.run(part[None, None])[0, 0]
            out[y.inner_first : y.inner_stop, x.inner_first : x.inner_stop] = done[
                y.inner_first - y.first : y.inner_stop - y.first,
                x.inner_first - x.first : x.inner_stop - x.first,
            ]
    return out[:ny, :nx]

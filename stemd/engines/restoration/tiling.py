"""An image of any size through a restoration network, in overlapping tiles of bounded memory."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from stemd.engines.restoration.estimate.channels import CHANNELS, channels
from stemd.engines.restoration.robust_scale import Normalised, normalise
from stemd.errors import ModelError, ModelMemoryError
from stemd.inference.base import Network, takes
from stemd.inference.model_file import ModelFile

Image = NDArray[np.float32]

TILE_PX, SMALLEST_TILE_PX = 512, 64
"""Pixels a tile adds to the image, its surroundings not counted; less where memory is short."""
USUAL_HALO_PX = 96
SEAM_PX = 32
"""Tiles fade into each other over at most this on either side of their border."""
ESTIMATE = "stemd.engines.estimate.channels"
"""`stemd.inputs` of models that are given an estimate, and give what is to be added to it.

A word of the model files, which stays as it is wherever the code moves.
"""


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
    made smaller. Raises ModelError when the model is not one for restoration, and
    CancelledError soon after `cancelled` has become true.
    """
    estimated = model.metadata.get("stemd.inputs") == ESTIMATE
    inputs = len(CHANNELS) if estimated else 1
    given, made = (None, inputs, None, None), (None, 1, None, None)
    takes(network.info, given, "a restoration model", made)
    scaled = _normalised(image, model)
    halo = model.number("stemd.halo", USUAL_HALO_PX)
    through = _corrected if estimated else _direct
    while True:
        try:
            values = _tiled(scaled.values, network, through, tile, halo, cancelled)
            break
        except ModelMemoryError:
            if tile <= SMALLEST_TILE_PX:
                raise
            tile //= 2
    values -= np.float32(values.mean(dtype=np.float64))
    return scaled.undone(values)


def _direct(part: Image, network: Network) -> Image:
    out: Image = network.run(part[None, None])[0, 0]
    return out


def _corrected(part: Image, network: Network) -> Image:
    given = channels(part)
    out: Image = given[CHANNELS.index("shown")] + network.run(given[None])[0, 0]
    return out


def _normalised(image: Image, model: ModelFile) -> Normalised:
    if not np.isfinite(image).all():
        finite = np.isfinite(image)
        if not finite.any():
            raise ModelError("the image has no finite pixel", "check the image")
        image = np.where(finite, image, image[finite].mean()).astype(np.float32)
    if model.metadata.get("stemd.normalise") != "mean and deviation":
        return normalise(image)
    mean = float(image.mean(dtype=np.float64))
    deviation = float(image.std(dtype=np.float64))
    deviation = deviation if deviation > 1e-6 * abs(mean) else 1.0
    values = (image - np.float32(mean)) / np.float32(deviation)
    return Normalised(values, mean, deviation)


def _tiled(
    values: Image,
    network: Network,
    through: Callable[[Image, Network], Image],
    tile: int,
    halo: int,
    cancelled: Callable[[], bool],
) -> Image:
    ny, nx = values.shape
    multiple = network.info.multiple
    missing = -ny % multiple, -nx % multiple
    if any(missing):
        # the image goes on as in a mirror to a size that the network takes
        values = np.pad(values, ((0, missing[0]), (0, missing[1])), "symmetric")
    out = np.zeros_like(values)
    seam = min(SEAM_PX, halo // 2, tile // 2)
    for y in tiles(values.shape[0], tile, halo, multiple):
        for x in tiles(values.shape[1], tile, halo, multiple):
            if cancelled():
                raise CancelledError
            done = through(values[y.first : y.stop, x.first : x.stop], network)
            done *= share(y, values.shape[0], seam)[:, None]
            done *= share(x, values.shape[1], seam)[None]
            out[y.first : y.stop, x.first : x.stop] += done
    return out[:ny, :nx]


def share(tile: Tile, size: int, seam: int) -> Image:
    """What a tile's pixels count, (stop - first,): 1 within, falling to 0 across its borders.

    The shares of two neighbours add up to 1 everywhere.
    """
    pixels = np.arange(tile.first, tile.stop, dtype=np.float32) + np.float32(0.5)
    share = np.ones(pixels.size, np.float32)
    width = np.float32(max(2 * seam, 1e-3))
    if tile.inner_first > 0:
        share *= np.clip((pixels - tile.inner_first) / width + np.float32(0.5), 0.0, 1.0)
    if tile.inner_stop < size:
        share *= np.clip((tile.inner_stop - pixels) / width + np.float32(0.5), 0.0, 1.0)
    return share

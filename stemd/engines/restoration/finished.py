"""All of restoration: the network, then what the recorded image says of its result."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
from numpy.typing import NDArray

from stemd.engines.restoration.evidence.faithful import Faithful, faithful
from stemd.engines.restoration.robust_scale import normalise
from stemd.engines.restoration.tiling import restore
from stemd.inference.base import Network
from stemd.inference.model_file import ModelFile

Image = NDArray[np.float32]


def finished(
    image: Image,
    model: ModelFile,
    network: Network,
    cancelled: Callable[[], bool] = lambda: False,
) -> Faithful:
    """An image (ny, nx) restored by any network, in agreement with what was recorded.

    In the unit and with the mean of `image`. Spikes (hot pixels, X-rays) are no evidence. Raises
    what `tiling.restore` raises.
    """
    restored = restore(image, model, network, cancelled)
    finite = np.isfinite(image)
    if not finite.all():
        image = np.where(finite, image, image[finite].mean()).astype(np.float32)
    seen = normalise(image)
    expected = (restored - np.float32(seen.mean)) / np.float32(seen.deviation)
    # whole, since spikes are told from columns by what is shown, which the scale cannot know
    recorded = (image - np.float32(seen.mean)) / np.float32(seen.deviation)
    found = faithful(recorded, expected, cancelled)
    values = found.image - np.float32(found.image.mean(dtype=np.float64) - seen.values.mean())
    return Faithful(
        seen.undone(values), found.uncertainty * np.float32(seen.deviation), found.departure,
        found.strays,
    )  # fmt: skip

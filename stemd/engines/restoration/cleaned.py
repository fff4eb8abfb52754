"""What an image has that no specimen shows, taken out before anything is learnt from it."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from stemd.engines.restoration.alternate import alternations
from stemd.engines.restoration.blank import blank_parts, mirrored_into
from stemd.engines.restoration.lost_lines import without_lost_lines
from stemd.engines.restoration.spikes import without_spikes

F32 = NDArray[np.float32]


@dataclass(frozen=True, slots=True)
class Cleaned:
    """`image` (ny, nx), finite, and what was taken out of it.

    `lost_lines`: lines and columns that were filled in from beside them. `alternating`: what
    alternated ("lines", "columns", "pixels") and by how much, on average. `spikes`: as many pixels.
    """

    image: F32
    lost_lines: tuple[int, int] = (0, 0)
    alternating: tuple[tuple[str, float], ...] = ()
    spikes: int = 0


def cleaned(image: F32) -> Cleaned:
    """A finite image (ny, nx) without lost lines, what alternates and spikes.

    Labels stay as they are. An image that has none of these is given on as it is.
    """
    blank = blank_parts(image)
    seen = mirrored_into(image, blank) if blank.any() else image
    whole, lost = without_lost_lines(seen)
    even, found = alternations(whole)
    if lost != (0, 0) or found:
        image = np.where(blank, image, even).astype(np.float32)
    told = tuple((each.what, each.mean(whole)) for each in found)
    image, spikes = without_spikes(image)
    return Cleaned(image, lost, told, spikes)

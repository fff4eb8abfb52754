"""What is known to move the beam, undone before anything else: mains hum, flagging."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np
from numpy.typing import NDArray

from stemd.acquisition import Scan
from stemd.engines.kernels.scan_distortions import sample
from stemd.engines.restoration.estimate.flagging import unflagged
from stemd.engines.restoration.estimate.hum import steadied_image
from stemd.engines.restoration.spikes import without_spikes

F32 = NDArray[np.float32]


def steadied_scan(image: F32, scan: Scan) -> tuple[F32, dict[str, Any]]:
    """An image (ny, nx) of a scan as `steadied`; not, which is told, where lines run both ways."""
    if scan.serpentine:
        return image, {"not_looked_for": ["hum", "flagging"]}
    dwell_us = scan.dwell_time_us
    pixel_s = None if dwell_us is None else dwell_us * 1e-6
    return steadied(image, pixel_s and pixel_s * scan.line_frames, pixel_s)


def steadied(
    image: F32, line_s: float | None = None, pixel_s: float | None = None
) -> tuple[F32, dict[str, float]]:
    """An image (ny, nx), its noise as it was, and what was undone, in pixels.

    `hum_px`: mains hum (root mean square), where the times of the scan are known; `flagging_px`:
    so far from its place was the first pixel of each line. What was not found is not told.
    """
    told = {}
    if line_s is not None and pixel_s is not None:
        image, told["hum_px"] = steadied_image(image, line_s, pixel_s)
    image, told["flagging_px"] = unflagged(image)
    return image, {name: round(value, 4) for name, value in told.items() if value}


def warm(settings: object) -> Iterator[object]:
    """Compile what an image without any of it, and without spikes, has no use for."""
    nothing = np.zeros((4, 4), np.float32)
    yield sample(nothing, np.zeros((4, 4)), np.zeros((4, 4)), True)
    spoilt = np.random.default_rng(0).poisson(20.0, (16, 16)).astype(np.float32)
    spoilt[8, 8] = 4e3
    yield without_spikes(spoilt)

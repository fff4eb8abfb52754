"""What is told of the frames of one place: drift, resolution, whether their sum is aligned."""

from __future__ import annotations

from typing import Any

import numpy as np

from stemd.acquisition import Scan
from stemd.engines.restoration.frames.aligned import Aligned
from stemd.engines.restoration.frames.so_far import SoFar


def frames_told(shown: Aligned | SoFar, scan: Scan) -> dict[str, Any]:
    """As JSON, lengths in nm and times in seconds where the scan of one frame says them.

    `aligned` is false where the sum may be of frames that do not lie upon each other.
    """
    about: dict[str, Any] = {}
    if isinstance(shown, Aligned) and not shown.moved:
        return {"aligned": False}
    if isinstance(shown, SoFar) and not shown.certain:
        about["aligned"] = False
    step_nm = None if scan.step_size_angstrom is None else scan.step_size_angstrom / 10.0
    seconds = None
    if scan.dwell_time_us is not None:
        seconds = scan.dwell_time_us * 1e-6 * scan.line_frames * scan.shape[0]
    (y, x), error = shown.drift(seconds or 1.0)
    unit = step_nm if step_nm is not None and seconds is not None else None
    drift = {
        "value": [round(v * (unit or 1.0), 5) for v in (y, x)],
        "sigma": round(error * (unit or 1.0), 5) if np.isfinite(error) else None,
    }
    about["drift_px_per_frame" if unit is None and seconds is None else
          "drift_px_per_s" if unit is None else "drift_nm_per_s"] = drift  # fmt: skip
    finest = shown.resolution_px
    if finest is not None:
        about["resolution_px"] = round(finest, 3)
        if step_nm is not None:
            about["resolution_nm"] = round(finest * step_nm, 4)
    return about

"""How long the scan of an image took, where its file says so."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from stemd.acquisition import Scan
from stemd.adapters.recordings.calibration import positive


@dataclass(frozen=True, slots=True)
class ScanTimes:
    """`pixel_s` from pixel to pixel, `line_s` from line to line, the way back included."""

    pixel_s: float
    line_s: float


def of_digital_micrograph(about: Any, columns: int) -> ScanTimes | None:
    """From the tags of a DM3 or DM4 file, times in microseconds: `Sample Time` and `Flyback`."""
    for tags in _tables(about, "DigiScan", depth=4):
        pixel, back = positive(tags.get("Sample Time")), positive(tags.get("Flyback"))
        if pixel is not None and back is not None:
            return ScanTimes(pixel * 1e-6, (columns * pixel + back) * 1e-6)
    return None


def of_velox(about: Mapping[str, Any], lines: int) -> ScanTimes | None:
    """From the JSON of a Velox image, times in seconds: `DwellTime` and `FrameTime`."""
    scan = about.get("Scan")
    if not isinstance(scan, Mapping):
        return None
    pixel, frame = positive(scan.get("DwellTime")), positive(scan.get("FrameTime"))
    if pixel is None or frame is None or frame < pixel * lines:
        return None
    return ScanTimes(pixel, frame / lines)


def of_stemd(text: Any, shape: tuple[int, int]) -> ScanTimes | None:
    """From what stemd writes into its own images; where lines run one way, of one frame."""
    try:
        about = json.loads(text)
        scan = Scan.model_validate(about["settings"]["scan"])
    except (ValueError, TypeError, KeyError, RecursionError):
        return None
    if scan.dwell_time_us is None or scan.serpentine or scan.repeats > 1 or scan.shape != shape:
        return None
    pixel_s = scan.dwell_time_us * 1e-6
    return ScanTimes(pixel_s, pixel_s * scan.line_frames)


def _tables(about: Any, name: str, depth: int) -> Iterator[Mapping[str, Any]]:
    if not isinstance(about, Mapping):
        return
    found = about.get(name)
    if isinstance(found, Mapping):
        yield found
    if depth:
        for inner in about.values():
            yield from _tables(inner, name, depth - 1)

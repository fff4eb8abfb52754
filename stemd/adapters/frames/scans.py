"""Which scans a number of frames holds: shape and flyback where they are not configured."""

from __future__ import annotations

import math
from dataclasses import dataclass

from stemd.acquisition import MAX_POSITIONS, Scan
from stemd.adapters.frames.format import Announcement
from stemd.errors import FormatError

MOST_SCANS = 65536
"""No camera is armed for more scans at once: a header that tells 10**30 frames would be searched
for ever."""


@dataclass(frozen=True, slots=True)
class Plan:
    """How the frames of one acquisition fall into scans.

    `scan` has its flyback resolved. `limit` is the number of frames that belong to scans, those
    beyond are extra; None: endless or unknown. `doubt` is a sentence for the operator when the
    camera's frame count does not fit the scan.
    """

    scan: Scan
    limit: int | None
    doubt: str = ""


def flyback_from_count(shape: tuple[int, int], frames: int) -> int | None:
    """Flyback frames a line that explain `frames` frames of a scan, None if none do.

    Whole scans without flyback come first, then flyback after every line, then flyback after
    every line but the last. More flyback than positions is not believed. Then several scans with
    flyback after every line, of an eighth of the positions at most: round numbers, which cameras
    are often set to, fit longer ones by chance.
    """
    ny, nx = shape
    if frames > 0 and frames % (ny * nx) == 0:
        return 0
    found = frames // ny - nx
    if frames % ny == 0 and 0 < found <= nx:
        return found
    if ny > 1 and (frames - ny * nx) % (ny - 1) == 0:
        found = (frames - ny * nx) // (ny - 1)
        if 0 < found <= nx:
            return found
    for scans in range(2, min(frames // (ny * nx), MOST_SCANS) + 1):
        found = frames // (scans * ny) - nx
        if frames % (scans * ny) == 0 and 0 < found <= max(1, nx // 8):
            return found
    return None


def fitting_shapes(frames: int) -> str:
    """Scan shapes (ny x nx) that this number of frames fits, nearest to square first."""
    found = []
    for flyback in (0, 1, 2):
        pairs = []
        for ny in range(1, min(frames, 65536) + 1):
            nx = frames // ny - flyback
            if frames % ny == 0 and 0 < nx <= 65536 and flyback < max(nx, 2):
                pairs.append((ny, nx))
        pairs.sort(key=lambda pair: abs(math.log(pair[0] / pair[1])))
        text = ", ".join(f"{ny}x{nx}" for ny, nx in pairs[:4])
        if text:
            found.append(f"with flyback {flyback}: {text}" if flyback else text)
    return f"{frames} frames fit " + "; ".join(found) if found else f"{frames} frames fit no scan"


def guess_scan(frames: int | None, announced: Announcement | None) -> Scan:
    """The scan where none is configured: what the camera tells, a square, or one line.

    Raises FormatError when nothing tells how many positions there are.
    """
    shape = announced.scan_shape if announced is not None else None
    if shape is None and frames:
        side = math.isqrt(frames)
        shape = (side, side) if side * side == frames else (1, frames)
    if shape is None or max(shape) > 65536 or math.prod(shape) > MAX_POSITIONS:
        raise FormatError(
            "the size of the scan is not configured and the camera does not tell a possible one "
            f"(frames in acquisition: {frames if frames else 'endless or unknown'})",
            "set scan.shape = [ny, nx]",
        )
    return Scan(shape=shape)


def resolve(scan: Scan | None, frames: int | None, announced: Announcement | None) -> Scan:
    """The scan with shape and flyback known. `frames` None or 0: unknown or endless."""
    scan = scan or guess_scan(frames, announced)
    if scan.flyback is not None:
        return scan
    found = flyback_from_count((scan.lines, scan.shape[1]), frames - scan.leading) if frames else 0
    return scan.model_copy(update={"flyback": found or 0})


def plan(scan: Scan | None, announced: Announcement | None) -> Plan:
    """The plan of a live acquisition from the configured scan and what the camera tells."""
    frames = announced.frames if announced is not None else None
    resolved = resolve(scan, frames, announced)
    if announced is not None and announced.both_counters:
        return Plan(
            resolved,
            None,
            "the camera sends two images of each position, one of each counter, and a live scan "
            "takes them for two positions: let it read one counter",
        )
    if not frames:
        return Plan(resolved, None)
    each = resolved.frames
    scans, rest = divmod(frames, each)
    if rest and rest == each - resolved.flyback_frames:
        return Plan(resolved, frames)
    if scans == 0:
        return Plan(
            resolved,
            each,
            f"the camera is set to {frames} frames, a scan of {resolved.size} takes {each}",
        )
    doubt = f"{frames} frames are {scans} scans of {each} and {rest} beyond" if rest else ""
    if scan is not None and scan.flyback is None and resolved.flyback and scans > 1:
        doubt = (
            f"the {frames} frames that the camera is set to are {scans} scans of {resolved.size} "
            f"if {resolved.flyback} frames follow each line, which is believed"
        )
    return Plan(resolved, scans * each, doubt)

"""Virtual detectors that are changed in mid-scan: what was summed before keeps the ring it had."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from stemd.blocks import Notice
from stemd.engines.base import PositionMaps
from stemd.settings import Settings

MOST_CHANGES = 20
"""Rings that are listed of an image: a slider makes many."""
REMEDY = (
    "for an image with one ring replay the scan on the page, or run `stemd process`, if its record "
    "is kept"
)
Centre = tuple[float, float] | None


class MixedDetectors:
    """Notes in `PositionMaps.mixed` which detectors were changed when some positions were done."""

    def __init__(self, *maps: PositionMaps) -> None:
        self._maps = maps

    def changed(
        self, before: Settings, after: Settings, centres: tuple[Centre, Centre], done: int
    ) -> list[Notice]:
        """What is to be said of a change after `done` positions, those of all repeats of a place;
        `centres`: before and after it.
        """
        total = max(maps.total.size for maps in self._maps)
        if not 0 < done < total:
            return []
        where = f"after {done:,} of {total:,} positions"
        old, new = before.masks(), after.masks()
        moved = None not in centres and centres[0] != centres[1]
        mixed = {name: entry for name, entry in self._maps[0].mixed.items() if name in new}
        said = []
        for name, radii in new.items():
            if old.get(name) == radii and not moved:
                continue
            if name not in mixed:
                said.append(_notice(name, where, there=name in old, ring=old.get(name) != radii))
            entries = (*mixed.get(name, ()), _entry(done, old.get(name), centres[0]))
            mixed[name] = entries[-MOST_CHANGES:]
        for maps in self._maps:
            maps.mixed = mixed
        if before.optics.acceptance_time_ns != after.optics.acceptance_time_ns:
            text = f"optics.acceptance_time_ns was changed {where}: every image is made of both"
            said.append(Notice("mixed_detectors", text, remedy=REMEDY))
        return said


def _entry(done: int, radii: tuple[float, float] | None, centre: Centre) -> Mapping[str, Any]:
    inner, outer = (None, None) if radii is None else radii
    return {
        "positions": done,
        "inner_px": inner,
        "outer_px": outer,
        "center": None if centre is None else list(centre),
    }


def _notice(name: str, where: str, *, there: bool, ring: bool) -> Notice:
    if not there:
        text = f"the virtual detector {name} was added {where}: its image is 0 before"
    else:
        what = "ring" if ring else "centre"
        text = f"the {what} of the virtual detector {name} was changed {where}: its image has both"
    return Notice("mixed_detectors", text, remedy=REMEDY)

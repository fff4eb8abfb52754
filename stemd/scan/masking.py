"""Which detector pixels of a scan do not count: given, the camera's own, or found in patterns."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Literal

import numpy as np

from stemd.acquisition import Acquisition, Optics
from stemd.adapters.recordings.mask_file import read_mask
from stemd.blocks import Block, Level, Notice
from stemd.engines.bad_pixels import BadPixels, find_bad_pixels
from stemd.engines.base import Gathered
from stemd.engines.first_patterns import FirstPatterns
from stemd.engines.missing_light import missing_share
from stemd.errors import ConfigError
from stemd.pixels import Mask, listed, rectangles_of
from stemd.scan.dark_parts import told_of
from stemd.scan.given_mask import AUTO, ReadMask, given_mask

MASK = "optics.mask"
"""Name of the mask among what the first patterns of a scan have told."""
MUCH_LIGHT = 0.02
"""Masked pixels are worth a warning where this part of the counts would be."""
HALF_CROSS = 4
"""Dead lines so near the middle of the detector are the gap between its chips."""
OF_LIGHT = "move the beam to where the detector is whole; direct and airpi allow for masked pixels"


class ScanMask:
    """The mask of one scan.

    With `optics.mask` "auto" the first patterns are held back until it is known, so that it is the
    same for every pattern, live or from a file, however the scan is cut.
    """

    def __init__(
        self, acquisition: Acquisition, optics: Optics, read: ReadMask = read_mask
    ) -> None:
        self.asked = optics.mask
        self._acquisition = acquisition
        self._given = given_mask(optics, acquisition, read)
        self._found: BadPixels | None = None
        self._first: FirstPatterns | None = None
        if optics.mask == AUTO:
            self._first = FirstPatterns(acquisition, optics.acceptance_time_ns or 0.0)
        self._followed: Mask | None = None
        self._missing = self._spoiled = 0.0
        self._dark: list[Notice] = []

    @property
    def known(self) -> bool:
        """Whether the mask is known."""
        return self._first is None

    @property
    def mask(self) -> Mask | None:
        """Pixels (y, x) that do not count; None where all do, or as long as it is not known."""
        masks = [self._given, self._followed, None if self._found is None else self._found.mask]
        some = [mask for mask in masks if mask is not None and mask.any()]
        return np.asarray(np.logical_or.reduce(some)) if some else None

    @property
    def found_pixels(self) -> BadPixels | None:
        """What was found in the first patterns, None where nothing was looked for."""
        return self._found

    @property
    def dark(self) -> list[Notice]:
        """What is to be said of parts of the detector on which none of the first hits fell."""
        return self._dark

    @property
    def spoils(self) -> bool:
        """Whether much light falls on broken pixels that were found."""
        return self._spoiled > MUCH_LIGHT

    def hold(self, block: Block) -> bool:
        """Keep a copy of one of the first blocks; whether there are enough of them now."""
        assert self._first is not None
        self._first.add(block)
        return self._first.enough

    def decide(self) -> list[Block]:
        """Find the mask in the blocks that were held, and give them out."""
        first, self._first = self._first, None
        if first is None:
            return []
        self._found = self._find(first)
        return first.kept

    def _find(self, first: FirstPatterns) -> BadPixels:
        total, patterns = first.seen()
        if self._given is not None:
            total = np.where(self._given, 0, total)
        if not patterns:  # hits are looked at here alone
            nothing = np.zeros(total.shape, np.bool_)
            left_out = nothing if self._given is None else self._given
            self._dark = told_of(total, left_out, f"the first {int(total.sum()):,} hits")
        detector, largest = self._acquisition.detector, None
        if patterns:
            size = 8 * np.dtype(detector.dtype).itemsize
            largest = 2 ** min(detector.bit_depth or size, size) - 1
        found = find_bad_pixels(total, patterns, largest)
        if self._given is not None:
            found = found.but(self._given)
        masked = found.mask if self._given is None else found.mask | self._given
        if masked.any():
            self._missing = missing_share(total, masked)
            broken = found.mask & ~_cross(found.dead_lines)
            self._spoiled = missing_share(total, broken) if broken.any() else 0.0
        return found

    def found(self) -> Gathered:
        """What the first patterns have told, for later parts of the scan; empty: nothing yet."""
        if not self.known or self.asked != AUTO:
            return {}
        mask = self.mask
        return {"masked": np.zeros(self._acquisition.detector.shape, np.bool_) if mask is None
                else mask}  # fmt: skip

    def follow(self, found: Gathered) -> None:
        """Use the mask that the first part of the scan has found."""
        if self.asked == AUTO:
            self._first = None
            self._followed = np.asarray(found["masked"], np.bool_) if "masked" in found else None

    def given_notices(self) -> list[Notice]:
        """What is to be said of the pixels that were masked before the first pattern."""
        if self._given is None:
            return []
        count = int(np.count_nonzero(self._given))
        text = f"{count} detector pixels are masked: {listed(self._given)}"
        return [Notice("masked_pixels", text, level="info", count=count)]

    def found_notices(self) -> list[Notice]:
        """What is to be said of the first patterns, once the mask is known."""
        found, said = self._found, [*self._dark]
        if self._followed is not None and self._followed.any():
            words = listed(self._followed)
            said.append(_found(words, int(np.count_nonzero(self._followed))))
        if found is None:
            return said
        if words := found.in_words():
            said.append(_found(words, int(np.count_nonzero(found.mask))))
        if self._missing > MUCH_LIGHT:
            text = (
                f"about {self._missing:.0%} of the counts would be on pixels that are masked: sums "
                "and centres of mass lack them"
            )
            level: Level = "warning" if self.spoils else "info"
            said.append(Notice("masked_light", text, level, remedy=OF_LIGHT))
        if found.doubtful.any():
            said.append(_doubtful(found.doubtful, "warning"))
        if found.too_many:
            text = (
                f"{found.too_many} pixels stand out of their neighbours, too many to be broken: "
                "none of them is masked"
            )
            said.append(Notice("doubtful_pixels", text, remedy="list broken ones in optics.mask"))
        if count := int(np.count_nonzero(found.beam)):
            text = f"{count} pixels side by side are saturated in all of the first patterns"
            remedy = "less dose, or a deeper counter; list them in optics.mask if they are broken"
            said.append(Notice("saturated_pixels", text, count=count, remedy=remedy))
        return said

    def document(self) -> dict[str, Any] | None:
        """As it stands in scan.json: counts, and `pixels` as `optics.mask` takes them."""
        mask = self.mask
        if mask is None:
            return None
        kinds = {} if self._found is None else {
            "hot": int(np.count_nonzero(self._found.hot)),
            "dead": int(np.count_nonzero(self._found.dead)),
            "saturated": int(np.count_nonzero(self._found.saturated)),
        }  # fmt: skip
        given = 0 if self._given is None else int(np.count_nonzero(self._given))
        return {
            "asked": self.asked if isinstance(self.asked, str) else None,
            "masked": int(np.count_nonzero(mask)),
            "given": given,
            **kinds,
            "pixels": [list(rectangle) for rectangle in rectangles_of(mask)],
        }


def usable_mask(
    acquisition: Acquisition,
    optics: Optics,
    tell: Callable[[Notice], None],
    *,
    live: bool,
    read: ReadMask = read_mask,
) -> ScanMask:
    """The mask of a scan. With `live` a mask that cannot be used is left out, and `tell` is told.

    A camera does not wait until somebody has mended the config. Raises ConfigError otherwise.
    """
    try:
        return ScanMask(acquisition, optics, read)
    except ConfigError as error:
        if not live:
            raise
        text = f"{error.message}; the scan is made without it"
        tell(Notice("mask", text, level="error", remedy=error.remedy))
        return ScanMask(acquisition, optics.model_copy(update={"mask": None}))


class BrokenPixels:
    """Says which pixels look broken in the first patterns of a recorded scan without a mask."""

    def __init__(self, acquisition: Acquisition, optics: Optics) -> None:
        self._mask: ScanMask | None = None
        if optics.mask is None:
            self._mask = ScanMask(acquisition, optics.model_copy(update={"mask": AUTO}))

    def look(self, block: Block) -> list[Notice]:
        """A block before it is reduced; what is to be said, once there are enough of them."""
        if self._mask is None or not self._mask.hold(block):
            return []
        return self.hints()

    def hints(self) -> list[Notice]:
        """What is to be said by what there is, if it was not said before."""
        mask, self._mask = self._mask, None
        if mask is None:
            return []
        mask.decide()
        found = mask.found_pixels
        if found is None:
            return []
        said = [*mask.dark]
        if found.doubtful.any():
            said.append(_doubtful(found.doubtful, "info"))
        lines = found.dead_lines & ~_cross(found.dead_lines)
        if (found.hot | found.saturated | lines).any() or mask.spoils:
            text = f"pixels that look broken are not masked: {found.in_words()}"
            remedy = "set optics.mask = 'auto', or list them there"
            said.append(Notice("broken_pixels", text, remedy=remedy))
        return said


def _cross(dead_lines: Mask) -> Mask:
    """Those of the dead lines that are at the middle, as between the chips of a healthy camera."""
    cross = np.zeros_like(dead_lines)
    height, width = dead_lines.shape
    rows, columns = (
        slice(side // 2 - half, (side + 1) // 2 + half)
        for side in (height, width)
        for half in [min(HALF_CROSS, side // 16)]
    )
    cross[rows] = np.asarray(dead_lines[rows].all(axis=1))[:, None]
    cross[:, columns] |= dead_lines[:, columns].all(axis=0)
    return cross


def _doubtful(mask: Mask, level: Literal["info", "warning"]) -> Notice:
    text = (
        f"a lone pixel has more counts than all that do not stand alone: {listed(mask)}; hot, or "
        "the direct beam, so it is not masked"
    )
    return Notice("doubtful_pixels", text, level, remedy="if it is hot, list it in optics.mask")


def _found(words: str, count: int) -> Notice:
    text = f"pixels found in the first patterns and masked: {words}"
    return Notice("masked_pixels", text, level="info", count=count)

"""Which detector pixels of a scan do not count: given, the camera's own, or found in patterns."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Literal

import numpy as np

from stemd.acquisition import Acquisition, Optics
from stemd.blocks import Block, Notice
from stemd.engines.bad_pixels import BadPixels, find_bad_pixels
from stemd.engines.base import Gathered
from stemd.engines.first_patterns import FirstPatterns
from stemd.errors import ConfigError
from stemd.pixels import Mask, listed, rectangles_of
from stemd.scan.given_mask import AUTO, given_mask

MASK = "optics.mask"
"""Name of the mask among what the first patterns of a scan have told."""


class ScanMask:
    """The mask of one scan.

    With `optics.mask` "auto" the first patterns are held back until it is known, so that it is the
    same for every pattern, live or from a file, however the scan is cut.
    """

    def __init__(self, acquisition: Acquisition, optics: Optics) -> None:
        self.asked = optics.mask
        self._acquisition = acquisition
        self._given = given_mask(optics, acquisition)
        self._found: BadPixels | None = None
        self._first: FirstPatterns | None = None
        if optics.mask == AUTO:
            self._first = FirstPatterns(acquisition, optics.acceptance_time_ns or 0.0)
        self._followed: Mask | None = None

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
        detector, largest = self._acquisition.detector, None
        if patterns:
            size = 8 * np.dtype(detector.dtype).itemsize
            largest = 2 ** min(detector.bit_depth or size, size) - 1
        return find_bad_pixels(total, patterns, largest)

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
        found, said = self._found, []
        if self._followed is not None and self._followed.any():
            words = listed(self._followed)
            said.append(_found(words, int(np.count_nonzero(self._followed))))
        if found is None:
            return said
        if words := found.in_words():
            said.append(_found(words, int(np.count_nonzero(found.mask))))
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
    acquisition: Acquisition, optics: Optics, tell: Callable[[Notice], None], *, live: bool
) -> ScanMask:
    """The mask of a scan. With `live` a mask that cannot be used is left out, and `tell` is told.

    A camera does not wait until somebody has mended the config. Raises ConfigError otherwise.
    """
    try:
        return ScanMask(acquisition, optics)
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
        said = [_doubtful(found.doubtful, "info")] if found.doubtful.any() else []
        if (found.hot | found.saturated | found.dead_lines).any():
            text = f"pixels that look broken are not masked: {found.in_words()}"
            remedy = "set optics.mask = 'auto', or list them there"
            said.append(Notice("broken_pixels", text, remedy=remedy))
        return said


def _doubtful(mask: Mask, level: Literal["info", "warning"]) -> Notice:
    text = (
        f"a lone pixel has more counts than all that do not stand alone: {listed(mask)}; hot, or "
        "the direct beam, so it is not masked"
    )
    return Notice("doubtful_pixels", text, level, remedy="if it is hot, list it in optics.mask")


def _found(words: str, count: int) -> Notice:
    text = f"pixels found in the first patterns and masked: {words}"
    return Notice("masked_pixels", text, level="info", count=count)

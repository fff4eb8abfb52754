"""Recorded real numbers for what takes counts for electrons."""

from __future__ import annotations

from dataclasses import replace

import numpy as np

from stemd.blocks import FrameBlock

_FIXED_RANGE = 2.0**27
"""The largest of the values that decided on the steps of real numbers, in such steps."""
_FEWEST_COUNTS = 64
_FINE_STEP = 2.0**-11


def whole_counts(block: FrameBlock) -> FrameBlock:
    """The block in unsigned counts, for what takes counts for electrons; itself where it is that.

    Real numbers are rounded in their own unit, or where all are small in steps of about 2^-16 of
    the largest, or where they are so large that they would not fit in the steps in which they
    were read; negative ones, which no electron makes, become 0.
    """
    if block.dtype != "i4":
        return block
    scale = block.acquisition.detector.scale
    worth = min(scale, 1.0) if scale * _FIXED_RANGE >= _FEWEST_COUNTS else _FINE_STEP
    counts = np.rint(block.patterns() * worth).clip(0).astype(np.uint32)
    return replace(
        block, pixels=counts.reshape(-1).view(np.uint8), pixel_offset=0, dtype="u4",
        stride=counts[0].nbytes, big_endian=False, buffer=None,
    )  # fmt: skip

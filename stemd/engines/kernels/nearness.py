"""Into which cache memory is asked for before it is read."""

from __future__ import annotations

from functools import lru_cache

from stemd.portable import processor_says

NEAREST = 3
"""For memory that is written anew for the next patterns: it should stay in all caches."""
SECOND = 2
"""Into the second cache and not yet the nearest."""
ONCE = 0
"""Into the nearest cache, and to be forgotten when that is full."""
EVERY = (NEAREST, SECOND, ONCE)
"""They are the locality of LLVM's `llvm.prefetch`."""
_FIRST_EPYCS = "23"
"""The family of AMD's first and second generation."""


@lru_cache(maxsize=1)
def nearness_once() -> int:
    """What is fastest on this processor for memory that is read once.

    Microseconds for a pattern of 128 KiB from memory with NEAREST, SECOND and ONCE: on an Intel
    Xeon (Emerald Rapids) 9.8, 9.4 and 19.2, since it keeps what is needed once in so small a part
    of the nearest cache that it is gone when its turn comes. On an AMD EPYC of the fourth
    generation 5.5, 5.0 and 5.8, and with four detectors, whose rims are read again, 9.8, 5.7 and
    9.3. On one of the first generation 12.6, not measured and 11.0; it and the second are of one
    family.
    """
    told = processor_says("vendor_id"), processor_says("cpu family")
    return ONCE if told == ("AuthenticAMD", _FIRST_EPYCS) else SECOND

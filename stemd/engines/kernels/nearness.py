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


@lru_cache(maxsize=1)
def nearness_once() -> int:
    """What is fastest on this processor for memory that is read once.

    Microseconds for a pattern of 128 KiB from memory with NEAREST, SECOND and ONCE: on an Intel
    Xeon (Emerald Rapids) 9.8, 9.4 and 19.2, since it keeps what is needed once in so small a part
    of the nearest cache that it is gone when its turn comes; on an AMD EPYC of the first generation
    12.6, not measured and 11.0.
    """
    return ONCE if processor_says("vendor_id") == "AuthenticAMD" else SECOND

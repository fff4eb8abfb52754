"""How memory is read fastest on this processor."""

from __future__ import annotations

import os
from functools import lru_cache
from pathlib import Path

from stemd.portable import processor_says

NEAREST = 3
"""For memory that is written anew for the next patterns: it should stay in all caches."""
SECOND = 2
"""Into the second cache and not yet the nearest."""
ONCE = 0
"""Into the nearest cache, and to be forgotten when that is full."""
EVERY = (NEAREST, SECOND, ONCE)
"""They are the locality of LLVM's `llvm.prefetch`."""
_PRODUCTS = {"avx512bw", "avx512_vnni"}
"""Linux's names of the instructions that products of bytes need."""
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


@lru_cache(maxsize=1)
def multiplies_bytes() -> bool:
    """Whether kernels may use products of bytes of 512 bits: numba compiles for this processor."""
    told = (os.environ.get(f"NUMBA_CPU_{name}") for name in ("NAME", "FEATURES"))
    told_otherwise = any(told) or Path(".numba_config.yaml").exists()
    return not told_otherwise and set(processor_says("flags").split()) >= _PRODUCTS


@lru_cache(maxsize=1)
def reads_in_order() -> bool:
    """Whether patterns in a cache are summed fastest one row after another, see `in_order`.

    Measured on AMD's fourth generation; the fifth has the same instructions. Others that have
    them have not been measured.
    """
    return processor_says("vendor_id") == "AuthenticAMD" and multiplies_bytes()

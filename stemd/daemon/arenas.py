"""How much freed memory the C library keeps: little, since a daemon runs for months."""

from __future__ import annotations

import ctypes

MOST = 2
LARGE_BYTES = 256 * 1024
_M_ARENA_MAX, _M_MMAP_THRESHOLD = -8, -3  # malloc.h of the GNU C library


def few_arenas() -> None:
    """Have the C library keep two heaps, and no large arrays in them; before threads are begun.

    By itself it makes one heap for each thread up to eight a processor, and each keeps what it once
    needed. Every scan has threads of its own, so that a daemon would grow for hours until each
    heap has had the largest engine in it.

    And with the first large array that is freed it begins to take arrays of that size, up to
    32 MiB, from the heaps as well, where a small object behind one keeps its memory from being
    given back. From `LARGE_BYTES` on an array has a map of its own here, which ends with it: the
    demo's daemon stays at 450 MB instead of 740, for 2 % more of a processor.

    Other C libraries are left as they are.
    """
    try:
        library = ctypes.CDLL(None)
        library.mallopt(_M_ARENA_MAX, MOST)
        library.mallopt(_M_MMAP_THRESHOLD, LARGE_BYTES)
    except (OSError, AttributeError):
        return

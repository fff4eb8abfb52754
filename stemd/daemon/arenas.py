"""How many heaps the C library keeps: few, so that what one thread frees another can use."""

from __future__ import annotations

import ctypes

MOST = 2
_M_ARENA_MAX = -8  # malloc.h of the GNU C library


def few_arenas() -> None:
    """Have the C library keep two heaps; to be called before threads are begun.

    By itself it makes one for each thread up to eight a processor, and each keeps what it once
    needed. Every scan has threads of its own, so that a daemon would grow for hours until each
    heap has had the largest engine in it. Other C libraries are left as they are.
    """
    try:
        ctypes.CDLL(None).mallopt(_M_ARENA_MAX, MOST)
    except (OSError, AttributeError):
        return

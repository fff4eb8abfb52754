"""Words looked for in a stream's bytes, in compiled code."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from stemd.compilation import njit

MAX_SIDE = 1 << 16
"""Pixels of an image's side: less is believed."""


def word(text: str) -> NDArray[np.uint8]:
    """The bytes of a word, as kernels take them."""
    return np.frombuffer(text.encode(), np.uint8)


@njit(nogil=True)
def same(data, at, size, word):
    """Whether the `size` bytes from data[at] on are the word."""
    if size != word.size:
        return False
    for k in range(size):  # noqa: SIM110 numba knows no generators
        if data[at + k] != word[k]:
            return False
    return True

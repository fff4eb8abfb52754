"""Memory that a stream is received into, and that whole messages are taken out of."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

INBOX_BYTES = 1 << 20


class Inbox:
    """Bytes `at` to `stop` of `data` have come and are not used up.

    A message that fills the memory gets more, by and by: no length from the wire allocates
    anything before the bytes are there.
    """

    def __init__(self) -> None:
        self.data: NDArray[np.uint8] = np.zeros(INBOX_BYTES, np.uint8)
        self.at = self.stop = 0

    @property
    def left(self) -> int:
        """Bytes that have come and are not used up."""
        return self.stop - self.at

    def room(self) -> memoryview:
        """Where the next bytes are to land."""
        return self.data.data[self.stop :]

    def clear(self) -> None:
        """Forget everything."""
        self.at = self.stop = 0

    def drop(self) -> int:
        """Forget what is not used up; how many bytes that were."""
        left, self.stop = self.left, self.at
        return left

    def tidy(self, size: int) -> None:
        """Move what is left to the front; the message that begins there has `size` bytes, 0: the
        size is not known.
        """
        left = self.left
        if not left:
            self.clear()
            return
        free = self.data.size - self.stop
        if free >= max(INBOX_BYTES // 4, min(size - left, INBOX_BYTES // 2)):
            return
        target = self.data
        if 2 * left > self.data.size:
            target = np.zeros(2 * self.data.size, np.uint8)
        target[:left] = self.data[self.at : self.stop].copy()
        self.data, self.at, self.stop = target, 0, left

"""Images expanded on one core, or the images of a block on several at once."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor

import numpy as np
from numpy.typing import NDArray

from stemd.adapters.dectris.compression import scratch
from stemd.adapters.dectris.kernels.expanding import expand_images
from stemd.adapters.dectris.kernels.scanning import Rows

Bytes = NDArray[np.uint8]

LEAST_BYTES = 256 * 1024
"""Of images for a thread of its own: to wake it takes as long as to expand a quarter of it."""


class Expander:
    """Expands the images of a block; the bytes do not depend on the number of `threads`.

    Belongs to one thread, which takes a share of the work. `close` ends the others.
    """

    def __init__(self, threads: int = 1) -> None:
        self._threads = threads
        self._others: ThreadPoolExecutor | None = None
        self._planes: list[Bytes] = []
        self._image_bytes = 0

    def close(self) -> None:
        """End the threads; what is expanded after that begins new ones."""
        if self._others is not None:
            self._others.shutdown()
        self._others = None

    def expand(
        self, data: Bytes, rows: Rows, item: int, image: int, out: Bytes, good: Bytes
    ) -> int:
        """As `expand_images`, pixels without a value cleaned."""
        parts = max(1, min(self._threads, len(rows), len(rows) * image // LEAST_BYTES))
        if image > self._image_bytes:
            self._image_bytes = image
            self._planes = [scratch(image) for _ in range(self._threads)]
        if parts > 1 and self._at_once(data, rows, item, image, out, good, parts):
            return len(rows)
        # Where images are damaged those behind them move up: one thread does all of it.
        count: int = expand_images(data, rows, item, image, True, self._planes[0], out, good)
        return count

    def _at_once(
        self, data: Bytes, rows: Rows, item: int, image: int, out: Bytes, good: Bytes, parts: int
    ) -> bool:
        """Each thread expands its part to where it stays; whether all images were good."""
        if self._others is None:
            self._others = ThreadPoolExecutor(self._threads - 1, "dectris-expand")
        cuts = [len(rows) * part // parts for part in range(parts + 1)]

        def one(part: int) -> int:
            first, stop = cuts[part], cuts[part + 1]
            count: int = expand_images(
                data,
                rows[first:stop],
                item,
                image,
                True,
                self._planes[part],
                out[first * image : stop * image],
                good[first:stop],
            )
            return count

        others = [self._others.submit(one, part) for part in range(1, parts)]
        found = one(0)
        return found + sum(other.result() for other in others) == len(rows)

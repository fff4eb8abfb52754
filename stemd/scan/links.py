"""Blocks of several links, each reduced in the thread of its link into the same maps."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager

from stemd.blocks import FrameBlock
from stemd.engines.reduction import Reducer
from stemd.scan.intake import Intake
from stemd.settings import Settings


class LinkReducers:
    """One reducer a link. It knows nothing of the scan, which knows it: no circle keeps memory.

    Links have different positions, and sums do not depend on the order, so the threads need not
    wait for each other (docs/adr/0032-several-links.md).
    """

    def __init__(self, intake: Intake) -> None:
        self._intake = intake
        self._reducers: dict[int, tuple[Settings, Reducer]] = {}
        self._changed = threading.Condition()
        self._busy, self._paused = 0, False

    def __len__(self) -> int:
        """Links of which blocks were reduced here."""
        return len(self._reducers)

    def reduce(
        self,
        block: FrameBlock,
        link: int,
        settings: Settings,
        ready: Callable[[], bool],
        reducer_for: Callable[[Settings], Reducer],
    ) -> bool:
        """Take a block into the sums; False, and nothing is done, while paused or not `ready`.

        `reducer_for` is asked where link or settings are new.
        """
        with self._changed:
            if self._paused or not ready():
                return False
            known = self._reducers.get(link)
            if known is None or known[0] is not settings:
                known = self._reducers[link] = settings, reducer_for(settings)
            self._busy += 1
        try:
            self._intake.add_apart(block, known[1].reduce_apart(block))
        finally:
            with self._changed:
                self._busy -= 1
                self._changed.notify_all()
        return True

    @contextmanager
    def paused(self) -> Iterator[None]:
        """Nothing is reduced meanwhile; waits for what is being reduced."""
        with self._changed:
            self._paused = True
            while self._busy:
                self._changed.wait()
        try:
            yield
        finally:
            with self._changed:
                self._paused = False

"""The threads of an engine that cannot keep up with the camera, beside the reader's."""

from __future__ import annotations

import contextlib
import os
import threading
from collections.abc import Callable

from stemd.blocks import Block
from stemd.engines.beside.block_queue import BlockQueue
from stemd.inference.worker import NICENESS

Wake = Callable[[], object]


class Beside:
    """Two threads: one takes blocks in as they come, one at low priority does the slow work.

    `add` takes a block in, and calls the function it is given when there may be new work;
    `complete` does the same after the last block. `work` does one piece of work and returns False
    when there is none; then it is asked again when there is news, and every `again_s` seconds where
    that is given. The first error ends both threads; `check` raises it. There are two
    threads because blocks must be taken in while a network works: the camera needs them back. The
    first has the reader's own priority: on a busy computer a lower one would not get to what waits
    before it is too much, and patterns would be lost that cost some microseconds each to take in.
    """

    def __init__(
        self,
        name: str,
        add: Callable[[Block, Wake], None],
        complete: Callable[[Wake], None],
        work: Callable[[], bool],
        again_s: float | None = None,
    ) -> None:
        self._again_s = again_s
        self._queue = BlockQueue()
        self._changed = threading.Condition()
        self._news = 0
        self._all_in = False
        self._given_up = False
        self._error: BaseException | None = None
        self._threads = [
            # only the threads know what they call: what has ended does not hold an engine
            threading.Thread(target=target, args=args, name=f"{name}-{what}", daemon=True)
            for what, target, args in (
                ("take", self._taking, (add, complete)),
                ("work", self._working, (work,)),
            )
        ]
        for thread in self._threads:
            thread.start()

    def offer(self, block: Block) -> bool:
        """Put a block into the queue, never waiting; False where it has no room."""
        return self._queue.offer(block)

    def finish(self) -> None:
        """No more blocks will come."""
        self._queue.close()

    def abandon(self) -> None:
        """Abandon unfinished work."""
        self._given_up = True
        self._queue.close()
        self._wake()

    def wait(self, timeout_s: float) -> bool:
        """Whether both threads have ended, waiting for them for a while."""
        for thread in self._threads:
            thread.join(timeout_s)
        return not any(thread.is_alive() for thread in self._threads)

    def check(self) -> None:
        """Raises what has gone wrong in one of the threads."""
        error = self._error
        if isinstance(error, Exception):
            raise error
        if error is not None:
            raise RuntimeError(f"a thread beside the scan ended: {error!r}") from error

    def _wake(self) -> None:
        with self._changed:
            self._news += 1
            self._changed.notify_all()

    def _fail(self, error: BaseException) -> None:
        self._error = self._error or error
        self.abandon()

    def _taking(self, add: Callable[[Block, Wake], None], complete: Callable[[Wake], None]) -> None:
        try:
            while not self._given_up and (block := self._queue.take()) is not None:
                try:
                    add(block, self._wake)
                finally:
                    self._queue.done()
            if not self._given_up:
                complete(self._wake)
        except BaseException as error:  # raised again by check, where somebody hears it
            self._fail(error)
        finally:
            self._queue.clear()
            self._all_in = True
            self._wake()

    def _working(self, work: Callable[[], bool]) -> None:
        low_priority()
        try:
            while not self._given_up:
                with self._changed:
                    news, all_in = self._news, self._all_in
                if work():
                    continue
                if all_in:
                    break
                with self._changed:
                    self._changed.wait_for(lambda news=news: self._news != news, self._again_s)  # type: ignore[misc]
        except BaseException as error:  # as above
            self._fail(error)


def low_priority() -> None:
    """Whatever this thread does from now on can wait for others."""
    # Linux has a niceness for each thread
    with contextlib.suppress(OSError, AttributeError):
        os.setpriority(os.PRIO_PROCESS, threading.get_native_id(), NICENESS)

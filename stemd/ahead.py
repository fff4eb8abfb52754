"""An iterator in a thread of its own, a few items ahead of whoever takes them."""

from __future__ import annotations

import threading
from collections import deque
from collections.abc import Callable, Generator, Iterator
from typing import Generic, TypeVar

T = TypeVar("T")

AHEAD = 2
"""Blocks that are kept for whoever takes them, and are taken together: enough that neither thread
waits for each single one of the other, few enough that they are still in a cache when their turn
comes."""


class _Source(Generic[T]):
    """The thread in which the items are made."""

    def __init__(self, items: Iterator[T], most: int, forget: Callable[[T], object]) -> None:
        self._made: deque[T] = deque()
        self._items, self._most, self._forget = items, most, forget
        self._changed = threading.Condition()
        self._over = self._done = False
        self.error: BaseException | None = None
        self._thread = threading.Thread(target=self._make, name="ahead", daemon=True)

    def start(self) -> None:
        """Begin to make items."""
        self._thread.start()

    def _make(self) -> None:
        try:
            for item in self._items:
                if not self._offer(item):
                    self._forget(item)
                    break
        except BaseException as error:  # whatever it is, whoever takes the items is told
            self.error = error
        finally:
            try:
                if isinstance(self._items, Generator):
                    self._items.close()  # here, and not whenever it is collected
            finally:
                with self._changed:
                    self._done = True
                    self._changed.notify_all()

    def _offer(self, item: T) -> bool:
        """Hand an item on; waits for room. False where nobody takes it any more."""
        with self._changed:
            while len(self._made) >= self._most and not self._over:
                self._changed.wait()
            if not self._over:
                self._made.append(item)
                self._changed.notify_all()
            return not self._over

    def take(self) -> list[T]:
        """All items that are there, of which there is at least one; none: there are no more."""
        with self._changed:
            while not self._made and not self._done:
                self._changed.wait()
            taken = list(self._made)
            self._made.clear()
            self._changed.notify_all()
            return taken

    def end(self) -> None:
        """Make no more items, forget those that nobody has taken, and wait for the thread."""
        with self._changed:
            self._over = True
            self._changed.notify_all()
        self._thread.join()
        for item in self._made:
            self._forget(item)
        self._made.clear()


def ahead(
    items: Iterator[T],
    forget: Callable[[T], object],
    most: int = AHEAD,
    *,
    hurry: Callable[[], object] = lambda: None,
) -> Generator[T, None, None]:
    """The same items in the same order, made by a thread of their own.

    At most `most` are kept for whoever takes them, who has taken as many together: 2 * `most` items
    are ahead at most, with the one that waits for room.

    What making them raises is raised behind the items before it. `forget` is called with each item
    that was made and not taken. When this is closed the thread has ended, and `items` is closed;
    where that is before the end `hurry` is called, so that none is waited for that never comes.
    """
    source = _Source(items, most, forget)
    source.start()
    taken: deque[T] = deque()
    try:
        while some := source.take():
            taken.extend(some)
            while taken:
                yield taken.popleft()
    except GeneratorExit:
        hurry()
        raise
    finally:
        for item in taken:
            forget(item)
        source.end()
    if source.error is not None:
        raise source.error

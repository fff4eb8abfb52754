"""One thing after another, two at a time where somebody waits for them."""

from __future__ import annotations

import math
import threading
import time
from collections import deque
from collections.abc import Callable, Generator, Iterable, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from typing import TypeVar

T = TypeVar("T")
U = TypeVar("U")
MOST = 8
"""Things that are made ahead of who takes them, so that no thread waits for another one."""


def side_by_side(
    call: Callable[[T], U], items: Sequence[T], threads: int = 1, until: float = math.inf
) -> list[U]:
    """What `call` makes of the items, in order: of the first in any case, of the others as long as
    they would be done, at the pace of the slowest before them, by `until` of the monotonic clock.

    Each is made by one thread, so that it is the same with any number of them. Raises what `call`
    raises.
    """
    lock = threading.Lock()
    left = iter(range(len(items)))
    made: dict[int, U] = {}
    slowest = 0.0

    def work() -> None:
        nonlocal slowest
        while True:
            with lock:
                number = next(left, None)
                began = time.monotonic()
                if number is None or (number > 0 and began + slowest > until):
                    return
            found = call(items[number])
            with lock:
                made[number] = found
                slowest = max(slowest, time.monotonic() - began)

    if threads > 1 and len(items) > 1:
        with ThreadPoolExecutor(threads, "side-by-side") as pool:
            for each in [pool.submit(work) for _ in range(threads)]:
                each.result()
    else:
        work()
    return [made[number] for number in sorted(made)]


def in_order(
    call: Callable[[T], U], items: Iterable[T], threads: int = 1, most: int = MOST
) -> Generator[U, None, None]:
    """What `call` makes of the items, one after the other, at most `most` ahead of who takes them.

    Raises what `call` raises, in its turn. When this is closed nothing runs any more.
    """
    if threads == 1:
        yield from map(call, items)
        return
    with ThreadPoolExecutor(threads, "side-by-side") as pool:
        waiting = deque[Future[U]]()
        for item in items:
            waiting.append(pool.submit(call, item))
            if len(waiting) > most:
                yield waiting.popleft().result()
        while waiting:
            yield waiting.popleft().result()

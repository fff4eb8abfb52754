"""The tasks of one owner on the event loop: what fails is told, what must live is begun again."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Coroutine, Iterable
from dataclasses import dataclass
from typing import Any

from stemd.logs import get_logger

PAUSES_S = (0.2, 0.5, 1.0, 2.0, 5.0, 10.0, 30.0)
"""Before a task that has failed is begun again; the last one repeats."""
GOOD_AFTER_S = 10.0
"""A task that has run for so long is well again."""
UNSTEADY = 3
"""A task that has failed so often in a row is told as broken even while it runs."""
CANCEL_AGAIN_S = 1.0
"""A task that was cancelled and has not ended within this time is cancelled again."""

Work = Callable[[], Coroutine[Any, Any, object]]

log = get_logger(__name__)


@dataclass(slots=True)
class _Kept:
    """A task that is begun again whenever it ends."""

    name: str
    work: Work
    endless: bool
    task: asyncio.Task[Any] | None = None
    timer: asyncio.TimerHandle | None = None
    began: float = 0.0
    in_a_row: int = 0
    failures: int = 0
    error: str = ""
    over: bool = False


async def end_all(tasks: Iterable[asyncio.Future[Any]]) -> None:
    """Cancel all, and return when all have ended, however they do.

    A task may miss that it was cancelled: before Python 3.12 `asyncio.wait_for` gives its result
    where the result and the cancellation come at the same moment, so that the task goes on, and
    whoever waits for its end waits for ever. So it is told again.
    """
    waiting = set(tasks)
    cancelled: asyncio.CancelledError | None = None
    while waiting:
        for task in waiting:
            task.cancel()
        try:
            done, waiting = await asyncio.wait(waiting, timeout=CANCEL_AGAIN_S)
        except asyncio.CancelledError as error:  # whoever ends these is to end too: after them
            cancelled = error
            done = {task for task in waiting if task.done()}
            waiting -= done
        for task in done:
            if not task.cancelled():
                task.exception()  # looked at, so that asyncio does not complain of it later
    if cancelled is not None:
        raise cancelled


class Tasks:
    """Starts tasks, tells the failure of each, and ends them together. On the event loop.

    `start` is for work that is done once. `keep` is for work that must go on as long as its
    owner: it is begun again after a pause, whatever has ended it. No task watches over it, which
    could end as well: the event loop itself calls back.
    """

    def __init__(self) -> None:
        self._running: set[asyncio.Task[Any]] = set()
        self._kept: dict[str, _Kept] = {}
        self._stopping = False

    def start(self, work: Coroutine[Any, Any, Any], name: str) -> asyncio.Task[Any]:
        """Run `work` until it returns, fails or is cancelled."""
        task = asyncio.create_task(work, name=name)
        self._running.add(task)
        task.add_done_callback(self._ended)
        return task

    def keep(self, work: Work, name: str, *, endless: bool = True) -> None:
        """Run what `work` makes, again and again; not `endless`: until it has returned once."""
        kept = self._kept[name] = _Kept(name, work, endless)
        self._begin(kept)

    async def stop(self, wait_s: float = 0.0) -> None:
        """Give what still runs some seconds to end, then cancel it and wait for its end."""
        self._stopping = True
        kept = list(self._kept.values())
        for each in kept:
            if each.timer is not None:
                each.timer.cancel()
        running = [*self._running, *(each.task for each in kept if each.task is not None)]
        if running and wait_s:
            await asyncio.wait(running, timeout=wait_s)
        await end_all(running)

    @property
    def failures(self) -> dict[str, int]:
        """How often each kept task has failed since the start, of those that have."""
        return {each.name: each.failures for each in self._kept.values() if each.failures}

    @property
    def broken(self) -> dict[str, str]:
        """Kept tasks that do not run now, or fail again and again: why, by name."""
        return {each.name: each.error for each in self._kept.values() if _is_broken(each)}

    def _begin(self, kept: _Kept) -> None:
        kept.timer = None
        kept.began = time.monotonic()
        kept.task = asyncio.create_task(kept.work(), name=kept.name)
        kept.task.add_done_callback(lambda task: self._kept_ended(kept, task))

    def _kept_ended(self, kept: _Kept, task: asyncio.Task[Any]) -> None:
        error = None if task.cancelled() else task.exception()
        if self._stopping:
            return
        if error is None and not task.cancelled() and not kept.endless:
            kept.over = True
            return
        good = time.monotonic() - kept.began > GOOD_AFTER_S
        kept.in_a_row = 1 if good else kept.in_a_row + 1
        kept.failures += 1
        kept.error = _why(task, error)
        kept.task = None
        pause = PAUSES_S[min(kept.in_a_row, len(PAUSES_S)) - 1]
        kept.timer = asyncio.get_running_loop().call_later(pause, self._begin, kept)
        log.error(
            "a task ended and is begun again",
            task=kept.name,
            why=kept.error,
            failures=kept.failures,
            pause_s=pause,
            exc_info=error,
        )

    def _ended(self, task: asyncio.Task[Any]) -> None:
        self._running.discard(task)
        if not task.cancelled() and task.exception() is not None:
            log.error("a task failed", task=task.get_name(), exc_info=task.exception())


def _is_broken(kept: _Kept) -> bool:
    if kept.over:
        return False
    if kept.task is None:
        return True
    return kept.in_a_row >= UNSTEADY and time.monotonic() - kept.began <= GOOD_AFTER_S


def _why(task: asyncio.Task[Any], error: BaseException | None) -> str:
    if task.cancelled():
        return "it was cancelled"
    if error is None:
        return "it returned though its work goes on"
    return f"{type(error).__name__}: {error}"
